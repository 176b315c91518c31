"""What engines need of a store: commit many steps at once, and find what to go on with.

Contract: `commit` is all or nothing and durable on return (it survives power loss); it runs in a thread of its
own, one call at a time. Reads see every commit that returned before they began. Every method blocks; reads raise
`CPAError`s only, and `load` raises `Unreadable` where it is this one job that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from cpa.core.audit import Sealed
from cpa.core.commands import Command
from cpa.core.events import Event
from cpa.core.job import Changes, JobHead, JobSpec, JobStatus, TaskRun
from cpa.errors import CPAError
from cpa.ports.engine import StoredEvent


class Unreadable(CPAError):
    """This job cannot be gone on with, by what is stored of it; others can."""

    code, status, actor = "unreadable", 500, "operator"


class StoredJob(msgspec.Struct, frozen=True, gc=False):
    """A job as its rows say; `tasks` are those that ever moved."""

    head: JobHead
    spec: JobSpec
    tasks: tuple[TaskRun, ...]
    commands: tuple[Command, ...]


class DueCommand(msgspec.Struct, frozen=True, gc=False):
    """A timer's row. A name that is no UTF-8 is none of a job or of a timer: it comes with lone halves of
    character pairs, as from `open_jobs` and `line`."""

    tenant: str
    job: str
    key: str
    due: int
    """Milliseconds since 1970 UTC."""


class JobRows:
    """What a batch writes of one job: where it stands at the batch's end, and all that happened on the way."""

    __slots__ = ("before", "events", "fresh", "head", "outbox", "runs", "spec")

    def __init__(self, head: JobHead, spec: JobSpec, before: JobStatus | None) -> None:
        self.head = head
        self.spec = spec
        self.before = before
        """The status its row has now; None for a new job."""
        self.events: list[tuple[Event, Sealed]] = []
        """Those of numbers up to `head.number`."""
        self.runs: dict[int, TaskRun] = {}
        self.outbox: dict[str, tuple[Command, int] | None] = {}
        """By key: the command and when it is due, or None to remove the row."""
        self.fresh: set[str] = set()
        """Keys first opened in this batch: if they go again, no row was ever there."""

    def record(self, event: Event, sealed: Sealed, changes: Changes, commands: tuple[Command, ...]) -> None:
        """Add one step."""
        self.head = changes.head
        self.events.append((event, sealed))
        for run in changes.tasks:
            self.runs[run.index] = run
        outbox = self.outbox
        for key in changes.closed:
            if key in self.fresh:
                self.fresh.remove(key)
                del outbox[key]
            else:
                outbox[key] = None
        for command in commands:
            key, after = command.key, command.after
            if key not in outbox:
                self.fresh.add(key)
            outbox[key] = (command, event.time + after if after else 0)


@dataclass(slots=True)
class StepBatch:
    """What one transaction writes: the steps of one group commit."""

    jobs: dict[tuple[str, str], JobRows] = field(default_factory=dict)
    specs: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    """(tenant, job, SHA-256, stored spec) of new jobs"""
    queue: dict[tuple[str, str], tuple[int, int, int] | None] = field(default_factory=dict)
    """(tenant, job) to (priority, not before, enqueued), or None to remove the row"""
    ripe: int = 0
    """Postponed jobs of up to this moment become ready to start (some thousand at a time); 0 is none."""
    inbox: list[tuple[str, str, str, str, str, int]] = field(default_factory=list)
    """(tenant, sender, message id, job, digest, received)"""
    nonces: list[tuple[str, str, str, int]] = field(default_factory=list)
    """(tenant, key, nonce, expires) of signed messages"""
    expired: int = 0
    """Nonces that expired before this moment are forgotten (some hundred at a time); 0 is none."""

    @property
    def empty(self) -> bool:
        return not (self.jobs or self.inbox or self.queue or self.ripe or self.nonces)

    @property
    def events(self) -> int:
        """How many events it holds."""
        return sum(len(rows.events) for rows in self.jobs.values())


class StepStore(Protocol):
    def commit(self, batch: StepBatch) -> None: ...

    def load(self, tenant: str, job: str) -> StoredJob: ...

    def load_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredJob]:
        """Those of these jobs that are there and can be read; what is wrong with one of the others `load` says."""
        ...

    def events(self, tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
        """In the order of their numbers. For one that cannot be read stands `core.audit.Damaged`; one whose number
        is none is left out."""
        ...

    def due(self, now: int, limit: int) -> list[DueCommand]: ...

    def next_due(self, after: int = 0) -> int: ...

    def open_jobs(
        self, kinds: Iterable[str], after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]: ...

    def line(self, limit: int) -> list[tuple[str, str]]: ...

    def next_start(self) -> int: ...

    def start_of(self, tenant: str, job: str) -> int: ...

    def accepted(self, tenant: str, sender: str, message: str) -> tuple[str, str, int] | None: ...

    def spent(self, tenant: str, key: str, nonce: str) -> bool: ...

    def page(
        self, tenant: str, status: JobStatus | None, limit: int, offset: int
    ) -> tuple[list[tuple[JobHead, str, str]], int]: ...

    def close(self) -> None: ...
