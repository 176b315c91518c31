"""Jobs that ask a person something: `ports.questions.QuestionQuery` on the outbox."""

from __future__ import annotations

import sqlalchemy as sa

from cpa.core.ids import shown
from cpa.repository.database import Database
from cpa.repository.tables import as_bytes, outbox, spelled, stored

KIND = "ask_person"


class SqlQuestionQuery:
    """Reads the index of open commands by kind; what asks nothing is never looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        return await self._database.read(lambda connection: tuple(_asking(connection, tenant, after, limit)))


def _asking(connection: sa.Connection, tenant: str, after: str, limit: int) -> list[str]:
    """What is no UTF-8 is no job's name, and nobody could go on after it."""
    found: list[str] = []
    mine = sa.select(as_bytes(outbox.c.job)).where(outbox.c.kind == KIND, outbox.c.tenant == tenant)
    place = after.encode()
    while (left := limit - len(found)) > 0:
        query = mine.where(outbox.c.job > stored(place)).group_by(outbox.c.job).order_by(outbox.c.job)
        names = connection.scalars(query.limit(left)).all()
        found += [name for name in map(spelled, names) if shown(name) == name]
        if len(names) < left:
            break
        place = names[-1]
    return found
