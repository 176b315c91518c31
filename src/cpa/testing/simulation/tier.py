"""Many runs of the whole scheduler, and one that failed made small: fewer faults, jobs, agents, tasks, minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from cpa.testing.campaign import Failure, Report, Tier
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.shrinking import shrink
from cpa.testing.simulation.scenario import FAULTS, HAPPENS, Scenario
from cpa.testing.simulation.world import World, run


def live(scenarios: list[Scenario]) -> Report:
    """All of them, up to the first that fails."""
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


def small(failure: Failure) -> Failure:
    smaller: Scenario = shrink(failure.scenario, failure.oracle, broken, ways)
    world = run(smaller)
    violation = world.violation or Violation(failure.oracle, failure.what)
    return Failure(smaller, violation.oracle, violation.what, told(world))


def ways(scenario: Scenario) -> Iterator[Callable[[Scenario], Scenario]]:
    """How it may be made smaller."""
    yield lambda each: replace(each, jobs=1)
    yield lambda each: replace(each, jobs=max(each.jobs - 1, 1))
    yield lambda each: replace(each, tasks=max(each.tasks // 2, 1))
    yield lambda each: replace(each, minutes=max(each.minutes / 2, 0.5))
    for fault in sorted(scenario.faults):
        yield partial(Scenario.without, fault=fault)
    yield lambda each: replace(each, wire="direct")
    yield lambda each: replace(each, wire=each.way)
    yield lambda each: replace(each, agents=max(each.agents - 1, 1))


SHELL: Final = Tier(live, small, frozenset(FAULTS) | frozenset(HAPPENS), enough=300, chunk=4)
