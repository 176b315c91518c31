"""API keys in the store: hashes and rights, never a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from cpa.errors import Conflict
from cpa.ports.keys import Scope, StoredKey
from cpa.repository.database import Database
from cpa.repository.tables import api_keys, as_bytes, told, whole

_COLUMNS = ("tenant", "id", "name", "scopes", "hash", "created", "expires", "revoked")
_SELECT = sa.select(
    *(as_bytes(api_keys.c[name]) for name in _COLUMNS[:5]),
    *(whole(api_keys.c[name]) for name in _COLUMNS[5:]),
)


class SqlKeyStore:
    """`ports.keys.KeyStore` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: StoredKey) -> None:
        row = {name: getattr(key, name) for name in _COLUMNS}
        row["scopes"] = " ".join(sorted(key.scopes))
        statement = insert(api_keys).values(row).on_conflict_do_nothing()
        added = await self._database.write(lambda c: c.execute(statement).rowcount)
        if not added:
            raise Conflict(
                f"an API key with the id {key.id} or the same hash exists",
                field="id",
                value=key.id,
                remedy="create it under a fresh id",
            )

    async def find(self, digest: bytes) -> StoredKey | None:
        return await self._one(api_keys.c.hash == digest)

    async def get(self, tenant: str, id: str) -> StoredKey | None:
        return await self._one(api_keys.c.tenant == tenant, api_keys.c.id == id)

    async def list(self, tenant: str) -> tuple[StoredKey, ...]:
        query = _SELECT.where(api_keys.c.tenant == tenant).order_by(api_keys.c.created, api_keys.c.id)
        return tuple(_key(row) for row in await self._database.read(lambda c: c.execute(query).all()))

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        where = (api_keys.c.tenant == tenant, api_keys.c.id == id, api_keys.c.revoked == 0)
        statement = sa.update(api_keys).where(*where).values(revoked=now)
        return bool(await self._database.write(lambda c: c.execute(statement).rowcount))

    async def _one(self, *where: sa.ColumnElement[bool]) -> StoredKey | None:
        row = await self._database.read(lambda c: c.execute(_SELECT.where(*where)).first())
        return None if row is None else _key(row)


def _key(row: Sequence[Any]) -> StoredKey:
    """A row that is not as it was written hides none of the others, and its key opens nothing."""
    *texts, digest, created, expires, revoked = row
    try:
        tenant, id, name, scopes = (text.decode() for text in texts)
        granted = frozenset(Scope(word) for word in scopes.split())
        if None in (created, expires, revoked):
            raise ValueError("a time is none")
    except ValueError:
        tenant, id, name, _ = map(told, texts)
        granted, created, expires, revoked = frozenset(), created or 0, expires or 0, revoked or 1
    return StoredKey(
        tenant=tenant,
        id=id,
        name=name,
        scopes=granted,
        hash=digest,
        created=created,
        expires=expires,
        revoked=revoked,
    )
