"""The trail in the store: events of jobs and, in `audit_entries`, what no job did.

Both are read as one, newest first, by *place*: (time, 1 for jobs and 0 for others, seq). A slice examines at
most WINDOW facts of each kind: first the window's end is found in the index, then the filter runs inside it,
so that a filter which nothing matches cannot walk through millions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from cpa.core.audit import erased, unseal
from cpa.errors import BadInput, InternalError
from cpa.ports.repository import MAX_PAGE, ActionLeaf, AuditFilter, AuditRow, AuditSlice, LeafRow
from cpa.repository.database import Database
from cpa.repository.events import legible
from cpa.repository.jobs import bounded, decoded
from cpa.repository.tables import as_spelled, as_told, audit_entries, events, job_specs, jobs, whole

WINDOW: Final = 20_000
_JOBS, _OTHERS = 1, 0
_BEYOND: Final = (1 << 63) - 1
"""Above every `seq`."""

Place = tuple[int, int, int]


class _Name(msgspec.Struct):
    id: str


class _Names(msgspec.Struct):
    """The little of a spec that is needed to name tasks."""

    tasks: list[_Name]


_NAMES: Final = msgspec.json.Decoder(_Names)


class SqlAuditRepository:
    """`ports.repository.AuditRepository` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, leaf: ActionLeaf) -> int:
        statement = insertion(leaf)
        return await self._database.write(lambda c: _placed(c.execute(statement)))

    async def slice(
        self, tenant: str, which: AuditFilter, *, limit: int = 50, below: Place | None = None
    ) -> AuditSlice:
        size = bounded(limit)
        if which.task >= 0 and not which.job:
            raise BadInput("a task is looked for within a job", field="task", remedy="name the job too")
        return await self._database.read(lambda c: _slice(c, tenant, which, size, below))

    async def leaves(
        self, tenant: str, *, after: tuple[str, int] = ("", 0), limit: int = MAX_PAGE
    ) -> tuple[LeafRow, ...]:
        e = events.c
        row = (whole(e.number, "0"), e.seq, as_told(e.type), whole(e.time, "-1"), e.body, e.private, e.leaf)
        query = sa.select(as_spelled(e.job), *row)
        query = query.where(e.tenant == tenant, sa.tuple_(e.job, e.number) > after)
        return await self._leaves(query.order_by(e.job, e.number), limit)

    async def other_leaves(
        self, tenant: str, *, after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[LeafRow, ...]:
        a = audit_entries.c
        none = (sa.literal(""), sa.literal(0))
        kind, time = sa.literal("action_logged"), whole(a.time, "-1")
        query = sa.select(*none, a.seq, kind, time, a.body, a.private, a.leaf)
        return await self._leaves(query.where(a.tenant == tenant, a.seq > after).order_by(a.seq), limit)

    async def _leaves(self, query: sa.Select[Any], limit: int) -> tuple[LeafRow, ...]:
        bound = query.limit(bounded(limit))
        return await self._database.read(lambda c: tuple(LeafRow(*row) for row in c.execute(bound)))

    async def numbers(
        self, tenant: str, *, after: str = "", limit: int = MAX_PAGE
    ) -> tuple[tuple[str, int], ...]:
        query = sa.select(as_spelled(jobs.c.id), whole(jobs.c.number, str(_BEYOND))).where(
            jobs.c.tenant == tenant, jobs.c.id > after
        )
        bound = query.order_by(jobs.c.id).limit(bounded(limit))
        return await self._database.read(lambda c: tuple((row[0], row[1]) for row in c.execute(bound)))

    async def task_ids(self, tenant: str, jobs: Iterable[str]) -> dict[str, tuple[str, ...]]:
        names = sorted(set(jobs))
        where = (job_specs.c.tenant == tenant, job_specs.c.job.in_(names))
        query = sa.select(job_specs.c.job, job_specs.c.spec).where(*where)
        rows = await self._database.read(lambda c: c.execute(query).all()) if names else ()
        found = {}
        for job, body in rows:
            try:
                found[job] = tuple(task.id for task in decoded(_NAMES, body, "job spec").tasks)
            except InternalError:
                continue  # the plan cannot be read; what happened still can, with numbers for names
        return found


def insertion(leaf: ActionLeaf) -> sa.Insert:
    """Stores what no job did: for a transaction that stores also what was done."""
    sealed = leaf.sealed
    return sa.insert(audit_entries).values(
        tenant=leaf.tenant,
        actor=leaf.actor,
        action=leaf.action,
        subject=leaf.subject,
        time=unseal(sealed.body, sealed.private).time,
        body=sealed.body,
        private=sealed.private,
        leaf=sealed.leaf,
    )


def _placed(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None  # the table has an integer primary key
    return int(key[0])


# -- slices --------------------------------------------------------------------------------------------------


def _slice(
    connection: sa.Connection, tenant: str, which: AuditFilter, limit: int, below: Place | None
) -> AuditSlice:
    found, horizon = _look(connection, _events_query(tenant, which), _JOBS, which, limit, below)
    if not which.job and (not which.types or "action_logged" in which.types):
        others, end = _look(connection, _others_query(tenant), _OTHERS, which, limit, below)
        found = sorted(found + others, key=lambda row: row.place, reverse=True)
        # Only above both ends is everything known.
        horizon = max(filter(None, (horizon, end)), default=None)
    if horizon is not None:
        found = [row for row in found if row.place >= horizon]
    if len(found) > limit:
        found = found[:limit]
        horizon = found[-1].place
    return AuditSlice(tuple(found), horizon)


def _events_query(tenant: str, which: AuditFilter) -> sa.Select[Any]:
    e = events.c
    query = sa.select(e.seq, _when(e.time), as_told(e.type), as_told(e.job), whole(e.number, "0"))
    query = query.add_columns(e.body, e.private, e.leaf).where(e.tenant == tenant)
    if which.job:
        return query.where(e.job == which.job).order_by(e.number.desc())
    return query.order_by(e.time.desc(), e.seq.desc())


def _others_query(tenant: str) -> sa.Select[Any]:
    a = audit_entries.c
    kind, job, number = (sa.literal("action_logged"), sa.literal(""), sa.literal(0))
    columns = (a.seq, _when(a.time), kind.label("type"), job.label("job"), number.label("number"))
    query = sa.select(*columns, a.body, a.private, a.leaf).where(a.tenant == tenant)
    return query.order_by(a.time.desc(), a.seq.desc())


def _when(time: sa.Column[int]) -> sa.ColumnElement[int]:
    """A time in the order of the index, where what is no number comes after all numbers."""
    number = f"CAST(coalesce({time}, 0) AS INTEGER)"
    read = f"CASE WHEN typeof({time}) IN ('text', 'blob') THEN {_BEYOND} ELSE {number} END"
    return sa.literal_column(read, sa.Integer).label("time")


def _look(
    connection: sa.Connection,
    query: sa.Select[Any],
    source: int,
    which: AuditFilter,
    limit: int,
    below: Place | None,
) -> tuple[list[AuditRow], Place | None]:
    """Matches of one kind, newest first, and the place down to which all was seen (None: to the end)."""
    table = events if source == _JOBS else audit_entries
    seq, time, body = table.c.seq, table.c.time, table.c.body
    if which.since:
        query = query.where(time >= which.since)
    if which.until:
        query = query.where(time < which.until)
    if below is not None:
        last = below[2] if below[1] == source else (0 if below[1] < source else _BEYOND)
        query = query.where(time <= below[0], sa.tuple_(time, seq) < (below[0], last))
    end = connection.execute(query.with_only_columns(_when(time), seq).limit(1).offset(WINDOW - 1)).first()
    horizon: Place | None = None
    if end is not None:
        horizon = (end[0], source, end[1])
        query = query.where(time >= end[0], sa.tuple_(time, seq) >= (end[0], end[1]))
    rows = connection.execute(_matching(query, body, which, source).limit(limit)).all()
    if len(rows) == limit:
        horizon = (rows[-1].time, source, rows[-1].seq)
    return [_row(row, source) for row in rows], horizon


def _matching(
    query: sa.Select[Any], body: sa.ColumnElement[Any], which: AuditFilter, source: int
) -> sa.Select[Any]:
    if which.types and source == _JOBS:
        query = query.where(events.c.type.in_(which.types))
    if which.task >= 0:
        query = query.where(_says(body, which.task, "task"))
    if which.actor:
        query = query.where(_says(body, which.actor, "agent", "by", "actor"))
    return query


def _says(body: sa.ColumnElement[Any], value: str | int, *fields: str) -> sa.ColumnElement[bool]:
    """Whether one of the fields has the value. Looking for its bytes first spares parsing most bodies."""
    near = sa.func.instr(body, sa.literal(msgspec.json.encode(value), sa.LargeBinary)) > 0
    text = sa.cast(body, sa.Text)
    # Damaged bytes say nothing; to look into them would be an error.
    sound = sa.func.json_valid(text) == 1
    said = sa.or_(*(sa.func.json_extract(text, f"$.{name}") == value for name in fields))
    return sa.case((sa.and_(near, sound), said), else_=sa.false())


def _row(row: Any, source: int) -> AuditRow:
    which = f"Event {row.number} of this job" if source == _JOBS else f"Entry {row.seq}"
    event = legible(row.body, row.private, row.time, row.type, which)
    place = (row.time, source, row.seq)
    gone = erased(row.body, row.private)
    return AuditRow(row.job, row.number, row.type, event, row.leaf.hex(), row.body, gone, place)
