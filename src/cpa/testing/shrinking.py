"""The smallest scenario that still breaks the same promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cpa.testing.schedules.knowledge import Violation

S = TypeVar("S")
T = TypeVar("T")


def shrink(
    scenario: S,
    oracle: str,
    broken: Callable[[S], Violation | None],
    ways: Callable[[S], Iterator[Callable[[S], S]]],
    *,
    tries: int = 100,
) -> S:
    """Make it smaller in these ways as long as this oracle still complains, with at most so many runs. `broken`
    lives through a scenario and tells what was broken."""
    changed = True
    while changed:
        changed = False
        for smaller in ways(scenario):
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


def fewest(course: Sequence[T], oracle: str, broken: Callable[[Sequence[T]], Violation | None]) -> list[T]:
    """The course without what plays no part in this oracle's complaint: ever smaller pieces are left out, down to
    single steps. The course itself where it does not lead to that complaint."""

    def breaks(steps: Sequence[T]) -> bool:
        found = broken(steps)
        return found is not None and found.oracle == oracle

    left = list(course)
    if not breaks(left):
        return left
    size = max(len(left) // 2, 1)
    while True:
        place, shorter = 0, False
        while place < len(left):
            rest = left[:place] + left[place + size :]
            if breaks(rest):
                left, shorter = rest, True
            else:
                place += size
        if size == 1 and not shorter:
            return left
        size = max(size // 2, 1)
