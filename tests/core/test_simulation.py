"""Thousands of jobs in worlds drawn from seeds: every promise holds after every event, and everything happened."""

from __future__ import annotations

import os

import pytest
from tests.core.simulation import REASONS, Seen, World

from cpa.core import events
from cpa.core.job import JobStatus, TaskStatus
from cpa.core.transitions import ACCEPTS, JOB_MOVES, TASK_MOVES

WORLDS = int(os.environ.get("CPA_SIMULATED_WORLDS", "1500"))
"""Seeds 0 to WORLDS - 1. A failure names its seed: World(seed, Seen()).live() shows it again."""


def live(seed: int, seen: Seen) -> None:
    world = World(seed, seen)
    try:
        world.live()
    except AssertionError as error:
        last = world.history[-1] if world.history else None
        raise AssertionError(f"seed {seed}, after {last}: {error}") from error


@pytest.fixture(scope="module")
def seen() -> Seen:
    """What happened in all worlds; each keeps its promises."""
    found = Seen()
    for seed in range(WORLDS):
        live(seed, found)
    return found


def test_every_world_comes_to_its_end(seen: Seen) -> None:
    assert sum(seen.ends.values()) >= WORLDS
    assert seen.told > 15 * WORLDS
    assert set(seen.ends) == {JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED}


def test_every_event_counted_somewhere(seen: Seen) -> None:
    kinds = {kind.__name__ for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}

    assert set(seen.events) == kinds


def test_every_command_was_issued_somewhere(seen: Seen) -> None:
    kinds = {"DispatchTask", "RequestTask", "CancelAttempt", "VerifyTask", "AskPerson", "StartTimer"}

    assert set(seen.commands) == kinds


def test_every_move_of_the_tables_was_made(seen: Seen) -> None:
    of_jobs = {(one, other) for one, others in JOB_MOVES.items() for other in others}
    of_tasks = {(one, other) for one, others in TASK_MOVES.items() for other in others}

    assert set(seen.job_moves) == of_jobs
    assert set(seen.task_moves) == of_tasks


def test_every_reason_for_not_counting_was_given(seen: Seen) -> None:
    assert set(seen.reasons) == REASONS


def test_every_question_was_asked_and_what_was_allowed_went_out(seen: Seen) -> None:
    assert set(seen.questions) == {"approval", "proposal", "input", "doubt"}
    assert seen.allowed > WORLDS // 10


def test_every_event_met_a_task_in_every_status(seen: Seen) -> None:
    pairs = {(kind.__name__, status) for kind in ACCEPTS for status in TaskStatus}

    assert pairs - set(seen.pairs) == set()


def test_every_event_met_a_job_in_every_status(seen: Seen) -> None:
    kinds = {kind.__name__ for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}
    pairs = {(kind, status) for kind in kinds for status in JobStatus}

    assert pairs - set(seen.job_pairs) == set()


def test_the_same_seed_is_the_same_world() -> None:
    one, other = World(7, Seen()), World(7, Seen())

    one.live()
    other.live()

    assert one.left == other.left
