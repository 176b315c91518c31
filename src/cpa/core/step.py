"""One event being worked into a job: collects what moves, and becomes the `Decision`.

A `Step` never touches the job. It keeps the numbers of the head as plain attributes and writes a new head once,
at the end. All loops run over what moves; only starting, stopping and reopening look at more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from msgspec.structs import replace

from cpa.core.approval import digest_of, shown
from cpa.core.commands import (
    AskPerson,
    CancelAttempt,
    Command,
    DispatchTask,
    RequestTask,
    StartTimer,
    VerifyTask,
)
from cpa.core.events import Event
from cpa.core.job import (
    SATISFIED,
    Changes,
    Decision,
    JobState,
    JobStatus,
    TaskError,
    TaskRun,
    TaskSpec,
    TaskStatus,
    results,
)
from cpa.core.people import ASK, ask_first

CANCEL_GRACE = 15_000
"""Milliseconds a cancelled attempt has to answer; then its outcome counts as unknown."""

# Looking a member up on its class costs more than comparing it. Bare names are those of tasks.
WAITING = TaskStatus.WAITING
READY = TaskStatus.READY
ASSIGNED = TaskStatus.ASSIGNED
RUNNING = TaskStatus.RUNNING
HELD = TaskStatus.HELD
IN_DOUBT = TaskStatus.IN_DOUBT
DONE = TaskStatus.DONE
FAILED = TaskStatus.FAILED
SKIPPED = TaskStatus.SKIPPED
CANCELLED = TaskStatus.CANCELLED

SLOT = (ASSIGNED, RUNNING)


class Step:
    """What one event does to one job."""

    __slots__ = (
        "_busy",
        "_closed",
        "_commands",
        "_ending",
        "_moved",
        "_open",
        "_ready",
        "_released",
        "_seldom",
        "_status",
        "_unsettled",
        "job",
        "number",
        "time",
    )

    def __init__(self, job: JobState, event: Event) -> None:
        head = job.head
        self.job = job
        self.time = event.time
        self.number = head.number + 1
        self._status = head.status
        self._open = head.open
        self._busy = head.busy
        self._unsettled = head.unsettled
        self._ending = head.ending
        self._seldom: dict[str, Any] = {}
        """Fields of the head that few events change."""
        self._moved: dict[int, TaskRun] = {}
        self._closed: dict[str, None] = {}
        """Keys in the order in which they were closed; each once."""
        self._commands: list[Command] = []
        self._ready: list[int] = []
        self._released: dict[int, int] | None = None

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> JobStatus | None:
        return self._ending

    def spec(self, index: int) -> TaskSpec:
        return self.job.graph.spec.tasks[index]

    def task(self, index: int) -> TaskRun:
        return self._moved.get(index) or self.job.task(index)

    def results(self, indices: Iterable[int]) -> dict[str, dict[str, Any]]:
        """As `job.results`, with those that come to be in this very step."""
        found = results(self.job, indices)
        for index in indices:
            moved = self._moved.get(index)
            if moved is not None and moved.status is DONE:
                found[self.spec(index).id] = moved.result or {}
        return found

    def digest(self, run: TaskRun) -> str:
        """Of the exact action this task would do now."""
        spec = self.spec(run.index)
        return digest_of(spec.action, self.arguments(run), spec.capability, spec.effect, spec.tainted)

    def arguments(self, run: TaskRun) -> Mapping[str, Any]:
        """What it would do it with, as people are shown it."""
        spec = self.spec(run.index)
        return shown(spec, run, self.results(spec.references))

    # -- commands ------------------------------------------------------------------------------------------

    def issue(self, command: Command) -> None:
        self._commands.append(command)

    def close(self, key: str) -> None:
        if key in self.job.open:
            self._closed[key] = None

    # -- moving tasks --------------------------------------------------------------------------------------

    def assign(self, run: TaskRun, agent: str) -> None:
        index, epoch = run.index, run.epoch
        self.close(f"dispatch:{index}:{epoch}")
        self._moved[index] = replace(run, status=ASSIGNED, agent=agent, since=self.time)
        timeout = self.spec(index).timeout
        self.issue(
            RequestTask(
                key=f"request:{index}:{epoch}",
                task=index,
                epoch=epoch,
                agent=agent,
                after=timeout + CANCEL_GRACE,
            )
        )

    def begin(self, run: TaskRun) -> None:
        self._moved[run.index] = replace(run, status=RUNNING, since=self.time)

    def hold(self, run: TaskRun, reason: str, after: int, **changed: Any) -> None:
        """Give the slot back and wait for a time."""
        self.leave(run)
        self._moved[run.index] = replace(
            run, status=HELD, since=self.time, reason=reason, agent="", **changed
        )
        key = f"retry:{run.index}:{run.epoch}"
        self.issue(StartTimer(key=key, task=run.index, after=after))

    def doubt(self, run: TaskRun, reason: str, **changed: Any) -> TaskRun:
        """The effect is uncertain: no slot, but the run cannot end before this is settled."""
        self.leave(run)
        self._unsettled += 1
        moved = replace(run, status=IN_DOUBT, since=self.time, reason=reason, **changed)
        self._moved[run.index] = moved
        return moved

    def claim(self, run: TaskRun, result: dict[str, Any] | None) -> None:
        """The agent's word came while its effect is being looked for: the look now proves it."""
        self._moved[run.index] = replace(run, reason="proving", result=result, error=None)

    def look(self, run: TaskRun) -> None:
        """Have the effect of this attempt looked for."""
        key = f"verify:{run.index}:{run.epoch}"
        self.issue(VerifyTask(key=key, task=run.index, epoch=run.epoch, look=run.verified, after=120_000))

    def look_later(self, run: TaskRun, after: int) -> None:
        self._moved[run.index] = replace(run, verified=run.verified + 1)
        self.issue(StartTimer(key=f"look:{run.index}:{run.epoch}", task=run.index, after=after))

    def ask(self, run: TaskRun, question: str, **more: Any) -> None:
        """Put a question to people; `more` goes into the command."""
        key = f"ask:{run.index}:{run.epoch}"
        self._moved[run.index] = replace(run, reason=question)
        self.issue(AskPerson(key=key, task=run.index, epoch=run.epoch, question=question, **more))

    def move(self, run: TaskRun) -> None:
        """The task is where it was, and something about it is new."""
        self._moved[run.index] = run

    def wake(self, run: TaskRun, **changed: Any) -> None:
        """A held task goes back into the line."""
        self._moved[run.index] = replace(run, reason="", **changed)
        self._ready.append(run.index)

    def succeed(self, run: TaskRun, result: dict[str, Any] | None, reason: str = "") -> None:
        self._finish(run, DONE, result=result, reason=reason, error=None)
        self._release(run.index)

    def fail(self, run: TaskRun, error: TaskError) -> None:
        """The task failed for good: nothing new starts; under a cancel it counts as cancelled."""
        cancelled = self._ending is JobStatus.CANCELLED
        self._finish(run, CANCELLED if cancelled else FAILED, error=error)
        if self._ending is None:
            self.stop(JobStatus.FAILED, f"task:{self.spec(run.index).id}", error.message)

    def drop(self, run: TaskRun) -> None:
        """The task will not be done in this run."""
        self._finish(run, CANCELLED)

    def _finish(self, run: TaskRun, status: TaskStatus, reason: str = "", **changed: Any) -> None:
        self.leave(run)
        self._open -= 1
        self._moved[run.index] = replace(
            run, status=status, since=self.time, line=0, reason=reason, **changed
        )

    def leave(self, run: TaskRun) -> None:
        """Give back what the task holds while it is where it is."""
        status = run.status
        if status in SLOT:
            self._busy -= 1
            self.close(f"request:{run.index}:{run.epoch}")
            self.close(f"cancel:{run.index}:{run.epoch}")
        elif status is READY and not run.line:
            self._busy -= 1
            self.close(f"dispatch:{run.index}:{run.epoch}")
        elif status is IN_DOUBT:
            self._unsettled -= 1
            self.close(f"ask:{run.index}:{run.epoch}")

    # -- the graph -----------------------------------------------------------------------------------------

    def _release(self, done: int) -> None:
        """Tell the dependents; a task whose condition does not hold is skipped, which releases its own."""
        if self._ending is not None:
            return
        waiting, dependents = self.job.waiting, self.job.graph.dependents
        if not dependents[done]:
            return
        if self._released is None:
            self._released = {}
        satisfied, released = [done], self._released
        while satisfied:
            for index in dependents[satisfied.pop()]:
                released[index] = released.get(index, 0) + 1
                if waiting[index] == released[index] and not self.offer(index):
                    satisfied.append(index)

    def offer(self, index: int) -> bool:
        """Make a waiting task whose dependencies are satisfied ready or held; False when it is skipped instead."""
        run, spec = self.task(index), self.spec(index)
        if run.status is not WAITING:
            return True
        if any(self.task(need).status is SKIPPED for need in spec.references):
            self._skip(run, "dependency_skipped")
            return False
        if spec.when and not self._holds(index):
            self._skip(run, "condition_false")
            return False
        if spec.approval or spec.action == ASK:
            ask_first(self, run)
        else:
            self._ready.append(index)
        return True

    def _holds(self, index: int) -> bool:
        condition = self.job.graph.conditions[index]
        found = self.results(self.spec(index).needs)
        return condition.evaluate({"tasks": {name: {"result": value} for name, value in found.items()}})

    def _skip(self, run: TaskRun, reason: str) -> None:
        self._open -= 1
        self._moved[run.index] = replace(run, status=SKIPPED, since=self.time, reason=reason)

    def _fill(self) -> None:
        """Dispatch as many ready tasks as there are slots: those in line first, then those just made ready."""
        self._ready.sort()
        most = self.job.spec.max_parallel
        for index in list(islice(self.job.line, max(most - self._busy, 0))):
            self._dispatch(index)
        for index in self._ready[: max(most - self._busy, 0)]:
            self._dispatch(index)
        for index in self._ready:
            run = self.task(index)
            if run.status is not READY:
                self._moved[index] = replace(run, status=READY, line=self.number, since=self.time)

    def _dispatch(self, index: int) -> None:
        run = self.task(index)
        epoch = run.epoch + 1
        self._busy += 1
        self._moved[index] = replace(run, status=READY, epoch=epoch, line=0, verified=0, since=self.time)
        self.issue(DispatchTask(key=f"dispatch:{index}:{epoch}", task=index, epoch=epoch))

    # -- the run -------------------------------------------------------------------------------------------

    def submit(self) -> None:
        self._open = len(self.job.spec.tasks)

    def reopen(self, runs: Iterable[TaskRun]) -> None:
        """The next run, with these tasks as given and the others as they are."""
        self._status, self._ending = JobStatus.PENDING, None
        self._seldom |= {"cause": "", "reason": "", "started": 0, "ended": 0}
        self._moved = {run.index: run for run in runs}
        self._open = sum(
            self.task(index).status not in SATISFIED for index in range(len(self.job.spec.tasks))
        )

    def start(self) -> None:
        self._status = JobStatus.RUNNING
        self._seldom["started"] = self.time
        spec = self.job.spec
        if spec.timeout:
            self.issue(StartTimer(key="timeout", after=spec.timeout))
        waiting = self.job.waiting
        for index in range(len(spec.tasks)):
            if waiting[index] == 0 and not self.offer(index):
                self._release(index)

    def stop(self, ending: JobStatus, cause: str, reason: str, *, cancel: bool = False) -> None:
        """Nothing new starts. With `cancel` running attempts are told to stop, else they may finish.

        In a run that is ending already only a person's cancel changes how it ends.
        """
        if self._ending is None or ending is JobStatus.CANCELLED:
            self._ending = ending
            self._seldom |= {"cause": cause, "reason": reason}
        for index in self.job.line:
            self.drop(self.task(index))
        for key, command in list(self.job.open.items()):
            if key not in self._closed:
                self._withdraw(command, cancel=cancel)

    def _withdraw(self, command: Command, *, cancel: bool) -> None:
        if isinstance(command, DispatchTask):
            self._drop_if(command.task, READY)
        elif isinstance(command, StartTimer | AskPerson) and command.task >= 0:
            if self._drop_if(command.task, HELD):
                self.close(command.key)
        elif isinstance(command, RequestTask) and cancel:
            self.close(command.key)
            index, epoch, agent = command.task, command.epoch, command.agent
            key = f"cancel:{index}:{epoch}"
            self.issue(CancelAttempt(key=key, task=index, epoch=epoch, agent=agent, after=CANCEL_GRACE))

    def _drop_if(self, index: int, status: TaskStatus) -> bool:
        run = self.task(index)
        if run.status is not status:
            return False
        self.drop(run)
        return True

    def decide(self, **changed: Any) -> Decision:
        """The decision: fills the slots, ends the run when nothing is left of it, writes the head."""
        before = self.job.head
        ending = self._ending
        if ending is None:
            if self._ready or self.job.line:
                self._fill()
            elif self._open == 0:
                ending = JobStatus.DONE
        if ending is not None and self._busy == 0 and self._unsettled == 0 and before.ended == 0:
            self._end(ending)
        if self._seldom:
            changed |= self._seldom
            changed |= {"status": self._status, "ending": self._ending}
        head = replace(
            before,
            number=self.number,
            time=self.time,
            open=self._open,
            busy=self._busy,
            unsettled=self._unsettled,
            **changed,
        )
        changes = Changes(head, tuple(self._moved.values()), tuple(self._closed))
        return Decision(changes, tuple(self._commands))

    def _end(self, ending: JobStatus) -> None:
        """Nothing is left to wait for: the run has its end, and no command stays open."""
        self._status = ending
        self._seldom["ended"] = self.time
        self._closed = dict.fromkeys(self.job.open)
        self._commands.clear()
