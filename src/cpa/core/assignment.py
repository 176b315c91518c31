"""Which agent takes a task: a pure choice among those that could."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """An agent that does the action, as far as the choice looks at it."""

    @property
    def busy(self) -> int:
        """Attempts it has now."""
        ...

    @property
    def slots(self) -> int:
        """Attempts it can have at the same time."""
        ...


C = TypeVar("C", bound=Candidate)


def find_agent_for_task(candidates: Iterable[C]) -> C | None:
    """The least busy one with a free slot, the first of equals; None when all are full."""
    best: C | None = None
    for candidate in candidates:
        if candidate.busy < candidate.slots and (best is None or candidate.busy < best.busy):
            best = candidate
    return best
