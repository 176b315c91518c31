"""The scheduler's store as a stranger reads it: own connection, plain SQL, every history run through the core."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pysqlite3 import dbapi2

from cpa.core.audit import unseal
from cpa.core.events import Event, TaskSucceeded, TaskVerified
from cpa.core.job import JobHead, JobSpec
from cpa.core.replay import replay

_EFFECTS = "('request_task', 'cancel_attempt', 'verify_task')"


@dataclass(frozen=True, kw_only=True)
class Count:
    """What the store holds at one moment."""

    jobs: int = 0
    ended: int = 0
    tasks: int = 0
    """Attempts that succeeded."""
    lost: int = 0
    """Attempts whose lease was lost with the process."""
    verified: int = 0
    """Verdicts of looking for an effect."""
    happened: int = 0
    """Of these: the effect was there although the attempt was lost."""
    under_way: int = 0
    """Attempts, looks and cancels that are open."""


class Ledger:
    def __init__(self, file: Path) -> None:
        self._file = file

    def count(self) -> Count:
        """The counts; all zero while there is no store. The server may be alive, dead or starting."""
        if not self._file.exists():
            return Count()
        with self._open() as store:
            if not store.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'").fetchone()[0]:
                return Count()
            status = dict(store.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())
            types = dict(store.execute("SELECT type, count(*) FROM events GROUP BY type").fetchall())
            open_now = store.execute(f"SELECT count(*) FROM outbox WHERE kind IN {_EFFECTS}").fetchone()[0]
            return Count(
                jobs=sum(status.values()),
                ended=sum(number for name, number in status.items() if name not in ("pending", "running")),
                tasks=types.get("task_succeeded", 0),
                lost=types.get("lease_lost", 0),
                verified=types.get("task_verified", 0),
                happened=self._happened(store),
                under_way=open_now,
            )

    def under_way(self) -> bool:
        """Whether an attempt, look or cancel is open; at once, unlike all the counts."""
        with self._open() as store:
            return (
                store.execute(f"SELECT 1 FROM outbox WHERE kind IN {_EFFECTS} LIMIT 1").fetchone() is not None
            )

    def heads(self) -> dict[str, JobHead]:
        with self._open() as store:
            rows = store.execute("SELECT id, head FROM jobs").fetchall()
        return {job: msgspec.json.decode(head, type=JobHead) for job, head in rows}

    def events(self, job: str) -> list[Event]:
        """A job's history so far."""
        query = "SELECT body, private FROM events WHERE job = ? ORDER BY number"
        with self._open() as store:
            return [unseal(*row) for row in store.execute(query, (job,)).fetchall()]

    def sent(self) -> set[str]:
        """Message-IDs of all mails that the store knows to be sent: told by the agent, or found."""
        query = "SELECT body, private FROM events WHERE type IN ('task_succeeded', 'task_verified')"
        if not self.count().jobs:
            return set()
        with self._open() as store:
            events = [unseal(*row) for row in store.execute(query).fetchall()]
        results = [event.result for event in events if isinstance(event, TaskSucceeded | TaskVerified)]
        return {str(result["message_id"]) for result in results if result and "message_id" in result}

    def left(self) -> dict[str, int]:
        """How many rows there are in the tables that are empty when nothing is to be done."""
        with self._open() as store:
            return {
                table: store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("outbox", "queue")
            }

    def faults(self) -> list[str]:
        """What is wrong with the histories; empty when every job ended once per run, without a gap."""
        found: list[str] = []
        with self._open() as store:
            heads = dict(store.execute("SELECT id, head FROM jobs").fetchall())
            specs = dict(store.execute("SELECT job, spec FROM job_specs").fetchall())
            for job, head in heads.items():
                rows = store.execute(
                    "SELECT number, body, private, leaf FROM events WHERE job = ? ORDER BY seq", (job,)
                ).fetchall()
                found += [f"{job}: {fault}" for fault in _faults(head, specs[job], rows)]
            strays = "SELECT count(*) FROM events WHERE (tenant, job) NOT IN (SELECT tenant, id FROM jobs)"
            if stray := store.execute(strays).fetchone()[0]:
                found.append(f"{stray} events belong to no job")
        return found

    def _happened(self, store: Any) -> int:
        """Mails found in the mailbox after their attempt was lost: the verdict follows a lost lease."""
        return int(
            store.execute(
                """SELECT count(*) FROM events AS v WHERE v.type = 'task_verified'
                AND json_extract(v.body, '$.verdict') = 'happened' AND EXISTS (
                    SELECT 1 FROM events AS l WHERE l.tenant = v.tenant AND l.job = v.job
                    AND l.type = 'lease_lost' AND l.number < v.number
                    AND json_extract(l.body, '$.task') = json_extract(v.body, '$.task')
                    AND json_extract(l.body, '$.epoch') = json_extract(v.body, '$.epoch'))"""
            ).fetchone()[0]
        )

    @contextmanager
    def _open(self) -> Iterator[Any]:
        store = dbapi2.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20)
        try:
            store.execute("BEGIN")
            yield store
        finally:
            store.close()


_Row = tuple[int, bytes, bytes | None, bytes]
"""number, body, private, leaf"""


def _faults(head: bytes, spec: bytes, rows: list[_Row]) -> Iterator[str]:
    numbers = [row[0] for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        yield f"event numbers {numbers}"
    if any(hashlib.sha256(body).digest() != leaf for _, body, _, leaf in rows):
        yield "a leaf is not the hash of its event"
    yield from _replayed(head, spec, [unseal(body, private) for _, body, private, _ in rows])


def _replayed(head: bytes, spec: bytes, history: list[Event]) -> Iterator[str]:
    """Run the history: how often each run ended, and whether it leads to the stored head."""
    ends: Counter[int] = Counter()
    ended, state = False, None
    for _, _, state in replay(msgspec.json.decode(spec, type=JobSpec), history):
        if state.head.status.ended and not ended:
            ends[state.head.run] += 1
        ended = state.head.status.ended
    if state is None or state.head != msgspec.json.decode(head, type=JobHead):
        yield "the stored head is not where the events lead"
    elif dict(ends) != dict.fromkeys(range(state.head.run + 1), 1):
        yield f"ends per run {dict(ends)}"
