"""Thousands of jobs in worlds drawn from seeds: every promise holds after every event, and everything happened."""

from __future__ import annotations

import os

import pytest

from cpa.core.job import JobStatus, TaskStatus
from cpa.core.transitions import ACCEPTS
from cpa.testing.schedules.schedule import Schedule
from cpa.testing.schedules.seen import EVENTS, MARKS, Seen
from cpa.testing.schedules.world import World

WORLDS = int(os.environ.get("CPA_SIMULATED_WORLDS", "1500"))
"""Seeds 0 to WORLDS - 1. A failure names its seed: `cpa simulate --core --seed SEED --runs 1` shows it again."""


@pytest.fixture(scope="module")
def seen() -> Seen:
    """What happened in all worlds; each keeps its promises."""
    found = Seen()
    for seed in range(WORLDS):
        World(Schedule(seed=seed), found).live()
    return found


def test_every_world_comes_to_its_end(seen: Seen) -> None:
    assert sum(seen.ends.values()) >= WORLDS
    assert seen.told > 15 * WORLDS
    assert set(seen.ends) == {JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED}


def test_every_fault_event_command_question_reason_and_move_happened(seen: Seen) -> None:
    assert MARKS - set(seen.marks()) == set()


def test_what_was_allowed_went_out_and_all_was_looked_at(seen: Seen) -> None:
    assert seen.checks["allowed"] > WORLDS // 10
    assert seen.checks["explained"] > WORLDS // 10
    assert seen.checks["replayed"] > WORLDS // 10


def test_every_event_met_a_task_in_every_status(seen: Seen) -> None:
    pairs = {(kind.__name__, status.value) for kind in ACCEPTS for status in TaskStatus}

    assert pairs - set(seen.pairs) == set()


def test_every_event_met_a_job_in_every_status(seen: Seen) -> None:
    pairs = {(kind, status.value) for kind in EVENTS for status in JobStatus}

    assert pairs - set(seen.job_pairs) == set()
