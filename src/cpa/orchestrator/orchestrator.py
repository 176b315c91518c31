"""The shell around the core: performs commands, and turns what agents say into events.

It knows no engine: an engine calls `choose` and `perform` and takes events through `report`. Everything here is
synchronous and quick; the work itself happens in agents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from cpa.core.approval import arguments_of, digest_of
from cpa.core.classes import FailureClass
from cpa.core.commands import CancelAttempt, Command, DispatchTask, RequestTask, VerifyTask
from cpa.core.events import Event, TaskFailed, TaskRefused, TaskSucceeded, TaskVerified
from cpa.core.job import JobState, results
from cpa.core.storing import milliseconds, pause
from cpa.errors import CPAError, TooLarge
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.assignments import LATEST, Assignments, Report
from cpa.orchestrator.bids import Bids
from cpa.orchestrator.presence import Presence
from cpa.ports.clock import Clock
from cpa.ports.executor import ActionRequest, ExecutionResult, Verification
from cpa.ports.transport import Answer, Attempt, Transport

_NOTHING: frozenset[str] = frozenset()

Progress = Callable[[Attempt, str, float, str], None]


class Orchestrator:
    """Between the core's commands and the agents. `report(tenant, job, event)` takes every fact that comes of
    them; it must not block. `connect` is called once, before the first command."""

    def __init__(
        self, agents: AgentRegistry, transport: Transport, clock: Clock, presence: Presence | None = None
    ) -> None:
        """`presence` is that of the agents outside this process; without one it has the usual beat."""
        self.presence = presence or Presence(agents, clock)
        self._agents = agents
        self._transport = transport
        self._clock = clock
        self._report: Report = _unconnected
        self._progress: Progress | None = None
        self.assignments = Assignments(agents, self.presence, clock, _unconnected, transport.over)
        self.ending = self.assignments.ending
        """As in `assignments`."""
        self.bids: Bids | None = None
        """Contract nets, where agents outside this process can be asked."""

    def connect(self, report: Report, progress: Progress | None = None) -> None:
        self._report, self._progress = report, progress
        self.assignments.report = report

    async def run(self) -> None:
        """Notice leases that run out and agents that are silent, until cancelled."""
        await self.presence.run()

    # -- commands ------------------------------------------------------------------------------------------

    def choose(self, job: JobState, command: DispatchTask) -> Event | None:
        """Answer a `DispatchTask` at once, or None: then the answer is reported when an agent comes free."""
        if self.bids is not None and job.spec.tasks[command.task].bids:
            return self.bids.choose(job, command)
        return self.assignments.choose(job, command)

    def perform(self, job: JobState, command: Command) -> None:
        """Carry out a command that is durable and still open. May be called any number of times."""
        if isinstance(command, RequestTask):
            self._request(job, command)
        elif isinstance(command, VerifyTask):
            self._verify(job, command)
        elif isinstance(command, CancelAttempt):
            attempt = self._attempt(job, command.task, command.epoch)
            self._transport.cancel(command.agent, attempt, job.spec.tasks[command.task].id)

    def unsent(self, job: JobState, command: RequestTask) -> None:
        """A request was withdrawn before it was performed. If that was to stop its attempt, nobody has to."""
        if f"cancel:{command.task}:{command.epoch}" in job.open:
            attempt = self._attempt(job, command.task, command.epoch)
            reason = "it was stopped before it was begun"
            refused = TaskRefused(time=0, task=command.task, epoch=command.epoch, reason=reason)
            self.assignments.ended(attempt, refused)

    async def idle(self, timeout: float) -> None:
        """Return when no attempt is with a part of this process any more, or after `timeout` seconds."""
        await self.assignments.idle(timeout)

    def known(self, tenant: str, agent: str) -> bool:
        """Whether there is an agent of this address; a part of an earlier life of this process is none."""
        return self._agents.get(agent, tenant) is not None

    def resume(self, job: JobState, command: RequestTask | CancelAttempt) -> None:
        """An attempt that a known agent has since an earlier life of this process: it gets a fresh lease, and is
        told again. What is known already stays as it is."""
        if not self.assignments.resume(job, command):
            return
        if isinstance(command, RequestTask):
            self._request(job, command, again=True)
        else:
            self.perform(job, command)

    def recovering(self) -> None:
        """Attempts of earlier lives are to be resumed. Until then nobody knows how many slots agents outside
        this process have free: they get nothing new."""
        self._agents.hold()

    def recovered(self) -> None:
        """All attempts of earlier lives are resumed: what agents name besides is not theirs."""
        self.presence.settled = True
        self._agents.let_go()

    def closed(self, job: JobState, event: Event, keys: Iterable[str]) -> None:
        """These commands are not open any more, durably: attempts that ended with them give their slots back, and
        agents that did not answer are told to stop. What a part of this process did and reports need not be told
        so, while nothing is `ending`."""
        self.assignments.closed(job, event, keys)

    def withdrawn(self, tenant: str, job: str, event: Event) -> None:
        """This is never stored: the slot that a choice took or an end was to free is free."""
        self.assignments.withdrawn(tenant, job, event)

    def job_idle(self, tenant: str, job: str) -> None:
        """Nothing of the job runs now: its session may go to another."""
        self._agents.release_session(tenant, job)

    def job_ended(self, job: JobState) -> None:
        """The job's run has ended, durably."""
        if not _begun(job):
            return  # no agent was ever asked for
        tenant, name = job.head.tenant, job.head.id
        helpers = self._helpers(job) if self._agents.remote else ()
        self._transport.job_ended(tenant, name, job.head.run, helpers)
        self.assignments.job_ended(tenant, name)
        if self.bids is not None:
            self.bids.job_ended(tenant, name)

    # -- answers -------------------------------------------------------------------------------------------

    def handle_agent_response(self, attempt: Attempt, answer: Answer) -> None:
        """An agent's final answer to one attempt becomes an event."""
        if isinstance(answer, Verification):
            self._report(attempt.tenant, attempt.job, _verified(attempt, answer))
            return
        self.assignments.ended(attempt, _finished(attempt, answer))

    def refused(self, attempt: Attempt, reason: str) -> None:
        """Nothing of the attempt was begun, nor will be: another agent gets the task."""
        event = TaskRefused(time=0, task=attempt.task, epoch=attempt.epoch, reason=reason)
        self.assignments.ended(attempt, event)

    # -- inside --------------------------------------------------------------------------------------------

    def _attempt(self, job: JobState, task: int, epoch: int) -> Attempt:
        return Attempt(job.head.tenant, job.head.id, task, epoch)

    def _helpers(self, job: JobState) -> Collection[str]:
        """The agents outside this process that had something of the job."""
        others = dict.fromkeys(run.agent for run in job.tasks.values() if run.agent)
        return [agent for agent in others if agent not in self._agents.local]

    def _request(self, job: JobState, command: RequestTask, *, again: bool = False) -> None:
        attempt = self._attempt(job, command.task, command.epoch)
        try:
            request = self._action(job, command.task, attempt)
        except CPAError as error:
            self.handle_agent_response(
                attempt,
                ExecutionResult.failed(
                    FailureClass.BUSINESS, _unfilled(error), error.message, remedy=error.remedy or ""
                ),
            )
            return
        digest = job.task(command.task).digest
        if digest and digest != _digest(job, command.task, request):
            said = "this is not the action that people said yes to"
            remedy = "retry the job: they are asked anew"
            refused = ExecutionResult.failed(FailureClass.POLICY, "not_approved", said, remedy=remedy)
            self.handle_agent_response(attempt, refused)
        elif self.assignments.begin(attempt, command.agent, request.task):
            won = job.spec.tasks[command.task].bids > 0
            self._transport.send(command.agent, attempt, request, won=won, again=again)

    def _verify(self, job: JobState, command: VerifyTask) -> None:
        attempt = self._attempt(job, command.task, command.epoch)
        spec = job.spec.tasks[command.task]
        age = (self._clock.now_ms() - job.task(command.task).since) / 1000
        request = self._action(job, command.task, attempt, max(age, 0.0), command.look)
        verifier = self._agents.verifier(attempt.tenant, spec.action, spec.capability)
        if verifier is None:
            event = TaskVerified(
                time=0,
                task=command.task,
                epoch=command.epoch,
                verdict="unknown",
                evidence="no agent can look",
                look_again=LATEST,
            )
            self._report(attempt.tenant, attempt.job, event)
            return
        self._transport.verify(verifier.address, attempt, request)

    def _action(
        self, job: JobState, index: int, attempt: Attempt, age: float = 0.0, look: int = 0
    ) -> ActionRequest:
        spec, head, run = job.spec.tasks[index], job.head, job.task(index)
        arguments: Mapping[str, Any] = spec.arguments
        if spec.references or run.arguments is not None:
            arguments = arguments_of(spec, run, results(job, spec.references))
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


def _begun(job: JobState) -> bool:
    """Whether there ever was an attempt at any of its tasks."""
    for run in job.tasks.values():  # noqa: SIM110 - every end of a job comes here: `any` costs as much as the rest
        if run.epoch:
            return True
    return False


def _digest(job: JobState, index: int, request: ActionRequest) -> str:
    """Of what is about to be sent."""
    capability = job.spec.tasks[index].capability
    return digest_of(request.action, request.arguments, capability, request.effect, request.tainted)


def _unfilled(error: CPAError) -> str:
    """The code of a task whose arguments cannot be filled."""
    return "request_too_large" if isinstance(error, TooLarge) else "reference_missing"


def _finished(attempt: Attempt, answer: ExecutionResult) -> Event:
    error = answer.error
    duration = milliseconds(answer.duration)
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
        retry_after=pause(error.retry_after),
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
        look_again=pause(answer.look_again),
    )


async def _tell(progress: Progress, attempt: Attempt, task: str, share: float, message: str) -> None:
    progress(attempt, task, share, message)


def _unconnected(tenant: str, job: str, event: Event) -> None:
    raise RuntimeError("the orchestrator is not connected to an engine")
