"""What the events of a job say of each task, and what must follow from that, whatever the core thinks.

The rules are written a second time here, from the promises and not from the code.

    fencing     nothing about an older attempt changes a job; each epoch is given out once
    timers      none fires before its time
    doubt       an effect that may have happened is neither tried again nor given up before it was looked for, or a
                person said no
    proof       nothing is done without the word of who held it, a look that found it, or a person
    attempts    no more tries than the retry policy allows, nor more agents that end over it, and none fewer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
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
from cpa.core.job import JobSpec, TaskRun, TaskStatus

Outbox = Mapping[str, tuple[Command, int]]
"""Open commands by key, with the time at which each is due; 0 is never."""
Said = Callable[[str, TaskSucceeded], bool]
"""Whether this agent said so, of this very attempt."""

_ABOUT: Final = (
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    LeaseLost,
    TaskVerified,
)
_UNDONE: Final = (TaskStatus.FAILED, TaskStatus.CANCELLED)
CLAIMED: Final = "its agent said that it had done it"
"""Then it is done, proved or not, and nobody does it again."""


class Violation(AssertionError):
    """A promise that was not kept: which oracle saw it, and what it saw."""

    def __init__(self, oracle: str, what: str) -> None:
        super().__init__(f"{oracle}: {what}")
        self.oracle = oracle
        self.what = what


class _Task:
    """What the events say of one task."""

    __slots__ = ("agent", "doubtful", "ended", "epoch", "proof", "tries")

    def __init__(self) -> None:
        self.epoch = 0
        """The newest one given to an agent."""
        self.agent = ""
        self.doubtful = ""
        """Why its effect may have happened, as long as nobody knows better."""
        self.proof = ""
        """Why it may count as done."""
        self.tries = 0
        """Attempts of this run that failed and count."""
        self.ended = Fraction()
        """Agents that ended one after the other while they had it, shared with their other attempts."""


class Knowledge:
    """Of one job. Reads its events as they count; raises `Violation`."""

    def __init__(self, job: str, spec: JobSpec, *, clock: bool = True, said: Said | None = None) -> None:
        """With `clock` timers can be told to be early; without `said` every agent's word is its own."""
        self._job, self._spec, self._clock, self._said = job, spec, clock, said
        self._tasks = [_Task() for _ in spec.tasks]

    def event(self, before: Outbox, event: Event) -> None:
        """One event that counted; `before` it, this was open."""
        if isinstance(event, AgentChosen):
            self._chosen(event)
        elif isinstance(event, TimerFired):
            self._timer(before, event)
        elif isinstance(event, QuestionAnswered):
            self._asked(before, event)
        elif isinstance(event, _ABOUT):
            task = self._tasks[event.task]
            if event.epoch != task.epoch:
                told = f"{self._job}: {event} counted, the newest epoch is {task.epoch}"
                raise Violation("fencing", told)
            self._answer(task, event)
        elif isinstance(event, JobReopened):
            for task in self._tasks:
                task.doubtful, task.proof, task.tries, task.ended = "", "", 0, Fraction()
            for index in event.done:
                self._tasks[int(index)].proof = "done by a person"

    def run(self, run: TaskRun) -> None:
        """A task run as the events left it."""
        task = self._tasks[run.index]
        if task.doubtful and run.status in _UNDONE:
            told = f"{self._job}: task {run.index} is {run.status.value} after {task.doubtful}"
            raise Violation("doubt", told)
        given_up = run.error is not None and run.error.code == "agents_lost"
        if given_up and run.status in _UNDONE and task.ended < self._losses(run.index):
            raise Violation(
                "attempts", f"{self._job}: task {run.index} is given up after {task.ended} agents"
            )
        if run.status is not TaskStatus.DONE:
            return
        unproved = run.reason == "unproved" and task.doubtful == CLAIMED
        if not task.proof and not unproved:
            raise Violation(
                "proof", f"{self._job}: task {run.index} is done ({run.reason}), and nobody knows why"
            )

    # -- inside --------------------------------------------------------------------------------------------

    def _chosen(self, event: AgentChosen) -> None:
        job, task = self._job, self._tasks[event.task]
        if event.epoch <= task.epoch:
            raise Violation("fencing", f"{job}: epoch {event.epoch} of task {event.task} was given out twice")
        if task.doubtful:
            raise Violation("doubt", f"{job}: task {event.task} is tried again after {task.doubtful}")
        if task.proof:
            raise Violation("doubt", f"{job}: task {event.task} is tried again, it is done: {task.proof}")
        if task.tries >= self._spec.tasks[event.task].retry.max_attempts:
            raise Violation("attempts", f"{job}: task {event.task} is tried again after {task.tries} tries")
        if task.ended >= self._losses(event.task):
            raise Violation("attempts", f"{job}: task {event.task} is tried again after {task.ended} agents")
        task.epoch, task.agent = event.epoch, event.agent

    def _losses(self, task: int) -> int:
        return self._spec.tasks[task].retry.max_losses

    def _timer(self, before: Outbox, event: TimerFired) -> None:
        stored = before.get(event.key)
        if self._clock and stored is not None and event.time < stored[1]:
            told = f"{self._job}: timer {event.key} fired {stored[1] - event.time} ms early"
            raise Violation("timers", told)
        kind, _, rest = event.key.partition(":")
        if kind in ("request", "cancel"):
            index = int(rest.partition(":")[0])
            self._unknown(index, "its time was up")
            self._tasks[index].tries += self._spec.tasks[index].effect is EffectClass.IDEMPOTENT

    def _answer(self, task: _Task, event: Event) -> None:
        match event:
            case TaskSucceeded():
                self._succeeded(task, event)
            case TaskFailed(failure=FailureClass.UNKNOWN_OUTCOME):
                self._unknown(event.task, f"its agent said {event.code}")
                task.tries += self._spec.tasks[event.task].effect is EffectClass.IDEMPOTENT
            case TaskFailed():
                task.doubtful, task.ended = "", Fraction()
                task.tries += event.failure is FailureClass.TECHNICAL
            case LeaseLost():
                self._unknown(event.task, "its lease was lost")
                task.ended += Fraction(1, event.among) if event.among > 0 else 0
            case TaskRefused() | TaskProposed():
                task.doubtful = ""
            case TaskVerified(verdict="happened"):
                task.proof, task.doubtful = "found", ""
            case TaskVerified(verdict="absent") if task.doubtful != CLAIMED:
                task.proof, task.doubtful = "", ""
            case _:
                pass

    def _asked(self, before: Outbox, event: QuestionAnswered) -> None:
        task = self._tasks[event.task]
        asked = before.get(f"ask:{event.task}:{event.epoch}")
        if asked is None or not isinstance(asked[0], AskPerson) or not event.by:
            raise Violation("proof", f"{self._job}: {event} answers nothing that was asked")
        if event.digest != asked[0].digest or (asked[0].people and event.by not in asked[0].people):
            raise Violation("approval", f"{self._job}: {event} answers {asked[0]}")
        if asked[0].question == "doubt":
            task.doubtful, task.proof = "", f"{event.by} said so" if event.yes else ""
            task.tries += not event.yes
            task.ended = Fraction()  # who looked says to go on
        elif asked[0].question == "input" and event.yes:
            task.proof = f"{event.by} answered"

    def _succeeded(self, task: _Task, event: TaskSucceeded) -> None:
        if self._said is not None and not self._said(task.agent, event):
            raise Violation("proof", f"{self._job}: {event} counted, and {task.agent} never said it")
        if self._spec.tasks[event.task].effect is EffectClass.VERIFIABLE:
            task.doubtful = CLAIMED
        else:
            task.proof, task.doubtful = "its agent said so", ""

    def _unknown(self, index: int, why: str) -> None:
        if self._spec.tasks[index].effect is not EffectClass.IDEMPOTENT:
            self._tasks[index].doubtful = why
