"""How many second tries are allowed."""

from __future__ import annotations

import pytest

from cpa.orchestrator import budget as counted
from cpa.orchestrator.budget import FLOOR, WINDOW, RetryBudget

START = 1_700_000_000_000


def spend(
    budget: RetryBudget, attempts: int, retries: int = 0, *, at: int = START, action: str = "a.b"
) -> None:
    for number in range(attempts):
        budget.of("acme", action).spent(at, retry=number < retries)


def test_without_traffic_the_floor_is_allowed_and_no_more() -> None:
    budget = RetryBudget()

    for _ in range(FLOOR):
        assert budget.allows("acme", "a.b", START)
        budget.of("acme", "a.b").spent(START, retry=True)
    assert not budget.allows("acme", "a.b", START)


def test_a_tenth_of_the_traffic_may_be_retries() -> None:
    budget = RetryBudget()
    spend(budget, 1_000, 99)

    assert budget.allows("acme", "a.b", START)
    budget.of("acme", "a.b").spent(START, retry=True)
    budget.of("acme", "a.b").spent(START, retry=True)
    assert not budget.allows("acme", "a.b", START)


def test_another_action_and_another_tenant_have_their_own() -> None:
    budget = RetryBudget()
    spend(budget, FLOOR, FLOOR)

    assert not budget.allows("acme", "a.b", START)
    assert budget.allows("acme", "a.c", START)
    assert budget.allows("globex", "a.b", START)


def test_the_window_slides() -> None:
    budget = RetryBudget()
    spend(budget, FLOOR, FLOOR)

    assert not budget.allows("acme", "a.b", START + WINDOW - WINDOW // 10)
    assert budget.allows("acme", "a.b", START + WINDOW)


def test_traffic_that_has_left_the_window_pays_for_nothing() -> None:
    budget = RetryBudget()
    spend(budget, 10_000)
    for step in range(1, 30):
        spend(budget, 1, at=START + step * WINDOW // 10)
    late = START + 3 * WINDOW
    spend(budget, FLOOR, FLOOR, at=late)

    assert not budget.allows("acme", "a.b", late)


def test_a_clock_that_is_set_back_forbids_nothing_for_ever() -> None:
    budget = RetryBudget()
    spend(budget, FLOOR, FLOOR)

    assert budget.allows("acme", "a.b", START - 3_600_000)


def test_too_many_actions_are_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "_MOST", 3)
    budget = RetryBudget()
    spend(budget, FLOOR, FLOOR, action="a.0")
    for number in range(3):
        budget.of("acme", f"a.{number}")
    assert not budget.allows("acme", "a.0", START)
    budget.of("acme", "a.3")
    assert budget.allows("acme", "a.0", START)
