"""Which engine holds an open job: `ports.moving.HolderStore` on the store.

Jobs of the local engine have no row, so that their steps cost nothing more; how many it has follows from the
counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from cpa.core.job import JobStatus
from cpa.ports.moving import LOCAL, Holder, Key, Times
from cpa.repository.database import Database
from cpa.repository.tables import as_spelled, as_told, job_counts, job_engines, jobs, outbox, queue

_OPEN = [status.value for status in JobStatus if not status.ended]
_AT_HOME = Holder(LOCAL)


class SqlHolders:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def holders(self) -> dict[Holder, int]:
        return await self._database.read(_holders)

    async def held(self, holder: Holder) -> list[Key]:
        query = _home() if holder == _AT_HOME else _elsewhere(holder)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return sorted((row[0], row[1]) for row in rows)

    async def times(self, keys: Collection[Key]) -> dict[Key, Times]:
        def work(c: sa.Connection) -> dict[Key, Times]:
            return {key: _times(c, key) for key in keys}

        return await self._database.read(work)

    async def mark(self, keys: Sequence[Key], holder: Holder) -> None:
        await self._database.write(lambda c: _put(c, keys, holder))

    async def receive(self, starts: Mapping[Key, int | None]) -> None:
        def work(c: sa.Connection) -> None:
            _drop(c, job_engines, list(starts))
            for key, start in starts.items():
                if start is not None:
                    _enter(c, key, start)

        await self._database.write(work)

    async def release(self, keys: Sequence[Key], engine: str) -> None:
        def work(c: sa.Connection) -> None:
            _put(c, keys, Holder(engine))
            _drop(c, queue, keys)

        await self._database.write(work)


def _holders(c: sa.Connection) -> dict[Holder, int]:
    open_ = c.execute(
        sa.select(sa.func.sum(job_counts.c.jobs)).where(job_counts.c.status.in_(_OPEN))
    ).scalar()
    engine, target = job_engines.c.engine, job_engines.c.target
    query = sa.select(as_told(engine), as_told(target), sa.func.count()).select_from(job_engines)
    rows = c.execute(query.group_by(engine, target))
    found = {Holder(engine, target): int(count) for engine, target, count in rows}
    home = int(open_ or 0) - sum(found.values())
    return {_AT_HOME: home} | found if home else found


def _elsewhere(holder: Holder) -> sa.Select[str, str]:
    table = job_engines.c
    query = sa.select(as_spelled(table.tenant), as_spelled(table.job))
    return query.where(table.engine == holder.engine, table.target == holder.target)


def _home() -> sa.Select[str, str]:
    """By the counts and the index of states: ended jobs, which may be many, are not looked at."""
    elsewhere = sa.exists().where(job_engines.c.tenant == jobs.c.tenant, job_engines.c.job == jobs.c.id)
    same = (jobs.c.tenant == job_counts.c.tenant) & (jobs.c.status == job_counts.c.status)
    query = sa.select(as_spelled(jobs.c.tenant), as_spelled(jobs.c.id)).select_from(
        job_counts.join(jobs, same)
    )
    return query.where(job_counts.c.status.in_(_OPEN), job_counts.c.jobs > 0, ~elsewhere)


def _times(c: sa.Connection, key: Key) -> Times:
    due = sa.select(outbox.c.key, outbox.c.due).where(*_of(outbox, key), outbox.c.due > 0)
    start = c.execute(sa.select(queue.c.not_before).where(*_of(queue, key))).scalar()
    return Times({name: int(when) for name, when in c.execute(due)}, start)


def _of(table: sa.Table, key: Key) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return table.c.tenant == key[0], table.c.job == key[1]


def _put(c: sa.Connection, keys: Sequence[Key], holder: Holder) -> None:
    _drop(c, job_engines, keys)
    if holder != _AT_HOME and keys:
        named = {"engine": holder.engine, "target": holder.target}
        c.execute(sa.insert(job_engines), [{"tenant": tenant, "job": job} | named for tenant, job in keys])


def _drop(c: sa.Connection, table: sa.Table, keys: Sequence[Key]) -> None:
    for key in keys:
        c.execute(sa.delete(table).where(*_of(table, key)))


def _enter(c: sa.Connection, key: Key, start: int) -> None:
    """As the local engine would have put it there."""
    row = c.execute(
        sa.select(jobs.c.priority, jobs.c.updated).where(jobs.c.tenant == key[0], jobs.c.id == key[1])
    )
    [(priority, since)] = row
    values = {"tenant": key[0], "job": key[1], "priority": priority, "not_before": start, "enqueued": since}
    c.execute(sa.insert(queue).prefix_with("OR REPLACE").values(values))
