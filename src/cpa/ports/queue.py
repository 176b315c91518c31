"""The line of jobs to start.

Contract of every adapter (memory, SQL):

- **Eligible** is a job in line whose not-before has come and that nobody holds a live lease on.
- **Order** among the eligible: higher priority first, then earlier enqueued, then smaller job id, then
  tenant. A job that had to wait for its not-before keeps the place its enqueue time gives it.
- **Lease.** `dequeue` takes nothing out: it leases. Whoever holds the lease starts the job, and the step that
  records the start takes it out of the line (or `acknowledge` does). A lease that runs out puts the job back
  in its old place. Two live leases on one job never exist.
- **Fence.** Each lease carries a token used once. `acknowledge`, `renew` and `release` with an older token
  change nothing and return False, also when the job was put in line anew since.
- **Enqueue** is idempotent: a job stands in line once. Entering an unknown job is `NotFound`, one that is not
  pending `Conflict`. Normally the submit transaction enters it; `enqueue` is for putting it back.
- **Status.** The line knows no status: `get_*` and `dead_letters` read the repository; `update_status`,
  `retry` and `cancel` send the job the event that leads there. Nobody can set `done` or `failed`: only work
  leads there.
- **Durability.** What a durable adapter returned from survives power loss; the memory adapter is for one
  process and loses the line with it. `close` gives up nothing: leases run out by themselves.
- Before `connect` and after `close` every method raises `Unavailable`; both may be called more than once.

Times are integer milliseconds since 1970 UTC, durations integer milliseconds.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from cpa.core.job import JobStatus, Snapshot
from cpa.ports.engine import JobPage, Outcome


class Lease(msgspec.Struct, frozen=True):
    """The right to start one job, until `until`."""

    tenant: str
    job: str
    priority: int
    enqueued: int
    owner: str
    token: str
    until: int


class JobQueue(Protocol):
    async def connect(self) -> None:
        """Make ready for use."""
        ...

    async def enqueue(self, tenant: str, job: str, *, priority: int = 0, not_before: int = 0) -> bool:
        """Put a pending job in line; False when it stands there already (nothing is changed then)."""
        ...

    async def dequeue(self, owner: str, limit: int = 1, lease_ms: int = 30_000) -> tuple[Lease, ...]:
        """Lease the first `limit` eligible jobs of all tenants, in order; empty when there are none. At most
        1,000 at a time. Does not wait."""
        ...

    async def acknowledge(self, lease: Lease) -> bool:
        """The job was started: out of the line."""
        ...

    async def renew(self, lease: Lease, lease_ms: int) -> Lease | None:
        """Hold on to it until `lease_ms` from now; None when it ran out or is another's by now."""
        ...

    async def release(self, lease: Lease, *, not_before: int = 0) -> bool:
        """Give it back before the lease runs out; it keeps its place, and waits for `not_before`."""
        ...

    async def size(self, tenant: str) -> int:
        """Jobs of the tenant in line, leased and later ones included."""
        ...

    async def get_status(self, tenant: str, job: str) -> JobStatus: ...

    async def update_status(self, tenant: str, job: str, status: JobStatus, *, by: str) -> Outcome:
        """Send the event that leads to `status`: cancelled `CancelRequested`, running `JobStarted`, pending
        `JobReopened`. `Conflict` for done and failed."""
        ...

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        """Open the next run of a job that ended. `Conflict`, with the reason, when that is not possible."""
        ...

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome:
        """Ask for its end; no error when it has ended already (`Outcome.reason` says so)."""
        ...

    async def get_job(self, tenant: str, job: str) -> Snapshot: ...

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage: ...

    async def close(self) -> None: ...
