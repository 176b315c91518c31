"""Which agent takes a task."""

from __future__ import annotations

from dataclasses import dataclass

from cpa.core.assignment import find_agent_for_task


@dataclass
class Agent:
    name: str
    busy: int
    slots: int


def test_nobody_is_chosen_from_nobody() -> None:
    assert find_agent_for_task([]) is None


def test_the_least_busy_agent_is_chosen() -> None:
    agents = [Agent("a", 2, 4), Agent("b", 1, 4), Agent("c", 3, 4)]

    assert find_agent_for_task(agents) is agents[1]


def test_the_first_of_equals_is_chosen() -> None:
    agents = [Agent("a", 1, 4), Agent("b", 1, 9)]

    assert find_agent_for_task(iter(agents)) is agents[0]


def test_an_agent_without_a_free_slot_is_never_chosen() -> None:
    agents = [Agent("a", 0, 0), Agent("b", 2, 2), Agent("c", 3, 4)]

    assert find_agent_for_task(agents) is agents[2]
    assert find_agent_for_task(agents[:2]) is None
