"""Where a job is found: in memory, or in the store. And when what was done to it is durable.

One thread reads the store for everybody. Two who want the same job at the same moment get the same copy; jobs that
cannot be read are set aside. Jobs nobody touches are not in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.engines.local.group import Key
from cpa.engines.local.stepper import Stepper
from cpa.engines.local.writer import RETRY_COMMIT
from cpa.engines.stored import rebuilt
from cpa.errors import NotFound, Unavailable
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import StepStore, StoredJob, Unreadable

T = TypeVar("T")
_AHEAD = 2
"""Portions that are read before their turn comes."""


class _Reading(NamedTuple):
    """Jobs that are being read, for somebody who will step them when their turn comes."""

    wanted: Sequence[Key]
    rows: asyncio.Future[dict[Key, StoredJob]]


class Jobs:
    """The jobs of one engine. End it with `close`."""

    def __init__(self, store: StepStore, stepper: Stepper, orchestrator: Orchestrator) -> None:
        self._store = store
        self._stepper = stepper
        self._orchestrator = orchestrator
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-load")
        self._loading: dict[Key, asyncio.Future[dict[Key, StoredJob]]] = {}

    def close(self) -> None:
        """Whoever closes the store next must find no thread inside it."""
        self._readers.shutdown()

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking read of the store in the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    async def load(self, tenant: str, job: str) -> JobState:
        """The job from memory, or from the store; an ended one stays there. `Unreadable` if it is set aside."""
        key = (tenant, job)
        try:
            return await self._load(key)
        except Unreadable as error:
            raise self._stepper.aside.put(key, error) from error

    async def _load(self, key: Key) -> JobState:
        while True:
            self._stepper.aside.check(key)
            reading, known = self._loading.get(key), self._stepper.jobs.get(key)
            if known is None and reading is None:
                known = self._stepper.recent.get(key)
            if known is not None:
                return known
            if reading is None:
                break
            await asyncio.wait([reading])
            if (stored := self._taken_out(key, reading)) is not None:
                return self._stepper.adopt(rebuilt(stored))
        future = self._loading[key] = asyncio.get_running_loop().create_future()
        try:
            return self._stepper.adopt(await self.stored(*key))
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
        await self._take(self._read_many(keys))

    async def in_turn(self, portions: Iterable[Iterable[Key]]) -> AsyncGenerator[None, None]:
        """As `bring`, one portion after the other; while the caller is at one the next are read. Close it.

        They are taken into memory when their turn comes, not before: by then they could have been evicted.
        """
        ahead: deque[_Reading] = deque()
        try:
            for portion in portions:
                ahead.append(self._read_many(portion))
                if len(ahead) > _AHEAD:
                    await self._take(ahead.popleft())
                    yield
            while ahead:
                await self._take(ahead.popleft())
                yield
        finally:
            for reading in ahead:
                self._let_go(reading)

    def _read_many(self, keys: Iterable[Key]) -> _Reading:
        """Have those read that are not in memory. Nobody else reads them until they are let go."""
        known, aside = self._stepper.jobs, self._stepper.aside
        wanted = [
            key
            for key in dict.fromkeys(keys)
            if key not in known and key not in self._loading and key not in aside
        ]
        loop = asyncio.get_running_loop()
        if wanted:
            rows = loop.run_in_executor(self._readers, self._store.load_many, wanted)
        else:
            rows = loop.create_future()
            rows.set_result({})
        self._loading.update(dict.fromkeys(wanted, rows))
        return _Reading(wanted, rows)

    async def _take(self, reading: _Reading) -> None:
        """What is read is in memory, but for what somebody took out before."""
        try:
            for stored in (await reading.rows).values():
                try:
                    self._stepper.adopt(rebuilt(stored))
                except Unreadable:
                    continue  # whoever loads it by itself sets it aside
        finally:
            self._let_go(reading)

    def _let_go(self, reading: _Reading) -> None:
        for key in reading.wanted:
            if self._loading.get(key) is reading.rows:
                del self._loading[key]
        if not reading.rows.cancel() and not reading.rows.cancelled():
            reading.rows.exception()  # looked at: who gave it up does not ask

    def _taken_out(self, key: Key, reading: asyncio.Future[dict[Key, StoredJob]]) -> StoredJob | None:
        """This job, where it was read for somebody's later turn: who wants it now does not wait for that."""
        if self._loading.get(key) is not reading:
            return None
        del self._loading[key]
        if reading.cancelled() or reading.exception() is not None:
            return None
        return reading.result().pop(key, None)

    async def patiently(self, tenant: str, job: str) -> JobState:
        """As `load`, also where the store cannot be read for a while."""
        while True:
            try:
                return await self.load(tenant, job)
            except Unavailable:
                await asyncio.sleep(RETRY_COMMIT)

    async def fact(self, tenant: str, job: str, event: Event) -> None:
        """Give a fact to a job that may not be in memory, if it is still there; nobody waits for it."""
        try:
            state = await self.patiently(tenant, job)
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
