"""Jobs and tasks: read, page, and delete. All SQL on them but the hot step's is here.

Lists never touch what they do not show: a page first walks a covering index for the ids, from the nearer end,
and totals come from `job_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa

from cpa.core.audit import ILLEGIBLE
from cpa.core.commands import AnyCommand, Command
from cpa.core.job import ENDED, SCHEMA, JobHead, JobSpec, JobStatus, Snapshot, TaskRun, TaskStatus
from cpa.errors import BadInput, Conflict, InternalError, NotFound, Unavailable
from cpa.ports.engine import JobPage, StoredEvent
from cpa.ports.repository import MAX_PAGE
from cpa.repository.database import Database
from cpa.repository.events import stored_event
from cpa.repository.listing import LISTED, listed
from cpa.repository.tables import (
    as_bytes,
    events,
    inbox,
    job_counts,
    job_specs,
    jobs,
    messages,
    outbox,
    queue,
    stored,
    task_runs,
)

S = TypeVar("S")

_encode = msgspec.json.Encoder().encode
_head: Final = msgspec.json.Decoder(JobHead)
_spec: Final = msgspec.json.Decoder(JobSpec)
_run: Final = msgspec.json.Decoder(TaskRun)
_command: Final = msgspec.json.Decoder(AnyCommand)

_PURGE_CHUNK: Final = 100
"""Jobs per deleting transaction: other writers wait for it."""


def bounded(limit: int, offset: int = 0) -> int:
    """The page size to use; `BadInput` for a limit below 1 or a negative offset."""
    if limit < 1:
        raise BadInput(
            "limit must be at least 1", field="limit", value=limit, remedy="ask for 1 to 1000 items"
        )
    if offset < 0:
        raise BadInput("offset must not be negative", field="offset", value=offset, remedy="start at 0")
    return min(limit, MAX_PAGE)


def decoded(decoder: msgspec.json.Decoder[S], body: bytes, what: str) -> S:
    """The stored value; `InternalError` when the bytes are none."""
    try:
        return decoder.decode(body)
    except ILLEGIBLE as error:
        raise InternalError(
            f"a stored {what} cannot be read: {error}", field=what, value=body.decode(errors="replace")
        ) from error


def missing(job: str) -> NotFound:
    return NotFound(f"there is no job {job}", field="job", value=job, remedy="list jobs to see the known ids")


def read_head(connection: sa.Connection, tenant: str, job: str) -> JobHead:
    row = connection.execute(sa.select(jobs.c.head).where(jobs.c.tenant == tenant, jobs.c.id == job)).first()
    if row is None:
        raise missing(job)
    head = decoded(_head, row[0], "job head")
    if head.schema > SCHEMA:
        raise Unavailable(
            f"job {job} has schema {head.schema}, this program reads up to {SCHEMA}",
            field="schema",
            value=head.schema,
            remedy="start the newer version that wrote it",
        )
    return head


def read_spec(connection: sa.Connection, tenant: str, job: str) -> JobSpec:
    where = (job_specs.c.tenant == tenant, job_specs.c.job == job)
    row = connection.execute(sa.select(job_specs.c.spec).where(*where)).first()
    if row is None:
        raise missing(job)
    return decoded(_spec, row[0], "job spec")


def read_runs(connection: sa.Connection, tenant: str, job: str) -> dict[int, TaskRun]:
    """Only tasks that ever moved."""
    where = (task_runs.c.tenant == tenant, task_runs.c.job == job)
    rows = connection.execute(sa.select(task_runs.c.body).where(*where).order_by(task_runs.c.idx))
    runs = (decoded(_run, row[0], "task run") for row in rows)
    return {run.index: run for run in runs}


def read_commands(connection: sa.Connection, tenant: str, job: str) -> tuple[Command, ...]:
    where = (outbox.c.tenant == tenant, outbox.c.job == job)
    rows = connection.execute(sa.select(outbox.c.body).where(*where).order_by(outbox.c.key))
    return tuple(decoded(_command, row[0], "command") for row in rows)


def read_job(connection: sa.Connection, tenant: str, job: str) -> Snapshot:
    """Everything a snapshot holds, within the caller's transaction."""
    head, spec = read_head(connection, tenant, job), read_spec(connection, tenant, job)
    runs = read_runs(connection, tenant, job)
    tasks = tuple(runs.get(index) or TaskRun(index) for index in range(len(spec.tasks)))
    return Snapshot(head=head, spec=spec, tasks=tasks, commands=read_commands(connection, tenant, job))


class SqlJobRepository:
    """`ports.repository.JobRepository` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, tenant: str, job: str) -> JobHead:
        return await self._database.read(lambda c: read_head(c, tenant, job))

    async def get(self, tenant: str, job: str) -> Snapshot:
        return await self._database.read(lambda c: read_job(c, tenant, job))

    async def page(
        self,
        tenant: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        offset: int = 0,
        before: tuple[int, str] | None = None,
    ) -> JobPage:
        size = bounded(limit, offset)
        return await self._database.read(lambda c: _page(c, tenant, status, size, offset, before))

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage:
        size = bounded(limit, offset)
        where = (jobs.c.tenant == tenant, sa.literal_column("dead") == sa.literal_column("1"))
        ended = jobs.c.ended
        ids = _ids().where(*where).order_by(ended.desc(), jobs.c.id.desc()).limit(size).offset(offset)

        def work(c: sa.Connection) -> JobPage:
            total = c.scalar(sa.select(sa.func.count()).select_from(jobs).where(*where))
            return JobPage(_rows(c, tenant, c.scalars(ids).all()), total or 0)

        return await self._database.read(work)

    async def counts(self, tenant: str) -> dict[JobStatus, int]:
        return await self._database.read(lambda c: _counts(c, tenant))

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[StoredEvent, ...]:
        size = bounded(limit)
        where = (events.c.tenant == tenant, events.c.job == job, events.c.number > after)
        query = sa.select(events.c.number, events.c.body, events.c.private, events.c.leaf).where(*where)

        def work(c: sa.Connection) -> tuple[StoredEvent, ...]:
            rows = c.execute(query.order_by(events.c.number).limit(size)).all()
            if not rows:
                read_head(c, tenant, job)
            return tuple(stored_event(job, *row) for row in rows)

        return await self._database.read(work)

    async def erase(self, tenant: str, job: str) -> None:
        await self._database.write(lambda c: _erase(c, tenant, job))

    async def purge(self, tenant: str, *, ended_before: int, limit: int = MAX_PAGE) -> int:
        left = size = bounded(limit)
        while left:
            chunk = min(left, _PURGE_CHUNK)
            ids = await self._database.read(lambda c, n=chunk: _purgeable(c, tenant, ended_before, n))  # type: ignore[misc]
            left -= await self._database.write(lambda c, ids=ids: _purge(c, tenant, ended_before, ids))  # type: ignore[misc]
            if len(ids) < chunk:
                break
        return size - left


class SqlTaskRepository:
    """`ports.repository.TaskRepository` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, tenant: str, job: str, *, status: TaskStatus | None = None
    ) -> tuple[tuple[str, TaskRun], ...]:
        found = await self._database.read(lambda c: _tasks(c, tenant, job))
        return tuple(item for item in found if status is None or item[1].status is status)

    async def get(self, tenant: str, job: str, task: str) -> TaskRun:
        found = dict(await self._database.read(lambda c: _tasks(c, tenant, job)))
        if task not in found:
            names = ", ".join(list(found)[:20])
            raise NotFound(
                f"job {job} has no task {task}", field="task", value=task, remedy=f"its tasks are: {names}"
            )
        return found[task]


def _tasks(connection: sa.Connection, tenant: str, job: str) -> list[tuple[str, TaskRun]]:
    spec, runs = read_spec(connection, tenant, job), read_runs(connection, tenant, job)
    return [(task.id, runs.get(index) or TaskRun(index)) for index, task in enumerate(spec.tasks)]


# -- pages ---------------------------------------------------------------------------------------------------


def _counts(connection: sa.Connection, tenant: str) -> dict[JobStatus, int]:
    rows = connection.execute(
        sa.select(job_counts.c.status, job_counts.c.jobs).where(job_counts.c.tenant == tenant)
    )
    return dict.fromkeys(JobStatus, 0) | {JobStatus(status): count for status, count in rows}


def _page(
    connection: sa.Connection,
    tenant: str,
    status: JobStatus | None,
    limit: int,
    offset: int,
    before: tuple[int, str] | None,
) -> JobPage:
    counts = _counts(connection, tenant)
    total = sum(counts.values()) if status is None else counts[status]
    query = _ids().where(jobs.c.tenant == tenant)
    if status is not None:
        query = query.where(jobs.c.status == status.value)
    key = (jobs.c.created, jobs.c.id)
    if before is not None:
        query = query.where(sa.tuple_(*key) < before)
    elif offset >= total:
        return JobPage((), total)
    elif offset > total // 2:
        # The nearer end: the same rows, counted from the oldest.
        count = min(limit, total - offset)
        oldest = query.order_by(*key).limit(count).offset(total - offset - count)
        return JobPage(_rows(connection, tenant, connection.scalars(oldest).all()[::-1]), total)
    newest = query.order_by(*(column.desc() for column in key)).limit(limit).offset(offset)
    return JobPage(_rows(connection, tenant, connection.scalars(newest).all()), total)


def _ids() -> sa.Select[bytes]:
    return sa.select(as_bytes(jobs.c.id))


def _rows(
    connection: sa.Connection, tenant: str, ids: Sequence[bytes]
) -> tuple[tuple[JobHead, str, str], ...]:
    """The listed jobs, in the order of `ids`."""
    columns: list[sa.ColumnElement[Any]] = [sa.literal_column(each) for each in LISTED]
    query = sa.select(*columns).select_from(jobs)
    rows = connection.execute(query.where(jobs.c.tenant == tenant, jobs.c.id.in_(map(stored, ids))))
    found = {row[0]: listed(tenant, *row) for row in map(tuple, rows)}
    return tuple(found[id] for id in ids)


# -- deletion ------------------------------------------------------------------------------------------------


def _erase(connection: sa.Connection, tenant: str, job: str) -> None:
    head = read_head(connection, tenant, job)
    if head.status not in ENDED:
        raise Conflict(
            f"job {job} is {head.status.value}; only an ended job can be erased",
            field="job",
            value=job,
            remedy="cancel it, wait for its end, then erase",
        )
    here = {"tenant": tenant, "job": job}
    spec = read_spec(connection, tenant, job)
    bare = tuple(msgspec.structs.replace(task, arguments={}, when="") for task in spec.tasks)
    empty = msgspec.structs.replace(spec, tasks=bare, description="", context={}, answer="")
    connection.execute(_mine(sa.update(job_specs), job_specs, here).values(spec=_encode(empty)))
    connection.execute(_mine(sa.update(events), events, here).values(private=None))
    connection.execute(_mine(sa.delete(messages), messages, here))
    cleared = sa.update(jobs).where(jobs.c.tenant == tenant, jobs.c.id == job)
    connection.execute(cleared.values(description="", head=_encode(msgspec.structs.replace(head, reason=""))))
    for run in read_runs(connection, tenant, job).values():
        error = run.error and msgspec.structs.replace(run.error, message="", remedy="")
        bare_run = msgspec.structs.replace(run, result=None, error=error, arguments=None, proposed=None)
        update = _mine(sa.update(task_runs), task_runs, here).where(task_runs.c.idx == run.index)
        connection.execute(update.values(body=_encode(bare_run)))


D = TypeVar("D", sa.Update, sa.Delete)


def _mine(statement: D, table: sa.Table, here: dict[str, str]) -> D:
    return statement.where(table.c.tenant == here["tenant"], table.c.job == here["job"])


def _purgeable(connection: sa.Connection, tenant: str, ended_before: int, limit: int) -> list[bytes]:
    """A job ends after it was created, so the age index leads to it without looking at younger ones."""
    found: list[bytes] = []
    for status in sorted(ENDED):
        undelivered = sa.exists().where(outbox.c.tenant == tenant, outbox.c.job == jobs.c.id)
        query = (
            _ids()
            .where(jobs.c.tenant == tenant, jobs.c.status == status.value, jobs.c.created < ended_before)
            .where(jobs.c.ended < ended_before, ~undelivered)
            .order_by(jobs.c.created)
            .limit(limit - len(found))
        )
        found += connection.scalars(query)
        if len(found) == limit:
            break
    return found


def _purge(connection: sa.Connection, tenant: str, ended_before: int, ids: Sequence[bytes]) -> int:
    """Delete these, unless one was reopened since it was chosen."""
    ended = (jobs.c.status.in_([status.value for status in ENDED]), jobs.c.ended < ended_before)
    where = (jobs.c.tenant == tenant, jobs.c.id.in_(map(stored, ids)))
    gone = connection.execute(_ids().add_columns(jobs.c.status).where(*where, *ended)).all()
    names = [stored(row[0]) for row in gone]
    for table in (events, task_runs, job_specs, messages, queue, outbox, inbox):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.job.in_(names)))
    connection.execute(sa.delete(jobs).where(jobs.c.tenant == tenant, jobs.c.id.in_(names)))
    for status in {row[1] for row in gone}:
        fewer = job_counts.c.jobs - sum(row[1] == status for row in gone)
        where = (job_counts.c.tenant == tenant, job_counts.c.status == status)
        connection.execute(sa.update(job_counts).where(*where).values(jobs=fewer))
    return len(names)
