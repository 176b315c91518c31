"""Reading what is stored, and deleting it. Only the hot step (`engines`) changes jobs; these never do.

Contract of all repositories:
- The tenant comes first and is a wall: what belongs to another tenant is `NotFound` or absent from lists.
- One call reads one consistent snapshot. Writes are durable on return, and all or nothing.
- Trouble with the store (full disk, closed, damaged) is `Unavailable`.
- `limit` below 1 or `offset` below 0 is `BadInput`; a page never holds more than 1,000 items.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from cpa.core.audit import Sealed
from cpa.core.events import Event
from cpa.core.job import JobHead, JobStatus, Snapshot, TaskRun, TaskStatus
from cpa.ports.engine import JobPage, StoredEvent

MAX_PAGE = 1_000


class JobRepository(Protocol):
    async def head(self, tenant: str, job: str) -> JobHead: ...

    async def get(self, tenant: str, job: str) -> Snapshot:
        """Head, spec, all task runs and open commands."""
        ...

    async def page(
        self,
        tenant: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        offset: int = 0,
        before: tuple[int, str] | None = None,
    ) -> JobPage:
        """Newest first. `before` is (created, id) of the last job seen: a stable cursor, as cheap at the end
        as at the beginning; `offset` counts from there. `total` ignores both."""
        ...

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage:
        """Failed jobs whose retries are used up, last ended first."""
        ...

    async def counts(self, tenant: str) -> dict[JobStatus, int]:
        """How many jobs have each status; all five are there."""
        ...

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[StoredEvent, ...]:
        """Events with numbers above `after`, in order. `NotFound` for an unknown job."""
        ...

    async def erase(self, tenant: str, job: str) -> None:
        """Delete the personal data of an ended job: request text, context, arguments, results, messages and
        the private parts of its events. The trail still proves itself. `Conflict` while it has not ended.

        What it cannot reach: artifacts (`ports.artifacts`), backups, and the free text of actors' names."""
        ...

    async def purge(self, tenant: str, *, ended_before: int, limit: int = MAX_PAGE) -> int:
        """Delete jobs that ended before that moment, with everything of theirs, at most `limit`; returns how
        many. A job with an open command (an answer not yet delivered) stays. Repeat until 0. What was accepted for
        them is forgotten too: a client's key of such a job is a new one."""
        ...


class TaskRepository(Protocol):
    async def list(
        self, tenant: str, job: str, *, status: TaskStatus | None = None
    ) -> tuple[tuple[str, TaskRun], ...]:
        """(task id, where it stands) in the plan's order."""
        ...

    async def get(self, tenant: str, job: str, task: str) -> TaskRun:
        """`NotFound` naming the job's tasks when there is none of this id."""
        ...


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One LAM message that crossed the border of the process."""

    id: str
    sender: str
    direction: str
    """`in` or `out`"""
    type: str
    received: int
    body: bytes
    conversation: str = ""
    job: str = ""
    task: str = ""
    effect: str = ""
    """What it did: an event's type, or why it changed nothing (`stale_epoch`, `duplicate` …)."""
    seq: int = 0
    """Place in the log; given by the store."""


class MessageRepository(Protocol):
    async def append(self, tenant: str, *messages: StoredMessage) -> None:
        """Add to the log, in this order."""
        ...

    async def list(
        self, tenant: str, *, conversation: str = "", job: str = "", after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[StoredMessage, ...]:
        """Oldest first, after place `after`; of one conversation or one job (`BadInput` without either)."""
        ...


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; empty fields match all."""

    job: str = ""
    task: int = -1
    """Index of the task in the job's plan; needs `job`."""
    actor: str = ""
    """Agent, person or key."""
    types: tuple[str, ...] = ()
    """Stored type names; for actions outside jobs `action_logged`."""
    since: int = 0
    until: int = 0
    """Exclusive; 0 is no end."""


class AuditRow(msgspec.Struct, frozen=True):
    """One stored fact with its leaf. Facts of no job have job "" and number 0."""

    job: str
    number: int
    type: str
    """Of the event, as the row says."""
    event: Event
    """`core.audit.Damaged` when its bytes are."""
    leaf: str
    body: bytes
    erased: bool
    place: tuple[int, int, int]
    """Where it stands in the whole: (time, 1 for jobs and 0 for others, seq); newest first is descending."""


class AuditSlice(msgspec.Struct, frozen=True):
    """What a bounded look through the trail found."""

    rows: tuple[AuditRow, ...]
    next: tuple[int, int, int] | None
    """Go on below this place; None at the end. A slice may be short, even empty, before the end."""


class LeafRow(msgspec.Struct, frozen=True):
    """What verification needs of one stored fact."""

    job: str
    """With lone halves of character pairs (`core.ids.shown`) where the stored name is no UTF-8; no walk goes on
    after such a place."""
    number: int
    seq: int
    type: str
    time: int
    body: bytes
    private: bytes | None
    leaf: bytes


class ActionLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """What no job did, sealed for the trail (`audit.log`)."""

    tenant: str
    actor: str
    action: str
    subject: str
    sealed: Sealed


class AuditRepository(Protocol):
    async def append(self, leaf: ActionLeaf) -> int:
        """Store what no job did; returns its place (`seq`)."""
        ...

    async def slice(
        self, tenant: str, which: AuditFilter, *, limit: int = 50, below: tuple[int, int, int] | None = None
    ) -> AuditSlice:
        """Newest first. Looks at a bounded number of facts per call, so a rare match cannot hold it up."""
        ...

    async def leaves(
        self, tenant: str, *, after: tuple[str, int] = ("", 0), limit: int = MAX_PAGE
    ) -> tuple[LeafRow, ...]:
        """Facts of jobs in the order (job, number), after that place."""
        ...

    async def other_leaves(
        self, tenant: str, *, after: int = 0, limit: int = MAX_PAGE
    ) -> tuple[LeafRow, ...]:
        """Facts of no job in the order of `seq`."""
        ...

    async def numbers(
        self, tenant: str, *, after: str = "", limit: int = MAX_PAGE
    ) -> tuple[tuple[str, int], ...]:
        """(job, number of its last event) in the order of job ids, after that id; names as in `LeafRow`."""
        ...

    async def task_ids(self, tenant: str, jobs: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """By job: the ids of the tasks of its plan, by index. Unknown jobs are left out."""
        ...
