"""Which agent has which attempt: the choice, the slot it takes, and what gives the slot back.

A slot is taken when an agent is chosen and given back exactly once: by the agent's answer, by the end of an attempt
without one (its time is up, its lease is lost), or because the choice came too late. That of an agent outside this
process is free once the end is durable: after a commit that failed the agent has the attempt still. What an answer
says about the agent and about its target is counted here, for the next choices.

A task that nobody can take is deferred with the reason, and asks again some seconds later. If the reason is still
the same and only a change among the agents can end it, it waits in line without a word: a locked desktop over a
weekend must not fill the store with a hundred thousand times "still locked".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from cpa.core.classes import FailureClass
from cpa.core.commands import CancelAttempt, DispatchTask, RequestTask
from cpa.core.events import (
    AgentChosen,
    DispatchDeferred,
    Event,
    LeaseLost,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskSucceeded,
    TimerFired,
)
from cpa.core.ids import fraction
from cpa.core.job import JobState, TaskSpec, TaskStatus
from cpa.core.retry import BLAME
from cpa.orchestrator.agent import SESSIONS, session_of
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant, Called
from cpa.orchestrator.breakers import Breakers
from cpa.orchestrator.budget import RetryBudget
from cpa.orchestrator.presence import Presence
from cpa.orchestrator.readiness import BUDGET, BUSY, LASTING
from cpa.orchestrator.tally import Tally
from cpa.ports.agents import AgentState
from cpa.ports.clock import Clock
from cpa.ports.transport import Attempt

SOONEST = 3_000
LATEST = 5_000
"""Milliseconds between which a task that nobody can take now is offered again: spread, so that many that were
deferred together do not come back together."""

Report: TypeAlias = Callable[[str, str, Event], None]
"""Takes a fact (tenant, job, event); must not block."""


class Over(Protocol):
    """As `ports.transport.Transport.over`."""

    def __call__(self, agent: str, attempt: Attempt, *, answered: bool) -> None: ...


Work: TypeAlias = Applicant | TaskSpec
"""What an attempt is to do: its action and arguments."""

_NOBODYS = ("cancelled", "selector_not_found", "not_actionable")
"""Codes that tell nothing about agent or target: we said so, or the page is not as the plan expects it."""
_AT_FAULT = (FailureClass.TECHNICAL, FailureClass.UNKNOWN_OUTCOME)
_ANSWERS = (TaskSucceeded, TaskFailed, TaskRefused, TaskProposed)
_ABOUT_SLOTS = (AgentChosen, LeaseLost, *_ANSWERS)
_TELLING = (TaskSucceeded, TaskFailed, TaskRefused, TimerFired)
"""What says something about the agent or its target."""
_AT_WORK = (TaskStatus.ASSIGNED, TaskStatus.RUNNING)


class Assignments:
    """`report` takes what comes of waiting in line; it must not block."""

    def __init__(
        self, agents: AgentRegistry, presence: Presence, clock: Clock, report: Report, over: Over
    ) -> None:
        self.breakers = Breakers(clock.monotonic)
        self.budget = RetryBudget()
        self.tally = Tally()
        self._agents = agents
        self._presence = presence
        self._clock = clock
        self.report = report
        self._over = over
        self.unsent: Callable[[Attempt], bool] = _sent
        """Whether nothing of an attempt can have reached its agent."""
        self._told: dict[tuple[str, str], dict[int, str]] = {}
        """By job: why a task was deferred last, if that lasts."""
        self._held: dict[Attempt, tuple[Agent, Work]] = {}
        self.ending: set[Attempt] = set()
        """Attempts of agents outside this process whose end was reported, and is not durable yet."""
        self._emptied: asyncio.Event | None = None
        agents.connect(clock.now_ms, self.breakers, self._called)
        presence.connect(self._lost)

    # -- taking --------------------------------------------------------------------------------------------

    def choose(self, job: JobState, command: DispatchTask) -> Event | None:
        """Answer a `DispatchTask` at once, or None: then the answer is reported when an agent comes free, or is on
        its way already."""
        head = job.head
        attempt = Attempt(head.tenant, head.id, command.task, command.epoch)
        if attempt in self._held:
            return None
        if command.epoch == 1:
            spec = job.spec.tasks[command.task]
            lone = self._agents.lone(head.tenant, spec.action, spec.capability)
            if lone is not None:
                return self._chosen(attempt, lone, spec, head.time)
        return self._weigh(self.applicant(job, command), head.time)

    def award(self, applicant: Applicant, winners: Sequence[Agent]) -> None:
        """The first of these that can still take it gets the task; the choice among all when none of them can. What
        comes of it is reported."""
        attempt = applicant.attempt
        if attempt in self._held:
            return
        now = self._clock.now_ms()
        for agent in winners:
            if self._agents.take(agent, applicant):
                event: Event | None = self.chosen(applicant, agent, now)
                break
        else:
            event = self._weigh(applicant, now)
        if event is not None:
            self.report(applicant.tenant, applicant.job, event)

    def has(self, attempt: Attempt) -> bool:
        """Whether an agent has the attempt, or is about to."""
        return attempt in self._held

    @property
    def held(self) -> int:
        """How many attempts agents have, or are about to get."""
        return len(self._held)

    def _weigh(self, applicant: Applicant, now: int) -> Event | None:
        if applicant.retry and not self.budget.allows(applicant.tenant, applicant.action, now):
            return _deferred(applicant, BUDGET)
        found = self._agents.choose(applicant)
        if isinstance(found, Agent):
            return self.chosen(applicant, found, now)
        if found == BUSY:
            self._agents.wait(applicant)
            return None
        if found not in LASTING:
            return _deferred(applicant, found)
        told = self._told.setdefault((applicant.tenant, applicant.job), {})
        if told.get(applicant.task) == found:
            self._agents.wait(msgspec.structs.replace(applicant, told=found))
            return None
        told[applicant.task] = found
        return _deferred(applicant, found)

    def job_ended(self, tenant: str, job: str) -> None:
        """Nothing of the job needs an agent any more."""
        if self._told:
            self._told.pop((tenant, job), None)
        self._agents.release_session(tenant, job, ended=True)

    def applicant(self, job: JobState, command: DispatchTask | RequestTask | CancelAttempt) -> Applicant:
        """The task of this command, as it asks for an agent."""
        index, head = command.task, job.head
        spec = job.spec.tasks[index]
        blame = job.task(index).blame if command.epoch > 1 else 0
        if spec.action.startswith(SESSIONS):
            self._recall(job, spec.action)
        return Applicant(
            head.tenant,
            head.id,
            index,
            command.epoch,
            spec.action,
            spec.capability,
            spec.arguments,
            command.epoch > 1 and job.task(index).attempts > 0,
            blame=blame,
            last=0 < blame >= BLAME * (spec.retry.max_losses - 1),
        )

    def chosen(self, applicant: Applicant, agent: Agent, now: int) -> AgentChosen:
        """The agent, whose slot is taken already, gets the task; `now` in milliseconds."""
        attempt = applicant.attempt
        if self._told and (told := self._told.get((applicant.tenant, applicant.job))):
            told.pop(applicant.task, None)
        return self._chosen(attempt, agent, applicant, now, retry=applicant.retry)

    def _chosen(
        self, attempt: Attempt, agent: Agent, work: Work, now: int, *, retry: bool = False
    ) -> AgentChosen:
        self._held[attempt] = (agent, work)
        self.tally.begin(retry=retry)
        self.budget.of(attempt.tenant, work.action).spent(now, retry=retry)
        return AgentChosen(time=0, task=attempt.task, epoch=attempt.epoch, agent=agent.address)

    def begin(self, attempt: Attempt, address: str, task: str) -> bool:
        """The attempt goes on its way to this agent now, which will call the task so. False when the agent has gone
        or was put in quarantine since it was chosen: then the attempt is refused on its behalf, and must not be
        sent."""
        if address in self._agents.local:
            return True
        agent = self._agents.get(address, attempt.tenant)
        out = agent is not None and agent.state is AgentState.QUARANTINED
        if agent is not None and ((agent.online and not out) or self._presence.has(attempt)):
            self._presence.begin(agent, attempt, task)
            return True
        reason = f"the agent had {'been put in quarantine' if out else 'gone'} before it was asked"
        self.ended(attempt, TaskRefused(time=0, task=attempt.task, epoch=attempt.epoch, reason=reason))
        return False

    def resume(self, job: JobState, command: RequestTask | CancelAttempt) -> bool:
        """Take up an attempt of an earlier life of this process, or one whose end was not stored, with a fresh
        lease; False when there is none to take up: it is known already, or was with a part of this process."""
        agent = self._agents.get(command.agent, job.head.tenant)
        applicant = self.applicant(job, command)
        attempt = applicant.attempt
        if agent is None or not agent.remote:
            return False
        if attempt not in self._held:
            self._held[attempt] = (agent, applicant)
            self._agents.occupy(agent, applicant)
        elif attempt not in self.ending:
            return False
        self._presence.begin(agent, attempt, job.spec.tasks[command.task].id)
        return True

    # -- giving back ---------------------------------------------------------------------------------------

    def ended(self, attempt: Attempt, event: Event) -> None:
        """The attempt ended so, as a part of this process reports. `closed` tells when that is durable."""
        held = self._held.get(attempt)
        if held is None or held[0].record is None:
            self._settled(attempt)
            self.report(attempt.tenant, attempt.job, event)
            if held is not None:
                self.tally.end(event)
                if type(event) is not TaskSucceeded or held[0].weights or self.breakers.circuits:
                    self._count(attempt, *held, event)
                self._agents.release(held[0])
            return
        known = attempt in self.ending
        self.ending.add(attempt)
        self._presence.end(attempt)
        self.report(attempt.tenant, attempt.job, event)
        self._over(held[0].address, attempt, answered=type(event) is not LeaseLost)
        if not known:
            self.tally.end(event)
            self._count(attempt, *held, event)

    def withdrawn(self, tenant: str, job: str, event: Event) -> None:
        """This is never stored: a choice that came too late gives its slot back, and so does an attempt that was
        to end so."""
        if not isinstance(event, _ABOUT_SLOTS):
            return
        attempt = Attempt(tenant, job, event.task, event.epoch)
        held = self._held.get(attempt)
        if held is None:
            return
        # What another process chose has no slot here.
        chosen = type(event) is AgentChosen and event.agent == held[0].address
        if chosen:
            self.tally.end(event)
            self._settled(attempt)
            alone = not any((each.tenant, each.job) == (tenant, job) for each in self._held)
            self._agents.give_back(held[0], attempt, alone=alone)
        elif type(event) is not AgentChosen and attempt in self.ending:
            self._settled(attempt)
            self._agents.release(held[0])

    def closed(self, job: JobState, event: Event, keys: Iterable[str]) -> None:
        """These commands of a job are not open any more. Attempts that ended with them give their slots back; an
        agent that did not answer is told to stop."""
        for key in keys:
            kind, _, rest = key.partition(":")
            if kind not in ("request", "cancel"):
                continue
            task, _, epoch = rest.partition(":")
            attempt = Attempt(job.head.tenant, job.head.id, int(task), int(epoch))
            run = job.task(attempt.task)
            if run.epoch == attempt.epoch and run.status in _AT_WORK:
                continue  # it is being cancelled, and still has its slot
            counted = attempt in self.ending
            held = self._settled(attempt)
            if held is None:
                continue
            agent, work = held
            if not counted:
                self.tally.end(event)
            if isinstance(event, _TELLING) and not counted:
                self._count(attempt, agent, work, event)
            self._over(agent.address, attempt, answered=isinstance(event, _ANSWERS))
            self._agents.release(agent)

    def _count(self, attempt: Attempt, agent: Agent, work: Work, event: Event) -> None:
        """What the end of an attempt says about the agent and its target."""
        failure = _failure(event)
        well = failure in (None, FailureClass.BUSINESS, FailureClass.POLICY)
        gone = isinstance(event, TaskRefused | LeaseLost)
        way = (agent.way, attempt.tenant, work.action, work.arguments)
        if failure in _AT_FAULT and not gone:
            self.breakers.failed(*way)
        elif well:
            self.breakers.succeeded(*way)
        if well and not agent.weights:
            return
        agent.ended(work.action, self._clock.now_ms(), well=well)
        if not well:
            self._agents.tried(attempt.tenant, attempt.job, attempt.task, work.action, agent, gone=gone)

    async def idle(self, timeout: float) -> None:
        """Return when no attempt is with a part of this process any more, or after `timeout` seconds. Agents
        outside go on without us, and are found again."""
        if self._at_home():
            self._emptied = asyncio.Event()
            try:
                async with asyncio.timeout(timeout):
                    await self._emptied.wait()
            except TimeoutError:
                return

    # -- inside --------------------------------------------------------------------------------------------

    def _settled(self, attempt: Attempt) -> tuple[Agent, Work] | None:
        """The attempt is over, its slot is still taken."""
        held = self._held.pop(attempt, None)
        if held is not None and held[0].record is not None:
            held[0].suspects.pop(attempt, None)
            self._presence.end(attempt)
            self.ending.discard(attempt)
        if self._emptied is not None and not self._at_home():
            self._emptied.set()
        return held

    def _at_home(self) -> bool:
        return any(not agent.remote for agent, _ in self._held.values())

    def _lost(self, attempts: Sequence[Attempt], reason: str, ended: bool) -> None:
        """Leases are lost: nothing more is expected, and the agent is to stop if it hears us at all."""
        unsent = {attempt for attempt in attempts if self.unsent(attempt)}
        blamed = self._blamed([each for each in attempts if each not in unsent]) if ended else frozenset()
        for attempt in attempts:
            task, epoch = attempt.task, attempt.epoch
            among = len(blamed) if attempt in blamed else 0
            if attempt in unsent:
                self.ended(attempt, TaskRefused(time=0, task=task, epoch=epoch, reason=reason))
            else:
                self.ended(attempt, LeaseLost(time=0, task=task, epoch=epoch, reason=reason, among=among))

    def _blamed(self, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
        """Which of all that an agent had when it ended are to blame, one of them: those whose tasks lost an agent
        before, if there are any."""
        known = (attempt for attempt in attempts if attempt in self._held)
        before = frozenset(attempt for attempt in known if attempt in self._held[attempt][0].suspects)
        return before or frozenset(attempts)

    def _called(self, called: Sequence[Called]) -> None:
        """Somebody in line gets an agent, or learns why not."""
        for applicant, found in called:
            if isinstance(found, Agent):
                attempt = applicant.attempt
                if attempt in self._held:
                    # After a commit that failed somebody may stand in line twice.
                    if found is not self._held[attempt][0]:
                        found.suspects.pop(attempt, None)
                    self._agents.release(found)
                    continue
                event: Event = self.chosen(applicant, found, self._clock.now_ms())
            else:
                event = _deferred(applicant, found)
                if found in LASTING:
                    self._told.setdefault((applicant.tenant, applicant.job), {})[applicant.task] = found
            self.report(applicant.tenant, applicant.job, event)

    def _recall(self, job: JobState, action: str) -> None:
        """After a restart, a refusal or a loss the job tells where its session is: with the agent of its newest
        step. One that refuses, or ended and is back, has it still, and no other could go on without its page: it
        is asked again, as long as it can be waited for. Where nothing was done yet, there is no session."""
        if self._agents.has_home(job.head.tenant, job.head.id, action):
            return
        family = session_of(action)
        steps = [
            run
            for run in job.tasks.values()
            if run.agent and job.spec.tasks[run.index].action.startswith(family)
        ]
        if steps:
            newest = max(steps, key=lambda run: run.since)
            self._agents.settle(job.head.tenant, job.head.id, action, newest.agent)


def _deferred(applicant: Applicant, reason: str) -> DispatchDeferred:
    spread = fraction(applicant.tenant, applicant.job, applicant.task, applicant.epoch)
    after = SOONEST + int((LATEST - SOONEST) * spread)
    return DispatchDeferred(time=0, task=applicant.task, epoch=applicant.epoch, reason=reason, after=after)


def _sent(_: Attempt) -> bool:
    return False


def _failure(event: Event) -> FailureClass | None:
    """Of which class an attempt's end is; None for a success."""
    if isinstance(event, TaskFailed):
        return FailureClass.BUSINESS if event.code in _NOBODYS else event.failure
    if isinstance(event, TaskRefused):
        return FailureClass.ENVIRONMENT
    return None if isinstance(event, TaskSucceeded) else FailureClass.UNKNOWN_OUTCOME
