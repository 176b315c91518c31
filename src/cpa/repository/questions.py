"""Jobs that ask a person something: `ports.questions.QuestionQuery` on the outbox."""

from __future__ import annotations

import sqlalchemy as sa

from cpa.repository.database import Database
from cpa.repository.tables import outbox

KIND = "ask_person"


class SqlQuestionQuery:
    """Reads the index of open commands by kind; what asks nothing is never looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        query = (
            sa.select(outbox.c.job)
            .distinct()
            .where(outbox.c.kind == KIND, outbox.c.tenant == tenant, outbox.c.job > after)
            .order_by(outbox.c.job)
            .limit(limit)
        )
        return await self._database.read(lambda connection: tuple(connection.execute(query).scalars()))
