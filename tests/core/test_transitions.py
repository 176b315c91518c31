"""The tables: complete, closed, and in one voice with the core's words for ends."""

from __future__ import annotations

import pytest

from cpa.core import events
from cpa.core.job import ENDED, TERMINAL, JobStatus, TaskStatus
from cpa.core.transitions import ACCEPTS, JOB_MOVES, TASK_MOVES


def test_every_status_is_in_its_table() -> None:
    assert set(JOB_MOVES) == set(JobStatus)
    assert set(TASK_MOVES) == set(TaskStatus)


@pytest.mark.parametrize("table", [JOB_MOVES, TASK_MOVES], ids=["job", "task"])
def test_no_status_leads_to_itself_and_every_one_can_be_reached(
    table: dict[str, frozenset[str]],
) -> None:
    assert all(status not in others for status, others in table.items())
    reached, left = set(), [next(iter(table))]
    while left:
        status = left.pop()
        if status not in reached:
            reached.add(status)
            left.extend(table[status])
    assert reached == set(table)


def test_from_an_end_only_a_new_run_leads_on() -> None:
    assert {status: JOB_MOVES[status] for status in ENDED} == {
        JobStatus.DONE: frozenset(),
        JobStatus.FAILED: frozenset((JobStatus.PENDING,)),
        JobStatus.CANCELLED: frozenset((JobStatus.PENDING,)),
    }
    assert {status: TASK_MOVES[status] for status in TERMINAL} == {
        TaskStatus.DONE: frozenset((TaskStatus.WAITING, TaskStatus.SKIPPED)),
        TaskStatus.SKIPPED: frozenset((TaskStatus.WAITING, TaskStatus.DONE)),
        TaskStatus.FAILED: frozenset((TaskStatus.WAITING, TaskStatus.DONE, TaskStatus.SKIPPED)),
        TaskStatus.CANCELLED: frozenset((TaskStatus.WAITING, TaskStatus.DONE, TaskStatus.SKIPPED)),
    }


def test_every_event_about_an_attempt_says_where_it_counts_and_never_at_an_end() -> None:
    about_attempts = {kind for kind in events.Event.__subclasses__() if hasattr(kind, "epoch")}

    assert set(ACCEPTS) == about_attempts
    assert all(status not in TERMINAL for accepted in ACCEPTS.values() for status in accepted)
