"""What every line of jobs does alike: read the repository, and send the event that leads to a status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cpa.core.events import CancelRequested, Event, JobReopened, JobStarted
from cpa.core.job import JobStatus, Snapshot
from cpa.errors import BadInput, Conflict, Unavailable
from cpa.ports.clock import Clock
from cpa.ports.engine import JobPage, Outcome
from cpa.ports.repository import JobRepository

Send = Callable[[str, str, Event], Awaitable[Outcome]]
"""Gives a fact to a job (tenant, job, event): `Engine.send`."""

MAX_LEASES = 1_000


class Control:
    """The half of `ports.queue.JobQueue` that is not the line itself."""

    def __init__(self, jobs: JobRepository, send: Send, clock: Clock) -> None:
        self._jobs = jobs
        self._send = send
        self._clock = clock
        self._connected = False

    async def connect(self) -> None:
        self._connected = True

    async def close(self) -> None:
        self._connected = False

    async def get_status(self, tenant: str, job: str) -> JobStatus:
        self._ready()
        return (await self._jobs.head(tenant, job)).status

    async def get_job(self, tenant: str, job: str) -> Snapshot:
        self._ready()
        return await self._jobs.get(tenant, job)

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage:
        self._ready()
        return await self._jobs.dead_letters(tenant, limit=limit, offset=offset)

    async def update_status(self, tenant: str, job: str, status: JobStatus, *, by: str) -> Outcome:
        self._ready()
        if status is JobStatus.CANCELLED:
            return await self.cancel(tenant, job, by=by)
        if status is JobStatus.PENDING:
            return await self.retry(tenant, job, by=by)
        if status is JobStatus.RUNNING:
            await self._jobs.head(tenant, job)
            return await self._send(tenant, job, JobStarted(time=self._clock.now_ms()))
        raise Conflict(
            f"a job cannot be set to {status.value}: only its work leads there",
            field="status",
            value=status.value,
            remedy="cancel it, or mark its failed task as done in the dead-letter inbox",
        )

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        self._ready()
        await self._jobs.head(tenant, job)
        outcome = await self._send(tenant, job, JobReopened(time=self._clock.now_ms(), by=by))
        if not outcome.changed:
            raise Conflict(
                f"job {job} cannot be retried: {outcome.reason.replace('_', ' ')}",
                field="job",
                value=job,
                remedy="wait for its end; when its retries are used up, reopen it from the dead letters",
            )
        return outcome

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome:
        self._ready()
        await self._jobs.head(tenant, job)
        event = CancelRequested(time=self._clock.now_ms(), by=by, reason=reason)
        return await self._send(tenant, job, event)

    def _ready(self) -> None:
        if not self._connected:
            raise Unavailable("the line of jobs is not connected", remedy="call connect() first")

    async def _admit(self, tenant: str, job: str) -> None:
        """Only a pending job may stand in line."""
        self._ready()
        head = await self._jobs.head(tenant, job)
        if head.status is not JobStatus.PENDING:
            raise Conflict(
                f"job {job} is {head.status.value}, only a pending job can stand in line",
                field="job",
                value=job,
                remedy="retry it if it ended",
            )

    def _checked(self, owner: str, limit: int, lease_ms: int) -> int:
        """How many to lease at most; `BadInput` for what makes no sense."""
        self._ready()
        for field, value, least in (("limit", limit, 1), ("lease_ms", lease_ms, 1)):
            if value < least:
                raise BadInput(
                    f"{field} must be at least {least}",
                    field=field,
                    value=value,
                    remedy="pass a larger number",
                )
        if not owner:
            raise BadInput("a lease needs an owner", field="owner", remedy="name the worker")
        return min(limit, MAX_LEASES)
