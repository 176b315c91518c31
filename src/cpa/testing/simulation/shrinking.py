"""The smallest scenario that still breaks the same promise: fewer faults, jobs, agents, tasks, minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from cpa.testing.simulation.oracles import Violation
from cpa.testing.simulation.scenario import Scenario

Broken = Callable[[Scenario], Violation | None]
"""Lives through a scenario and tells what was broken."""


def shrink(scenario: Scenario, oracle: str, broken: Broken, *, tries: int = 100) -> Scenario:
    """Make it smaller as long as this oracle still complains, with at most so many runs."""
    changed = True
    while changed:
        changed = False
        for smaller in _ways(scenario):
            candidate = smaller(scenario)
            if candidate == scenario:
                continue
            if tries <= 0:
                return scenario
            tries -= 1
            found = broken(candidate)
            if found is not None and found.oracle == oracle:
                scenario, changed = candidate, True
    return scenario


def _ways(scenario: Scenario) -> Iterator[Callable[[Scenario], Scenario]]:
    yield lambda each: replace(each, jobs=1)
    yield lambda each: replace(each, jobs=max(each.jobs - 1, 1))
    yield lambda each: replace(each, tasks=max(each.tasks // 2, 1))
    yield lambda each: replace(each, minutes=max(each.minutes / 2, 0.5))
    for fault in sorted(scenario.faults):
        yield partial(Scenario.without, fault=fault)
    yield lambda each: replace(each, agents=max(each.agents - 1, 1))
