"""Fill a store with a past: ended jobs, and jobs that wait for another day.

    uv run python benchmarks/fill.py STORE --ended 1000000 --waiting 100000

Every row is one the scheduler itself would have written: a few jobs are stepped by the real core, and each copy
gets its own id, submission and leaf, so `cpa audit --verify` and recovery read the store like any other. The
copies of one block share their times and their salt, which is what makes this fast. The file must be new; a crash
while filling leaves a file to throw away (no fsync until the end).
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from pysqlite3 import dbapi2

from cpa.core import events as facts
from cpa.core.audit import Sealed, kind, seal
from cpa.core.classes import FailureClass
from cpa.core.commands import DispatchTask
from cpa.core.job import JobSpec, JobState, JobStatus, TaskSpec
from cpa.core.machine import decide
from cpa.core.replay import opened
from cpa.repository.database import Database

BLOCK = 1_000
DAY = 86_400_000
TENANT = "default"
PLACE = "00000000-0000-7000-8000-000000000000"
"""Stands for the job's id in the pattern; the copies put theirs in its place."""
SALT = bytes(range(16))
SPEC = JobSpec(
    (TaskSpec("say", "flow.noop", {"value": "Grüße aus der Vergangenheit"}),),
    intent="benchmark",
    description="Sag Grüße aus der Vergangenheit",
    max_retries=0,
)
STORED_SPEC = msgspec.json.encode(SPEC)
DIGEST = hashlib.sha256(STORED_SPEC).hexdigest()
_encode = msgspec.json.encode

_EVENT = (
    "INSERT INTO events(tenant, job, number, time, type, body, private, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_JOB = (
    "INSERT INTO jobs(tenant, id, status, priority, created, updated, ended, run, number, dead, intent, "
    "description, head) VALUES (?, ?, ?, 0, ?, ?, ?, 0, ?, ?, ?, ?, ?)"
)
_SPEC = "INSERT INTO job_specs(tenant, job, digest, spec) VALUES (?, ?, ?, ?)"
_RUN = "INSERT INTO task_runs(tenant, job, idx, status, epoch, body) VALUES (?, ?, ?, ?, ?, ?)"
_QUEUE = "INSERT INTO queue(tenant, job, priority, not_before, enqueued) VALUES (?, ?, 0, ?, ?)"


@dataclass
class Pattern:
    """One job as the core stepped it, under the id PLACE."""

    job: JobState
    events: list[tuple[facts.Event, Sealed]] = field(default_factory=list)

    def step(self, event: facts.Event) -> None:
        decision = decide(self.job, event)
        assert decision.changes is not None, decision.reason
        self.job.apply(decision.changes, decision.commands)
        self.events.append((event, seal(event, SALT)))


def pattern(now: int, *, ended: bool, failed: bool = False) -> Pattern:
    """A job of one task, submitted at `now`: waiting for its time, or done (or failed) within a second."""
    made = Pattern(opened(TENANT, PLACE, SPEC, now))
    made.step(
        facts.JobSubmitted(
            time=now, tenant=TENANT, job=PLACE, spec=DIGEST, tasks=len(SPEC.tasks), start=ended
        )
    )
    while commands := [c for c in made.job.open.values() if isinstance(c, DispatchTask)]:
        here = {"task": commands[0].task, "epoch": commands[0].epoch}
        made.step(facts.AgentChosen(time=now + 2, agent="agent://builtin/main", **here))
        made.step(facts.TaskStarted(time=now + 3, **here))
        made.step(_failure(now + 900, here) if failed else _success(now + 900, here))
    assert made.job.head.status.ended == ended
    assert not made.job.open, "the pattern leaves commands open"
    return made


def _success(now: int, here: dict[str, int]) -> facts.Event:
    return facts.TaskSucceeded(
        time=now, task=here["task"], epoch=here["epoch"], result={"value": "Grüße"}, duration=897
    )


def _failure(now: int, here: dict[str, int]) -> facts.Event:
    return facts.TaskFailed(
        time=now,
        task=here["task"],
        epoch=here["epoch"],
        failure=FailureClass.BUSINESS,
        code="login_refused",
        message="Das Passwort ist falsch.",
    )


def job_id(now: int, number: int) -> str:
    """A UUID of version 7 made of a time and a number, so that ids sort by age like real ones."""
    return str(UUID(int=now << 80 | 7 << 76 | 2 << 62 | number))


class Block:
    """The rows of up to BLOCK copies of a pattern."""

    def __init__(self, made: Pattern) -> None:
        head = made.job.head
        self.status = head.status
        self._head = _encode(head).decode().split(PLACE)
        self._first = made.events[0][1].body.decode().split(PLACE)
        self._events = [
            (number, event.time, kind(event), sealed.body, sealed.private, sealed.leaf)
            for number, (event, sealed) in enumerate(made.events, 1)
        ]
        self._row = (head.created, head.time, head.ended, head.number)
        self._dead = int(head.status is JobStatus.FAILED)
        self._runs = [
            (index, run.status.value, run.epoch, _encode(run)) for index, run in made.job.tasks.items()
        ]
        self.jobs: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.runs: list[tuple[Any, ...]] = []
        self.ids: list[str] = []

    def add(self, job: str) -> None:
        head = job.join(self._head).encode()
        words = (SPEC.intent, SPEC.description)
        self.jobs.append((TENANT, job, self.status.value, *self._row, self._dead, *words, head))
        body = job.join(self._first).encode()
        (number, moment, type_, *_), *rest = self._events
        self.events.append((TENANT, job, number, moment, type_, body, None, hashlib.sha256(body).digest()))
        self.events += [(TENANT, job, *row) for row in rest]
        self.runs += [(TENANT, job, *row) for row in self._runs]
        self.ids.append(job)


def blocks(ended: int, waiting: int, now: int) -> Iterator[Block]:
    """Ended jobs spread over the year before `now`, one in fifty failed; then the waiting ones, an hour old."""
    total = -(-ended // BLOCK)
    number = 0
    for turn in range(total):
        moment = now - DAY - (total - turn) * (365 * DAY // max(total, 1))
        good, bad = Block(pattern(moment, ended=True)), Block(pattern(moment, ended=True, failed=True))
        for _ in range(min(BLOCK, ended - turn * BLOCK)):
            number += 1
            (bad if number % 50 == 0 else good).add(job_id(moment, number))
        yield good
        yield bad
    for start in range(0, waiting, BLOCK):
        block = Block(pattern(now - 3_600_000, ended=False))
        for _ in range(min(BLOCK, waiting - start)):
            number += 1
            block.add(job_id(now - 3_600_000, number))
        yield block


def fill(store: Path, ended: int, waiting: int, *, now: int | None = None, not_before: int = 0) -> None:
    """Create `store` with that many jobs. Waiting ones may start at `not_before` (default: `now` + a day)."""
    if store.exists():
        raise SystemExit(f"{store} exists; name a new file")
    now = int(time.time() * 1000) if now is None else now
    not_before = not_before or now + DAY
    Database.open(store).close()
    connection = dbapi2.connect(str(store), isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        connection.execute("BEGIN")
        _write(connection, ended, waiting, now, not_before)
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _write(connection: Any, ended: int, waiting: int, now: int, not_before: int) -> None:
    counts: Counter[str] = Counter()
    for block in blocks(ended, waiting, now):
        connection.executemany(_JOB, block.jobs)
        connection.executemany(_EVENT, block.events)
        connection.executemany(_RUN, block.runs)
        connection.executemany(_SPEC, [(TENANT, job, DIGEST, STORED_SPEC) for job in block.ids])
        counts[block.status.value] += len(block.ids)
        if block.status is JobStatus.PENDING:
            rows = [(TENANT, job, not_before, now - 3_600_000) for job in block.ids]
            connection.executemany(_QUEUE, rows)
    totals = [(TENANT, status, jobs) for status, jobs in counts.items() if jobs]
    connection.executemany("INSERT INTO job_counts(tenant, status, jobs) VALUES (?, ?, ?)", totals)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a new store with ended and waiting jobs.")
    parser.add_argument("store", type=Path)
    parser.add_argument("--ended", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    chosen = parser.parse_args()
    start = time.perf_counter()
    fill(chosen.store, chosen.ended, chosen.waiting)
    seconds = time.perf_counter() - start
    size = chosen.store.stat().st_size / 2**20
    jobs = chosen.ended + chosen.waiting
    print(f"{jobs:,} jobs in {seconds:.1f} s ({jobs / seconds:,.0f}/s), {size:,.0f} MiB")


if __name__ == "__main__":
    main()
