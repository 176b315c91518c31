"""The log of LAM messages that crossed the process's border."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from cpa.errors import BadInput
from cpa.ports.repository import MAX_PAGE, StoredMessage
from cpa.repository.database import Database
from cpa.repository.jobs import bounded
from cpa.repository.tables import as_told, messages

_FIELDS = StoredMessage.__struct_fields__


class SqlMessageRepository:
    """`ports.repository.MessageRepository` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, tenant: str, *messages: StoredMessage) -> None:
        rows = [_row(tenant, message) for message in messages]
        if rows:
            await self._database.write(lambda c: c.execute(_INSERT, rows) and None)

    async def list(
        self, tenant: str, *, conversation: str = "", job: str = "", after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[StoredMessage, ...]:
        if not conversation and not job:
            raise BadInput(
                "name the conversation or the job whose messages to list",
                field="conversation",
                remedy="pass `conversation` or `job`",
            )
        where = [messages.c.tenant == tenant, messages.c.seq > after]
        if conversation:
            where.append(messages.c.conversation == conversation)
        if job:
            where.append(messages.c.job == job)
        columns = [_column(messages.c[name]) for name in _FIELDS]
        query = sa.select(*columns).where(*where).order_by(messages.c.seq).limit(bounded(limit))

        def work(c: sa.Connection) -> tuple[StoredMessage, ...]:
            return tuple(StoredMessage(**dict(zip(_FIELDS, row, strict=True))) for row in c.execute(query))

        return await self._database.read(work)


def _column(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return as_told(column) if isinstance(column.type, sa.Text) else column


_INSERT = sa.insert(messages)


def _row(tenant: str, message: StoredMessage) -> dict[str, Any]:
    row = msgspec.structs.asdict(message)
    del row["seq"]
    return row | {"tenant": tenant}
