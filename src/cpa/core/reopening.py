"""What a person may say when opening the next run: which arguments are fixed, which tasks are skipped, count as
done or are done again.

And what nobody needs to say: a browser's page ends with its run. A browser task that runs again finds none, so the
done browser tasks that led to its page are done again with it, where all of that is harmless to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from msgspec.structs import replace

from cpa.core.classes import EffectClass
from cpa.core.events import JobReopened
from cpa.core.job import SATISFIED, JobState, TaskRun, TaskStatus
from cpa.core.people import ASK, authors, needed

Hands = Callable[[int], Iterable[str]]
"""By task: who fixed or settled it."""
DONE_BY_PERSON = "done_by_person"
SKIPPED_BY_PERSON = "skipped_by_person"
WENT_ON = "went_on"
"""Why what is meant for one run does not open another. Engines say it: the event itself names no run."""


def refusal(job: JobState, event: JobReopened) -> str:
    """Why the next run cannot be opened so; empty when it can."""
    places = {str(index): index for index in range(len(job.spec.tasks))}
    named = [*map(str, event.skip), *event.fixes, *event.done]
    if not all(key in places for key in (*named, *map(str, event.restart))):
        return "no_such_task"
    if len(set(named)) < len(named):
        return "said_twice"
    again = _again(job, event.restart)
    if staying(job, event):
        return "still_done"
    if job.head.logic > 3:
        return _against_people(job, event, again)
    return ""


def staying(job: JobState, event: JobReopened) -> tuple[int, ...]:
    """The tasks, in the plan's order, that `event` fixes, skips or settles although they are done and stay so."""
    again = _again(job, event.restart)
    named = {*event.skip, *map(int, (*event.fixes, *event.done))}
    return tuple(at for at in sorted(named) if at not in again and job.task(at).status in SATISFIED)


def _against_people(job: JobState, event: JobReopened, again: frozenset[int]) -> str:
    """Why people would be passed over: nobody skips for others what they must allow first, and nobody corrects what
    then too few could allow."""
    decided = {*event.skip, *map(int, event.done)}
    hands = partial(_hands, job, event, again)
    for index, spec in enumerate(job.spec.tasks if decided or event.fixes else ()):
        if not spec.approval:
            continue
        if index in decided:
            if not _may_pass(job, event.by, index, hands, again):
                return "approval_needed"
            continue
        asked = index in again or job.task(index).status not in SATISFIED
        if (
            asked
            and spec.approvers
            and len({*spec.approvers} - authors(job.spec, index, hands)) < needed(spec)
        ):
            return "nobody_left"
    return ""


def _may_pass(job: JobState, by: str, index: int, hands: Hands, again: frozenset[int]) -> bool:
    """Whether this person may decide without others that a task need not be done."""
    spec, run = job.spec.tasks[index], job.task(index)
    if (run.approved and index not in again) or not job.graph.dependents[index]:
        return True
    fixed = run.hands if run.arguments is not None else ()
    own = authors(job.spec, index, lambda place: fixed if place == index else hands(place))
    return needed(spec) == 1 and (not spec.approvers or by in spec.approvers) and by not in own


def _hands(job: JobState, event: JobReopened, again: frozenset[int], index: int) -> tuple[str, ...]:
    """Who gave the arguments of a task, or settled it, in the next run."""
    run, key = job.task(index), str(index)
    if job.head.logic < 4:
        return ()
    if index in event.skip or key in event.done:
        return (event.by,)
    if run.status in SATISFIED and index not in again:
        return run.hands
    # Who fixes one argument sends the others along, as somebody before may have fixed them.
    kept = run.hands if run.arguments is not None else ()
    return (*kept, event.by) if key in event.fixes and event.by not in kept else kept


def next_run(job: JobState, event: JobReopened) -> Iterator[TaskRun]:
    """The tasks that do not stay as they are: what is satisfied stays, unless it is done again; the others begin
    anew and count their epochs on. Arguments that were fixed or agreed on stay."""
    again = _again(job, event.restart)
    for index, spec in enumerate(job.spec.tasks):
        run, key = job.task(index), str(index)
        arguments = event.fixes.get(key, run.arguments)
        hands = _hands(job, event, again, index)
        if key in event.done:
            yield _settled(run, event, TaskStatus.DONE, DONE_BY_PERSON, hands)
        elif index in event.skip:
            yield _settled(run, event, TaskStatus.SKIPPED, SKIPPED_BY_PERSON, hands)
        elif run.status in SATISFIED and index not in again:
            continue
        elif run.status is not TaskStatus.WAITING or key in event.fixes:
            # An answer to a question of this run must not count for the same question of the next.
            epoch = run.epoch + 1 if spec.approvals or spec.action == ASK else run.epoch
            yield TaskRun(index, epoch=epoch, since=event.time, arguments=arguments, hands=hands)


def with_pages(job: JobState, event: JobReopened) -> JobReopened:
    """The event, with the done browser tasks that lead to those of the next run added to what is done again.

    Unchanged when that would repeat what must not be: anything done whose effect is not idempotent, an answer of a
    person, a task a person settled. Then the browser task fails with `session_lost`.
    """
    if refusal(job, event):
        return event
    spec, again = job.spec, _again(job, event.restart)
    decided = {*event.skip, *map(int, event.done)}
    runs = [
        index
        for index in range(len(spec.tasks))
        if index not in decided and (index in again or job.task(index).status not in SATISFIED)
    ]
    before, left = set[int](), [index for index in runs if _browser(job, index)]
    while left:
        for need in spec.tasks[left.pop()].needs:
            if need not in before:
                before.add(need)
                left.append(need)
    pages = {i for i in before - again - decided if _browser(job, i) and job.task(i).status in SATISFIED}
    repeated = _again(job, pages) - again - decided
    if not all(_repeatable(job, index) for index in repeated):
        return event
    return replace(event, restart=tuple(sorted({*event.restart, *pages})))


def _browser(job: JobState, index: int) -> bool:
    return job.spec.tasks[index].action.startswith("web.")


def _repeatable(job: JobState, index: int) -> bool:
    """Whether nothing is lost or doubled when the task runs (again) in the next run."""
    spec, run = job.spec.tasks[index], job.task(index)
    if run.reason in (DONE_BY_PERSON, SKIPPED_BY_PERSON):
        return False
    if run.status is not TaskStatus.DONE:
        return True
    return spec.effect is EffectClass.IDEMPOTENT and spec.action != ASK


def _settled(
    run: TaskRun, event: JobReopened, status: TaskStatus, reason: str, hands: tuple[str, ...]
) -> TaskRun:
    return TaskRun(
        run.index,
        status=status,
        epoch=run.epoch,
        since=event.time,
        reason=reason,
        result=event.done.get(str(run.index)),
        hands=hands,
    )


def _again(job: JobState, restart: Iterable[int]) -> frozenset[int]:
    """The tasks that are done again, with all that depend on them."""
    found, left = set[int](), list(restart)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left.extend(job.graph.dependents[index])
    return frozenset(found)
