"""Which agent takes a task: a pure choice among those that could.

    cost = (0.1 + load) / weight

Load is the larger of what the scheduler counts (busy / slots) and what the agent says of itself; the weight is what
its outcomes at this action leave it of 1: a failure takes a part, successes and time give it back. Dividing by it
keeps the agent that fails fastest, and so is always idle, from drawing all work to itself. Whoever was already
tried in vain for this task comes after all others, and a part of the scheduler's own process after every agent
started for the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

NEWEST = 0.2
"""What the newest outcome counts for in an agent's weight."""
LEAST = 0.05
"""Nobody's weight counts for less: whoever failed for a while must be able to show that it works again."""
FORGIVEN = 300_000
"""Milliseconds after which half of what a weight lost is forgiven."""


class Candidate(Protocol):
    """An agent that could take the task, as far as the choice looks at it."""

    @property
    def address(self) -> str: ...

    @property
    def busy(self) -> int:
        """Attempts it has now."""
        ...

    @property
    def slots(self) -> int:
        """Attempts it can have at the same time."""
        ...

    @property
    def load(self) -> float:
        """What it says of itself; 1.0 is fully busy."""
        ...

    @property
    def remote(self) -> bool:
        """Whether it is a process of its own."""
        ...

    def weight(self, action: str, now: int) -> float:
        """What it counts for at this action, after how its attempts ended: 0..1, 1 for none yet."""
        ...


C = TypeVar("C", bound=Candidate)


def find_agent_for_task(
    candidates: Iterable[C], action: str = "", *, now: int = 0, tried: str = ""
) -> C | None:
    """The cheapest one with a free slot, the first of equals; None when all are full.

    `now` is in milliseconds; `tried` the address of the agent that was last tried for this task in vain.
    """
    best: C | None = None
    lowest = (False, False, 0.0)
    for candidate in candidates:
        if candidate.busy >= candidate.slots:
            continue
        cost = (candidate.address == tried, not candidate.remote, _cost(candidate, action, now))
        if best is None or cost < lowest:
            best, lowest = candidate, cost
    return best


def _cost(candidate: Candidate, action: str, now: int) -> float:
    load = max(candidate.busy / candidate.slots, candidate.load)
    return (0.1 + load) / max(candidate.weight(action, now), LEAST)


def weighed(weight: float, age: int, *, well: bool) -> float:
    """An agent's weight after one more outcome; `age` is how many milliseconds the last one is ago."""
    return (1 - NEWEST) * forgiven(weight, age) + NEWEST * well


def forgiven(weight: float, age: int) -> float:
    """The weight as it counts `age` milliseconds after its last outcome: what it lost is forgiven by and by."""
    return float(1 - (1 - weight) * 0.5 ** (max(age, 0) / FORGIVEN))
