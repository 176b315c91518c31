"""The core's schedules: equal ones take the same course, and what breaks a promise is made small and shown."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core import events, machine
from cpa.core.commands import RequestTask
from cpa.core.job import Decision, JobState
from cpa.testing.campaign import campaign
from cpa.testing.schedules import watch
from cpa.testing.schedules.schedule import FAULTS, Schedule
from cpa.testing.schedules.tier import CORE, live, run


def test_the_same_seed_is_the_same_course() -> None:
    one, other = run(Schedule(seed=7)), run(Schedule(seed=7).drawn())

    assert one.violation is None
    assert one.watch.left == other.watch.left
    assert one.course == other.course


def test_a_fault_that_is_left_out_never_strikes() -> None:
    report = live([Schedule(seed=seed, faults=frozenset({"noise"})) for seed in range(40)])

    assert report.failures == []
    assert set(FAULTS) & set(report.seen) == {"noise"}


def test_many_schedules_on_two_processes_show_what_one_shows() -> None:
    one = campaign((Schedule(seed=seed) for seed in range(1_200)), CORE)
    two = campaign((Schedule(seed=seed) for seed in range(1_200)), CORE, workers=2)

    assert (one.runs, one.failures, one.seen, one.did) == (1_200, [], two.seen, two.did)


def forgets_epochs(job: JobState, event: Any) -> Decision:
    """A core that takes any success for that of the newest attempt."""
    if isinstance(event, events.TaskSucceeded) and f"request:{event.task}:{event.epoch + 1}" in job.open:
        event = events.TaskSucceeded(time=event.time, task=event.task, epoch=event.epoch + 1)
    return machine.decide(job, event)


def asks_nobody(job: JobState, event: Any) -> Decision:
    """A core that sends out what nobody said yes to."""
    decision = machine.decide(job, event)
    asked = [command for command in decision.commands if command.key.startswith("ask:")]
    if not asked:
        return decision
    rest = tuple(command for command in decision.commands if command not in asked)
    out = (
        RequestTask(
            key=f"request:{each.task}:{each.epoch}", task=each.task, epoch=each.epoch, agent="a", after=1
        )
        for each in asked
    )
    return Decision(decision.changes, (*rest, *out))


@pytest.mark.parametrize(
    ("wrong", "oracle", "most"), [(forgets_epochs, "fencing", 14), (asks_nobody, "invariants", 3)]
)
def test_a_core_that_breaks_a_promise_is_found_and_shown_in_few_events(
    monkeypatch: pytest.MonkeyPatch, wrong: Any, oracle: str, most: int
) -> None:
    monkeypatch.setattr(watch, "decide", wrong)

    report = campaign((Schedule(seed=seed) for seed in range(3_000)), CORE)

    (failure,) = report.failures
    assert failure.oracle == oracle
    assert failure.trace[0].startswith("JobSubmitted(")
    assert len(failure.trace) <= most
