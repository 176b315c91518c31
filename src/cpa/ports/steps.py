"""What the local engine needs of a store: commit many steps at once, and find what to go on with.

Contract: `commit` is all or nothing and durable on return (it survives power loss); it runs in a thread of its
own, one call at a time. Reads see every commit that returned before they began. Every method blocks and raises
`CPAError`s only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cpa.core.audit import Sealed
from cpa.core.commands import Command
from cpa.core.events import Event
from cpa.core.job import Changes, JobHead, JobSpec, JobStatus, TaskRun
from cpa.ports.engine import StoredEvent


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as its rows say; `tasks` are those that ever moved."""

    head: JobHead
    spec: JobSpec
    tasks: tuple[TaskRun, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class DueCommand:
    tenant: str
    job: str
    key: str
    due: int
    """Milliseconds since 1970 UTC."""


@dataclass(slots=True)
class StepBatch:
    """What one transaction writes: the steps of one group commit."""

    events: list[tuple[str, str, int, Event, Sealed]] = field(default_factory=list)
    """(tenant, job, number, event, its stored form)"""
    heads: dict[tuple[str, str], tuple[JobHead, JobSpec]] = field(default_factory=dict)
    specs: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    """(tenant, job, SHA-256, stored spec) of new jobs"""
    runs: dict[tuple[str, str, int], TaskRun] = field(default_factory=dict)
    outbox: dict[tuple[str, str, str], tuple[Command, int] | None] = field(default_factory=dict)
    """(tenant, job, key) to the command and when it is due, or None to remove the row"""
    queue: dict[tuple[str, str], tuple[int, int, int] | None] = field(default_factory=dict)
    """(tenant, job) to (priority, not before, enqueued), or None to remove the row"""
    inbox: list[tuple[str, str, str, str, str, int]] = field(default_factory=list)
    """(tenant, sender, message id, job, digest, received)"""
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    """(tenant, status) to how many jobs more or less have it"""
    fresh: set[tuple[str, str, str]] = field(default_factory=set)
    """Outbox keys first written in this batch: if they go again, no row was ever there."""

    def record(self, before: JobStatus | None, changes: Changes, spec: JobSpec) -> None:
        """Head, task runs and counts of one step. `before` is None for a new job."""
        head = changes.head
        tenant, job = head.tenant, head.id
        self.heads[tenant, job] = (head, spec)
        for run in changes.tasks:
            self.runs[tenant, job, run.index] = run
        if before is not head.status:
            if before is not None:
                self._count(tenant, before, -1)
            self._count(tenant, head.status, 1)

    def _count(self, tenant: str, status: JobStatus, change: int) -> None:
        key = (tenant, status.value)
        self.counts[key] = self.counts.get(key, 0) + change

    def open(self, tenant: str, job: str, command: Command, due: int) -> None:
        key = (tenant, job, command.key)
        if key not in self.outbox:
            self.fresh.add(key)
        self.outbox[key] = (command, due)

    def close(self, tenant: str, job: str, name: str) -> None:
        key = (tenant, job, name)
        if key in self.fresh:
            self.fresh.discard(key)
            del self.outbox[key]
        else:
            self.outbox[key] = None

    @property
    def empty(self) -> bool:
        return not (self.events or self.inbox or self.queue)


class StepStore(Protocol):
    def commit(self, batch: StepBatch) -> None: ...

    def load(self, tenant: str, job: str) -> StoredJob: ...

    def events(self, tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]: ...

    def due(self, now: int, limit: int) -> list[DueCommand]: ...

    def next_due(self) -> int: ...

    def open_jobs(
        self, kinds: Iterable[str], after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]: ...

    def line(self, now: int, limit: int) -> list[tuple[str, str]]: ...

    def next_start(self, now: int) -> int: ...

    def accepted(self, tenant: str, sender: str, message: str) -> tuple[str, str, int] | None: ...

    def page(
        self, tenant: str, status: JobStatus | None, limit: int, offset: int
    ) -> tuple[list[tuple[JobHead, str, str]], int]: ...

    def close(self) -> None: ...
