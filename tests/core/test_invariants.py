"""The rules see what is wrong: each is broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.situations import START, VERIFIABLE, Story, task

from cpa.core.commands import StartTimer
from cpa.core.invariants import outstanding, violations
from cpa.core.job import JobState, JobStatus, TaskRun, TaskStatus


def busy_job() -> Story:
    """Of four tasks one runs, one stands in line, one waits, one is in doubt."""
    story = Story(
        task("a", effect=VERIFIABLE), task("b"), task("c"), task("d", 1), max_parallel=1, due=START + 9
    )
    story.begun(0)
    story.lost(0)
    story.begun(1)
    return story


def head(job: JobState, **changed: Any) -> None:
    job.head = replace(job.head, **changed)


def run(job: JobState, index: int, **changed: Any) -> None:
    job.tasks[index] = replace(job.task(index), **changed)


def timer(job: JobState, key: str) -> None:
    job.open[key] = StartTimer(key=key, after=1)


BROKEN: list[tuple[str, Callable[[JobState], None]]] = [
    ("busy is what holds a slot", lambda job: head(job, busy=2)),
    ("busy is at most max_parallel", lambda job: run(job, 2, line=0)),
    ("unsettled is what is in doubt", lambda job: head(job, unsettled=0)),
    ("open is what is not terminal", lambda job: head(job, open=3)),
    ("dependency counts are kept", lambda job: job.waiting.__setitem__(3, 0)),
    ("the line is kept", lambda job: job.line.clear()),
    ("only ready tasks stand in line", lambda job: run(job, 2, status=TaskStatus.HELD)),
    ("slots do not stay empty", lambda job: run(job, 1, status=TaskStatus.DONE)),
    ("commands are what is outstanding", lambda job: job.open.clear()),
    ("commands are what is outstanding", lambda job: timer(job, "retry:1:1")),
    ("commands are what is outstanding", lambda job: timer(job, "look:0:1")),
    ("commands are what is outstanding", lambda job: job.open.__delitem__("deadline")),
    ("nothing runs before the job", lambda job: head(job, status=JobStatus.PENDING)),
    ("an ended job is settled", lambda job: head(job, status=JobStatus.FAILED)),
    ("a done job has every task done or skipped", lambda job: head(job, status=JobStatus.DONE)),
    ("a task moves only when nothing it needs is open", lambda job: run(job, 3, status=TaskStatus.READY)),
    ("a task moves only when nothing it needs is open", lambda job: run(job, 3, status=TaskStatus.DONE)),
    ("a free task is not left waiting", lambda job: run(job, 2, status=TaskStatus.WAITING, line=0)),
]


def allowed(*, number: int = 2) -> Story:
    """A job whose only task goes out after two people said yes."""
    story = Story(task("a", approval=True, approvals=number))
    for by in ("Anna", "Uwe"):
        story.answered(True, by=by)
    story.begun()
    return story


@pytest.mark.parametrize(
    "changed", [{"approved": False}, {"approvals": ("Anna",)}, {"approvals": ("Anna", "Anna")}]
)
def test_an_action_that_goes_out_without_its_yes_is_named(changed: dict[str, Any]) -> None:
    job = allowed().job
    assert violations(job) == []

    run(job, 0, **changed)

    assert violations(job) == ["what needs a yes has it"]


def test_a_yes_to_a_proposal_must_be_there_too() -> None:
    story = Story(task("a"))
    story.begun()

    run(story.job, 0, digest="00", approvals=("Anna",))

    assert violations(story.job) == ["what needs a yes has it"]


@pytest.mark.parametrize(("rule", "breaking"), BROKEN)
def test_a_broken_rule_is_named(rule: str, breaking: Callable[[JobState], None]) -> None:
    job = busy_job().job
    assert violations(job) == []

    breaking(job)

    assert rule in violations(job)


def test_a_run_that_is_settled_and_does_not_end_is_named() -> None:
    story = Story(task("a"))
    story.deferred()

    head(story.job, ending=JobStatus.FAILED)

    assert "a settled run ends" in violations(story.job)


def test_a_job_before_its_first_event_breaks_no_rule_and_owes_nothing() -> None:
    job = busy_job().job
    fresh = JobState(
        replace(job.head, number=0, busy=0, open=0, unsettled=0, status=JobStatus.PENDING), job.graph
    )

    assert outstanding(fresh) == set()
    assert violations(fresh) == []


def test_what_is_outstanding_follows_from_the_stored_state_alone() -> None:
    story = busy_job()

    assert outstanding(story.job) == {"deadline", "verify:0:1", "request:1:1"}
    story.verified("unknown", 0)
    assert outstanding(story.job) == {"deadline", "ask:0:1", "request:1:1"}


def test_a_job_with_a_timeout_owes_its_timer_while_it_runs() -> None:
    story = Story(task("a"), task("b", approval=True), timeout=5, start=False)
    assert outstanding(story.job) == set()
    story.start()
    assert outstanding(story.job) == {"timeout", "dispatch:0:1", "ask:1:0"}
    story.deferred(0)
    assert outstanding(story.job) == {"timeout", "retry:0:1", "ask:1:0"}
    story.cancelled()
    assert outstanding(story.job) == set()


def test_a_task_that_never_moved_owes_nothing() -> None:
    story = busy_job()
    story.job.tasks[3] = TaskRun(3)

    assert outstanding(story.job) == {"deadline", "verify:0:1", "request:1:1"}
