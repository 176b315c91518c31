"""The engine holds the truth of jobs in flight. API, CLI, channels and agents know only this.

Contract of every engine (local on SQL, Temporal):
- `submit` returns only after the job is durable; afterwards `query` finds it. The same `dedupe` key of the same
  tenant and sender gives the same receipt with `new=False`; with another body, `Conflict`.
- `send` returns after the fact is durable, with what it changed. Late, duplicate and stale facts change nothing
  and say so in `reason`; they are no error.
- Every method looks only inside the tenant given; a job of another tenant is `NotFound`.
- A message counts once per tenant, sender and id, whatever it came to; a nonce once, whatever it comes with.
- Events of a job are numbered 1, 2, 3 … without a gap, each stored once with the SHA-256 of its stored bytes.
- The core alone retries. Whatever was open when a process ended is gone on with by the next: attempts whose agent
  is gone are lost, and the core decides by their effect class.
- While draining, `submit` raises `Unavailable`; reading goes on.

`tests/contracts/engine.py` is this as tests; every engine passes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from cpa.core.events import Event, JobReopened
from cpa.core.job import JobHead, JobSpec, JobState, JobStatus, Snapshot, TaskRun
from cpa.errors import CPAError
from cpa.ports.nonces import Nonce


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A checked plan, ready to become a job."""

    tenant: str
    spec: JobSpec
    job: str = ""
    """Id to give it; empty lets the engine draw one (UUID version 7)."""
    priority: int = 0
    not_before: int = 0
    """Milliseconds since 1970 UTC; 0 is at once."""
    due: int = 0
    """Absolute deadline in milliseconds; 0 is none."""
    by: str = ""
    """Who asks, as the trail shall say it: the caller's name."""
    sender: str = ""
    """Whose `dedupe` it is: API key id, mail address, agent address."""
    dedupe: str = ""
    """The client's Idempotency-Key or the channel's message id; empty does not deduplicate."""
    body_digest: str = ""
    """SHA-256 of what was asked, to notice the same key with another body."""
    nonce: Nonce | None = None
    """Of the signed message it came with: stored in the same transaction; used before, `Replayed`."""


class Receipt(msgspec.Struct, frozen=True):
    job: str
    created: int
    status: JobStatus
    new: bool = True


class Outcome(msgspec.Struct, frozen=True):
    """What became of a fact."""

    changed: bool
    number: int
    """The job's last event number."""
    reason: str = ""
    """Why nothing changed: `stale_epoch`, `duplicate`, `ended`, `no_such_task`, `not_open` …"""


class Place(msgspec.Struct, frozen=True):
    """One task of a job."""

    index: int
    """Where the spec has it."""
    action: str
    run: TaskRun
    ended: bool
    """Whether the job's run has ended."""

    @classmethod
    def of(cls, job: JobState, task: str) -> Place | None:
        """The job's task of this id; None when it has none."""
        index = job.graph.place(task)
        if index is None:
            return None
        return cls(index, job.spec.tasks[index].action, job.task(index), job.head.status.ended)


class JobPage(msgspec.Struct, frozen=True):
    jobs: tuple[tuple[JobHead, str, str], ...]
    """Newest first: (head, intent, description)."""
    total: int


class StoredEvent(msgspec.Struct, frozen=True):
    """One event as stored."""

    job: str
    number: int
    event: Event
    leaf: str
    """SHA-256 of `body`, hexadecimal: the audit leaf."""
    body: bytes
    """The stored bytes: msgspec JSON, personal fields replaced by a salted digest."""


class LiveUpdate(msgspec.Struct, frozen=True):
    """Progress of a running task: shown, not stored."""

    job: str
    task: str
    epoch: int
    progress: float
    message: str


class Engine(Protocol):
    @property
    def trouble(self) -> CPAError | None:
        """Why nothing can be changed just now; None when all is well."""
        ...

    @property
    def aside(self) -> int:
        """How many jobs are set aside, because they cannot be gone on with. The log says which and why."""
        ...

    def hindrance(self, tenant: str, job: str) -> CPAError | None:
        """Why this job as a whole cannot go on here just now, whatever its tasks wait for; None when nothing is
        known to hinder it."""
        ...

    async def submit(self, submission: Submission) -> Receipt:
        """Durable on return. Raises `Conflict`, `Unavailable`, `InvalidDocument`."""
        ...

    async def recall(self, tenant: str, sender: str, dedupe: str, body_digest: str) -> Receipt | None:
        """The receipt that `submit` gave for this key, `new=False`; None if there was none. `Conflict` for another
        body. For what must be asked before a plan is made: the world may have changed since."""
        ...

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Receipt]:
        """Receipts in the same order, once all are durable. Where one cannot be, it raises, and others may be there
        all the same: to try again safely, give each a `dedupe` key."""
        ...

    async def send(
        self,
        tenant: str,
        job: str,
        event: Event | None,
        *,
        message: tuple[str, str] | None = None,
        nonce: Nonce | None = None,
    ) -> Outcome:
        """Give a fact to a job; its `time` is replaced by the engine's own clock. `message` is (sender, id) of the
        message it came with: stored in the same step, and the same again is answered `duplicate`. `nonce` is that
        of a signed message: stored in the same step too, and the same again raises `Replayed`. Without an event
        only these are remembered."""
        ...

    async def remember(
        self,
        tenant: str,
        *,
        message: tuple[str, str] | None = None,
        job: str = "",
        nonce: Nonce | None = None,
        first: Callable[[], Awaitable[object]] | None = None,
    ) -> bool:
        """Remember a message that steps no job; durable on return. False when it was here before. A nonce that
        was used before raises `Replayed`. It is forgotten with `job`, where it was said of one.

        `first` is what the message does: it is done where the message is new, and only what it did is remembered.
        What it raises is raised, and nothing is remembered. After a crash in between it is done again."""
        ...

    def show(self, tenant: str, job: str, update: LiveUpdate) -> None:
        """Show progress to those who follow the job; nothing is stored."""
        ...

    def shown(self, tenant: str, job: str) -> Mapping[str, LiveUpdate]:
        """By task, the newest progress that this process was told; perhaps of an attempt that is over."""
        ...

    async def query(self, tenant: str, job: str) -> Snapshot: ...

    async def start_of(self, tenant: str, job: str) -> int:
        """When a job that has not started is to start, in milliseconds since 1970 UTC. 0 is as soon as there is
        room, for one that has started, or when it is not known."""
        ...

    async def place(self, tenant: str, job: str, task: str) -> Place | None:
        """As `query`, of one task by its id, as cheaply as the engine can; None when it has none."""
        ...

    async def wait(self, tenant: str, job: str, timeout: float) -> JobHead:
        """The head at the end of the current run, or after `timeout` seconds, whichever is first."""
        ...

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome: ...

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        """Open the next run from the failed task. `Conflict` when it did not fail or retries are used up."""
        ...

    async def reopen(self, tenant: str, job: str, event: JobReopened, *, run: int | None = None) -> Outcome:
        """Open the next run as a person wants it. `Conflict` when the job did not fail or was not cancelled, or
        when the event names what cannot be; its `field` is `job`. It is `run` when the job is at another run than
        this one by the time that the event is decided."""
        ...

    async def list(
        self, tenant: str, *, status: JobStatus | None = None, limit: int = 50, offset: int = 0
    ) -> JobPage: ...

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[StoredEvent, ...]: ...

    def follow(self, tenant: str, job: str, *, after: int = 0) -> AsyncIterator[StoredEvent | LiveUpdate]:
        """Events after number `after`, without gap, then live ones; ends with the run's end. A reader that is
        too slow loses live updates, never events."""
        ...

    async def drain(self, timeout: float) -> None:
        """Accept no new job, let running attempts end for at most `timeout` seconds, leave the rest durable."""
        ...
