"""Jobs as the store has them, as far as this process published them lately, and what it did about what is open.

A copy is taken forward with each publication: the store is read only where somebody else was there meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Any

from cpa.core.job import JobHead, JobState
from cpa.engines.graphs import Graphs
from cpa.engines.stored import rebuilt
from cpa.engines.temporal.values import Fact, Publication
from cpa.errors import InternalError, NotFound
from cpa.ports.steps import StepStore

Key = tuple[str, str]
"""(tenant, job id)"""
Read = Callable[..., Awaitable[Any]]
"""Runs a blocking read of the store in a thread."""


@dataclass(slots=True)
class Copy:
    """A job as the store has it, and what this process did about its open commands."""

    job: JobState
    begun: set[str] = field(default_factory=set)
    """Keys of open commands carried out by this process."""
    said: dict[str, Fact] = field(default_factory=dict)
    """What came of them, by key, until the store has it too."""
    ahead: bool = False
    """The store may not have all of it: it is to be read again."""


class Copies:
    """`keep` of them, and those of which something is begun. Who asks for a job's copy is alone with the job."""

    def __init__(self, store: StepStore, read: Read, graphs: Graphs, keep: int) -> None:
        self._store, self._read, self._graphs, self._keep = store, read, graphs, keep
        self._copies: OrderedDict[Key, Copy] = OrderedDict()

    def get(self, key: Key) -> Copy | None:
        """The one that is there, which may not be what is stored."""
        return self._copies.get(key)

    async def of(self, publication: Publication, at_work: Container[Key]) -> Copy:
        """At least what the workflow knows to be stored; a new job's has nothing yet. Who is not `at_work` makes
        room."""
        key = (publication.tenant, publication.job)
        copy = self._copies.get(key)
        if copy is None and not publication.after:
            # Most probably nobody has seen it before; where that is wrong the store says so.
            copy = self._copies[key] = Copy(self._new(key, publication))
        elif copy is None or copy.ahead or copy.job.head.number < publication.after:
            job = await self._from_store(key, publication)
            if copy is None:
                copy = Copy(job)
            copy.job, copy.ahead = job, False
            if job.head.number < publication.after:
                raise InternalError(
                    f"job {key[1]} has {job.head.number} events here, and {publication.after} in its workflow",
                    remedy="is this the store the job was written to? All workers of a queue share one",
                )
            self._copies[key] = copy
        if len(self._copies) > self._keep:
            self._evict(at_work)
        self._copies.move_to_end(key)
        return copy

    async def stored(self, key: Key) -> Copy:
        """As the store has it now."""
        copy = self._copies.get(key)
        if copy is None or copy.ahead:
            job = rebuilt(await self._read(self._store.load, *key))
            copy = self._copies[key] = copy or Copy(job)
            copy.job, copy.ahead = job, False
        return copy

    async def _from_store(self, key: Key, publication: Publication) -> JobState:
        try:
            return rebuilt(await self._read(self._store.load, *key))
        except NotFound:
            if publication.spec is None:
                raise
            return self._new(key, publication)

    def _new(self, key: Key, publication: Publication) -> JobState:
        assert publication.spec is not None
        graph, _, _ = self._graphs.of(publication.spec)
        return JobState(JobHead(*key, publication.steps[0].fact.event.time), graph)

    def _evict(self, at_work: Container[Key]) -> None:
        """Forget jobs that nobody here works on."""
        idle = [key for key, copy in self._copies.items() if not (copy.begun or key in at_work)]
        for key in idle[: len(self._copies) - self._keep]:
            del self._copies[key]
