"""The shell around the core: performs commands, and turns what agents say into events.

It knows no engine: an engine calls `choose` and `perform` and takes events through `report`. Everything here is
synchronous and quick; the work itself happens in agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cpa.core.classes import FailureClass
from cpa.core.commands import CancelAttempt, Command, DispatchTask, RequestTask, VerifyTask
from cpa.core.events import (
    AgentChosen,
    DispatchDeferred,
    Event,
    TaskFailed,
    TaskSucceeded,
    TaskVerified,
)
from cpa.core.job import JobState, results
from cpa.core.references import fill
from cpa.errors import CPAError
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant
from cpa.ports.clock import Clock
from cpa.ports.executor import ActionRequest, ExecutionResult, Verification
from cpa.ports.transport import Answer, Attempt, Transport

NO_AGENT_WAIT = 5_000
"""Milliseconds until a task without any suitable agent is offered again."""

_NOTHING: frozenset[str] = frozenset()

Report = Callable[[str, str, Event], None]
Progress = Callable[[Attempt, str, float, str], None]


class Orchestrator:
    """Between the core's commands and the agents. `report(tenant, job, event)` takes every fact that comes of
    them; it must not block. `connect` is called once, before the first command."""

    def __init__(self, agents: AgentRegistry, transport: Transport, clock: Clock) -> None:
        self._agents = agents
        self._transport = transport
        self._clock = clock
        self._held: dict[Attempt, Agent] = {}
        self._report: Report = _unconnected
        self._progress: Progress | None = None
        self._emptied: asyncio.Event | None = None

    def connect(self, report: Report, progress: Progress | None = None) -> None:
        self._report, self._progress = report, progress

    # -- commands ------------------------------------------------------------------------------------------

    def choose(self, job: JobState, command: DispatchTask) -> Event | None:
        """Answer a `DispatchTask` at once, or None: then the answer is reported when an agent comes free."""
        spec = job.spec.tasks[command.task]
        head = job.head
        applicant = Applicant(head.tenant, head.id, command.task, command.epoch, spec.action, spec.capability)
        agent = self._agents.find_agent_for_task(applicant)
        if agent is not None:
            return self._chosen(applicant, agent)
        if self._agents.offers(spec.action, spec.capability):
            self._agents.wait(applicant)
            return None
        return DispatchDeferred(
            time=0, task=command.task, epoch=command.epoch, reason="no_agent", after=NO_AGENT_WAIT
        )

    def perform(self, job: JobState, command: Command) -> None:
        """Carry out a command that is durable and still open. May be called any number of times."""
        if isinstance(command, RequestTask):
            self._request(job, command)
        elif isinstance(command, VerifyTask):
            self._verify(job, command)
        elif isinstance(command, CancelAttempt):
            self._transport.cancel(command.agent, self._attempt(job, command.task, command.epoch))

    async def idle(self, timeout: float) -> None:
        """Return when no attempt is with an agent any more, or after `timeout` seconds."""
        if self._held:
            self._emptied = asyncio.Event()
            try:
                async with asyncio.timeout(timeout):
                    await self._emptied.wait()
            except TimeoutError:
                return

    def known(self, agent: str) -> bool:
        """Whether an agent of this address lives; one of an earlier life of this process does not."""
        return self._agents.get(agent) is not None

    def job_idle(self, tenant: str, job: str) -> None:
        """Nothing of the job runs now: its session may go to another."""
        self._called(self._agents.release_session(tenant, job))

    def job_ended(self, tenant: str, job: str) -> None:
        self._transport.job_ended(tenant, job)
        self.job_idle(tenant, job)

    # -- answers -------------------------------------------------------------------------------------------

    def handle_agent_response(self, attempt: Attempt, answer: Answer) -> None:
        """An agent's final answer to one attempt becomes an event."""
        agent = self._held.pop(attempt, None)
        if not self._held and self._emptied is not None:
            self._emptied.set()
        if isinstance(answer, Verification):
            event: Event = _verified(attempt, answer)
        else:
            event = _finished(attempt, answer)
        self._report(attempt.tenant, attempt.job, event)
        if agent is not None:
            self._called(self._agents.release(agent.address))

    # -- inside --------------------------------------------------------------------------------------------

    def _chosen(self, applicant: Applicant, agent: Agent) -> Event:
        attempt = Attempt(applicant.tenant, applicant.job, applicant.task, applicant.epoch)
        self._held[attempt] = agent
        return AgentChosen(time=0, task=applicant.task, epoch=applicant.epoch, agent=agent.address)

    def _called(self, called: list[tuple[Applicant, Agent]]) -> None:
        for applicant, agent in called:
            self._report(applicant.tenant, applicant.job, self._chosen(applicant, agent))

    def withdrawn(self, tenant: str, job: str, event: AgentChosen) -> None:
        """A choice came too late for its task: the slot is free again."""
        agent = self._held.pop(Attempt(tenant, job, event.task, event.epoch), None)
        if agent is not None:
            self._called(self._agents.release(agent.address))

    def _attempt(self, job: JobState, task: int, epoch: int) -> Attempt:
        return Attempt(job.head.tenant, job.head.id, task, epoch)

    def _request(self, job: JobState, command: RequestTask) -> None:
        attempt = self._attempt(job, command.task, command.epoch)
        try:
            request = self._action(job, command.task, attempt)
        except CPAError as error:
            self.handle_agent_response(
                attempt,
                ExecutionResult.failed(
                    FailureClass.BUSINESS, "reference_missing", str(error), remedy=error.remedy or ""
                ),
            )
            return
        self._transport.send(command.agent, attempt, request)

    def _verify(self, job: JobState, command: VerifyTask) -> None:
        attempt = self._attempt(job, command.task, command.epoch)
        spec = job.spec.tasks[command.task]
        age = (self._clock.now_ms() - job.task(command.task).since) / 1000
        request = self._action(job, command.task, attempt, max(age, 0.0), command.look)
        verifier = self._agents.verifier(spec.action, spec.capability)
        if verifier is None:
            event = TaskVerified(
                time=0,
                task=command.task,
                epoch=command.epoch,
                verdict="unknown",
                evidence="no agent can look",
                look_again=NO_AGENT_WAIT,
            )
            self._report(attempt.tenant, attempt.job, event)
            return
        self._transport.verify(verifier.address, attempt, request)

    def _action(
        self, job: JobState, index: int, attempt: Attempt, age: float = 0.0, look: int = 0
    ) -> ActionRequest:
        spec, head = job.spec.tasks[index], job.head
        arguments: Mapping[str, Any] = spec.arguments
        if spec.references:
            scope = {
                "tasks": {name: {"result": value} for name, value in results(job, spec.references).items()}
            }
            arguments = {name: fill(value, scope) for name, value in arguments.items()}
        progress = self._progress
        return ActionRequest(
            tenant=head.tenant,
            job=head.id,
            task=spec.id,
            action=spec.action,
            arguments=arguments,
            timeout=spec.timeout / 1000,
            run=head.run,
            epoch=attempt.epoch,
            effect=spec.effect,
            tainted=frozenset(spec.tainted) if spec.tainted else _NOTHING,
            progress=None if progress is None else partial(_tell, progress, attempt, spec.id),
            age=age,
            look=look,
        )


def _finished(attempt: Attempt, answer: ExecutionResult) -> Event:
    error = answer.error
    duration = int(answer.duration * 1000)
    if error is None:
        return TaskSucceeded(
            time=0,
            task=attempt.task,
            epoch=attempt.epoch,
            result=dict(answer.result),
            artifacts=answer.artifacts,
            duration=duration,
        )
    return TaskFailed(
        time=0,
        task=attempt.task,
        epoch=attempt.epoch,
        failure=error.failure,
        code=error.code,
        message=error.message,
        remedy=error.remedy,
        artifacts=answer.artifacts,
        retry_after=int((error.retry_after or 0) * 1000),
        duration=duration,
    )


def _verified(attempt: Attempt, answer: Verification) -> Event:
    return TaskVerified(
        time=0,
        task=attempt.task,
        epoch=attempt.epoch,
        verdict=answer.verdict.value,
        evidence=answer.evidence,
        result=dict(answer.result) or None,
        look_again=int((answer.look_again or 0) * 1000),
    )


async def _tell(progress: Progress, attempt: Attempt, task: str, share: float, message: str) -> None:
    progress(attempt, task, share, message)


def _unconnected(tenant: str, job: str, event: Event) -> None:
    raise RuntimeError("the orchestrator is not connected to an engine")
