"""What the store has, in numbers, over all tenants: for whoever watches the whole server.

Nothing that has ended is looked at: how many jobs there are is kept by the step, and the rest are indexes of what
is open or waits for somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from cpa.core.commands import (
    AskPerson,
    CancelAttempt,
    DispatchTask,
    RequestTask,
    StartTimer,
    VerifyTask,
)
from cpa.core.job import JobStatus
from cpa.repository.database import Database
from cpa.repository.questions import KIND
from cpa.repository.tables import job_counts, jobs, outbox, raw

QUESTIONS: Final = ("approval", "proposal", "input", "doubt")
COMMANDS: Final = tuple(
    str(kind.__struct_config__.tag)
    for kind in (DispatchTask, RequestTask, CancelAttempt, VerifyTask, AskPerson, StartTimer)
)
_BODY: Final = raw(str(outbox.c.body), "TEXT")
_ASKED: sa.ColumnElement[str] = sa.literal_column(
    f"iif(json_valid({_BODY}), json_extract({_BODY}, '$.question'), '')"
)


@dataclass(frozen=True, slots=True)
class StoredFigures:
    """At one moment."""

    jobs: Mapping[str, int]
    """By status."""
    dead_letters: int
    questions: Mapping[str, int]
    """Open ones by kind (`QUESTIONS`)."""
    commands: Mapping[str, int]
    """Open ones by kind (`COMMANDS`), the questions among them."""
    overdue: int
    """Timers whose time has come and that have not fired."""
    late: float
    """Seconds that the first of them is late; 0 without any."""


class SqlFigures:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, now: int) -> StoredFigures:
        """All on one snapshot; `now` in milliseconds since 1970 UTC."""
        return await self._database.read(lambda c: _read(c, now))


def _read(c: sa.Connection, now: int) -> StoredFigures:
    count = sa.func.count()
    by_status = sa.select(job_counts.c.status, sa.func.sum(job_counts.c.jobs)).group_by(job_counts.c.status)
    dead = sa.select(count).select_from(jobs).where(sa.literal_column("dead") == sa.literal_column("1"))
    asked = sa.select(_ASKED, count).where(outbox.c.kind == KIND).group_by(_ASKED)
    opened = sa.select(outbox.c.kind, count).group_by(outbox.c.kind)
    due = sa.select(count, sa.func.min(outbox.c.due)).where(outbox.c.due > 0, outbox.c.due <= now)
    overdue, first = c.execute(due).one()
    return StoredFigures(
        jobs=_among(tuple(JobStatus), c.execute(by_status)),
        dead_letters=c.scalar(dead) or 0,
        questions=_among(QUESTIONS, c.execute(asked)),
        commands=_among(COMMANDS, c.execute(opened)),
        overdue=overdue,
        late=(now - first) / 1000 if overdue else 0.0,
    )


def _among(words: Iterable[str], rows: Iterable[Any]) -> dict[str, int]:
    """Counts of these words alone: whatever else a damaged row says must not become one more series."""
    found = {word: int(number) for word, number in rows}
    return {str(word): found.get(word, 0) for word in words}
