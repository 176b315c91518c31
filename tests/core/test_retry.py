"""When a task is tried again: bounds, growth and jitter."""

from __future__ import annotations

import pytest

from cpa.core.job import RetryPolicy
from cpa.core.retry import BLAME, PARTING, backoff, blamed, environment_wait, look_wait, loss_wait

POLICY = RetryPolicy(max_attempts=10, first_delay=1_000, factor=2.0, max_delay=60_000)


@pytest.mark.parametrize(("attempts", "middle"), [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000)])
def test_the_delay_doubles_within_a_tenth_either_way(attempts: int, middle: int) -> None:
    waits = [backoff(POLICY, attempts, 0, "job", task) for task in range(300)]

    assert 0.9 * middle <= min(waits) < 0.91 * middle
    assert 1.09 * middle < max(waits) <= 1.1 * middle


@pytest.mark.parametrize("attempts", [7, 60, 61, 1_000, 10**9])
def test_the_delay_is_bounded_however_often_it_was_tried(attempts: int) -> None:
    assert 54_000 <= backoff(POLICY, attempts, 0, "job", 1) <= 66_000


def test_even_the_greatest_factor_stays_a_number() -> None:
    policy = RetryPolicy(factor=100.0, max_delay=5_000)

    assert 4_500 <= backoff(policy, 10**6, 0, "job", 1) <= 5_500


def test_a_target_is_never_asked_before_the_time_it_named() -> None:
    assert backoff(POLICY, 1, 30_000, "job", 1) == 30_000
    assert backoff(POLICY, 1, 10, "job", 1) >= 900


@pytest.mark.parametrize("first", [0, 1])
def test_a_next_try_always_has_a_time_for_no_time_is_never(first: int) -> None:
    assert backoff(RetryPolicy(first_delay=first), 1, 0, "job", 1) == 1


def test_the_jitter_follows_from_job_task_and_attempt() -> None:
    assert backoff(POLICY, 1, 0, "job", 1) == backoff(POLICY, 1, 0, "job", 1) == 1_090
    flat = RetryPolicy(first_delay=1_000, factor=1.0)
    different = {
        backoff(flat, attempts, 0, job, task) for attempts in (1, 2) for job in "ab" for task in (1, 2)
    }
    assert len(different) == 8


@pytest.mark.parametrize(
    ("waited", "asked", "wait"),
    [
        (0, 0, 1_000),
        (999, 0, 1_000),
        (1_001, 0, 1_001),
        (60_000, 0, 60_000),
        (60_001, 0, 60_000),
        (0, 90_000, 90_000),
        (2_000, 1_500, 2_000),
    ],
)
def test_a_place_is_tried_again_after_as_long_as_was_waited(waited: int, asked: int, wait: int) -> None:
    assert environment_wait(waited, asked) == wait


@pytest.mark.parametrize(
    ("looks", "asked", "wait"),
    [
        (0, 0, 500),
        (1, 0, 1_000),
        (5, 0, 16_000),
        (6, 0, 30_000),
        (10, 0, 30_000),
        (10**6, 0, 30_000),
        (3, 100, 100),
        (0, 60_000, 500),
    ],
)
def test_an_effect_is_looked_for_soon_then_more_rarely_and_never_later_than_asked(
    looks: int, asked: int, wait: int
) -> None:
    assert look_wait(looks, asked) == wait


@pytest.mark.parametrize(("among", "share"), [(1, BLAME), (2, BLAME // 2), (10, BLAME // 10), (10_000, 1)])
def test_who_ended_with_an_agent_bears_its_share_and_never_none(among: int, share: int) -> None:
    assert blamed(0, among) == share
    assert blamed(BLAME, among) == BLAME + share


@pytest.mark.parametrize("blame", [0, 1, BLAME // 5 * 2, BLAME // 2, BLAME, 2 * BLAME])
def test_what_was_alone_or_bears_little_blame_is_tried_again_at_once(blame: int) -> None:
    assert {loss_wait(blame, f"job-{number}") for number in range(20)} == {1}


@pytest.mark.parametrize("blame", [BLAME // 2 + 1, BLAME // 4 * 3, BLAME + BLAME // 4])
def test_what_bears_shares_of_more_than_one_end_comes_back_spread(blame: int) -> None:
    waits = {loss_wait(blame, f"job-{number}") for number in range(20)}
    assert len(waits) > 10
    assert all(1 <= wait <= PARTING for wait in waits)
