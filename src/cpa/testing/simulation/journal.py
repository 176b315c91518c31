"""All that is durable of a run, as one can know it from outside: what each commit wrote, checked as it is written.

The journal is told of every batch that became durable. It refuses what SQLite would refuse, keeps the rows as the
store must have them, and hands each step to the oracles. Where a run has no SQLite store, it is the store: what a
scheduler reads after a crash is read from here. It outlives every scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cpa.core.audit import Sealed, unseal
from cpa.core.commands import Command
from cpa.core.events import Event
from cpa.core.job import JobHead, JobSpec, JobStatus, TaskRun
from cpa.errors import Conflict, NotFound
from cpa.ports.engine import StoredEvent
from cpa.ports.steps import DueCommand, JobRows, StepBatch, StoredJob

Key = tuple[str, str]
"""(tenant, job)"""


@dataclass(eq=False)
class Record:
    """One job's rows."""

    spec: JobSpec
    head: JobHead
    runs: dict[int, TaskRun] = field(default_factory=dict)
    outbox: dict[str, tuple[Command, int]] = field(default_factory=dict)
    """By key: the command and when it is due."""
    events: list[tuple[Event, Sealed]] = field(default_factory=list)

    def index(self, task: str) -> int:
        """Where the plan has this task."""
        return next(index for index, each in enumerate(self.spec.tasks) if each.id == task)


class Journal:
    """`ports.steps.StepStore`. `on_step(before, record, rows)` is called for each job of a batch, once its rows are
    written: `before` has the outbox as it was."""

    def __init__(self) -> None:
        self.jobs: dict[Key, Record] = {}
        self.queue: dict[Key, tuple[int, int, int]] = {}
        self.inbox: dict[tuple[str, str, str], tuple[str, str, int]] = {}
        self.nonces: dict[tuple[str, str, str], int] = {}
        self.commits = 0
        self.on_commit: Callable[[], None] = _nothing
        """Called once all rows of a batch are written."""
        self.on_step: Callable[[dict[str, tuple[Command, int]], Record, JobRows], None] = _unheard

    # -- writing -------------------------------------------------------------------------------------------

    def commit(self, batch: StepBatch) -> None:
        """All of it or, with a `Conflict`, nothing."""
        self._check(batch)
        self.commits += 1
        for tenant, job, _, _ in batch.specs:
            rows = batch.jobs[tenant, job]
            self.jobs[tenant, job] = Record(rows.spec, rows.head)
        for key, rows in batch.jobs.items():
            self._job(self.jobs[key], rows)
        for key, place in batch.queue.items():
            if place is None:
                self.queue.pop(key, None)
            else:
                self.queue[key] = place
        for key, (priority, not_before, enqueued) in list(self.queue.items()):
            if 0 < not_before <= batch.ripe:
                self.queue[key] = (priority, 0, enqueued)
        for tenant, sender, message, job, digest, received in batch.inbox:
            self.inbox[tenant, sender, message] = (job, digest, received)
        for tenant, name, value, expires in batch.nonces:
            self.nonces[tenant, name, value] = expires
        self.on_commit()

    def _check(self, batch: StepBatch) -> None:
        for key, rows in batch.jobs.items():
            known = self.jobs.get(key)
            first = rows.head.number - len(rows.events) + 1
            if first != (1 if known is None else known.head.number + 1):
                raise Conflict("another process stepped the job", remedy="load it again")
        keys = [(tenant, sender, message) for tenant, sender, message, *_ in batch.inbox]
        if len(set(keys)) < len(keys) or any(key in self.inbox for key in keys):
            raise Conflict("this message was accepted at the same moment", remedy="ask again for its receipt")

    def _job(self, record: Record, rows: JobRows) -> None:
        before = dict(record.outbox)
        record.head = rows.head
        record.events += rows.events
        record.runs |= rows.runs
        for key, entry in rows.outbox.items():
            if entry is None:
                record.outbox.pop(key, None)
            else:
                record.outbox[key] = entry
        self.on_step(before, record, rows)

    # -- reading -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """It outlives who closes it."""

    def load(self, tenant: str, job: str) -> StoredJob:
        record = self.jobs.get((tenant, job))
        if record is None:
            raise NotFound(f"there is no job {job}", field="job", value=job, remedy="submit it")
        runs = tuple(record.runs[index] for index in sorted(record.runs))
        commands = tuple(record.outbox[key][0] for key in sorted(record.outbox))
        return StoredJob(record.head, record.spec, runs, commands)

    def load_many(self, keys: Sequence[Key]) -> dict[Key, StoredJob]:
        return {key: self.load(*key) for key in keys if key in self.jobs}

    def events(self, tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
        kept = self.jobs[tenant, job].events[after : after + limit]
        return tuple(
            StoredEvent(
                job,
                after + place,
                unseal(sealed.body, sealed.private),
                sealed.leaf.hex(),
                sealed.body,
            )
            for place, (_, sealed) in enumerate(kept, 1)
        )

    def due(self, now: int, limit: int) -> list[DueCommand]:
        found = sorted(row for row in self._timers() if row[0] <= now)
        return [DueCommand(tenant, job, key, due) for due, tenant, job, key in found[:limit]]

    def next_due(self, after: int = 0) -> int:
        return min((row[0] for row in self._timers() if row[0] > after), default=0)

    def _timers(self) -> Iterable[tuple[int, str, str, str]]:
        for (tenant, job), record in self.jobs.items():
            for key, (_, due) in record.outbox.items():
                if due:
                    yield due, tenant, job, key

    def open_jobs(self, kinds: Iterable[str], after: Key, limit: int) -> list[Key]:
        wanted = set(kinds)
        found = [
            key
            for key, record in self.jobs.items()
            if key > after and any(kind_of(command) in wanted for command, _ in record.outbox.values())
        ]
        return sorted(found)[:limit]

    def line(self, limit: int) -> list[Key]:
        ready = [
            (-priority, enqueued, job, tenant)
            for (tenant, job), (priority, not_before, enqueued) in self.queue.items()
            if not not_before
        ]
        return [(tenant, job) for _, _, job, tenant in sorted(ready)[:limit]]

    def next_start(self) -> int:
        return min((not_before for _, not_before, _ in self.queue.values() if not_before), default=0)

    def start_of(self, tenant: str, job: str) -> int:
        _, not_before, _ = self.queue.get((tenant, job), (0, 0, 0))
        return not_before

    def accepted(self, tenant: str, sender: str, message: str) -> tuple[str, str, int] | None:
        return self.inbox.get((tenant, sender, message))

    def spent(self, tenant: str, key: str, nonce: str) -> bool:
        return (tenant, key, nonce) in self.nonces

    def page(
        self, tenant: str, status: JobStatus | None, limit: int, offset: int
    ) -> tuple[list[tuple[JobHead, str, str]], int]:
        found = [
            (record.head, record.spec.intent, record.spec.description)
            for (owner, _), record in self.jobs.items()
            if owner == tenant and status in (None, record.head.status)
        ]
        found.sort(key=lambda row: (row[0].created, row[0].id), reverse=True)
        return found[offset : offset + limit], len(found)


def kind_of(command: Command) -> str:
    """The stored name of a command's type."""
    return str(type(command).__struct_config__.tag)


def _unheard(_: dict[str, tuple[Command, int]], __: Record, ___: JobRows) -> None: ...


def _nothing() -> None: ...
