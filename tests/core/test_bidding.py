"""Which bid wins."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.bidding import Bid, ranked


def bid(agent: str, **more: Any) -> Bid:
    return Bid(agent=agent, **more)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"cost": 1.0, "eta": 100.0}, {"cost": 2.0, "eta": 1.0}),
        ({"eta": 1.0, "load": 0.9}, {"eta": 2.0}),
        ({"eta": 1000.0}, {}),
        ({"load": 0.1}, {"load": 0.2}),
        ({"cost": 1.5}, {"cost": 1.0, "confidence": 0.5}),
        ({"cost": 1.5}, {"cost": 1.0, "weight": 0.5}),
        ({"eta": 3.0, "confidence": 0.9}, {"eta": 1.0, "confidence": 0.0}),
        ({}, {"cost": 0.1}),
    ],
)
def test_the_better_bid_comes_first(better: dict[str, Any], worse: dict[str, Any]) -> None:
    good, bad = bid("a", **better), bid("b", **worse)
    assert ranked((bad, good)) == (good, bad)
    assert ranked((good, bad)) == (good, bad)


def test_the_first_of_equals_is_first() -> None:
    bids = [bid(name, cost=1.0) for name in ("c", "a", "b")]
    assert [each.agent for each in ranked(bids)] == ["c", "a", "b"]
    assert ranked(()) == ()
