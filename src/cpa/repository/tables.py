"""Every table, once. Migrations create exactly this (a test compares); the hot step writes it through the driver.

The tenant leads every key. Times are integer milliseconds since 1970 UTC; `body` columns hold msgspec JSON.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    cast,
    literal,
    literal_column,
    text,
)

metadata = MetaData()


def raw(column: str, kind: str = "BLOB") -> str:
    """Reads a column as bytes (or another `kind`), whatever its rows hold: SQLite keeps a value of any type in any
    column. Who decodes them says what is wrong."""
    return f"CAST(coalesce({column}, '') AS {kind})"


class Stored(LargeBinary):
    """Bytes, read as `raw`."""

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        named = str(column)
        return literal_column(f"CAST({named} AS BLOB)" if getattr(column, "nullable", True) else raw(named))


def as_bytes(column: Column[Any]) -> ColumnElement[bytes]:
    """Reads a column of texts as `raw`: what is no UTF-8 would else hide the rows beside it."""
    return literal_column(raw(str(column)), LargeBinary).label(column.name)


def whole(column: Column[Any], odd: str = "NULL") -> ColumnElement[int]:
    """Reads a column of integers; `odd` for whatever else its rows hold."""
    return literal_column(f"iif(typeof({column}) = 'integer', {column}, {odd})", Integer).label(column.name)


def told(text: bytes) -> str:
    """Stored text for people; nothing is decided by it."""
    return text.decode(errors="replace")


def spelled(name: bytes) -> str:
    """A stored name. One that is no UTF-8 is none of a job or of a timer: it comes with lone halves of character
    pairs, see `core.ids.shown`."""
    return name.decode(errors="surrogateescape")


class _Told(TypeDecorator[str]):
    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: Any, _: Any) -> str:
        return told(value)


class _Spelled(TypeDecorator[str]):
    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: Any, _: Any) -> str:
        return spelled(value)


def as_told(column: Column[Any]) -> ColumnElement[str]:
    """Reads a column of texts as `told`."""
    return literal_column(raw(str(column)), _Told).label(column.name)


def as_spelled(column: Column[Any]) -> ColumnElement[str]:
    """Reads a column of names as `spelled`."""
    return literal_column(raw(str(column)), _Spelled).label(column.name)


def stored(name: bytes) -> ColumnElement[str]:
    """A name as the store has it, to look for it: what is no UTF-8 cannot be given as a text."""
    return cast(literal(name, LargeBinary), Text)


def _text(name: str, *, default: str | None = None) -> Column[str]:
    if default is None:
        return Column(name, Text, nullable=False)
    return Column(name, Text, nullable=False, server_default=default)


def _int(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


jobs = Table(
    "jobs",
    metadata,
    _text("tenant"),
    _text("id"),
    _text("status"),
    _int("priority"),
    _int("created"),
    _int("updated"),
    _int("ended"),
    _int("run"),
    _int("number"),
    _int("dead"),
    _text("intent", default=""),
    _text("description", default=""),
    Column("head", Stored, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    sqlite_with_rowid=False,
)
"""One row per job; `head` is the stored JobHead, the other columns are for lists."""
Index("jobs_by_age", jobs.c.tenant, jobs.c.created, jobs.c.id)
Index("jobs_by_status", jobs.c.tenant, jobs.c.status, jobs.c.created, jobs.c.id)
Index("jobs_dead", jobs.c.tenant, jobs.c.ended, sqlite_where=jobs.c.dead == 1)

job_counts = Table(
    "job_counts",
    metadata,
    _text("tenant"),
    _text("status"),
    _int("jobs"),
    PrimaryKeyConstraint("tenant", "status"),
    sqlite_with_rowid=False,
)
"""How many jobs have each status, kept by the step, so that a list of millions needs no count."""

job_engines = Table(
    "job_engines",
    metadata,
    _text("tenant"),
    _text("job"),
    _text("engine"),
    _text("target", default=""),
    PrimaryKeyConstraint("tenant", "job"),
    sqlite_with_rowid=False,
)
"""Which engine holds an open job; one without a row is the local engine's, an ended one nobody's. With a `target`
the job is on its way there, and no engine may step it."""

job_specs = Table(
    "job_specs",
    metadata,
    _text("tenant"),
    _text("job"),
    _text("digest"),
    Column("spec", Stored, nullable=False),
    PrimaryKeyConstraint("tenant", "job"),
)

task_runs = Table(
    "task_runs",
    metadata,
    _text("tenant"),
    _text("job"),
    Column("idx", Integer, nullable=False, autoincrement=False),
    _text("status"),
    _int("epoch"),
    Column("body", Stored, nullable=False),
    PrimaryKeyConstraint("tenant", "job", "idx"),
    sqlite_with_rowid=False,
)
"""Only tasks that ever moved; the others are as the spec says: waiting."""

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    _text("tenant"),
    _text("job"),
    _int("number"),
    _int("time"),
    _text("type"),
    Column("body", Stored, nullable=False),
    Column("private", Stored),
    Column("leaf", Stored, nullable=False),
    UniqueConstraint("tenant", "job", "number"),
)
"""`leaf` is the SHA-256 of `body`; `private` holds the personal fields that `body` covers by a salted digest."""
Index("events_by_time", events.c.tenant, events.c.time)

outbox = Table(
    "outbox",
    metadata,
    _text("tenant"),
    _text("job"),
    _text("key"),
    _text("kind"),
    _int("due"),
    Column("body", Stored, nullable=False),
    PrimaryKeyConstraint("tenant", "job", "key"),
    sqlite_with_rowid=False,
)
"""One row per open command; `due` is when its timer fires, 0 is never."""
Index("outbox_due", outbox.c.due, sqlite_where=outbox.c.due > 0)
Index("outbox_kind", outbox.c.kind, outbox.c.tenant, outbox.c.job)

inbox = Table(
    "inbox",
    metadata,
    _text("tenant"),
    _text("sender"),
    _text("message_id"),
    _text("job"),
    _text("digest", default=""),
    _int("received"),
    PrimaryKeyConstraint("tenant", "sender", "message_id"),
    sqlite_with_rowid=False,
)
"""What was accepted from outside, by its sender's id for it; the same again is recognised."""

queue = Table(
    "queue",
    metadata,
    _text("tenant"),
    _text("job"),
    _int("priority"),
    _int("not_before"),
    _int("enqueued"),
    _text("owner", default=""),
    _text("token", default=""),
    _int("lease_until"),
    PrimaryKeyConstraint("tenant", "job"),
    sqlite_with_rowid=False,
)
"""The line of jobs to start: highest priority first, then first come. A row is in exactly one of three small
indexes: ready, for later (`not_before` > 0), or leased, so that none is slowed by the size of the others."""
Index(
    "queue_line",
    queue.c.priority.desc(),
    queue.c.enqueued,
    queue.c.job,
    queue.c.tenant,
    sqlite_where=text("not_before = 0 AND lease_until = 0"),
)
Index(
    "queue_later",
    queue.c.not_before,
    sqlite_where=text("not_before > 0"),
)
Index(
    "queue_leased",
    queue.c.lease_until,
    sqlite_where=text("lease_until > 0"),
)

messages = Table(
    "messages",
    metadata,
    Column("seq", Integer, primary_key=True),
    _text("tenant"),
    _text("id"),
    _text("sender"),
    _text("direction"),
    _text("type"),
    _text("conversation", default=""),
    _text("job", default=""),
    _text("task", default=""),
    _int("received"),
    _text("effect", default=""),
    Column("body", Stored, nullable=False),
)
"""Every LAM message that crossed the process's border, and what it did (`effect`)."""
Index("messages_by_conversation", messages.c.tenant, messages.c.conversation, messages.c.seq)
Index("messages_by_job", messages.c.tenant, messages.c.job, messages.c.seq)

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("seq", Integer, primary_key=True),
    _text("tenant"),
    _text("actor"),
    _text("action"),
    _text("subject", default=""),
    _int("time"),
    Column("body", Stored, nullable=False),
    Column("private", Stored),
    Column("leaf", Stored, nullable=False),
)
"""What happened outside any job (keys, configuration, refusals); same leaf as an event's."""
Index("audit_entries_by_time", audit_entries.c.tenant, audit_entries.c.time)

api_keys = Table(
    "api_keys",
    metadata,
    _text("tenant"),
    _text("id"),
    _text("name"),
    _text("scopes"),
    Column("hash", LargeBinary, nullable=False),
    _int("created"),
    _int("expires"),
    _int("revoked"),
    PrimaryKeyConstraint("tenant", "id"),
    sqlite_with_rowid=False,
)
"""Only a keyed hash of each key is stored; `scopes` are words separated by spaces."""
Index("api_keys_by_hash", api_keys.c.hash, unique=True)

agents = Table(
    "agents",
    metadata,
    _text("tenant"),
    _text("id"),
    _text("name"),
    _text("state"),
    _int("registered"),
    Column("body", Stored, nullable=False),
    Column("beat", Stored),
    _int("beat_at"),
    PrimaryKeyConstraint("tenant", "id"),
    sqlite_with_rowid=False,
)
"""Registered agents; `beat` is what the last heartbeat said, the attempts it named included."""
Index("agents_by_name", agents.c.tenant, agents.c.name)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    _text("tenant"),
    _text("id"),
    Column("hash", LargeBinary, nullable=False),
    _text("name", default=""),
    _int("uses"),
    _int("created"),
    _int("expires"),
    _int("revoked"),
    PrimaryKeyConstraint("tenant", "id"),
    sqlite_with_rowid=False,
)
"""Tokens that let an agent register itself; only a keyed hash is stored. `name` binds one to an agent's name,
`uses` is how often it may still be used."""
Index("enrolment_tokens_by_hash", enrolment_tokens.c.hash, unique=True)

enrolments = Table(
    "enrolments",
    metadata,
    _text("tenant"),
    _text("token"),
    Column("proof", LargeBinary, nullable=False),
    _text("agent"),
    PrimaryKeyConstraint("tenant", "token", "proof"),
    sqlite_with_rowid=False,
)
"""Which agents the tokens were used for; `proof` is a keyed hash of what only the process that used one knows."""

nonces = Table(
    "nonces",
    metadata,
    _text("tenant"),
    _text("key"),
    _text("nonce"),
    _int("expires"),
    PrimaryKeyConstraint("tenant", "key", "nonce"),
    sqlite_with_rowid=False,
)
"""Nonces of signed messages that were accepted; each counts once until its signature has expired anyway."""
Index("nonces_by_expiry", nonces.c.expires)
