"""Where a job is found: in memory, or in the store. And when what was done to it is durable.

One thread reads the store for everybody. Two who want the same job at the same moment get the same copy; jobs that
cannot be read are set aside. Jobs nobody touches are not in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.engines.local.group import Key
from cpa.engines.local.stepper import Stepper
from cpa.engines.local.writer import RETRY_COMMIT
from cpa.engines.stored import rebuilt
from cpa.errors import NotFound, Unavailable
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import StepStore, Unreadable

T = TypeVar("T")


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
        known = self._stepper.jobs
        wanted = [
            key
            for key in dict.fromkeys(keys)
            if key not in known and key not in self._loading and key not in self._stepper.aside
        ]
        if len(wanted) < 2:
            return
        future: asyncio.Future[JobState] = asyncio.get_running_loop().create_future()
        self._loading.update(dict.fromkeys(wanted, future))
        try:
            for stored in (await self.read(self._store.load_many, wanted)).values():
                try:
                    self._stepper.adopt(rebuilt(stored))
                except Unreadable:
                    continue  # whoever loads it by itself sets it aside
        finally:
            for key in wanted:
                del self._loading[key]
            future.cancel()

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
