"""Many runs, on several processes, and what they showed.

A campaign in which nothing went wrong or little was done proves nothing: it fails as if a promise had been broken.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeVar

S = TypeVar("S")

LEAST_ENDED: Final = 0.9
"""Share of the jobs that must have come to an end."""


@dataclass(frozen=True)
class Failure:
    """One run that broke a promise."""

    scenario: Any
    oracle: str
    what: str
    trace: tuple[str, ...]


@dataclass
class Report:
    """What a campaign showed. Times are seconds, virtual ones in `virtual`."""

    runs: int = 0
    virtual: float = 0.0
    elapsed: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    """What happened, by name: faults that struck, and what else must not be missing."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs by how they ended."""
    did: Counter[str] = field(default_factory=Counter)
    """Work that was done, by what it is."""
    failures: list[Failure] = field(default_factory=list)
    wanted: int = 0
    """Jobs that were to be handed in."""
    marks: frozenset[str] = frozenset()
    """What must have happened in so many runs."""

    def add(self, other: Report) -> None:
        self.runs += other.runs
        self.virtual += other.virtual
        self.seen.update(other.seen)
        self.jobs.update(other.jobs)
        self.did.update(other.did)
        self.wanted += other.wanted
        self.failures += other.failures

    @property
    def missing(self) -> list[str]:
        """What never happened, and must have."""
        return sorted(self.marks - set(self.seen))

    @property
    def empty(self) -> str:
        """Why the campaign proves nothing; empty when it does prove something."""
        if self.wanted and self.jobs.total() < LEAST_ENDED * self.wanted:
            return f"only {self.jobs.total()} of {self.wanted} jobs came to an end"
        return f"these never happened: {', '.join(self.missing)}" if self.missing else ""


@dataclass(frozen=True)
class Tier(Generic[S]):
    """One kind of run. Its functions live in modules: they go to other processes by name."""

    live: Callable[[list[S]], Report]
    """Lives through some, up to the first that fails."""
    small: Callable[[Failure], Failure]
    """The same failure, as small as it goes."""
    marks: frozenset[str]
    """What must have happened in `enough` runs."""
    enough: int
    chunk: int
    """Runs that go to a process at once."""


def campaign(
    scenarios: Iterable[S], tier: Tier[S], *, workers: int = 1, most: int = 1, seconds: float = 0.0
) -> Report:
    """Live through all of them; ends early once `most` have failed, and begins nothing more after `seconds`, if any
    are given. Which run is which depends on nothing but its scenario."""
    began, report = time.monotonic(), Report()
    until = began + seconds if seconds else float("inf")
    for part in _parts(iter(scenarios), tier, workers, until):
        report.add(part)
        if len(report.failures) >= most:
            break
    report.elapsed = time.monotonic() - began
    report.failures = [tier.small(failure) for failure in report.failures[:most]]
    report.marks = tier.marks if report.runs >= tier.enough else frozenset()
    return report


def _parts(scenarios: Iterator[S], tier: Tier[S], workers: int, until: float) -> Iterator[Report]:
    def chunks() -> Iterator[list[S]]:
        while time.monotonic() < until and (chunk := list(islice(scenarios, tier.chunk))):
            yield chunk

    if workers <= 1:
        yield from map(tier.live, chunks())
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from _pooled(pool, tier, chunks(), 2 * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pooled(
    pool: ProcessPoolExecutor, tier: Tier[S], chunks: Iterator[list[S]], ahead: int
) -> Iterator[Report]:
    running: set[Future[Report]] = set()
    while True:
        for chunk in islice(chunks, ahead - len(running)):
            running.add(pool.submit(tier.live, chunk))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
