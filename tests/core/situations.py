"""Brings a job into a situation, event by event, and looks after every step whether all promises hold."""

from __future__ import annotations

from typing import Any

from cpa.core import events
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import AskPerson, Command
from cpa.core.events import Event
from cpa.core.invariants import rebuilt, violations
from cpa.core.job import LOGIC, Decision, JobSpec, JobState, RetryPolicy, TaskRun, TaskSpec
from cpa.core.machine import decide
from cpa.core.replay import opened
from cpa.testing.schedules.watch import check, same

START = 1_000_000
"""When every story begins, in milliseconds."""

VERIFIABLE, UNSAFE = EffectClass.VERIFIABLE, EffectClass.UNSAFE


def task(name: str, *needs: int, **more: Any) -> TaskSpec:
    """A task with a quick, even backoff unless told otherwise."""
    more.setdefault("retry", RetryPolicy(max_attempts=3, first_delay=1_000))
    return TaskSpec(id=name, needs=needs, **{"action": "flow.noop"} | more)


class Story:
    """One job and what happens to it. Every event is checked against the rules that hold for all jobs."""

    def __init__(
        self,
        *tasks: TaskSpec,
        start: bool = True,
        due: int = 0,
        priority: int = 0,
        logic: int = LOGIC,
        **spec: Any,
    ) -> None:
        self.spec = JobSpec(tasks, **spec)
        self.job: JobState = opened("default", "job-1", self.spec, START)
        self.time = START
        self.history: list[Event] = []
        """The events that counted."""
        self.first = self.tell(
            events.JobSubmitted(
                time=START,
                tenant="default",
                job="job-1",
                spec="",
                tasks=len(tasks),
                due=due,
                start=start,
                priority=priority,
                logic=logic,
            )
        )

    # -- what happens --------------------------------------------------------------------------------------

    def tell(self, event: Event) -> Decision:
        """One event that counts."""
        before = self.job.head
        decision = decide(self.job, event)
        assert decision.changes is not None, f"{event} changed nothing: {decision.reason}"
        check(self.job, decision)
        self.job.apply(decision.changes, decision.commands)
        assert self.job.head.number == before.number + 1
        assert self.job.head.time == event.time
        assert violations(self.job) == []
        assert same(self.job, rebuilt(self.job))
        self.history.append(event)
        return decision

    def ignored(self, event: Event) -> str:
        """One event that must not count; gives the reason."""
        decision = decide(self.job, event)
        assert decision.changes is None, f"{event} counted"
        assert decision.commands == ()
        return decision.reason

    def later(self, milliseconds: int) -> Story:
        self.time += milliseconds
        return self

    def start(self) -> Decision:
        return self.tell(events.JobStarted(time=self.time))

    def chosen(self, index: int = 0, agent: str = "agent-1") -> Decision:
        return self.tell(events.AgentChosen(**self.attempt(index), agent=agent))

    def deferred(self, index: int = 0, reason: str = "no_agent", after: int = 2_000) -> Decision:
        return self.tell(events.DispatchDeferred(**self.attempt(index), reason=reason, after=after))

    def begun(self, index: int = 0) -> Decision:
        self.chosen(index)
        return self.tell(events.TaskStarted(**self.attempt(index)))

    def succeeded(self, index: int = 0, **result: Any) -> Decision:
        return self.tell(events.TaskSucceeded(**self.attempt(index), result=result or None))

    def done(self, index: int = 0, **result: Any) -> Decision:
        """Chosen, then succeeded."""
        self.chosen(index)
        return self.succeeded(index, **result)

    def failed(self, index: int = 0, failure: FailureClass = FailureClass.TECHNICAL, **more: Any) -> Decision:
        more = {"code": "http_503", "message": "the portal is down"} | more
        return self.tell(events.TaskFailed(**self.attempt(index), failure=failure, **more))

    def lost(self, index: int = 0, among: int = 0) -> Decision:
        return self.tell(events.LeaseLost(**self.attempt(index), reason="agent gone", among=among))

    def verified(self, verdict: str, index: int = 0, **more: Any) -> Decision:
        return self.tell(events.TaskVerified(**self.attempt(index), verdict=verdict, **more))

    def answered(self, yes: bool, index: int = 0, by: str = "Jörg", **more: Any) -> Decision:
        return self.tell(self.answer(yes, index, by, **more))

    def answer(self, yes: bool, index: int = 0, by: str = "Jörg", **more: Any) -> events.QuestionAnswered:
        """A person's answer to the open question of a task, to the very action that is asked about."""
        command = self.job.open.get(f"ask:{index}:{self[index].epoch}")
        more.setdefault("digest", command.digest if isinstance(command, AskPerson) else "")
        return events.QuestionAnswered(**self.attempt(index), yes=yes, by=by, **more)

    def proposed(self, index: int = 0, **more: Any) -> Decision:
        return self.tell(events.TaskProposed(**self.attempt(index), **more))

    def discarded(self, note: str = "") -> Decision:
        return self.tell(events.JobDiscarded(time=self.time, by="Jörg", note=note))

    def fired(self, key: str) -> Decision:
        return self.tell(events.TimerFired(time=self.time, key=key))

    def cancelled(self, reason: str = "not needed") -> Decision:
        return self.tell(events.CancelRequested(time=self.time, by="Jörg", reason=reason))

    def reopened(self, **more: Any) -> Decision:
        return self.tell(self.reopening(**more))

    def reopening(self, **more: Any) -> events.JobReopened:
        return events.JobReopened(**{"time": self.time, "by": "Jörg"} | more)

    def attempt(self, index: int) -> dict[str, Any]:
        """What names the newest attempt at a task, now."""
        return {"time": self.time, "task": index, "epoch": self[index].epoch}

    # -- where it stands -----------------------------------------------------------------------------------

    def __getitem__(self, index: int) -> TaskRun:
        return self.job.task(index)

    @property
    def status(self) -> str:
        return self.job.head.status.value

    @property
    def tasks(self) -> list[str]:
        """The status of every task, in order."""
        return [self[index].status.value for index in range(len(self.spec.tasks))]

    @property
    def open(self) -> list[str]:
        """Keys of the open commands, sorted."""
        return sorted(self.job.open)

    def command(self, key: str) -> Command:
        return self.job.open[key]
