"""Why somebody said no: their own words, beside the failure that came of it.

Words of a person may have to be erased. So they are in the job's events alone, and in nothing the core decides by;
whoever asks about the job is told both together.
"""

from __future__ import annotations

from msgspec.structs import replace

from cpa.api.services import ApiServices
from cpa.core.events import QuestionAnswered
from cpa.core.failures import translated
from cpa.core.job import Snapshot

_PAGE = 1000
_OF_A_NO = frozenset({"approval_denied", "declined", "proposed", "effect_absent"})
"""Codes of what comes of a no."""


async def look(services: ApiServices, tenant: str, job: str) -> Snapshot:
    """The job; in the error of each task that somebody said no to, the reason they gave."""
    snapshot = await services.engine.query(tenant, job)
    denied = {
        run.index: run.error for run in snapshot.tasks if run.error is not None and run.error.code in _OF_A_NO
    }
    notes: dict[int, str] = {}
    after = 0
    while denied and (page := await services.engine.events(tenant, job, after=after, limit=_PAGE)):
        for stored in page:
            after, event = stored.number, stored.event
            if not isinstance(event, QuestionAnswered) or event.yes or event.task not in denied:
                continue
            if denied[event.task].message.startswith(f"{event.by} "):
                notes[event.task] = event.note
    tasks = list(snapshot.tasks)
    for task, note in notes.items():
        if note:
            message = f"{translated(denied[task].message, snapshot.spec.locale)}: {note}"
            tasks[task] = replace(tasks[task], error=replace(denied[task], message=message))
    return replace(snapshot, tasks=tuple(tasks))
