"""How a job is led from step to step: what events may do to its rows, and to what is open.

attempts    what an agent was asked for stays open until its answer, its lost lease, or the end of its time; no more
            leases are lost than `environment_wait` has room for
cancel      nothing is asked for any more once a cancel was taken
done        a job is done when each of its tasks is done or skipped
ended       a run that has ended changes only when the next one is opened, or the job discarded
runs        what is satisfied stays as it is in the next run, unless a person says otherwise; no more runs than
            `max_retries` allows, but from the dead letters
approval    arguments change by a person's word alone; a question of one run is not that of the next
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cpa.core.classes import EffectClass
from cpa.core.commands import AskPerson, CancelAttempt, Command, RequestTask
from cpa.core.events import (
    AgentChosen,
    Event,
    JobDiscarded,
    JobReopened,
    LeaseLost,
    QuestionAnswered,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskSucceeded,
    TimerFired,
)
from cpa.core.job import SATISFIED, JobHead, JobSpec, JobStatus, TaskRun

Outbox = Mapping[str, tuple[Command, int]]
"""Open commands by key, with the time at which each is due."""
Broken = tuple[str, str]
"""Which oracle, and what it saw."""

_ENDS = (TaskSucceeded, TaskFailed, TaskRefused, TaskProposed, LeaseLost)
_LEASE = 60_000
"""Milliseconds that a lost lease counts against a job's `environment_wait`."""


class Conduct:
    """Of one job."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._runs: dict[int, TaskRun] = {}
        self._asked: dict[tuple[str, str], int] = {}
        """By key of a question and digest of its action: in which run it was asked."""
        self._lost: dict[int, int] = {}
        """By task: leases lost in this run, where that means another try."""
        self._opened = 0
        """Runs after the first."""
        self._discarded = self._ended = False
        self._kept: frozenset[int] = frozenset()
        """Tasks that stay as they are in this run."""

    def step(
        self,
        closed: Collection[Command],
        events: Sequence[Event],
        head: JobHead,
        moved: Collection[TaskRun],
        after: Outbox,
    ) -> Iterator[Broken]:
        """What these events broke. `closed`: what was open before and is not `after`; `moved`: the task runs that
        are not as they were."""
        if self._ended and not isinstance(events[0], JobReopened | JobDiscarded):
            yield "ended", f"{events[0]} counts after the end of the run"
        self._ended = head.status.ended
        for event in events:
            yield from self._event(event)
        yield from self._attempts(closed, events, after)
        yield from self._questions(head, after)
        for run in moved:
            yield from self._moved(events, run)
        if head.ending is JobStatus.CANCELLED:
            asked = [key for key, (command, _) in after.items() if isinstance(command, RequestTask)]
            if asked:
                yield "cancel", f"it is being cancelled, and {', '.join(asked)} goes on"
        if head.status is JobStatus.DONE:
            left = [run.index for run in self._runs.values() if run.status not in SATISFIED]
            if left or len(self._runs) < len(self._spec.tasks):
                yield "done", f"the job is done, and tasks {left} are not"

    # -- inside --------------------------------------------------------------------------------------------

    def _event(self, event: Event) -> Iterator[Broken]:
        if isinstance(event, LeaseLost):
            again = self._spec.tasks[event.task].effect is EffectClass.IDEMPOTENT
            self._lost[event.task] = self._lost.get(event.task, 0) + again
        elif isinstance(event, AgentChosen):
            lost = self._lost.get(event.task, 0)
            if lost * _LEASE > self._spec.environment_wait:
                yield "attempts", f"task {event.task} is tried again after {lost} lost leases"
        elif isinstance(event, JobDiscarded):
            self._discarded = True
        elif isinstance(event, JobReopened):
            yield from self._reopened(event)

    def _reopened(self, event: JobReopened) -> Iterator[Broken]:
        if not event.dead_letter and (self._discarded or self._opened >= self._spec.max_retries):
            yield "runs", f"run {self._opened + 2} of {self._spec.max_retries + 1}, and it is no dead letter"
        self._opened, self._discarded, self._lost = self._opened + 1, False, {}
        again, tasks = set(event.restart), self._spec.tasks
        for index, task in enumerate(tasks):  # what is needed stands before those that need it
            if again.intersection(task.needs):
                again.add(index)
        self._kept = frozenset(
            index for index, run in self._runs.items() if run.status in SATISFIED and index not in again
        )

    def _attempts(
        self, closed: Collection[Command], events: Sequence[Event], after: Outbox
    ) -> Iterator[Broken]:
        for command in closed:
            if not isinstance(command, RequestTask | CancelAttempt):
                continue
            keys = (command.key, f"cancel:{command.task}:{command.epoch}")
            if keys[1] in after:
                continue
            if not any(_ends(event, command, keys) for event in events):
                yield "attempts", f"{command.key} is open no more, and {command.agent} was not heard"

    def _questions(self, head: JobHead, after: Outbox) -> Iterator[Broken]:
        for key, (command, _) in after.items():
            if isinstance(command, AskPerson) and (command.digest or command.question == "input"):
                run = self._asked.setdefault((key, command.digest), head.run)
                if run != head.run:
                    yield (
                        "approval",
                        f"{key} was asked in run {run}, and an answer to that counts in {head.run}",
                    )

    def _moved(self, events: Sequence[Event], run: TaskRun) -> Iterator[Broken]:
        index, before = run.index, self._runs.get(run.index) or TaskRun(run.index)
        self._runs[index] = run
        if index in self._kept and (run.status not in SATISFIED or run.epoch != before.epoch):
            yield "runs", f"task {index} was {before.status.value}, and is done again in the next run"
        if run.arguments != before.arguments and not any(_decides(event, index) for event in events):
            yield "approval", f"task {index} has other arguments, and no person said so"


def _ends(event: Event, command: RequestTask | CancelAttempt, keys: Collection[str]) -> bool:
    """Whether the event is the end of this attempt."""
    if isinstance(event, TimerFired):
        return event.key in keys
    return isinstance(event, _ENDS) and (event.task, event.epoch) == (command.task, command.epoch)


def _decides(event: Event, index: int) -> bool:
    """Whether a person's word about this task is in it."""
    if isinstance(event, JobReopened):
        return str(index) in {*event.fixes, *event.done, *map(str, event.skip)}
    return isinstance(event, QuestionAnswered) and event.yes and event.task == index
