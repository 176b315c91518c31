"""Which agent takes a task."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cpa.core.assignment import FORGIVEN, LEAST, find_agent_for_task, forgiven, weighed


@dataclass
class Agent:
    address: str
    busy: int
    slots: int
    load: float = 0.0
    well: float = 1.0
    remote: bool = True

    def weight(self, action: str, now: int) -> float:
        return self.well if action == "web.click" else 1.0


def test_nobody_is_chosen_from_nobody() -> None:
    assert find_agent_for_task([]) is None


def test_the_least_busy_agent_is_chosen() -> None:
    agents = [Agent("a", 2, 4), Agent("b", 1, 4), Agent("c", 3, 4)]

    assert find_agent_for_task(agents) is agents[1]


def test_load_is_measured_by_what_an_agent_can_take() -> None:
    agents = [Agent("a", 1, 4), Agent("b", 1, 9)]

    assert find_agent_for_task(iter(agents)) is agents[1]


def test_the_first_of_equals_is_chosen() -> None:
    agents = [Agent("a", 1, 4), Agent("b", 2, 8)]

    assert find_agent_for_task(agents) is agents[0]


def test_an_agent_without_a_free_slot_is_never_chosen() -> None:
    agents = [Agent("a", 0, 0), Agent("b", 2, 2), Agent("c", 3, 4)]

    assert find_agent_for_task(agents) is agents[2]
    assert find_agent_for_task(agents[:2]) is None


def test_what_an_agent_says_of_itself_counts_when_it_is_more() -> None:
    agents = [Agent("a", 0, 4, load=0.9), Agent("b", 2, 4, load=0.1)]

    assert find_agent_for_task(agents) is agents[1]


def test_an_idle_agent_that_fails_does_not_draw_the_work_of_a_busy_one_that_succeeds() -> None:
    agents = [Agent("a", 0, 4, well=0.0), Agent("b", 3, 4)]

    assert find_agent_for_task(agents, "web.click") is agents[1]
    assert find_agent_for_task(agents, "mail.send") is agents[0]
    assert find_agent_for_task(agents[:1], "web.click") is agents[0]


def test_a_little_failing_weighs_as_much_as_a_little_load() -> None:
    agents = [Agent("a", 0, 4, well=0.8), Agent("b", 1, 4)]

    assert find_agent_for_task(agents, "web.click") is agents[0]


def test_who_was_tried_in_vain_comes_last_and_still_comes() -> None:
    agents = [Agent("a", 0, 4), Agent("b", 3, 4)]

    assert find_agent_for_task(agents, tried="a") is agents[1]
    assert find_agent_for_task(agents[:1], tried="a") is agents[0]


def test_a_process_of_its_own_goes_before_a_part_of_the_scheduler() -> None:
    agents = [Agent("builtin", 0, 10_000, remote=False), Agent("a", 3, 4)]

    assert find_agent_for_task(agents) is agents[1]
    assert find_agent_for_task(agents, tried="a") is agents[0]


def test_a_weight_follows_what_happened_and_the_newer_counts_more() -> None:
    weight = 1.0
    for _ in range(5):
        weight = weighed(weight, 0, well=False)
    assert weight == pytest.approx(0.8**5)
    assert weighed(weight, 0, well=True) == pytest.approx(0.8 * weight + 0.2)


def test_what_a_weight_lost_is_forgiven_by_and_by() -> None:
    assert forgiven(0.0, 0) == 0.0
    assert forgiven(0.0, FORGIVEN) == pytest.approx(0.5)
    assert forgiven(0.5, 2 * FORGIVEN) == pytest.approx(0.875)
    assert forgiven(0.5, -1) == 0.5
    assert forgiven(1.0, 7) == 1.0
    assert 0 < LEAST < 0.1
