"""What must hold for every job after every event; `violations` names what does not.

`outstanding` is the definition of which commands are open: it follows from the stored state alone. The open
commands a job keeps, and the outbox rows, are this set written down.
"""

from __future__ import annotations

from cpa.core.job import SATISFIED, TERMINAL, JobState, JobStatus, TaskRun, TaskSpec, TaskStatus
from cpa.core.people import needed
from cpa.core.reopening import DONE_BY_PERSON, SKIPPED_BY_PERSON

# Looking a member up on its class costs more than comparing it.
WAITING, READY, HELD = TaskStatus.WAITING, TaskStatus.READY, TaskStatus.HELD
IN_DOUBT, CANCELLED = TaskStatus.IN_DOUBT, TaskStatus.CANCELLED
SLOT = (TaskStatus.ASSIGNED, TaskStatus.RUNNING)
_OVER_OR_WAITING = (*TERMINAL, WAITING)


def outstanding(job: JobState) -> set[str]:
    """Keys of the commands that must be open, from head, spec and task runs. O(tasks that moved)."""
    head, keys = job.head, set[str]()
    if head.status.ended or not head.number:
        return keys
    if head.due and head.run == 0 and head.ending is None:
        keys.add("deadline")
    if job.spec.timeout and head.status is JobStatus.RUNNING and head.ending is None:
        keys.add("timeout")
    for run in job.tasks.values():
        key = _key(run)
        if key:
            keys.add(key)
    return keys


def _key(run: TaskRun) -> str:
    """The one command that keeps this task alive; empty for those that wait for another task or are over."""
    status = run.status
    if status in _OVER_OR_WAITING or run.line:
        return ""
    tail = f"{run.index}:{run.epoch}"
    if status is READY:
        return f"dispatch:{tail}"
    if status in SLOT:
        return f"request:{tail}"
    if status is HELD:
        return f"ask:{tail}" if run.reason in ("approval", "proposal", "input") else f"retry:{tail}"
    return f"ask:{tail}" if run.reason == "doubt" else f"verify:{tail}"


def violations(job: JobState) -> list[str]:
    """Every rule that does not hold, in words; empty is good. O(tasks): for tests, simulation and replay."""
    head, spec = job.head, job.spec
    counted = _Count(job)
    busy, unsettled, open_tasks, line = counted.busy, counted.unsettled, counted.open, counted.line
    running, stopping = head.status is JobStatus.RUNNING, head.ending is not None
    settled = (stopping or not open_tasks) and not busy and not unsettled
    rules = {
        "busy is what holds a slot": head.busy == busy,
        "busy is at most max_parallel": busy <= spec.max_parallel,
        "unsettled is what is in doubt": head.unsettled == unsettled,
        "open is what is not terminal": not head.number or head.open == open_tasks,
        "dependency counts are kept": job.waiting == counted.waiting,
        "the line is kept": list(job.line) == line,
        "only ready tasks stand in line": all(job.task(index).status is TaskStatus.READY for index in line),
        "slots do not stay empty": not line or busy == spec.max_parallel or stopping,
        "commands are what is outstanding": _same_commands(job),
        "nothing runs before the job": head.status is not JobStatus.PENDING or not busy,
        "an ended job is settled": not head.status.ended or (not busy and not unsettled and not job.open),
        "a settled run ends": not running or not settled,
        "a done job has every task done or skipped": head.status is not JobStatus.DONE or not open_tasks,
        "a task moves only when nothing it needs is open": not counted.early,
        "what needs a yes has it": counted.allowed,
        "a free task is not left waiting": not running or stopping or not counted.free,
    }
    return [rule for rule, holds in rules.items() if not holds]


class _Count:
    """What the rules need to know of the tasks, in one pass over them."""

    __slots__ = ("allowed", "busy", "early", "free", "line", "open", "unsettled", "waiting")

    def __init__(self, job: JobState) -> None:
        self.busy = self.unsettled = self.open = 0
        self.early = self.free = False
        """A task moved before its time; one waits for nothing."""
        self.allowed = True
        self.waiting: list[int] = []
        line: list[tuple[int, int]] = []
        moved = job.tasks
        satisfied = {index for index, run in moved.items() if run.status in SATISFIED}
        for index, spec in enumerate(job.spec.tasks):
            needed = 0
            for need in spec.needs:
                needed += need not in satisfied
            self.waiting.append(needed)
            run = moved.get(index)
            if run is None:
                self.open += 1
                self.free |= not needed
                continue
            status = run.status
            if run.line:
                line.append((run.line, run.index))
            if status not in TERMINAL:
                self.open += 1
                self._open(spec, run, needed)
            elif needed and status is not CANCELLED and run.reason not in _BY_PERSON:
                self.early = True
        self.line = [index for _, index in sorted(line)]

    def _open(self, spec: TaskSpec, run: TaskRun, needed: int) -> None:
        status = run.status
        self.unsettled += status is IN_DOUBT
        if status is WAITING:
            self.free |= not needed
            return
        self.early |= bool(needed)
        if status in _TRIED:
            self.busy += status is not READY or not run.line
            self.allowed &= _allowed(spec, run)


_BY_PERSON = (DONE_BY_PERSON, SKIPPED_BY_PERSON)
_TRIED = (READY, *SLOT)


def _same_commands(job: JobState) -> bool:
    """Equal but for the two places where one need has two forms: a cancelled attempt, a look at another time."""
    forms = {"cancel": "request", "look": "verify"}
    kept = set()
    for key in job.open:
        kind, _, tail = key.partition(":")
        kept.add(f"{forms.get(kind, kind)}:{tail}" if tail else key)
    stopping = {"deadline", "timeout"} if job.head.ending is not None else set()
    return kept - stopping == outstanding(job) - stopping and len(kept) == len(job.open)


def rebuilt(job: JobState) -> JobState:
    """The same job as it would be loaded from its rows; what follows from the spec alone is shared."""
    return JobState(job.head, job.graph, list(job.tasks.values()), list(job.open.values()))


def _allowed(spec: TaskSpec, run: TaskRun) -> bool:
    """Whether everybody said yes who must, of a task an agent is looked for, or was found."""
    enough = not run.digest or len(set(run.approvals)) >= needed(spec)
    return (run.approved and enough) if spec.approval or run.digest else True
