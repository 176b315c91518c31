"""Enrolment tokens in the store: hashes and what is left of them, never a token; and whom they let in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from cpa.errors import Conflict
from cpa.ports.enrolment import StoredToken
from cpa.repository.database import Database
from cpa.repository.tables import as_bytes, enrolment_tokens, enrolments, told, whole

_COLUMNS = ("tenant", "id", "hash", "name", "uses", "created", "expires", "revoked")
_SELECT = sa.select(
    *(as_bytes(enrolment_tokens.c[name]) for name in _COLUMNS[:4]),
    *(whole(enrolment_tokens.c[name]) for name in _COLUMNS[4:]),
)


class SqlTokenStore:
    """`ports.enrolment.TokenStore` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: StoredToken) -> None:
        row = {name: getattr(token, name) for name in _COLUMNS}
        statement = insert(enrolment_tokens).values(row).on_conflict_do_nothing()
        if not await self._database.write(lambda c: c.execute(statement).rowcount):
            raise Conflict(
                f"an enrolment token with the id {token.id} or the same hash exists",
                field="id",
                value=token.id,
                remedy="make another one",
            )

    async def find(self, digest: bytes, name: str, now: int) -> StoredToken | None:
        return await self._database.read(lambda connection: _usable(connection, digest, name, now))

    async def spend(
        self, digest: bytes, name: str, now: int, proof: bytes = b"", agent: str = ""
    ) -> StoredToken | None:
        def work(connection: sa.Connection) -> StoredToken | None:
            token = _usable(connection, digest, name, now)
            if token is not None:
                where = enrolment_tokens.c.hash == digest
                connection.execute(sa.update(enrolment_tokens).where(where).values(uses=token.uses - 1))
            if token is not None and proof:
                row = {"tenant": token.tenant, "token": token.id, "proof": proof, "agent": agent}
                kept = insert(enrolments).values(row)
                connection.execute(kept.on_conflict_do_update(["tenant", "token", "proof"], set_=row))
            return token

        return await self._database.write(work)

    async def enrolled(self, digest: bytes, proof: bytes, now: int) -> tuple[str, str] | None:
        def work(connection: sa.Connection) -> tuple[str, str] | None:
            token = _found(connection, digest)
            if token is None or not token.lives(now):
                return None
            same = (enrolments.c.tenant == token.tenant, enrolments.c.token == token.id)
            query = sa.select(enrolments.c.agent).where(*same, enrolments.c.proof == proof)
            agent = connection.execute(query).scalar()
            return None if agent is None else (token.tenant, agent)

        return await self._database.read(work)

    async def list(self, tenant: str) -> tuple[StoredToken, ...]:
        query = _SELECT.where(enrolment_tokens.c.tenant == tenant)
        query = query.order_by(enrolment_tokens.c.created, enrolment_tokens.c.id)
        return tuple(_token(row) for row in await self._database.read(lambda c: c.execute(query).all()))

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        known = (enrolment_tokens.c.tenant == tenant, enrolment_tokens.c.id == id)
        statement = sa.update(enrolment_tokens).where(*known, enrolment_tokens.c.revoked == 0)
        return bool(await self._database.write(lambda c: c.execute(statement.values(revoked=now)).rowcount))


def _usable(connection: sa.Connection, digest: bytes, name: str, now: int) -> StoredToken | None:
    token = _found(connection, digest)
    return token if token is not None and token.active(now) and token.name in ("", name) else None


def _found(connection: sa.Connection, digest: bytes) -> StoredToken | None:
    row = connection.execute(_SELECT.where(enrolment_tokens.c.hash == digest)).first()
    return None if row is None else _token(row)


def _token(row: Sequence[Any]) -> StoredToken:
    """A row that is not as it was written hides none of the others, and its token opens nothing."""
    tenant, id, digest, name, *numbers = row
    try:
        known = [tenant.decode(), id.decode(), digest, name.decode(), *numbers]
        sound = None not in numbers
    except UnicodeDecodeError:
        sound = False
    if not sound:
        known = [told(tenant), told(id), digest, told(name), *(number or 0 for number in numbers[:-1]), 1]
    return StoredToken(**dict(zip(_COLUMNS, known, strict=True)))
