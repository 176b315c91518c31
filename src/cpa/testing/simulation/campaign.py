"""Many runs, on several processes, and what they showed.

A campaign in which nothing went wrong or little was done proves nothing: it fails as if a promise had been broken.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Final

from cpa.testing.simulation.oracles import Violation
from cpa.testing.simulation.scenario import FAULTS, Scenario
from cpa.testing.simulation.shrinking import shrink
from cpa.testing.simulation.world import World, run

LEAST_ENDED: Final = 0.9
"""Share of the jobs that must have come to an end."""
ENOUGH: Final = 50
"""Runs from which on every fault must have struck."""
_CHUNK: Final = 10


@dataclass(frozen=True)
class Failure:
    """One run that broke a promise, made as small as it goes."""

    scenario: Scenario
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
    """Faults that struck, by name."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs by how they ended."""
    did: Counter[str] = field(default_factory=Counter)
    """Lives of the scheduler, events, commits, effects, attempts."""
    failures: list[Failure] = field(default_factory=list)
    wanted: int = 0
    """Jobs that were to be handed in."""

    def add(self, other: Report) -> None:
        self.runs += other.runs
        self.virtual += other.virtual
        self.seen += other.seen
        self.jobs += other.jobs
        self.did += other.did
        self.wanted += other.wanted
        self.failures += other.failures

    @property
    def empty(self) -> str:
        """Why the campaign proves nothing; empty when it does prove something."""
        if self.wanted and self.jobs.total() < LEAST_ENDED * self.wanted:
            return f"only {self.jobs.total()} of {self.wanted} jobs came to an end"
        never = sorted(set(FAULTS) - set(self.seen)) if self.runs >= ENOUGH else []
        return f"these faults never struck: {', '.join(never)}" if never else ""


def campaign(scenarios: Iterable[Scenario], *, workers: int = 1, most: int = 1) -> Report:
    """Live through all of them; ends early once so many have failed."""
    began, report = time.monotonic(), Report()
    for part in _parts(list(scenarios), workers):
        report.add(part)
        if len(report.failures) >= most:
            break
    report.failures = [_shrunk(failure) for failure in report.failures[:most]]
    report.elapsed = time.monotonic() - began
    return report


def _parts(scenarios: list[Scenario], workers: int) -> Iterator[Report]:
    chunks = [scenarios[place : place + _CHUNK] for place in range(0, len(scenarios), _CHUNK)]
    if workers <= 1:
        yield from map(_chunk, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: list[Future[Report]] = [pool.submit(_chunk, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _chunk(scenarios: list[Scenario]) -> Report:
    report = Report()
    for scenario in scenarios:
        report.add(observed(run(scenario)))
        if report.failures:
            break
    return report


def observed(world: World) -> Report:
    """What one run showed."""
    scenario, violation = world.scenario, world.violation
    report = Report(runs=1, virtual=world.loop.time(), seen=Counter(world.seen), wanted=scenario.jobs)
    if violation is not None:
        report.failures = [Failure(scenario, violation.oracle, violation.what, told(world))]
    for record in world.journal.jobs.values():
        if record.head.status.ended:
            report.jobs[record.head.status.value] += 1
        report.did["events"] += len(record.events)
    report.did["lives of the scheduler"] += world.lives
    report.did["commits"] += world.journal.commits
    report.did["effects"] += world.effects.count.total()
    report.did["attempts"] += len(world.sent)
    return report


def told(world: World, most: int = 80) -> tuple[str, ...]:
    """The end of the trace, one line each: virtual seconds, and what happened."""
    lines = list(world.lines)[-most:]
    return tuple(f"{when:10.3f}  {' '.join(str(word) for word in what)}" for when, what in lines)


def broken(scenario: Scenario) -> Violation | None:
    return run(scenario).violation


def _shrunk(failure: Failure) -> Failure:
    smaller = shrink(failure.scenario, failure.oracle, broken)
    world = run(smaller)
    violation = world.violation or Violation(failure.oracle, failure.what)
    return Failure(smaller, violation.oracle, violation.what, told(world))
