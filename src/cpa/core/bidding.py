"""Contract net: which bid wins. A pure order among those that came in time.

    cost / trust, then eta / trust, then load

Trust is the agent's own confidence times its weight: who counts for half, having failed, costs twice what it says.
A bid that names no cost costs nothing; one that names no time comes after those that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec

from cpa.core.assignment import LEAST


class Bid(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an agent offers for a task."""

    agent: str
    """Its address."""
    cost: float = 0.0
    eta: float = inf
    """Seconds until it would be done."""
    load: float = 0.0
    confidence: float = 1.0
    weight: float = 1.0
    """What the agent counts for at this action, as `assignment.weighed`."""


def ranked(bids: Sequence[Bid]) -> tuple[Bid, ...]:
    """The best first; the first that came of equals."""
    return tuple(sorted(bids, key=_price))


def _price(bid: Bid) -> tuple[float, float, float]:
    trust = max(bid.confidence * bid.weight, LEAST)
    return bid.cost / trust, bid.eta / trust, bid.load
