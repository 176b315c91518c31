"""The hot step: everything one step changes, for many steps at once, in one durable transaction.

Rows go through the driver as multi-row statements: one SQLite call for up to 1,024 rows. Each call gives up the
interpreter lock and fetches it back, which beside a busy loop takes longer than the inserts. Rows of the same key
written several times within a batch are written once, as they stand at its end; an outbox row that came and went
within a batch is never written. Events and leaves are all written.

`(tenant, job, number)` of an event is unique: if another process stepped the job, the commit fails whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from cpa.core.commands import Command
from cpa.core.events import Event
from cpa.core.job import JobHead, JobStatus, is_dead
from cpa.errors import Conflict, CPAError, InternalError
from cpa.ports.engine import StoredEvent
from cpa.ports.moving import LOCAL
from cpa.ports.nonces import Replayed
from cpa.ports.steps import DueCommand, JobRows, StepBatch, StoredJob
from cpa.repository.database import Database, trouble
from cpa.repository.events import shown_event
from cpa.repository.listing import LISTED, listed
from cpa.repository.loading import load, load_many
from cpa.repository.tables import raw, spelled

_encode = msgspec.json.Encoder().encode
_SHOWN = 200
"""Characters of the request that lists show; the whole stands in the spec, written once."""
_CHUNKS = (1024, 256, 64, 16, 4, 1)


class _Write(NamedTuple):
    """A statement that writes many rows at once."""

    head: str
    row: str
    tail: str = ""

    @property
    def columns(self) -> int:
        return self.row.count("?")


_EVENTS = _Write(
    "INSERT INTO events(tenant, job, number, time, type, body, private, leaf) VALUES ",
    "(?, ?, ?, ?, ?, ?, nullif(?, ''), ?)",
)
_SPECS = _Write("INSERT INTO job_specs(tenant, job, digest, spec) VALUES ", "(?, ?, ?, ?)")
_JOBS = _Write(
    "INSERT INTO jobs(tenant, id, status, priority, created, updated, ended, run, number, dead, intent, "
    "description, head) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT(tenant, id) DO UPDATE SET status = excluded.status, updated = excluded.updated, "
    "ended = excluded.ended, run = excluded.run, number = excluded.number, dead = excluded.dead, "
    "head = excluded.head",
)
_RUNS = _Write(
    "INSERT OR REPLACE INTO task_runs(tenant, job, idx, status, epoch, body) VALUES ", "(?, ?, ?, ?, ?, ?)"
)
_OUTBOX = _Write(
    "INSERT OR REPLACE INTO outbox(tenant, job, key, kind, due, body) VALUES ", "(?, ?, ?, ?, ?, ?)"
)
_UNBOX = _Write("DELETE FROM outbox WHERE (tenant, job, key) IN (VALUES ", "(?, ?, ?)", ")")
_QUEUE = _Write(
    "INSERT OR REPLACE INTO queue(tenant, job, priority, not_before, enqueued) VALUES ", "(?, ?, ?, ?, ?)"
)
_RIPEN = (
    "UPDATE queue SET not_before = 0 WHERE (tenant, job) IN (SELECT tenant, job FROM queue "
    "WHERE not_before > 0 AND not_before <= ? LIMIT 5000)"
)
_UNQUEUE = _Write("DELETE FROM queue WHERE (tenant, job) IN (VALUES ", "(?, ?)", ")")
_INBOX = _Write(
    "INSERT INTO inbox(tenant, sender, message_id, job, digest, received) VALUES ", "(?, ?, ?, ?, ?, ?)"
)
_NONCES = _Write("INSERT INTO nonces(tenant, key, nonce, expires) VALUES ", "(?, ?, ?, ?)")
FORGET = (
    "DELETE FROM nonces WHERE (tenant, key, nonce) IN (SELECT tenant, key, nonce FROM nonces "
    "WHERE expires < ? ORDER BY expires LIMIT 500)"
)
_HELD = _Write(
    "INSERT INTO job_engines(tenant, job, engine) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT(tenant, job) DO NOTHING",
)
_FREE = _Write("DELETE FROM job_engines WHERE (tenant, job) IN (VALUES ", "(?, ?)", ")")
_COUNTS = _Write(
    "INSERT INTO job_counts(tenant, status, jobs) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT(tenant, status) DO UPDATE SET jobs = jobs + excluded.jobs",
)


class SqlSteps:
    """`ports.steps.StepStore` on SQLite. `commit` is called from one thread at a time."""

    def __init__(self, database: Database, engine: str = LOCAL) -> None:
        """`engine` is whose steps these are: the jobs it begins or opens again are its own until they end."""
        self._database = database
        self._engine = engine
        self._writer = database.connect()
        self._writer.execute("PRAGMA wal_autocheckpoint=4000")
        self._reader = database.connect(query_only=True)
        self._statements: dict[tuple[str, int], str] = {}

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
            except (self._writer.Error, OverflowError) as error:
                self._roll_back()
                raise self._refusal(error) from error
            except BaseException:
                self._roll_back()
                raise

    def _refusal(self, error: Exception) -> CPAError:
        if "UNIQUE constraint failed: inbox" in str(error):
            return Conflict(
                "this message was accepted at the same moment", remedy="ask again for its receipt"
            )
        if "UNIQUE constraint failed: nonces" in str(error):
            return Replayed("this signature was used at the same moment", remedy="sign the message anew")
        if "UNIQUE constraint failed: events" in str(error):
            return Conflict("another process stepped the job", remedy="load it again")
        return trouble(error, self._database.path)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _write(self, batch: StepBatch) -> None:
        rows = _Flat(batch)
        self._rows(_EVENTS, rows.events)
        self._rows(_SPECS, rows.specs)
        self._rows(_JOBS, rows.jobs)
        self._rows(_RUNS, rows.runs)
        self._rows(_UNBOX, rows.unbox)
        self._rows(_OUTBOX, rows.outbox)
        self._rows(_UNQUEUE, rows.unqueue)
        self._rows(_QUEUE, rows.queue)
        if batch.ripe:
            self._writer.execute(_RIPEN, (batch.ripe,))
        self._rows(_INBOX, [value for row in batch.inbox for value in row])
        if batch.nonces:
            self._rows(_NONCES, [value for row in batch.nonces for value in row])
        if batch.expired:
            self._writer.execute(FORGET, (batch.expired,))
        self._rows(_COUNTS, rows.counts())
        if self._engine != LOCAL:
            self._hold(batch)

    def _hold(self, batch: StepBatch) -> None:
        """Jobs that opened are this engine's, those that ended are nobody's."""
        held, free = list[Any](), list[Any]()
        for key, rows in batch.jobs.items():
            if rows.head.status.ended:
                free += key
            elif rows.before is None or rows.before.ended:
                held += (*key, self._engine)
        self._rows(_HELD, held)
        self._rows(_FREE, free)

    def _rows(self, write: _Write, values: list[Any]) -> None:
        """Write rows whose values stand one after the other."""
        columns, done = write.columns, 0
        left = len(values) // columns
        for size in _CHUNKS:
            while left >= size:
                chunk = values[done : done + size * columns]
                self._writer.execute(self._statement(write, size), chunk)
                done += size * columns
                left -= size

    def _statement(self, write: _Write, size: int) -> str:
        statement = self._statements.get((write.head, size))
        if statement is None:
            statement = write.head + ", ".join([write.row] * size) + write.tail
            self._statements[write.head, size] = statement
        return statement

    # -- reading -------------------------------------------------------------------------------------------

    def load(self, tenant: str, job: str) -> StoredJob:
        """Everything about one job, in one snapshot. `NotFound` when this tenant has no such job."""
        return load(self._read, tenant, job)

    def load_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredJob]:
        """See `ports.steps`."""
        return load_many(self._read, keys)

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows; the driver's errors become ours."""
        try:
            return self._reader.execute(statement, values).fetchall()  # type: ignore[no-any-return]
        except self._reader.Error as error:
            raise trouble(error, self._database.path) from error

    def _names(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """As `_read`, for what is of many jobs: a name that is no UTF-8 must not hide the others. It comes as
        `spelled`."""
        try:
            return self._read(statement, values)
        except InternalError:
            self._reader.text_factory = spelled
            try:
                return self._read(statement, values)
            finally:
                self._reader.text_factory = str

    def events(self, tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
        rows = self._read(
            f"SELECT number, {raw('type')}, {raw('time', 'INTEGER')}, {raw('body')}, CAST(private AS BLOB), "  # noqa: S608
            f"{raw('leaf')} FROM events WHERE tenant = ? AND job = ? AND number > ? "
            "AND typeof(number) = 'integer' ORDER BY number LIMIT ?",
            (tenant, job, after, limit),
        )
        return tuple(shown_event(job, *row) for row in rows)

    def due(self, now: int, limit: int) -> list[DueCommand]:
        """Timers whose time has come, earliest first."""
        rows = self._names(
            "SELECT tenant, job, key, due FROM outbox WHERE due > 0 AND due <= ? ORDER BY due LIMIT ?",
            (now, limit),
        )
        return [DueCommand(*row) for row in rows]

    def next_due(self, after: int = 0) -> int:
        """When the earliest timer beyond `after` is due; 0 if there is none."""
        [(due,)] = self._read("SELECT min(due) FROM outbox WHERE due > ?", (after,))
        return int(due or 0)

    def open_jobs(self, kinds: Iterable[str], after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Jobs (tenant, id) beyond `after` with an open command of these kinds, in key order."""
        found: set[tuple[str, str]] = set()
        beyond: tuple[str | bytes, ...] = after
        place = "?, ?"
        try:
            "".join(after).encode()
        except UnicodeEncodeError:
            # Only so can it be bound. The index then leads no further than to the tenant: for odd names alone.
            beyond, place = _stored_order(after), "CAST(? AS TEXT), CAST(? AS TEXT)"
        for name in kinds:
            rows = self._names(
                f"SELECT DISTINCT tenant, job FROM outbox WHERE kind = ? AND (tenant, job) > ({place}) "  # noqa: S608
                "ORDER BY tenant, job LIMIT ?",
                (name, *beyond, limit),
            )
            found.update(rows)
        return sorted(found, key=_stored_order)[:limit]

    def line(self, limit: int) -> list[tuple[str, str]]:
        """Jobs to start now, in order: highest priority, then first come."""
        return self._names(
            "SELECT tenant, job FROM queue WHERE not_before = 0 AND lease_until = 0 "
            "ORDER BY priority DESC, enqueued, job, tenant LIMIT ?",
            (limit,),
        )

    def next_start(self) -> int:
        """When the next postponed job may start; 0 if none waits."""
        [(start,)] = self._read("SELECT min(not_before) FROM queue WHERE not_before > 0")
        return int(start or 0)

    def start_of(self, tenant: str, job: str) -> int:
        """When this postponed job may start; 0 for any other."""
        rows = self._read("SELECT not_before FROM queue WHERE tenant = ? AND job = ?", (tenant, job))
        return int(rows[0][0]) if rows else 0

    def accepted(self, tenant: str, sender: str, message: str) -> tuple[str, str, int] | None:
        """(job, digest, received) of what was accepted under this key before; None if it is new."""
        rows = self._read(
            "SELECT job, digest, received FROM inbox WHERE tenant = ? AND sender = ? AND message_id = ?",
            (tenant, sender, message),
        )
        return rows[0] if rows else None

    def spent(self, tenant: str, key: str, nonce: str) -> bool:
        """Whether this nonce of this key was used before."""
        where = "tenant = ? AND key = ? AND nonce = ?"
        return bool(self._read(f"SELECT 1 FROM nonces WHERE {where}", (tenant, key, nonce)))  # noqa: S608

    def page(
        self, tenant: str, status: JobStatus | None, limit: int, offset: int
    ) -> tuple[list[tuple[JobHead, str, str]], int]:
        """Jobs newest first as (head, intent, description), and how many there are."""
        by_status = "" if status is None else " AND status = ?"
        keys: tuple[str, ...] = (tenant,) if status is None else (tenant, status.value)
        # The ids come from the index alone, so that a far offset does not read every row before it.
        rows = self._read(
            f"SELECT {', '.join(LISTED)} FROM "  # noqa: S608
            f"(SELECT id AS wanted FROM jobs WHERE tenant = ?{by_status} "
            "ORDER BY created DESC, id DESC LIMIT ? OFFSET ?) CROSS JOIN jobs ON tenant = ? AND id = wanted "
            "ORDER BY created DESC, id DESC",
            (*keys, limit, offset, tenant),
        )
        [(total,)] = self._read(
            f"SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE tenant = ?{by_status}",  # noqa: S608
            keys,
        )
        return [listed(tenant, *row) for row in rows], int(total)


def _stored_order(key: tuple[str, str]) -> tuple[bytes, ...]:
    return tuple(name.encode(errors="surrogateescape") for name in key)


class _Flat:
    """The batch as values for each table, row after row.

    Bytes become `bytearray`s and a missing private part an empty text: for `bytes` and None the driver looks for
    an adapter every time, finds none, and that costs several times the rest of the row.
    """

    def __init__(self, batch: StepBatch) -> None:
        self.events: list[Any] = []
        self.specs: list[Any] = []
        self.jobs: list[Any] = []
        self.runs: list[Any] = []
        self.outbox: list[Any] = []
        self.unbox: list[Any] = []
        self.queue: list[Any] = []
        self.unqueue: list[Any] = []
        self._moves: dict[tuple[str, str, str], int] = {}
        """How many jobs went: tenant, from which status (empty for a new job), to which."""
        for tenant, job, digest, spec in batch.specs:
            self.specs += (tenant, job, digest, bytearray(spec))
        for key, rows in batch.jobs.items():
            self._job(*key, rows)
        for key, place in batch.queue.items():
            if place is None:
                self.unqueue += key
            else:
                self.queue += (*key, *place)

    def _job(self, tenant: str, job: str, rows: JobRows) -> None:
        self._steps(tenant, job, rows)
        head, spec, before = rows.head, rows.spec, rows.before
        status = head.status._value_
        self.jobs += (
            tenant,
            job,
            status,
            head.priority,
            head.created,
            head.time,
            head.ended,
            head.run,
            head.number,
            int(is_dead(head, spec)),
            spec.intent,
            spec.description[:_SHOWN],
            bytearray(_encode(head)),
        )
        if before is not head.status:
            move = (tenant, "" if before is None else before._value_, status)
            self._moves[move] = self._moves.get(move, 0) + 1

    def _steps(self, tenant: str, job: str, rows: JobRows) -> None:
        """Events, task runs and open commands."""
        events, number = self.events, rows.head.number - len(rows.events)
        for event, sealed in rows.events:
            number += 1
            private = bytearray(sealed.private) if sealed.private else ""
            body, leaf = bytearray(sealed.body), bytearray(sealed.leaf)
            events += (tenant, job, number, event.time, _kind(type(event)), body, private, leaf)
        runs = self.runs
        for index, run in rows.runs.items():
            runs += (tenant, job, index, run.status._value_, run.epoch, bytearray(_encode(run)))
        for key, entry in rows.outbox.items():
            if entry is None:
                self.unbox += (tenant, job, key)
            else:
                command, due = entry
                self.outbox += (tenant, job, key, _kind(type(command)), due, bytearray(_encode(command)))

    def counts(self) -> list[Any]:
        counts = Counter[tuple[str, str]]()
        for (tenant, before, after), jobs in self._moves.items():
            counts[tenant, after] += jobs
            if before:
                counts[tenant, before] -= jobs
        return [value for key, change in counts.items() if change for value in (*key, change)]


@cache
def _kind(struct: type[Event] | type[Command]) -> str:
    """The stored name of an event's or command's type."""
    return str(struct.__struct_config__.tag)
