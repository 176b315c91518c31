"""The hot step: everything one step changes, for many steps at once, in one durable transaction.

Rows go through the driver as multi-row statements: one SQLite call for up to 256 rows. Row by row, each call
would give up and fetch back the interpreter lock, which costs more than the insert. Rows of the same key written
several times within a batch are written once, as they stand at its end; an outbox row that came and went within a
batch is never written. Events and leaves are all written.

`(tenant, job, number)` of an event is unique: if another process stepped the job, the commit fails whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cpa.core.audit import kind, unseal
from cpa.core.commands import AnyCommand, Command
from cpa.core.job import JobHead, JobSpec, JobStatus, TaskRun
from cpa.errors import Conflict, NotFound
from cpa.ports.engine import StoredEvent
from cpa.ports.steps import DueCommand, JobRows, StepBatch, StoredJob
from cpa.repository.database import Database, trouble

_encode = msgspec.json.Encoder().encode
_HEAD = msgspec.json.Decoder(JobHead)
_SPEC = msgspec.json.Decoder(JobSpec)
_RUN = msgspec.json.Decoder(TaskRun)
_COMMAND: msgspec.json.Decoder[Command] = msgspec.json.Decoder(AnyCommand)
_SHOWN = 200
"""Characters of the request that lists show; the whole stands in the spec, written once."""
_CHUNKS = (256, 64, 16, 4, 1)

_EVENTS = "INSERT INTO events(tenant, job, number, time, type, body, private, leaf) VALUES "
_SPECS = "INSERT INTO job_specs(tenant, job, digest, spec) VALUES "
_JOBS = (
    "INSERT INTO jobs(tenant, id, status, priority, created, updated, ended, run, number, dead, intent, "
    "description, head) VALUES "
)
_JOBS_TAIL = (
    " ON CONFLICT(tenant, id) DO UPDATE SET status = excluded.status, updated = excluded.updated, "
    "ended = excluded.ended, run = excluded.run, number = excluded.number, dead = excluded.dead, "
    "head = excluded.head"
)
_RUNS = "INSERT OR REPLACE INTO task_runs(tenant, job, idx, status, epoch, body) VALUES "
_OUTBOX = "INSERT OR REPLACE INTO outbox(tenant, job, key, kind, due, body) VALUES "
_UNBOX = "DELETE FROM outbox WHERE (tenant, job, key) IN (VALUES "
_QUEUE = "INSERT OR REPLACE INTO queue(tenant, job, priority, not_before, enqueued) VALUES "
_RIPEN = (
    "UPDATE queue SET not_before = 0 WHERE (tenant, job) IN (SELECT tenant, job FROM queue "
    "WHERE not_before > 0 AND not_before <= ? LIMIT 5000)"
)
_UNQUEUE = "DELETE FROM queue WHERE (tenant, job) IN (VALUES "
_INBOX = "INSERT INTO inbox(tenant, sender, message_id, job, digest, received) VALUES "
_COUNTS = "INSERT INTO job_counts(tenant, status, jobs) VALUES "
_COUNTS_TAIL = " ON CONFLICT(tenant, status) DO UPDATE SET jobs = jobs + excluded.jobs"


class SqlSteps:
    """`ports.steps.StepStore` on SQLite. `commit` is called from one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = database.connect()
        self._writer.execute("PRAGMA wal_autocheckpoint=4000")
        self._reader = database.connect(query_only=True)
        self._statements: dict[tuple[str, int, int, str], str] = {}

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    # -- writing -------------------------------------------------------------------------------------------

    def commit(self, batch: StepBatch) -> None:
        """One transaction; durable on return. Raises a `CPAError` and leaves nothing when it fails."""
        with self._database.writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._write(batch)
                self._writer.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                raise self._refusal(error) from error

    def _refusal(self, error: BaseException) -> BaseException:
        if not isinstance(error, self._writer.Error):
            return error
        if "UNIQUE constraint failed: inbox" in str(error):
            return Conflict(
                "this message was accepted at the same moment", remedy="ask again for its receipt"
            )
        if "UNIQUE constraint failed: events" in str(error):
            return Conflict("another process stepped the job", remedy="load it again")
        return trouble(error, self._database.path)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _write(self, batch: StepBatch) -> None:
        rows = _Flat(batch)
        self._rows(_EVENTS, 8, rows.events)
        self._rows(_SPECS, 4, batch.specs)
        self._rows(_JOBS, 13, rows.jobs, _JOBS_TAIL)
        self._rows(_RUNS, 6, rows.runs)
        self._rows(_UNBOX, 3, rows.unbox, ")")
        self._rows(_OUTBOX, 6, rows.outbox)
        self._rows(_UNQUEUE, 2, [key for key, row in batch.queue.items() if row is None], ")")
        self._rows(_QUEUE, 5, [(*key, *row) for key, row in batch.queue.items() if row is not None])
        if batch.ripe:
            self._writer.execute(_RIPEN, (batch.ripe,))
        self._rows(_INBOX, 6, batch.inbox)
        self._rows(_COUNTS, 3, rows.counts(), _COUNTS_TAIL)

    def _rows(self, insert: str, columns: int, rows: Sequence[tuple[Any, ...]], tail: str = "") -> None:
        done, total = 0, len(rows)
        for size in _CHUNKS:
            while total - done >= size:
                values = [value for row in rows[done : done + size] for value in row]
                self._writer.execute(self._statement(insert, columns, size, tail), values)
                done += size

    def _statement(self, insert: str, columns: int, size: int, tail: str) -> str:
        key = (insert, columns, size, tail)
        statement = self._statements.get(key)
        if statement is None:
            row = "(" + ", ".join("?" * columns) + ")"
            statement = self._statements[key] = insert + ", ".join([row] * size) + tail
        return statement

    # -- reading -------------------------------------------------------------------------------------------

    def load(self, tenant: str, job: str) -> StoredJob:
        """Everything about one job, in one snapshot. `NotFound` when this tenant has no such job."""
        read = self._reader.execute
        read("BEGIN")
        try:
            row = read("SELECT head FROM jobs WHERE tenant = ? AND id = ?", (tenant, job)).fetchone()
            if row is None:
                raise NotFound(
                    f"there is no job {job}", field="job", value=job, remedy="`cpa jobs` lists the jobs"
                )
            where = "WHERE tenant = ? AND job = ?"
            spec = read(f"SELECT spec FROM job_specs {where}", (tenant, job)).fetchone()  # noqa: S608
            runs = read(f"SELECT body FROM task_runs {where} ORDER BY idx", (tenant, job)).fetchall()  # noqa: S608
            commands = read(f"SELECT body FROM outbox {where}", (tenant, job)).fetchall()  # noqa: S608
        finally:
            read("COMMIT")
        return StoredJob(
            head=_HEAD.decode(row[0]),
            spec=_SPEC.decode(spec[0]),
            tasks=tuple(_RUN.decode(body) for (body,) in runs),
            commands=tuple(_COMMAND.decode(body) for (body,) in commands),
        )

    def events(self, tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
        rows = self._reader.execute(
            "SELECT number, body, private, leaf FROM events WHERE tenant = ? AND job = ? AND number > ? "
            "ORDER BY number LIMIT ?",
            (tenant, job, after, limit),
        ).fetchall()
        return tuple(
            StoredEvent(job, number, unseal(body, private), leaf.hex(), body)
            for number, body, private, leaf in rows
        )

    def due(self, now: int, limit: int) -> list[DueCommand]:
        """Timers whose time has come, earliest first."""
        rows = self._reader.execute(
            "SELECT tenant, job, key, due FROM outbox WHERE due > 0 AND due <= ? ORDER BY due LIMIT ?",
            (now, limit),
        ).fetchall()
        return [DueCommand(*row) for row in rows]

    def next_due(self) -> int:
        """When the earliest timer is due; 0 if there is none."""
        row = self._reader.execute("SELECT min(due) FROM outbox WHERE due > 0").fetchone()
        return int(row[0] or 0)

    def open_jobs(self, kinds: Iterable[str], after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Jobs (tenant, id) beyond `after` with an open command of these kinds, in key order."""
        found: set[tuple[str, str]] = set()
        for name in kinds:
            rows = self._reader.execute(
                "SELECT DISTINCT tenant, job FROM outbox WHERE kind = ? AND (tenant, job) > (?, ?) "
                "ORDER BY tenant, job LIMIT ?",
                (name, *after, limit),
            ).fetchall()
            found.update(rows)
        return sorted(found)[:limit]

    def line(self, limit: int) -> list[tuple[str, str]]:
        """Jobs to start now, in order: highest priority, then first come."""
        return self._reader.execute(  # type: ignore[no-any-return]
            "SELECT tenant, job FROM queue WHERE not_before = 0 AND lease_until = 0 "
            "ORDER BY priority DESC, enqueued, job, tenant LIMIT ?",
            (limit,),
        ).fetchall()

    def next_start(self) -> int:
        """When the next postponed job may start; 0 if none waits."""
        row = self._reader.execute("SELECT min(not_before) FROM queue WHERE not_before > 0").fetchone()
        return int(row[0] or 0)

    def accepted(self, tenant: str, sender: str, message: str) -> tuple[str, str, int] | None:
        """(job, digest, received) of what was accepted under this key before; None if it is new."""
        return self._reader.execute(  # type: ignore[no-any-return]
            "SELECT job, digest, received FROM inbox WHERE tenant = ? AND sender = ? AND message_id = ?",
            (tenant, sender, message),
        ).fetchone()

    def page(
        self, tenant: str, status: JobStatus | None, limit: int, offset: int
    ) -> tuple[list[tuple[JobHead, str, str]], int]:
        """Jobs newest first as (head, intent, description), and how many there are."""
        by_status = "" if status is None else " AND status = ?"
        keys: tuple[str, ...] = (tenant,) if status is None else (tenant, status.value)
        # The ids come from the index alone, so that a far offset does not read every row before it.
        rows = self._reader.execute(
            f"SELECT head, intent, description FROM (SELECT id AS wanted FROM jobs WHERE tenant = ?{by_status} "  # noqa: S608
            "ORDER BY created DESC, id DESC LIMIT ? OFFSET ?) CROSS JOIN jobs ON tenant = ? AND id = wanted "
            "ORDER BY created DESC, id DESC",
            (*keys, limit, offset, tenant),
        ).fetchall()
        total = self._reader.execute(
            f"SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE tenant = ?{by_status}",  # noqa: S608
            keys,
        ).fetchone()
        return [(_HEAD.decode(head), intent, text) for head, intent, text in rows], int(total[0])


class _Flat:
    """The batch as rows of each table."""

    def __init__(self, batch: StepBatch) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.jobs: list[tuple[Any, ...]] = []
        self.runs: list[tuple[Any, ...]] = []
        self.outbox: list[tuple[Any, ...]] = []
        self.unbox: list[tuple[Any, ...]] = []
        self._counts: dict[tuple[str, str], int] = {}
        for key, rows in batch.jobs.items():
            self._job(*key, rows)

    def _job(self, tenant: str, job: str, rows: JobRows) -> None:
        head, spec = rows.head, rows.spec
        number = head.number - len(rows.events)
        for event, sealed in rows.events:
            number += 1
            self.events.append(
                (tenant, job, number, event.time, kind(event), sealed.body, sealed.private, sealed.leaf)
            )
        for index, run in rows.runs.items():
            self.runs.append((tenant, job, index, run.status.value, run.epoch, _encode(run)))
        for key, entry in rows.outbox.items():
            if entry is None:
                self.unbox.append((tenant, job, key))
            else:
                command, due = entry
                tag = str(command.__struct_config__.tag)
                self.outbox.append((tenant, job, key, tag, due, _encode(command)))
        status = head.status.value
        dead = int(head.status is JobStatus.FAILED and head.run >= spec.max_retries)
        times, counts = (head.created, head.time, head.ended), (head.run, head.number, dead)
        words = (spec.intent, spec.description[:_SHOWN])
        self.jobs.append((tenant, job, status, head.priority, *times, *counts, *words, _encode(head)))
        if rows.before is not head.status:
            self._count(tenant, status, 1)
            if rows.before is not None:
                self._count(tenant, rows.before.value, -1)

    def _count(self, tenant: str, status: str, change: int) -> None:
        self._counts[tenant, status] = self._counts.get((tenant, status), 0) + change

    def counts(self) -> list[tuple[str, str, int]]:
        return [(*key, change) for key, change in self._counts.items() if change]
