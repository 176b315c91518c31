"""Where a job is found: in memory, or in the store. And when what was done to it is durable.

One thread reads the store for everybody. Two who want the same job at the same moment get the same copy; jobs that
cannot be read are set aside. Jobs nobody touches are not in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.engines.local.group import Key
from cpa.engines.local.stepper import Stepper
from cpa.engines.stored import rebuilt
from cpa.errors import NotFound
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import StepStore, StoredJob, Unreadable

T = TypeVar("T")
_AHEAD = 2
"""Portions that are read before their turn comes."""


class _Reading(NamedTuple):
    """Jobs that are being read, for somebody who will step them when their turn comes."""

    wanted: Sequence[Key]
    rows: asyncio.Future[dict[Key, StoredJob]]
    over: asyncio.Future[JobState]
    """Cancelled once they are in memory, or will not be."""


class Jobs:
    """The jobs of one engine. End it with `close`."""

    def __init__(self, store: StepStore, stepper: Stepper, orchestrator: Orchestrator) -> None:
        self._store = store
        self._stepper = stepper
        self._orchestrator = orchestrator
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-load")
        self._loading: dict[Key, asyncio.Future[JobState]] = {}

    def close(self) -> None:
        """Whoever closes the store next must find no thread inside it."""
        self._readers.shutdown()

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking read of the store in the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    async def load(self, tenant: str, job: str) -> JobState:
        """The job from memory, or from the store; an ended one stays there. `Unreadable` if it is set aside."""
        key = (tenant, job)
        while True:
            self._stepper.aside.check(key)
            known = self._stepper.jobs.get(key) or self._stepper.recent.get(key)
            if known is not None:
                return known
            loading = self._loading.get(key)
            if loading is None:
                break
            await asyncio.wait([loading])
        future = self._loading[key] = asyncio.get_running_loop().create_future()
        try:
            return self._stepper.adopt(await self.stored(tenant, job))
        except Unreadable as error:
            raise self._stepper.aside.put(key, error) from error
        finally:
            del self._loading[key]
            future.cancel()

    async def stored(self, tenant: str, job: str) -> JobState:
        """The job as the store has it, whatever is in memory."""
        return rebuilt(await self.read(self._store.load, tenant, job))

    async def found(self, tenant: str, job: str) -> JobState | None:
        """As `load`, for those who go through many jobs: None for one that cannot be gone on with."""
        try:
            return await self.load(tenant, job)
        except NotFound:
            lost = Unreadable(f"of job {job} nothing is stored but that it has something to do")
            self._stepper.aside.put((tenant, job), lost)
        except Unreadable:
            pass  # the log and the health say it
        return None

    async def bring(self, keys: Iterable[Key]) -> None:
        """Read many jobs at once for who goes through them: those that can be read are in memory then, for a
        while."""
        async with aclosing(self.in_turn((keys,))) as turns:
            await anext(turns)

    async def in_turn(self, portions: Iterable[Iterable[Key]]) -> AsyncGenerator[None, None]:
        """As `bring`, one portion after the other; while the caller is at one the next are read. Close it.

        They are taken into memory when their turn comes, not before: by then they could have been evicted.
        """
        ahead: deque[_Reading] = deque()
        seen: set[Key] = set()
        try:
            for portion in portions:
                # Who is in two of them must not be waited for in the first until the second has its turn.
                fresh = [key for key in dict.fromkeys(portion) if key not in seen]
                seen.update(fresh)
                ahead.append(self._read_many(fresh))
                if len(ahead) > _AHEAD:
                    await self._take(ahead)
                    yield
            while ahead:
                await self._take(ahead)
                yield
        finally:
            for reading in ahead:
                self._let_go(reading)

    def _read_many(self, keys: Iterable[Key]) -> _Reading:
        """Have those read that are not in memory. Nobody else reads them until they are let go."""
        known, aside = self._stepper.jobs, self._stepper.aside
        wanted = [key for key in keys if key not in known and key not in self._loading and key not in aside]
        if len(wanted) < 2:
            wanted = []
        loop = asyncio.get_running_loop()
        rows = loop.run_in_executor(self._readers, self._store.load_many, wanted)
        reading = _Reading(wanted, rows, loop.create_future())
        self._loading.update(dict.fromkeys(wanted, reading.over))
        return reading

    async def _take(self, ahead: deque[_Reading]) -> None:
        """The first of what is read is in memory."""
        try:
            for stored in (await ahead[0].rows).values():
                try:
                    self._stepper.adopt(rebuilt(stored))
                except Unreadable:
                    continue  # whoever loads it by itself sets it aside
        finally:
            self._let_go(ahead.popleft())

    def _let_go(self, reading: _Reading) -> None:
        for key in reading.wanted:
            del self._loading[key]
        reading.over.cancel()

    async def fact(self, tenant: str, job: str, event: Event) -> None:
        """Give a fact to a job that may not be in memory, if it is still there; nobody waits for it."""
        try:
            state = await self.load(tenant, job)
        except (NotFound, Unreadable):  # it was never accepted, was deleted, or is set aside
            self._orchestrator.withdrawn(tenant, job, event)
        else:
            self._stepper.step(state, event, fact=True)

    async def durable(self, value: T, keys: Collection[Key] = ()) -> T:
        """The value, once all steps so far are durable; `keys` are the jobs whose steps it rests on."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._stepper.promise(future, value, keys)
        return await future

    def flushing(self) -> asyncio.Future[Any]:
        """Done once everything stepped before this call is durable, or known not to be."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stepper.promise(future, None)
        # Those who acted are told of a failure; the jobs are as the store has them.
        return asyncio.gather(future, return_exceptions=True)

    async def flush(self) -> None:
        """Return once everything stepped so far is durable, or known not to be."""
        await self.flushing()
