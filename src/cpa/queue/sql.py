"""The line of jobs in the store, beside the jobs themselves.

A row is ready (`not_before = 0 AND lease_until = 0`), for later (`not_before > 0`) or leased
(`lease_until > 0`); each kind has an index of its own, and a job moves between them when its time has come.
So taking the first hundred costs the same beside a hundred thousand that wait for tomorrow. The statements
name these conditions literally: only then SQLite may use the partial indexes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, TextClause, text

from cpa.ports.clock import Clock
from cpa.ports.queue import Lease
from cpa.ports.repository import JobRepository
from cpa.queue.control import Control, Send

T = TypeVar("T")

_MOVED_AT_ONCE: Final = 5_000
"""Rows that become ready per transaction: other writers wait for it."""

_ENTER = text(
    "INSERT INTO queue (tenant, job, priority, not_before, enqueued) "
    "VALUES (:tenant, :job, :priority, :not_before, :now) ON CONFLICT (tenant, job) DO NOTHING"
)
_STATE = text(
    "SELECT EXISTS (SELECT 1 FROM queue WHERE lease_until > 0 AND lease_until <= :now),"
    " EXISTS (SELECT 1 FROM queue WHERE not_before > 0 AND not_before <= :now),"
    " EXISTS (SELECT 1 FROM queue WHERE not_before = 0 AND lease_until = 0)"
)
"""Whether a lease ran out, a time has come, or a job is ready: an idle line is only read."""
_EXPIRE = text(
    "UPDATE queue SET owner = '', token = '', lease_until = 0 WHERE (tenant, job) IN ("
    "SELECT tenant, job FROM queue WHERE lease_until > 0 AND lease_until <= :now LIMIT :limit)"
)
_RIPEN = text(
    "UPDATE queue SET not_before = 0 WHERE (tenant, job) IN ("
    "SELECT tenant, job FROM queue WHERE not_before > 0 AND not_before <= :now LIMIT :limit)"
)
_TAKE = text(
    "UPDATE queue SET owner = :owner, token = :token, lease_until = :until WHERE (tenant, job) IN ("
    "SELECT tenant, job FROM queue WHERE not_before = 0 AND lease_until = 0 "
    "ORDER BY priority DESC, enqueued, job, tenant LIMIT :limit) "
    "RETURNING tenant, job, priority, enqueued"
)
_MINE = "WHERE tenant = :tenant AND job = :job AND token = :token AND lease_until > :now"
_REMOVE = text(f"DELETE FROM queue {_MINE}")  # noqa: S608
_RENEW = text(f"UPDATE queue SET lease_until = :until {_MINE}")  # noqa: S608
_RETURN = text(
    f"UPDATE queue SET owner = '', token = '', lease_until = 0, not_before = :not_before {_MINE}"  # noqa: S608
)
_SIZE = text("SELECT count(*) FROM queue WHERE tenant = :tenant")


class Store(Protocol):
    """What is needed of the store: one snapshot to read, one durable transaction to write."""

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...


class SqlJobQueue(Control):
    """`ports.queue.JobQueue` on the table `queue`; durable, and safe for several workers."""

    def __init__(self, store: Store, jobs: JobRepository, send: Send, clock: Clock) -> None:
        super().__init__(jobs, send, clock)
        self._store = store

    async def enqueue(self, tenant: str, job: str, *, priority: int = 0, not_before: int = 0) -> bool:
        await self._admit(tenant, job)
        values = {"tenant": tenant, "job": job, "priority": priority, "not_before": not_before}
        values["now"] = self._clock.now_ms()
        return bool(await self._change(_ENTER, values))

    async def dequeue(self, owner: str, limit: int = 1, lease_ms: int = 30_000) -> tuple[Lease, ...]:
        limit = self._checked(owner, limit, lease_ms)
        now = self._clock.now_ms()
        expired, ripe, ready = await self._store.read(lambda c: c.execute(_STATE, {"now": now}).one())
        if not (expired or ripe or ready):
            return ()
        moves = [statement for statement, due in ((_EXPIRE, expired), (_RIPEN, ripe)) if due]
        take = {"owner": owner, "token": secrets.token_hex(16), "until": now + lease_ms, "limit": limit}
        while (rows := await self._store.write(lambda c: _take(c, moves, now, take))) is None:
            pass
        return tuple(
            Lease(tenant, job, priority, enqueued, owner, str(take["token"]), now + lease_ms)
            for tenant, job, priority, enqueued in sorted(rows, key=lambda r: (-r[2], r[3], r[1], r[0]))
        )

    async def acknowledge(self, lease: Lease) -> bool:
        return bool(await self._change(_REMOVE, self._fence(lease)))

    async def renew(self, lease: Lease, lease_ms: int) -> Lease | None:
        until = self._clock.now_ms() + lease_ms
        if not await self._change(_RENEW, self._fence(lease) | {"until": until}):
            return None
        return Lease(lease.tenant, lease.job, lease.priority, lease.enqueued, lease.owner, lease.token, until)

    async def release(self, lease: Lease, *, not_before: int = 0) -> bool:
        return bool(await self._change(_RETURN, self._fence(lease) | {"not_before": not_before}))

    async def size(self, tenant: str) -> int:
        self._ready()
        return int(await self._store.read(lambda c: c.scalar(_SIZE, {"tenant": tenant})) or 0)

    def _fence(self, lease: Lease) -> dict[str, Any]:
        self._ready()
        now = self._clock.now_ms()
        return {"tenant": lease.tenant, "job": lease.job, "token": lease.token, "now": now}

    async def _change(self, statement: TextClause, values: dict[str, Any]) -> int:
        return int(await self._store.write(lambda c: c.execute(statement, values).rowcount))


def _take(
    connection: Connection, moves: Sequence[TextClause], now: int, take: dict[str, Any]
) -> list[Any] | None:
    """Lease the first ones; None when so much had to be moved first that it takes another transaction."""
    chunk = {"now": now, "limit": _MOVED_AT_ONCE}
    for statement in moves:
        if connection.execute(statement, chunk).rowcount == _MOVED_AT_ONCE:
            return None
    return list(connection.execute(_TAKE, take).all())
