"""Jobs in flight move from one engine to the other: what is open, and when, is the same on both.

The store has every step of a job, whoever made it; so what moves is who decides. Offline: whoever moves has the
store alone, no engine runs, and nothing is carried out. Per job:

    to the far engine     mark as on the way · begin there from what is stored · release
    to the local one      mark as on the way · let it leave, which stores the last of it · receive

Each of these counts once, however often it is done. So a move that was killed anywhere is done again from the mark
on, always in the direction it had: only then is it known where the job is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from cpa.core.job import JobState, JobStatus
from cpa.engines.stored import rebuilt
from cpa.errors import BadInput, Conflict, CPAError, InternalError, NotFound, Unavailable
from cpa.ports.moving import LOCAL, LOST_START, Holder, HolderStore, Key, Times
from cpa.ports.steps import StoredJob, Unreadable

log = structlog.get_logger(__name__)
T = TypeVar("T")
CHUNK: Final = 100
"""Jobs that move at the same time."""


@dataclass(frozen=True, slots=True)
class Left:
    """How a job stood when the far engine let go of it."""

    number: int | None = None
    """Of its last event there; None is not known."""
    start: int | None = None
    """When it may start, if it did not start yet; 0 is at once, None is not known."""


class FarEngine(Protocol):
    """The engine that is not the local one, from outside. `Unavailable` when it takes no call at all just now,
    other `CPAError`s for what is wrong with one job."""

    name: str

    async def check(self, job: JobState, times: Times, *, inward: bool) -> None:
        """Raise if it is known that the job cannot move: `inward` from here to there. Changes nothing."""
        ...

    async def begin(self, job: JobState, times: Times) -> None:
        """Hold the job from this state on. The same again does no harm."""
        ...

    def leaving(self) -> AbstractAsyncContextManager[object]:
        """Jobs can leave while this is entered."""
        ...

    async def leave(self, key: Key) -> Left:
        """Hold the job no more; all of it is in the store. Again: the same answer."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a job stayed where it was."""

    key: Key
    error: CPAError


@dataclass(slots=True)
class Report:
    """What became of the open jobs that were not the target's; of a rehearsal, what would."""

    moved: int = 0
    ended: int = 0
    """Jobs that ended with the last of what was known of them."""
    resumed: int = 0
    """Jobs that an earlier move had marked."""
    problems: list[Problem] = field(default_factory=list)
    undated: list[Problem] = field(default_factory=list)
    """Jobs that moved, and do not start by themselves any more: when they were to, nobody knows."""


Load = Callable[[str, str], StoredJob]
"""Reads one job of the store, blocking, as `ports.steps.StepStore.load`."""
Progress = Callable[[int, int], None]
"""How many jobs are done with, of how many."""


class Mover:
    """`told` hears of progress."""

    def __init__(
        self,
        holders: HolderStore,
        load: Load,
        far: FarEngine,
        told: Progress = lambda _, __: None,
    ) -> None:
        self._holders, self._load, self._far, self.told = holders, load, far, told
        self._report = Report()
        self._all = 0

    async def rehearse(self, target: str) -> Report:
        """What `move` would do, as far as that can be known. Changes nothing."""
        for holder in await self._begun(target):
            for keys in _chunks(await self._holders.held(holder)):
                jobs = await self._readable(keys)
                if not holder.target:
                    jobs = await self._fit(jobs, inward=target != LOCAL)
                self._count(len(jobs))
        return self._report

    async def move(self, target: str) -> Report:
        """Move all open jobs to the target. `Unavailable` when nothing can be gone on with: the same call again
        goes on from there."""
        source = LOCAL if target != LOCAL else self._far.name
        found = await self._begun(target)
        for halfway in (each for each in found if each.target == source):
            await self._carry(halfway, await self._holders.held(halfway), last=False)
        way = Holder(source, target)
        await self._carry(way, await self._holders.held(way))
        await self._carry(way, await self._holders.held(Holder(source)))
        return self._report

    # -- one way or the other ------------------------------------------------------------------------------

    async def _carry(self, way: Holder, keys: Sequence[Key], *, last: bool = True) -> None:
        """Take these jobs along the way; it may not be their last one in this move."""
        if way.target != LOCAL:
            for chunk in _chunks(keys):
                self._count(await self._send(way, chunk), last=last)
        elif keys:
            async with self._far.leaving():
                for chunk in _chunks(keys):
                    self._count(await self._fetch(way, chunk), last=last)

    async def _send(self, way: Holder, keys: Sequence[Key]) -> int:
        """To the far engine. How many got there."""
        jobs = await self._readable(keys)
        times = await self._holders.times(list(jobs))
        await self._holders.mark(list(jobs), way)
        tried = await _each(jobs, lambda key: self._far.begin(jobs[key], times[key]))
        await self._holders.release(list(tried.fine), way.target)
        # Nothing of these went over: they stay, and stand where they stood.
        await self._holders.mark([each.key for each in tried.refused], Holder(way.engine))
        return self._judged(tried, len(tried.fine))

    async def _fetch(self, way: Holder, keys: Sequence[Key]) -> int:
        """To the local engine. How many got there, and did not end on the way."""
        keys = list(await self._readable(keys))
        await self._holders.mark(keys, way)
        tried = await _each(keys, self._far.leave)
        # They may have gone on until they left, to their end even.
        starts, ended = dict[Key, int | None](), 0
        for key, job in (await self._readable(list(tried.fine))).items():
            left = tried.fine[key]
            if (left.number or 0) > job.head.number:
                tried.refused.append(Problem(key, _behind(key, job, left)))
                continue
            starts[key] = self._start_of(key, left) if job.head.status is JobStatus.PENDING else None
            ended += job.head.status.ended
        await self._holders.receive(starts)
        self._report.ended += ended
        return self._judged(tried, len(starts) - ended)

    def _start_of(self, key: Key, left: Left) -> int:
        """Of a job that did not start yet."""
        if left.start is not None:
            return left.start
        self._report.undated.append(Problem(key, _lost(key)))
        return LOST_START

    def _judged(self, tried: _Tried[Any], done: int) -> int:
        self._report.problems += tried.refused
        if tried.silent:
            raise tried.silent[0].error
        return done

    def _count(self, moved: int, *, last: bool = True) -> None:
        if last:
            self._report.moved += moved
            report = self._report
            self.told(report.moved + report.ended + len(report.problems), self._all)

    # -- what there is -------------------------------------------------------------------------------------

    async def _begun(self, target: str) -> list[Holder]:
        """Who has the jobs that are not the target's."""
        found = await self._holders.holders()
        others = {holder: count for holder, count in found.items() if holder != Holder(target)}
        self._report = Report(resumed=sum(count for holder, count in others.items() if holder.target))
        self._all = sum(others.values())
        return list(others)

    async def _fit(self, jobs: dict[Key, JobState], *, inward: bool) -> dict[Key, JobState]:
        """Those that can move, as far as that is known."""
        times = await self._holders.times(list(jobs))
        tried = await _each(jobs, lambda key: self._far.check(jobs[key], times[key], inward=inward))
        self._judged(tried, 0)
        return {key: jobs[key] for key in tried.fine}

    async def _readable(self, keys: Sequence[Key]) -> dict[Key, JobState]:
        """These jobs as they are stored, but for those that no engine can go on with: they are a problem."""
        found, problems = await asyncio.to_thread(self._stored, keys)
        self._report.problems += problems
        return found

    def _stored(self, keys: Sequence[Key]) -> tuple[dict[Key, JobState], list[Problem]]:
        found, problems = dict[Key, JobState](), list[Problem]()
        for key in keys:
            try:
                found[key] = rebuilt(self._load(*key))
            except (Unreadable, NotFound) as error:
                problems.append(Problem(key, error))
        return found, problems


@dataclass(slots=True)
class _Tried(Generic[T]):
    """What came of the same thing tried with many jobs."""

    fine: dict[Key, T] = field(default_factory=dict)
    refused: list[Problem] = field(default_factory=list)
    silent: list[Problem] = field(default_factory=list)
    """Where nobody answered: it is not known what came of it."""


async def _each(keys: Iterable[Key], work: Callable[[Key], Awaitable[T]]) -> _Tried[T]:
    """Try it with all of them at the same time, to the end."""
    names, tried = list(keys), _Tried[T]()
    for key, each in zip(names, await asyncio.gather(*map(work, names), return_exceptions=True), strict=True):
        if isinstance(each, Unavailable):
            tried.silent.append(Problem(key, each))
        elif isinstance(each, CPAError):
            tried.refused.append(Problem(key, each))
        elif isinstance(each, BaseException):
            raise each
        else:
            tried.fine[key] = each
    return tried


def _chunks(keys: Sequence[Key]) -> Iterable[Sequence[Key]]:
    return (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))


def _lost(key: Key) -> CPAError:
    return Conflict(
        f"job {key[1]} waits for a time that only its workflow knew, and that is gone",
        field="job",
        value=key[1],
        remedy="cancel it and submit it anew",
    )


def _behind(key: Key, job: JobState, left: Left) -> CPAError:
    """Why what is stored of a job that left is not enough."""
    return InternalError(
        f"job {key[1]} had {left.number} events where it comes from, and {job.head.number} are stored",
        field="job",
        value=key[1],
        remedy="restore the store that belongs to these workflows",
    )


async def check_holders(engine: str, store: HolderStore, load: Load) -> None:
    """Raise unless all open jobs are this engine's, so that it may begin. Those that cannot be read, by `load`, do
    not count: they cannot move, and whichever engine runs leaves them as they are."""
    found = await store.holders()
    for holder, count in sorted(found.items(), key=lambda item: (not item[0].target, -item[1])):
        if holder == Holder(engine):
            continue
        if not await asyncio.to_thread(_any_readable, load, await store.held(holder)):
            remedy = (
                "restore the store from a backup, or start the newer CPA that wrote them; the others go on"
            )
            log.error("jobs_unreadable", engine=holder.engine, jobs=count, remedy=remedy)
            continue
        jobs = "1 open job is" if count == 1 else f"{count} open jobs are"
        if holder.target:
            raise BadInput(
                f"{jobs} on the way from engine {holder.engine} to {holder.target}: a move was interrupted",
                field="engine",
                value=engine,
                remedy=f"end it with `cpa migrate engine --to {holder.target}`",
            )
        raise BadInput(
            f"{jobs} with engine {holder.engine}, and {engine} is to run",
            field="engine",
            value=engine,
            remedy=f"hand them over with `cpa migrate engine --to {engine}`, or set CPA_ENGINE={holder.engine}",
        )


def _any_readable(load: Load, keys: Sequence[Key]) -> bool:
    for key in keys:
        try:
            rebuilt(load(*key))
        except (Unreadable, NotFound):
            continue
        return True
    return False
