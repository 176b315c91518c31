"""The reading half of the engine on Temporal: what its workflows' publications brought into the store.

Who waits for something to be stored is woken by this process's own publications.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cpa.core.job import JobHead, JobState, JobStatus, Snapshot
from cpa.engines.stored import rebuilt
from cpa.engines.watchers import Key, Watchers
from cpa.errors import CPAError, NotFound, Unavailable
from cpa.ports.engine import JobPage, LiveUpdate, Place, StoredEvent
from cpa.ports.steps import StepBatch, StepStore

T = TypeVar("T")
STILLNESS = 15.0
"""Seconds without anything being stored after which who waits for that is told."""


class Reading:
    """The methods of `ports.engine.Engine` that change nothing."""

    def __init__(self, store: StepStore) -> None:
        self.store = store
        self.watchers = Watchers()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-load")
        self._stored_at = 0.0
        """When something was stored last, on the loop's clock."""
        self._numbers: dict[Key, list[tuple[int, asyncio.Future[JobHead]]]] = {}

    def close(self) -> None:
        self._readers.shutdown()

    def show(self, tenant: str, job: str, update: LiveUpdate) -> None:
        self.watchers.live((tenant, job), update)

    def shown(self, tenant: str, job: str) -> Mapping[str, LiveUpdate]:
        return self.watchers.newest((tenant, job))

    async def query(self, tenant: str, job: str) -> Snapshot:
        return (await self.load(tenant, job)).snapshot()

    async def place(self, tenant: str, job: str, task: str) -> Place | None:
        return Place.of(await self.load(tenant, job), task)

    async def wait(self, tenant: str, job: str, timeout: float) -> JobHead:
        ending = asyncio.ensure_future(self.watchers.end((tenant, job), timeout))
        try:
            head = (await self.load(tenant, job)).head
            if head.status.ended:
                return head
            return await ending or (await self.load(tenant, job)).head
        finally:
            ending.cancel()

    async def list(
        self, tenant: str, *, status: JobStatus | None = None, limit: int = 50, offset: int = 0
    ) -> JobPage:
        jobs, total = await self.read(self.store.page, tenant, status, limit, offset)
        return JobPage(tuple(jobs), total)

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[StoredEvent, ...]:
        await self.load(tenant, job)
        return await self.read(self.store.events, tenant, job, after, limit)

    async def follow(
        self, tenant: str, job: str, *, after: int = 0
    ) -> AsyncIterator[StoredEvent | LiveUpdate]:
        with self.watchers.follow((tenant, job)) as follower:
            while True:
                follower.clear()
                head = (await self.load(tenant, job)).head
                for stored in await self.read(self.store.events, tenant, job, after, 1000):
                    after = stored.number
                    yield stored
                for update in follower.take():
                    yield update
                if (head.status.ended and after >= head.number) or self.watchers.closed:
                    return
                if after >= head.number:
                    await follower.wait()

    def hindrance(self, tenant: str, job: str) -> CPAError | None:
        return None

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking read of the store in the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    async def load(self, tenant: str, job: str) -> JobState:
        """The job as the store has it."""
        return rebuilt(await self.read(self.store.load, tenant, job))

    async def stored(self, key: Key, number: int) -> JobHead:
        """The job's head once the store has this event of it. `Unavailable` when nothing at all is stored for a
        while: it is on the server all the same."""
        future: asyncio.Future[JobHead] = asyncio.get_running_loop().create_future()
        waiting = self._numbers.setdefault(key, [])
        waiting.append((number, future))
        try:
            head = await self._head(key)
            if head is not None and head.number >= number:
                return head
            return await self._patiently(future, key)
        finally:
            waiting.remove((number, future))
            if not waiting:
                self._numbers.pop(key, None)

    async def _patiently(self, future: asyncio.Future[JobHead], key: Key) -> JobHead:
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            done, _ = await asyncio.wait([future], timeout=1.0)
            if done:
                return future.result()
            why = self.hindrance(*key)
            if now() - (began if why else max(began, self._stored_at)) > STILLNESS:
                remedy = (why and why.remedy) or "look into the log of the workers"
                raise Unavailable(
                    f"the Temporal server has this for job {key[1]}, and no worker stored it for {STILLNESS:g} s"
                    + (f": {why.message}" if why else ""),
                    field="job",
                    value=key[1],
                    remedy=f"{remedy}; the job goes on by itself",
                )

    async def _head(self, key: Key) -> JobHead | None:
        try:
            return (await self.load(*key)).head
        except NotFound:
            return None

    def committed(self, batch: StepBatch) -> None:
        """This is durable now: wake who waits for it."""
        self._stored_at = asyncio.get_running_loop().time()
        self.watchers.committed(batch)
        for key, rows in batch.jobs.items():
            for number, future in self._numbers.get(key, ()):
                if rows.head.number >= number and not future.done():
                    future.set_result(rows.head)
