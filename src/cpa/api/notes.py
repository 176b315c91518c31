"""Why somebody said no: their own words, beside the failure that came of it.

Words of a person may have to be erased. So they are in the job's events alone, and in nothing the core decides by;
whoever asks about the job is told both together.
"""

from __future__ import annotations

from msgspec.structs import replace

from cpa.api.services import ApiServices
from cpa.core.events import QuestionAnswered
from cpa.core.failures import translated
from cpa.core.job import Snapshot, TaskRun, TaskStatus

_PAGE = 100
_OF_A_NO = frozenset({"approval_denied", "declined", "proposed", "effect_absent"})
"""Codes of what comes of a no; the last two come of other things too."""


async def with_notes(services: ApiServices, tenant: str, job: str) -> Snapshot:
    """The job; in the error of each task that failed because somebody said no, the reason they gave."""
    snapshot = await services.engine.query(tenant, job)
    notes = await _notes(services, snapshot)
    if not notes:
        return snapshot
    tasks = list(snapshot.tasks)
    for task, note in notes.items():
        if note and (error := tasks[task].error) is not None:
            message = f"{translated(error.message, snapshot.spec.locale)}: {note}"
            tasks[task] = replace(tasks[task], error=replace(error, message=message))
    return replace(snapshot, tasks=tuple(tasks))


async def _notes(services: ApiServices, snapshot: Snapshot) -> dict[int, str]:
    """By task that failed over a no, what was said with it. Read from the end back to the first of these failures:
    nothing new starts after one, so that is near, however long the history is."""
    head, notes = snapshot.head, dict[int, str]()
    failed = {run.index: run for run in snapshot.tasks if _may_be_of_a_no(run)}
    first, last = min((run.since for run in failed.values()), default=0), head.number
    while failed and last > 0:
        after = max(last - _PAGE, 0)
        page = await services.engine.events(head.tenant, head.id, after=after, limit=last - after)
        for event in (stored.event for stored in reversed(page)):
            if event.time < first:
                return notes
            if not isinstance(event, QuestionAnswered) or event.yes:
                continue
            if (run := failed.get(event.task)) is not None and run.epoch == event.epoch:
                notes[event.task] = event.note
                del failed[event.task]
        last = after
    return notes


def _may_be_of_a_no(run: TaskRun) -> bool:
    return run.status is TaskStatus.FAILED and run.error is not None and run.error.code in _OF_A_NO
