"""What must hold, whatever goes wrong; looked at with every commit.

The rules are written a second time here, from the promises and not from the code: a small model of each task reads
nothing but the stored events and what the world saw. A rule that does not hold ends the run with a `Violation`.

    contiguous    event numbers without gap, times that never go back, no timer before its time
    invariants    `core.invariants` hold for the stored rows; the outbox is what is outstanding
    fencing       nothing about an older attempt changes a job; each epoch is given out once
    doubt         an effect that may have happened is not tried again before it was looked for, or a person said no
    proof         nothing is done without the word of who held it, a look that found it, or a person
    effects       no unsafe or verifiable effect twice, unless a person said that it had not happened
    attempts      no more tries than the retry policy allows
    timers        a command is due when it says so
    leases        a lease that was renewed in time is not taken away; one that was not, is taken away in time

and what `conduct` lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import AskPerson, Command
from cpa.core.events import (
    AgentChosen,
    Event,
    JobReopened,
    LeaseLost,
    QuestionAnswered,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    TaskVerified,
    TimerFired,
)
from cpa.core.invariants import violations
from cpa.core.job import Graph, JobState, TaskRun, TaskStatus
from cpa.ports.steps import JobRows
from cpa.testing.simulation.conduct import Conduct
from cpa.testing.simulation.journal import Record

_ABOUT: Final = (
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    LeaseLost,
    TaskVerified,
)


CLAIMED: Final = "its agent said that it had done it"
"""Then it is done, proved or not, and nobody does it again."""


class Violation(AssertionError):
    """A promise that was not kept: which oracle saw it, and what it saw."""

    def __init__(self, oracle: str, what: str) -> None:
        super().__init__(f"{oracle}: {what}")
        self.oracle = oracle
        self.what = what


@dataclass(eq=False)
class _Task:
    """What the stored events say of one task."""

    epoch: int = 0
    """The newest one given to an agent."""
    agent: str = ""
    doubtful: str = ""
    """Why its effect may have happened, as long as nobody knows better."""
    proof: str = ""
    """Why it may count as done."""
    tries: int = 0
    """Attempts of this run that failed and count."""


@dataclass(eq=False)
class Oracles:
    """Reads the steps of all jobs."""

    clock: bool = True
    """The wall clock does not jump: timers can be told to be early."""
    said: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    """By (job, task, epoch): who said that it did the task."""
    _tasks: dict[tuple[str, int], _Task] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)
    _conduct: dict[str, Conduct] = field(default_factory=dict)

    def step(self, before: dict[str, tuple[Command, int]], record: Record, rows: JobRows) -> None:
        """One job's part of a commit."""
        head, job = record.head, record.head.id
        if head.number != len(record.events):
            raise Violation("contiguous", f"{job} has {len(record.events)} events, its last is {head.number}")
        time = record.events[-len(rows.events) - 1][0].time if len(rows.events) < head.number else 0
        for event, _ in rows.events:
            if event.time < time:
                raise Violation("contiguous", f"{job}: time went back with {event}")
            time = event.time
            if isinstance(event, TimerFired):
                self._timer(job, before, event)
            self._event(before, record, event)
        for run in rows.runs.values():
            self._run(record, run)
        self._due(job, rows)
        conduct = self._conduct.setdefault(job, Conduct(record.spec))
        events = [event for event, _ in rows.events]
        for oracle, told in conduct.step(before, events, head, rows.runs.values(), record.outbox):
            raise Violation(oracle, f"{job}: {told}")
        graph = self.graphs.get(job)
        if graph is None:
            graph = self.graphs[job] = Graph(record.spec)
        commands = [command for command, _ in record.outbox.values()]
        broken = violations(JobState(head, graph, record.runs.values(), commands))
        if broken:
            raise Violation("invariants", f"{job}: {', '.join(broken)}")

    # -- inside --------------------------------------------------------------------------------------------

    def _timer(self, job: str, before: dict[str, tuple[Command, int]], event: TimerFired) -> None:
        stored = before.get(event.key)
        if self.clock and stored is not None and event.time < stored[1]:
            raise Violation("contiguous", f"{job}: timer {event.key} fired {stored[1] - event.time} ms early")

    def _due(self, job: str, rows: JobRows) -> None:
        times = {event.time for event, _ in rows.events}
        for key, entry in rows.outbox.items():
            if entry is not None and (entry[1] - entry[0].after not in times if entry[0].after else entry[1]):
                raise Violation(
                    "timers", f"{job}: {key} is due at {entry[1]}, {entry[0].after} ms after nothing"
                )

    def _event(self, before: dict[str, tuple[Command, int]], record: Record, event: Event) -> None:
        job = record.head.id
        if isinstance(event, JobReopened):
            for (owner, _), task in self._tasks.items():
                if owner == job:
                    task.doubtful, task.proof, task.tries = "", "", 0
            for index in event.done:
                self._task(job, int(index)).proof = "done by a person"
        elif isinstance(event, AgentChosen):
            self._chosen(record, event)
        elif isinstance(event, TimerFired):
            self._late(record, event)
        elif isinstance(event, QuestionAnswered):
            self._asked(before, record, event)
        elif isinstance(event, _ABOUT):
            task = self._task(job, event.task)
            if event.epoch != task.epoch:
                raise Violation("fencing", f"{job}: {event} counted, the newest epoch is {task.epoch}")
            self._answer(record, task, event)

    def _chosen(self, record: Record, event: AgentChosen) -> None:
        job, task = record.head.id, self._task(record.head.id, event.task)
        if event.epoch <= task.epoch:
            raise Violation("fencing", f"{job}: epoch {event.epoch} of task {event.task} was given out twice")
        if task.doubtful:
            raise Violation("doubt", f"{job}: task {event.task} is tried again after {task.doubtful}")
        if task.proof:
            raise Violation("doubt", f"{job}: task {event.task} is tried again, it is done: {task.proof}")
        most = record.spec.tasks[event.task].retry.max_attempts
        if task.tries >= most:
            raise Violation("attempts", f"{job}: task {event.task} is tried again after {task.tries} tries")
        task.epoch, task.agent = event.epoch, event.agent

    def _late(self, record: Record, event: TimerFired) -> None:
        kind, _, rest = event.key.partition(":")
        if kind not in ("request", "cancel"):
            return
        index = int(rest.partition(":")[0])
        self._unknown(record, index, "its time was up")
        if record.spec.tasks[index].effect is EffectClass.IDEMPOTENT:
            self._task(record.head.id, index).tries += 1

    def _answer(self, record: Record, task: _Task, event: Event) -> None:
        match event:
            case TaskSucceeded():
                self._succeeded(record, task, event)
            case TaskFailed(failure=FailureClass.UNKNOWN_OUTCOME):
                self._unknown(record, event.task, f"its agent said {event.code}")
                task.tries += record.spec.tasks[event.task].effect is EffectClass.IDEMPOTENT
            case TaskFailed():
                task.doubtful = ""
                task.tries += event.failure is FailureClass.TECHNICAL
            case LeaseLost():
                self._unknown(record, event.task, "its lease was lost")
            case TaskRefused() | TaskProposed():
                task.doubtful = ""
            case TaskVerified(verdict="happened"):
                task.proof, task.doubtful = "found", ""
            case TaskVerified(verdict="absent") if task.doubtful != CLAIMED:
                task.proof, task.doubtful = "", ""
            case _:
                pass

    def _asked(self, before: dict[str, tuple[Command, int]], record: Record, event: QuestionAnswered) -> None:
        job, task = record.head.id, self._task(record.head.id, event.task)
        asked = before.get(f"ask:{event.task}:{event.epoch}")
        if asked is None or not isinstance(asked[0], AskPerson) or not event.by:
            raise Violation("proof", f"{job}: {event} answers nothing that was asked")
        if asked[0].question == "doubt":
            task.doubtful, task.proof = "", f"{event.by} said so" if event.yes else ""
            task.tries += not event.yes
        elif asked[0].question == "input" and event.yes:
            task.proof = f"{event.by} answered"

    def _succeeded(self, record: Record, task: _Task, event: TaskSucceeded) -> None:
        job = record.head.id
        if task.agent not in self.said.get((job, event.task, event.epoch), ()):
            raise Violation("proof", f"{job}: {event} counted, and {task.agent} never said it")
        if record.spec.tasks[event.task].effect is EffectClass.VERIFIABLE:
            task.doubtful = CLAIMED
        else:
            task.proof, task.doubtful = "its agent said so", ""

    def _unknown(self, record: Record, index: int, why: str) -> None:
        if record.spec.tasks[index].effect is not EffectClass.IDEMPOTENT:
            self._task(record.head.id, index).doubtful = why

    def _run(self, record: Record, run: TaskRun) -> None:
        job, task = record.head.id, self._task(record.head.id, run.index)
        if run.status in (TaskStatus.FAILED, TaskStatus.CANCELLED) and task.doubtful:
            raise Violation("doubt", f"{job}: task {run.index} is {run.status.value} after {task.doubtful}")
        if run.status is not TaskStatus.DONE:
            return
        unproved = run.reason == "unproved" and task.doubtful == CLAIMED
        if not task.proof and not unproved:
            raise Violation("proof", f"{job}: task {run.index} is done ({run.reason}), and nobody knows why")

    def _task(self, job: str, index: int) -> _Task:
        found = self._tasks.get((job, index))
        if found is None:
            found = self._tasks[job, index] = _Task()
        return found
