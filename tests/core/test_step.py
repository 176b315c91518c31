"""Graphs and runs: the line, skipped tasks, and how a run is stopped, ends and is opened again."""

from __future__ import annotations

import pytest
from tests.core.situations import START, UNSAFE, VERIFIABLE, Story, task

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.commands import StartTimer
from cpa.core.job import JobSpec, JobStatus, TaskRun, TaskStatus
from cpa.core.machine import decide
from cpa.core.replay import opened

BUSINESS = FailureClass.BUSINESS


# -- submission ----------------------------------------------------------------------------------------------


def test_a_job_is_created_when_its_submission_was_accepted_however_long_before_it_was_opened() -> None:
    job = opened("default", "job-1", JobSpec((task("a"),)), START - 5)

    decision = decide(job, events.JobSubmitted(time=START, tenant="default", job="job-1", spec="", tasks=1))

    assert decision.changes is not None
    assert decision.changes.head.created == START


# -- dependencies --------------------------------------------------------------------------------------------


def test_a_chain_goes_one_after_the_other() -> None:
    story = Story(task("a"), task("b", 0), task("c", 1))

    story.done(0)
    assert story.tasks == ["done", "ready", "waiting"]
    story.done(1)
    assert story.tasks == ["done", "done", "ready"]
    story.done(2)
    assert story.status == "done"
    assert story.job.head.cause == ""


def test_a_join_waits_for_all_it_needs() -> None:
    story = Story(task("a"), task("b"), task("c", 0, 1))

    story.done(1)
    assert story.tasks == ["ready", "done", "waiting"]
    story.done(0)
    assert story.tasks == ["done", "done", "ready"]


def test_a_fork_releases_all_at_once_in_the_order_of_the_plan() -> None:
    story = Story(task("a"), task("b", 0), task("c", 0), task("d", 0))

    story.chosen(0)
    decision = story.succeeded(0)

    assert [command.key for command in decision.commands] == ["dispatch:1:1", "dispatch:2:1", "dispatch:3:1"]


# -- the line ------------------------------------------------------------------------------------------------


def test_ready_tasks_beyond_max_parallel_stand_in_line_in_the_order_of_the_plan() -> None:
    story = Story(*(task(name) for name in "abcd"), max_parallel=2)

    assert story.open == ["dispatch:0:1", "dispatch:1:1"]
    assert list(story.job.line) == [2, 3]
    assert (story[2].line, story[3].line) == (1, 1)
    assert (story[2].epoch, story[2].since) == (0, START)
    assert story.job.head.busy == 2


def test_who_stands_in_line_goes_before_who_just_got_ready() -> None:
    story = Story(task("a"), task("x", 0), task("b"), task("c"), max_parallel=1)

    story.done(0)
    assert story.open == ["dispatch:2:1"]
    assert list(story.job.line) == [3, 1]
    story.done(2)
    assert story.open == ["dispatch:3:1"]
    assert list(story.job.line) == [1]
    assert story[3].line == 0


def test_a_freed_slot_goes_to_the_line_when_its_task_is_held() -> None:
    story = Story(task("a"), task("b"), max_parallel=1)
    story.begun(0)

    story.failed(0)

    assert story.tasks == ["held", "ready"]
    assert story.open == ["dispatch:1:1", "retry:0:1"]


def test_a_task_that_comes_back_while_all_slots_are_taken_goes_to_the_end_of_the_line() -> None:
    story = Story(task("a"), task("b"), task("c"), max_parallel=1)
    story.deferred(0)

    story.later(2_000).fired("retry:0:1")

    assert list(story.job.line) == [2, 0]
    assert (story[0].status, story[0].line, story[0].since) == (TaskStatus.READY, 4 - 1, START + 2_000)
    assert story.open == ["dispatch:1:1"]


def test_a_task_in_doubt_holds_no_slot() -> None:
    story = Story(task("a", effect=UNSAFE), task("b"), max_parallel=1)
    story.begun(0)

    story.lost(0)

    assert story.open == ["ask:0:1", "dispatch:1:1"]
    assert (story.job.head.busy, story.job.head.unsettled) == (1, 1)


def test_a_task_that_waits_for_approval_holds_no_slot() -> None:
    story = Story(task("a", approval=True), task("b"), max_parallel=1)

    assert story.open == ["ask:0:0", "dispatch:1:1"]
    story.answered(True)
    assert list(story.job.line) == [0]
    assert story[0].approved


# -- skipping ------------------------------------------------------------------------------------------------


def test_a_condition_that_holds_lets_the_task_go() -> None:
    story = Story(task("a"), task("b", 0, when="tasks.a.result.count > 0"))

    story.done(0, count=1)

    assert story.tasks == ["done", "ready"]


def test_a_condition_that_does_not_hold_skips_the_task_and_the_run_ends_well() -> None:
    story = Story(task("a"), task("b", 0, when="tasks.a.result.count > 0"))

    story.later(6).done(0, count=0)

    assert story.tasks == ["done", "skipped"]
    assert (story[1].reason, story[1].since) == ("condition_false", START + 6)
    assert story.status == "done"
    assert story.job.head.open == 0


def test_a_condition_reads_results_of_before_as_well_as_of_just_now() -> None:
    story = Story(
        task("a"), task("b"), task("c", 0, 1, when="tasks.a.result.x == 1 and tasks.b.result.x == 2")
    )

    story.done(0, x=1)
    story.done(1, x=2)

    assert story[2].status is TaskStatus.READY


def test_a_condition_over_a_task_without_a_result_reads_nothing() -> None:
    story = Story(task("a"), task("b", 0, when="exists(tasks.a.result.x)"))

    story.done(0)

    assert story[1].status is TaskStatus.SKIPPED


def test_a_done_task_has_a_result_even_if_it_said_nothing_and_a_skipped_one_has_none() -> None:
    story = Story(
        task("a"),
        task("b", when="false"),
        task("c", 0, when="exists(tasks.a.result)"),
        task("d", 1, when="exists(tasks.b.result)"),
    )

    story.done(0)

    assert story.tasks == ["done", "skipped", "ready", "skipped"]


def test_a_condition_reads_nothing_of_a_skipped_task() -> None:
    story = Story(
        task("a", when="false"),
        task("b", 0, when="exists(tasks.a.result.x)"),
        task("c", 0, when="not exists(tasks.a.result.x)"),
    )

    assert story.tasks == ["skipped", "skipped", "ready"]


def test_a_skipped_task_satisfies_those_that_only_come_after_it() -> None:
    story = Story(task("a"), task("b", 0, when="false"), task("c", 1))

    story.done(0)

    assert story.tasks == ["done", "skipped", "ready"]


def test_skipping_goes_on_through_references() -> None:
    story = Story(
        task("a"),
        task("b", 0, when="false"),
        task("c", 1, references=(1,)),
        task("d", 2, references=(2,)),
        task("e", 3),
    )

    story.done(0)

    assert story.tasks == ["done", "skipped", "skipped", "skipped", "ready"]
    assert [story[index].reason for index in (1, 2, 3)] == [
        "condition_false",
        "dependency_skipped",
        "dependency_skipped",
    ]


def test_a_first_task_that_is_skipped_releases_its_dependents_at_the_start() -> None:
    story = Story(task("a", when="false"), task("b", 0), task("c"))

    assert story.tasks == ["skipped", "ready", "ready"]


def test_a_job_of_skipped_tasks_alone_is_done_at_its_start() -> None:
    story = Story(task("a", when="false"), task("b", 0, references=(0,)))

    assert story.tasks == ["skipped", "skipped"]
    assert story.status == "done"
    assert (story.job.head.started, story.job.head.ended) == (START, START)


def test_a_join_of_skipped_and_done_tasks_waits_for_all() -> None:
    story = Story(task("a"), task("b", 0, when="false"), task("c", 0, when="false"), task("d", 1, 2))

    story.done(0)

    assert story.tasks == ["done", "skipped", "skipped", "ready"]
    assert story.open == ["dispatch:3:1"]


def test_a_released_task_that_needs_approval_asks() -> None:
    story = Story(task("a"), task("b", 0, approval=True))

    story.later(3).done(0)

    assert story.open == ["ask:1:0"]
    assert story[1] == TaskRun(1, TaskStatus.HELD, since=START + 3, reason="approval")


def test_a_success_found_by_looking_releases_the_dependents() -> None:
    story = Story(task("a", effect=VERIFIABLE), task("b", 0))
    story.done(0, sent=True)
    assert story.tasks == ["in_doubt", "waiting"]

    story.verified("happened")

    assert story.tasks == ["done", "ready"]


# -- a task fails for good -----------------------------------------------------------------------------------


def test_when_a_task_fails_running_siblings_finish_and_nothing_new_starts() -> None:
    story = Story(task("a"), task("b"), task("c"), task("d", 1), max_parallel=2)
    story.begun(0)
    story.begun(1)

    story.failed(0, BUSINESS)

    assert story.tasks == ["failed", "running", "cancelled", "waiting"]
    assert story.status == "running"
    assert story.open == ["request:1:1"]
    assert list(story.job.line) == []
    story.succeeded(1)
    assert story.tasks == ["failed", "done", "cancelled", "waiting"]
    assert story.status == "failed"
    assert story.job.head.cause == "task:a"


def test_a_sibling_that_fails_technically_in_an_ending_run_is_not_tried_again() -> None:
    story = Story(task("a"), task("b"))
    story.begun(0)
    story.begun(1)
    story.failed(0, BUSINESS, message="no")

    story.failed(1, message="down")

    assert story.tasks == ["failed", "failed"]
    assert (story.job.head.cause, story.job.head.reason) == ("task:a", "no")


def test_what_waits_for_a_time_an_answer_or_an_agent_is_dropped_when_the_run_is_ending() -> None:
    story = Story(
        task("a"),
        task("held"),
        task("asked", approval=True),
        task("dispatched"),
        task("doubt", effect=UNSAFE),
    )
    story.begun(0)
    story.begun(1)
    story.failed(1)
    story.begun(4)
    story.lost(4)

    story.later(8).failed(0, BUSINESS)

    assert story.tasks == ["failed", "cancelled", "cancelled", "cancelled", "in_doubt"]
    assert [story[index].since for index in (1, 2, 3)] == [START + 8] * 3
    assert story.open == ["ask:4:1"]
    assert story.status == "running"
    story.answered(True, 4)
    assert story.status == "failed"


def test_a_look_goes_on_in_an_ending_run() -> None:
    story = Story(task("a"), task("b", effect=VERIFIABLE))
    story.begun(0)
    story.done(1, sent=True)
    story.verified("unknown", 1, look_again=60_000)

    story.failed(0, BUSINESS)

    assert story.open == ["look:1:1"]
    story.fired("look:1:1")
    story.verified("happened", 1)
    assert story.tasks == ["failed", "done"]
    assert story.status == "failed"


# -- cancel --------------------------------------------------------------------------------------------------


def test_a_job_that_has_not_started_is_cancelled_at_once() -> None:
    story = Story(task("a"), start=False, due=START + 500)

    story.later(2).cancelled("no")

    assert story.status == "cancelled"
    assert story.tasks == ["waiting"]
    assert story.open == []
    assert (story.job.head.cause, story.job.head.reason, story.job.head.ended) == ("cancel", "no", START + 2)


def test_a_job_with_nothing_at_work_is_cancelled_at_once() -> None:
    story = Story(task("a"), task("b", approval=True), task("c"), max_parallel=1)
    story.deferred(0)

    story.cancelled()

    assert story.tasks == ["cancelled", "cancelled", "cancelled"]
    assert story.status == "cancelled"
    assert story.open == []


def test_only_what_is_at_work_is_told_to_stop() -> None:
    story = Story(task("a"), task("b"), task("c"))
    story.begun(0)
    story.chosen(1)

    story.cancelled()

    assert story.open == ["cancel:0:1", "cancel:1:1"]
    assert story.tasks == ["running", "assigned", "cancelled"]


def test_a_cancel_after_a_failure_stops_the_siblings_and_decides_the_end() -> None:
    story = Story(task("a"), task("b"))
    story.begun(0)
    story.begun(1)
    story.failed(0, BUSINESS)

    story.cancelled("enough")

    assert story.open == ["cancel:1:1"]
    story.failed(1)
    assert story.tasks == ["failed", "cancelled"]
    assert (story.status, story.job.head.cause) == ("cancelled", "cancel")


# -- deadline and timeout ------------------------------------------------------------------------------------


def test_the_deadline_is_a_timer_from_the_submission_on() -> None:
    story = Story(task("a"), start=False, due=START + 500)

    assert story.command("deadline") == StartTimer(key="deadline", task=-1, after=500)
    assert story.job.head.due == START + 500


def test_a_deadline_that_has_passed_at_submission_fires_at_once() -> None:
    story = Story(task("a"), due=START - 500)

    assert story.command("deadline").after == 1


def test_a_job_that_never_started_fails_at_its_deadline() -> None:
    story = Story(task("a"), start=False, due=START + 500)

    story.later(500).fired("deadline")

    head = story.job.head
    assert (head.status, head.cause) == (JobStatus.FAILED, "deadline")
    assert head.reason == "the job's deadline has passed"
    assert story.open == []


def test_the_timeout_counts_from_the_start_and_stops_what_runs() -> None:
    story = Story(task("a"), task("b"), start=False, timeout=9_000)
    assert story.open == []
    story.start()
    assert story.command("timeout") == StartTimer(key="timeout", task=-1, after=9_000)
    story.begun(0)

    story.fired("timeout")

    assert story.tasks == ["running", "cancelled"]
    assert story.open == ["cancel:0:1"]
    story.failed(0)
    assert story.tasks == ["failed", "cancelled"]
    head = story.job.head
    assert (head.status, head.cause, head.reason) == (
        JobStatus.FAILED,
        "timeout",
        "the job's timeout has passed",
    )


def test_timeout_and_deadline_do_not_outlive_the_run() -> None:
    story = Story(task("a"), timeout=9_000, due=START + 500)
    assert story.open == ["deadline", "dispatch:0:1", "timeout"]

    story.done(0)

    assert story.open == []


@pytest.mark.parametrize("timer", ["deadline", "timeout"])
def test_a_deadline_that_passes_while_a_cancelled_run_ends_leaves_it_cancelled(timer: str) -> None:
    story = Story(task("a"), timeout=9_000, due=START + 500)
    story.begun(0)
    story.cancelled("no")

    story.fired(timer)

    assert story.job.head.ending is JobStatus.CANCELLED
    assert "cancel:0:1" in story.open
    assert timer not in story.open
    story.failed(0)
    assert story.tasks == ["cancelled"]
    assert (story.status, story.job.head.cause, story.job.head.reason) == ("cancelled", "cancel", "no")


def test_a_deadline_that_passes_while_a_failed_run_ends_stops_the_siblings_and_keeps_the_cause() -> None:
    story = Story(task("a"), task("b"), due=START + 500)
    story.begun(0)
    story.begun(1)
    story.failed(0, BUSINESS, message="wrong password")

    story.fired("deadline")

    assert story.open == ["cancel:1:1"]
    story.succeeded(1)
    assert story.status == "failed"
    assert (story.job.head.cause, story.job.head.reason) == ("task:a", "wrong password")


# -- the next run --------------------------------------------------------------------------------------------


def test_a_reopened_job_keeps_what_is_done_and_begins_the_rest_again() -> None:
    story = Story(task("a"), task("b"), task("c", 1), max_parallel=2)
    story.done(0, x=1)
    story.begun(1)
    story.failed(1, BUSINESS)

    story.later(70).reopened()

    assert story.tasks == ["done", "waiting", "waiting"]
    head = story.job.head
    assert (head.status, head.run, head.open, head.ending) == (JobStatus.PENDING, 1, 2, None)
    assert (head.cause, head.reason, head.started, head.ended) == ("", "", 0, 0)
    assert story[0].result == {"x": 1}
    assert story[1] == TaskRun(1, epoch=1, since=START + 70)
    assert story.open == []
    story.start()
    assert story.open == ["dispatch:1:2"]
    story.done(1)
    story.done(2)
    assert story.status == "done"


def test_a_reopened_job_asks_for_approval_again_and_counts_attempts_anew() -> None:
    story = Story(task("a", approval=True))
    story.answered(True)
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    story.begun()
    story.failed(failure=BUSINESS)

    story.reopened()
    story.start()

    assert story.open == ["ask:0:2"]
    assert (story[0].approved, story[0].attempts) == (False, 0)


def test_a_cancelled_job_can_be_reopened() -> None:
    story = Story(task("a"), task("b", 0))
    story.begun()
    story.cancelled()
    story.failed()

    story.reopened()
    story.start()

    assert story.tasks == ["ready", "waiting"]
    assert story.open == ["dispatch:0:2"]


def test_a_reopened_job_whose_tasks_all_got_done_meanwhile_is_done_at_its_start() -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()
    story.succeeded()
    assert (story.status, story.tasks) == ("cancelled", ["done"])

    story.reopened()
    assert story.status == "pending"
    story.later(1).start()

    assert story.status == "done"
    assert story.job.head.ended == START + 1


def test_a_skipped_task_stays_skipped_in_the_next_run() -> None:
    story = Story(task("a", when="false"), task("b", 0))
    story.begun(1)
    story.failed(1, BUSINESS)

    story.reopened()
    assert story.tasks == ["skipped", "waiting"]
    story.start()

    assert story.tasks == ["skipped", "ready"]


def test_a_task_released_while_its_run_was_ending_goes_in_the_next() -> None:
    story = Story(task("a"), task("b"), task("c", 1))
    story.begun(0)
    story.begun(1)
    story.failed(0, BUSINESS)
    story.succeeded(1)
    assert story.tasks == ["failed", "done", "waiting"]

    story.reopened()
    story.start()

    assert story.tasks == ["ready", "done", "ready"]


def test_the_deadline_does_not_come_back_with_the_next_run_but_the_timeout_does() -> None:
    story = Story(task("a"), due=START + 500, timeout=9_000)
    story.begun()
    story.failed(failure=BUSINESS)

    story.reopened()
    story.start()

    assert story.open == ["dispatch:0:2", "timeout"]


def test_a_stale_answer_of_the_run_before_changes_nothing() -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()
    story.fired("cancel:0:1")
    story.reopened()
    story.start()

    late = events.TaskSucceeded(time=START, task=0, epoch=1)

    assert story.ignored(late) == "stale_epoch"


def failing_run(story: Story) -> None:
    story.begun()
    story.failed(failure=BUSINESS)


def test_a_dead_letter_is_only_reopened_from_its_inbox() -> None:
    story = Story(task("a"), max_retries=1)
    failing_run(story)
    assert not story.job.snapshot().dead
    story.reopened()
    story.start()
    failing_run(story)

    assert story.job.snapshot().dead
    assert story.ignored(events.JobReopened(time=START, by="x")) == "retries_used_up"
    story.reopened(dead_letter=True)
    assert (story.status, story.job.head.run) == ("pending", 2)


@pytest.mark.parametrize("state", ["pending", "running", "done"])
def test_only_a_failed_or_cancelled_job_is_reopened(state: str) -> None:
    story = Story(task("a"), start=state != "pending")
    if state == "done":
        story.done()

    assert story.status == state
    assert story.ignored(events.JobReopened(time=START, by="x", dead_letter=True)) == "not_ended"


# -- discarding ------------------------------------------------------------------------------------------------


def dead() -> Story:
    story = Story(task("a"), max_retries=0)
    story.begun()
    story.failed(failure=BUSINESS)
    return story


def test_a_discarded_job_is_no_dead_letter_and_stays_as_it_failed() -> None:
    story = dead()
    before = story.job.head
    assert story.job.snapshot().dead

    decision = story.later(5).discarded("erledigt")

    assert not story.job.snapshot().dead
    assert (story.job.head.discarded, story.status, story.job.head.ended) == (True, "failed", before.ended)
    assert (decision.commands, story.open) == ((), [])


def test_only_the_inbox_opens_what_was_discarded() -> None:
    story = Story(task("a"), max_retries=5)
    story.begun()
    story.failed(failure=BUSINESS)
    story.discarded()

    assert story.ignored(events.JobReopened(time=START, by="x")) == "discarded"
    story.reopened(dead_letter=True)
    assert (story.status, story.job.head.discarded) == ("pending", False)


def test_a_job_is_discarded_once_and_only_when_it_failed() -> None:
    story = Story(task("a"))
    assert story.ignored(events.JobDiscarded(time=START, by="x")) == "not_failed"
    story.cancelled()
    assert story.ignored(events.JobDiscarded(time=START, by="x")) == "not_failed"
    story = dead()
    story.discarded()
    assert story.ignored(events.JobDiscarded(time=START, by="x")) == "duplicate"
