"""The line of jobs in this process's memory: for tests and for programs that need no durable line.

Two heaps (ready; waiting for a moment, be it not-before or the end of a lease) with lazy deletion: an entry
counts only while it is the newest of its job.
"""

from __future__ import annotations

import heapq
import secrets
from dataclasses import dataclass

from cpa.ports.clock import Clock
from cpa.ports.queue import Lease
from cpa.ports.repository import JobRepository
from cpa.queue.control import Control, Send


@dataclass(slots=True)
class _Place:
    tenant: str
    job: str
    priority: int
    enqueued: int
    not_before: int
    token: str = ""
    owner: str = ""
    until: int = 0
    version: int = 0
    """Counts moves between the heaps; entries of older versions are dead."""

    @property
    def rank(self) -> tuple[int, int, str, str]:
        return (-self.priority, self.enqueued, self.job, self.tenant)


class MemoryJobQueue(Control):
    """`ports.queue.JobQueue` for one process and one event loop."""

    def __init__(self, jobs: JobRepository, send: Send, clock: Clock) -> None:
        super().__init__(jobs, send, clock)
        self._line: dict[tuple[str, str], _Place] = {}
        self._sequence = 0
        self._ready_heap: list[tuple[tuple[int, int, str, str], int, _Place]] = []
        self._timed_heap: list[tuple[int, int, _Place]] = []
        """Later and leased places, by the moment they become ready."""

    async def enqueue(self, tenant: str, job: str, *, priority: int = 0, not_before: int = 0) -> bool:
        await self._admit(tenant, job)
        if (tenant, job) in self._line:
            return False
        place = _Place(tenant, job, priority, self._clock.now_ms(), not_before)
        self._line[tenant, job] = place
        self._file(place)
        return True

    async def dequeue(self, owner: str, limit: int = 1, lease_ms: int = 30_000) -> tuple[Lease, ...]:
        limit = self._checked(owner, limit, lease_ms)
        now = self._clock.now_ms()
        self._wake(now)
        token = secrets.token_hex(16)
        leases: list[Lease] = []
        while self._ready_heap and len(leases) < limit:
            _, version, place = heapq.heappop(self._ready_heap)
            if place.version == version:
                place.owner, place.token, place.until = owner, token, now + lease_ms
                self._file(place)
                leases.append(_lease(place))
        return tuple(leases)

    async def acknowledge(self, lease: Lease) -> bool:
        place = self._held(lease)
        if place is None:
            return False
        place.version = -1
        del self._line[lease.tenant, lease.job]
        return True

    async def renew(self, lease: Lease, lease_ms: int) -> Lease | None:
        place = self._held(lease)
        if place is None:
            return None
        place.until = self._clock.now_ms() + lease_ms
        self._file(place)
        return _lease(place)

    async def release(self, lease: Lease, *, not_before: int = 0) -> bool:
        place = self._held(lease)
        if place is None:
            return False
        place.owner, place.token, place.until, place.not_before = "", "", 0, not_before
        self._file(place)
        return True

    async def size(self, tenant: str) -> int:
        self._ready()
        return sum(key[0] == tenant for key in self._line)

    def _held(self, lease: Lease) -> _Place | None:
        self._ready()
        place = self._line.get((lease.tenant, lease.job))
        live = place is not None and place.token == lease.token and place.until > self._clock.now_ms()
        return place if live else None

    def _file(self, place: _Place) -> None:
        """Put it in the heap it belongs to now, and make its older entries void."""
        self._sequence += 1
        place.version = self._sequence
        moment = place.until or place.not_before
        if moment:
            heapq.heappush(self._timed_heap, (moment, place.version, place))
        else:
            heapq.heappush(self._ready_heap, (place.rank, place.version, place))

    def _wake(self, now: int) -> None:
        """What waited for a time that has come is ready."""
        while self._timed_heap and self._timed_heap[0][0] <= now:
            _, version, place = heapq.heappop(self._timed_heap)
            if place.version == version:
                place.owner, place.token, place.until, place.not_before = "", "", 0, 0
                self._file(place)


def _lease(place: _Place) -> Lease:
    return Lease(
        place.tenant, place.job, place.priority, place.enqueued, place.owner, place.token, place.until
    )
