"""What a person may say when opening the next run: which arguments are fixed, which tasks are skipped, count as
done or are done again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cpa.core.events import JobReopened
from cpa.core.job import SATISFIED, JobState, TaskRun, TaskStatus
from cpa.core.people import ASK

DONE_BY_PERSON = "done_by_person"
SKIPPED_BY_PERSON = "skipped_by_person"


def refusal(job: JobState, event: JobReopened) -> str:
    """Why the next run cannot be opened so; empty when it can."""
    count = len(job.spec.tasks)
    named = [*event.skip, *_indices(event.fixes), *_indices(event.done)]
    if not all(0 <= index < count for index in (*named, *event.restart)):
        return "no_such_task"
    if len(set(named)) < len(named):
        return "said_twice"
    again = _again(job, event.restart)
    if any(index not in again and job.task(index).status in SATISFIED for index in named):
        return "still_done"
    return ""


def next_run(job: JobState, event: JobReopened) -> Iterator[TaskRun]:
    """The tasks that do not stay as they are: what is satisfied stays, unless it is done again; the others begin
    anew and count their epochs on. Arguments that were fixed or agreed on stay."""
    again = _again(job, event.restart)
    for index, spec in enumerate(job.spec.tasks):
        run, key = job.task(index), str(index)
        arguments = event.fixes.get(key, run.arguments)
        if key in event.done:
            yield _settled(run, event, TaskStatus.DONE, DONE_BY_PERSON)
        elif index in event.skip:
            yield _settled(run, event, TaskStatus.SKIPPED, SKIPPED_BY_PERSON)
        elif run.status in SATISFIED and index not in again:
            continue
        elif run.status is not TaskStatus.WAITING or key in event.fixes:
            # An answer to a question of this run must not count for the same question of the next.
            epoch = run.epoch + 1 if spec.approvals or spec.action == ASK else run.epoch
            yield TaskRun(index, epoch=epoch, since=event.time, arguments=arguments)


def _settled(run: TaskRun, event: JobReopened, status: TaskStatus, reason: str) -> TaskRun:
    result = event.done.get(str(run.index))
    return TaskRun(run.index, status=status, epoch=run.epoch, since=event.time, reason=reason, result=result)


def _again(job: JobState, restart: Iterable[int]) -> frozenset[int]:
    """The tasks that are done again, with all that depend on them."""
    found, left = set[int](), list(restart)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left.extend(job.graph.dependents[index])
    return frozenset(found)


def _indices(named: Iterable[str]) -> list[int]:
    """The indices that are keys of objects; -1 for what is none."""
    return [int(key) if key.isascii() and key.isdecimal() and str(int(key)) == key else -1 for key in named]
