"""What must hold for every job after every event; `violations` names what does not.

`outstanding` is the definition of which commands are open: it follows from the stored state alone. The open
commands a job keeps, and the outbox rows, are this set written down.
"""

from __future__ import annotations

from cpa.core.job import SATISFIED, TERMINAL, Graph, JobState, JobStatus, TaskRun, TaskSpec, TaskStatus
from cpa.core.people import needed
from cpa.core.reopening import DONE_BY_PERSON, SKIPPED_BY_PERSON


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
    tail = f"{run.index}:{run.epoch}"
    match run.status:
        case TaskStatus.READY if not run.line:
            return f"dispatch:{tail}"
        case TaskStatus.ASSIGNED | TaskStatus.RUNNING:
            return f"request:{tail}"
        case TaskStatus.HELD:
            return f"ask:{tail}" if run.reason in ("approval", "proposal", "input") else f"retry:{tail}"
        case TaskStatus.IN_DOUBT:
            return f"ask:{tail}" if run.reason == "doubt" else f"verify:{tail}"
        case _:
            return ""


def violations(job: JobState) -> list[str]:
    """Every rule that does not hold, in words; empty is good. O(tasks): for tests, simulation and replay."""
    head, spec = job.head, job.spec
    runs = [job.task(index) for index in range(len(spec.tasks))]
    busy = sum(_busy(run) for run in runs)
    unsettled = sum(run.status is TaskStatus.IN_DOUBT for run in runs)
    open_tasks = sum(run.status not in TERMINAL for run in runs)
    waiting = [sum(runs[need].status not in SATISFIED for need in task.needs) for task in spec.tasks]
    line = [index for _, index in sorted((run.line, run.index) for run in runs if run.line)]
    settled = (head.ending is not None or not open_tasks) and not busy and not unsettled
    rules = {
        "busy is what holds a slot": head.busy == busy,
        "busy is at most max_parallel": busy <= spec.max_parallel,
        "unsettled is what is in doubt": head.unsettled == unsettled,
        "open is what is not terminal": not head.number or head.open == open_tasks,
        "dependency counts are kept": job.waiting == waiting,
        "the line is kept": list(job.line) == line,
        "only ready tasks stand in line": all(runs[index].status is TaskStatus.READY for index in line),
        "slots do not stay empty": not line or busy == spec.max_parallel or head.ending is not None,
        "commands are what is outstanding": _same_commands(job),
        "nothing runs before the job": head.status is not JobStatus.PENDING or not busy,
        "an ended job is settled": not head.status.ended or (not busy and not unsettled and not job.open),
        "a settled run ends": head.status is not JobStatus.RUNNING or not settled,
        "a done job has every task done or skipped": head.status is not JobStatus.DONE or not open_tasks,
        "a task moves only when nothing it needs is open": all(
            run.status in (TaskStatus.WAITING, TaskStatus.CANCELLED)
            or run.reason in (DONE_BY_PERSON, SKIPPED_BY_PERSON)
            or not waiting[run.index]
            for run in runs
        ),
        "what needs a yes has it": all(_allowed(spec.tasks[run.index], run) for run in runs),
        "a free task is not left waiting": head.status is not JobStatus.RUNNING
        or head.ending is not None
        or all(run.status is not TaskStatus.WAITING or waiting[run.index] for run in runs),
    }
    return [rule for rule, holds in rules.items() if not holds]


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
    """The same job as it would be loaded from its rows."""
    return JobState(job.head, Graph(job.spec), list(job.tasks.values()), list(job.open.values()))


def _busy(run: TaskRun) -> bool:
    assigned = run.status in (TaskStatus.ASSIGNED, TaskStatus.RUNNING)
    return assigned or (run.status is TaskStatus.READY and not run.line)


def _allowed(spec: TaskSpec, run: TaskRun) -> bool:
    """Whether everybody said yes who must, once an agent is looked for."""
    if run.status not in (TaskStatus.READY, TaskStatus.ASSIGNED, TaskStatus.RUNNING):
        return True
    enough = not run.digest or len(set(run.approvals)) >= needed(spec)
    return (run.approved and enough) if spec.approval or run.digest else True
