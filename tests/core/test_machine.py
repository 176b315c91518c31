"""Attempts: what follows from every answer, by the class of the failure and of the effect."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.situations import START, UNSAFE, VERIFIABLE, Story, task

from cpa.core import events
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import AskPerson, CancelAttempt, RequestTask, StartTimer, VerifyTask
from cpa.core.events import Event
from cpa.core.job import JobStatus, RetryPolicy, TaskError, TaskStatus
from cpa.core.retry import BLAME, LOST_LEASE, MOST_LOOKS, PARTING

TECHNICAL, ENVIRONMENT = FailureClass.TECHNICAL, FailureClass.ENVIRONMENT
UNKNOWN = FailureClass.UNKNOWN_OUTCOME


def in_doubt(effect: EffectClass, **spec: Any) -> Story:
    """A job whose only task ended with an unknown outcome."""
    story = Story(task("a", effect=effect), **spec)
    story.begun()
    story.failed(failure=UNKNOWN, code="timeout", message="no answer")
    return story


def proving(**spec: Any) -> Story:
    """A job whose only task is said to be done and not yet proved."""
    story = Story(task("a", effect=VERIFIABLE), **spec)
    story.begun()
    story.succeeded(sent=True)
    return story


# -- the way of an attempt -----------------------------------------------------------------------------------


def test_a_submitted_job_that_may_start_dispatches_its_free_tasks() -> None:
    story = Story(task("a"), task("b"), task("c", 0))

    assert story.status == "running"
    assert story.tasks == ["ready", "ready", "waiting"]
    assert story.open == ["dispatch:0:1", "dispatch:1:1"]
    head = story.job.head
    assert (head.created, head.started, head.open, head.busy) == (START, START, 3, 2)


def test_a_submitted_job_without_a_free_worker_waits_for_its_start() -> None:
    story = Story(task("a"), start=False, priority=7)

    assert story.status == "pending"
    assert story.open == []
    assert story.job.head.priority == 7
    assert story.job.head.started == 0
    story.later(5).start()
    assert story.status == "running"
    assert story.job.head.started == START + 5
    assert story[0].since == START + 5
    assert story.open == ["dispatch:0:1"]


def test_the_chosen_agent_gets_the_task_with_its_timeout_and_a_grace() -> None:
    story = Story(task("a", timeout=8_000))

    story.later(10).chosen(agent="agent-7")

    request = RequestTask(key="request:0:1", task=0, epoch=1, agent="agent-7", after=23_000)
    assert story.command("request:0:1") == request
    assert story.open == ["request:0:1"]
    assert story[0].status is TaskStatus.ASSIGNED
    assert (story[0].agent, story[0].since) == ("agent-7", START + 10)


def test_an_agent_that_says_it_began_makes_the_task_running() -> None:
    story = Story(task("a"))
    story.chosen()

    decision = story.later(10).tell(events.TaskStarted(**story.attempt(0)))

    assert story[0].status is TaskStatus.RUNNING
    assert story[0].since == START + 10
    assert story[0].agent == "agent-1"
    assert decision.commands == ()
    assert story.job.head.busy == 1


def test_a_success_without_an_earlier_beginning_counts() -> None:
    story = Story(task("a"))
    story.chosen()

    story.later(3).succeeded(file="ä.pdf")

    assert story[0].result == {"file": "ä.pdf"}
    assert (story[0].status, story[0].since) == (TaskStatus.DONE, START + 3)
    assert story.status == "done"
    assert (story.job.head.ended, story.job.head.open, story.job.head.busy) == (START + 3, 0, 0)
    assert story.open == []


def test_a_success_forgets_the_failure_before_it() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    story.done()

    assert story[0].error is None
    assert story[0].reason == ""
    assert (story[0].epoch, story[0].attempts) == (2, 1)


# -- no agent ------------------------------------------------------------------------------------------------


def test_a_task_without_an_agent_is_held_and_gives_its_slot_back() -> None:
    story = Story(task("a"), task("b"), max_parallel=1)

    story.deferred(0, after=2_000)

    assert (story[0].status, story[0].reason) == (TaskStatus.HELD, "no_agent")
    assert story.command("retry:0:1") == StartTimer(key="retry:0:1", task=0, after=2_000)
    assert story.tasks == ["held", "ready"]
    assert story.open == ["dispatch:1:1", "retry:0:1"]
    assert story[0].attempts == 0


def test_a_deferral_without_a_time_still_waits_a_moment() -> None:
    story = Story(task("a"))

    story.deferred(after=0)

    assert story.command("retry:0:1").after == 1


def test_a_held_task_comes_back_under_a_new_epoch() -> None:
    story = Story(task("a"))
    story.deferred()

    story.later(2_000).fired("retry:0:1")

    assert story.open == ["dispatch:0:2"]
    assert (story[0].status, story[0].epoch, story[0].reason) == (TaskStatus.READY, 2, "")
    assert story[0].since == START + 2_000


# -- technical failures --------------------------------------------------------------------------------------


def test_a_technical_failure_is_tried_again_after_a_backoff() -> None:
    story = Story(task("a"))
    story.begun()

    story.failed(remedy="look at the portal")

    assert story[0].status is TaskStatus.HELD
    assert (story[0].reason, story[0].attempts, story[0].agent) == ("retry", 1, "")
    assert story[0].error == TaskError(TECHNICAL, "http_503", "the portal is down", "look at the portal")
    assert 900 <= story.command("retry:0:1").after <= 1_100
    assert story.open == ["retry:0:1"]


def test_a_target_that_asked_for_more_time_gets_it() -> None:
    story = Story(task("a"))
    story.begun()

    story.failed(retry_after=45_000)

    assert story.command("retry:0:1").after == 45_000


def test_the_second_backoff_is_longer_than_the_first() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    story.begun()

    story.failed()

    assert 1_800 <= story.command("retry:0:2").after <= 2_200
    assert story[0].attempts == 2


def test_two_tasks_that_failed_together_do_not_come_back_together() -> None:
    story = Story(task("a"), task("b"))
    for index in (0, 1):
        story.begun(index)
        story.failed(index)

    assert story.command("retry:0:1").after != story.command("retry:1:1").after


def test_the_last_attempt_that_fails_fails_the_task_and_the_run() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=2, first_delay=10)))
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    story.begun()

    story.later(9).failed(message="still down")

    assert (story[0].status, story[0].attempts, story[0].since) == (TaskStatus.FAILED, 2, START + 9)
    assert story[0].error is not None
    assert story[0].error.message == "still down"
    head = story.job.head
    assert (head.status, head.cause, head.reason) == (JobStatus.FAILED, "task:a", "still down")
    assert head.ended == START + 9
    assert story.open == []


# -- the environment -----------------------------------------------------------------------------------------


def test_an_unready_place_burns_no_attempt() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=1)))
    story.begun()

    story.failed(failure=ENVIRONMENT, code="desktop_locked")

    assert (story[0].status, story[0].attempts, story[0].waited) == (TaskStatus.HELD, 0, 1_000)
    assert story[0].reason == "environment"
    assert story[0].error is not None
    assert story[0].error.code == "desktop_locked"
    assert story.command("retry:0:1").after == 1_000


def test_the_wait_for_a_place_grows_with_what_was_waited() -> None:
    story = Story(task("a"))
    waits = []
    for epoch in range(1, 6):
        story.begun()
        story.failed(failure=ENVIRONMENT)
        waits.append(story.command(f"retry:0:{epoch}").after)
        story.fired(f"retry:0:{epoch}")

    assert waits == [1_000, 1_000, 2_000, 4_000, 8_000]
    assert story[0].waited == 16_000


def test_a_place_that_names_a_time_is_waited_for_that_long() -> None:
    story = Story(task("a"))
    story.begun()

    story.failed(failure=ENVIRONMENT, retry_after=90_000)

    assert story.command("retry:0:1").after == 90_000
    assert story[0].waited == 90_000


@pytest.mark.parametrize(("limit", "status"), [(1_000, TaskStatus.HELD), (999, TaskStatus.FAILED)])
def test_waiting_for_a_place_is_bounded(limit: int, status: TaskStatus) -> None:
    story = Story(task("a"), environment_wait=limit)
    story.begun()

    story.failed(failure=ENVIRONMENT)

    assert story[0].status is status
    assert story[0].attempts == 0


def test_a_refused_task_waits_for_its_place_and_tells_the_agents_reason() -> None:
    story = Story(task("a"))
    story.chosen()

    story.tell(events.TaskRefused(**story.attempt(0), reason="no display"))

    assert story[0].error == TaskError(ENVIRONMENT, "refused", "no display")
    assert (story[0].attempts, story[0].waited) == (0, 1_000)
    assert story.open == ["retry:0:1"]


@pytest.mark.parametrize("code", ["approval", "retry", "doubt", "no_agent"])
def test_an_agents_word_for_a_failure_is_never_taken_for_one_of_ours(code: str) -> None:
    story = Story(task("a"))
    story.begun()

    story.failed(failure=ENVIRONMENT, code=code)

    assert story[0].reason == "environment"


# -- lost leases ---------------------------------------------------------------------------------------------


def test_a_lost_lease_of_a_harmless_task_burns_no_attempt() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=1)))
    story.begun()

    story.lost()

    assert (story[0].status, story[0].reason) == (TaskStatus.HELD, "lease_lost")
    assert (story[0].attempts, story[0].waited) == (0, LOST_LEASE)
    assert story[0].error == TaskError(UNKNOWN, "lease_lost", "agent gone")
    assert story.command("retry:0:1").after == 1


def test_a_lost_lease_is_no_wait_for_a_place_that_makes_the_next_one_longer() -> None:
    story = Story(task("a"))
    story.begun()
    story.lost()
    story.fired("retry:0:1")
    story.begun()
    story.failed(failure=ENVIRONMENT)
    assert story.command("retry:0:2").after == 1_000
    story.fired("retry:0:2")
    story.begun()
    story.lost()
    story.fired("retry:0:3")
    story.begun()

    story.failed(failure=ENVIRONMENT)

    assert story.command("retry:0:4").after == 1_000
    assert story[0].waited == 2 * LOST_LEASE + 2_000


def test_jobs_of_older_logic_take_a_lost_lease_for_a_wait() -> None:
    story = Story(task("a"), logic=2)
    story.begun()
    story.lost()
    story.fired("retry:0:1")
    story.begun()

    story.failed(failure=ENVIRONMENT)

    assert story.command("retry:0:2").after == LOST_LEASE


def test_a_task_that_kills_its_agents_comes_to_an_end() -> None:
    story = Story(task("a"), environment_wait=20 * LOST_LEASE)
    for epoch in range(1, 21):
        story.begun()
        story.lost()
        story.fired(f"retry:0:{epoch}")
    story.begun()

    story.lost()

    assert story[0].status is TaskStatus.FAILED
    assert story.job.head.cause == "task:a"


def test_a_lost_lease_of_a_verifiable_task_is_looked_for_and_then_counts_as_lost() -> None:
    story = Story(task("a", effect=VERIFIABLE, retry=RetryPolicy(max_attempts=1)))
    story.begun()
    story.lost()
    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "unknown_outcome")

    story.verified("absent")

    assert (story[0].status, story[0].attempts, story[0].waited) == (TaskStatus.HELD, 0, LOST_LEASE)
    assert story[0].reason == "lease_lost"


@pytest.mark.parametrize("most", [1, 3])
def test_a_task_over_which_so_many_agents_end_is_given_up(most: int) -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=most)))
    for epoch in range(1, most):
        story.begun()
        story.lost(among=1)
        assert (story[0].status, story.command(f"retry:0:{epoch}").after) == (TaskStatus.HELD, 1)
        story.fired(f"retry:0:{epoch}")
    story.begun()

    story.lost(among=1)

    assert (story[0].status, story[0].attempts, story[0].epoch) == (TaskStatus.FAILED, 0, most)
    error = story[0].error
    assert error is not None
    assert (error.failure, error.code) == (FailureClass.TECHNICAL, "agents_lost")
    assert "agent gone" in error.message
    assert error.remedy


def test_an_agent_that_had_more_shares_the_blame_and_what_it_had_comes_back_apart() -> None:
    story = Story(*(task(name, retry=RetryPolicy(max_losses=1)) for name in "abcd"))
    for index in range(4):
        story.begun(index)
    for index in range(4):
        story.lost(index, among=4)

    assert {story.command(f"retry:{index}:1").after for index in range(4)} == {1}
    for epoch in (1, 2):
        for index in range(4):
            story.fired(f"retry:{index}:{epoch}")
            story.begun(index)
        for index in range(4):
            story.lost(index, among=4)

    waits = {story.command(f"retry:{index}:3").after for index in range(4)}
    assert len(waits) == 4
    assert min(waits) >= 1
    assert max(waits) <= PARTING
    story.fired("retry:0:3")
    story.begun(0)
    story.lost(0, among=4)
    assert (story[0].status, story[0].epoch) == (TaskStatus.FAILED, 4)


def test_an_attempt_that_ends_with_its_agent_alive_begins_the_count_anew() -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=2)))
    story.begun()
    story.lost(among=1)
    story.fired("retry:0:1")
    story.begun()
    story.failed()
    assert story[0].blame == 0
    story.later(60_000).fired("retry:0:2")
    story.begun()

    story.lost(among=1)

    assert story[0].status is TaskStatus.HELD


@pytest.mark.parametrize("what", ["refused", "unknown", "silent"])
def test_what_says_nothing_of_its_agent_leaves_the_count_as_it_is(what: str) -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=2)))
    story.begun()
    story.lost(among=1)
    story.fired("retry:0:1")
    story.chosen()
    if what == "refused":
        story.tell(events.TaskRefused(**story.attempt(0)))
    elif what == "unknown":
        story.failed(failure=UNKNOWN, code="agent_restarted")
    else:
        story.lost(among=0)

    assert (story[0].status, story[0].blame) == (TaskStatus.HELD, BLAME)


def test_jobs_of_older_logic_know_no_blame() -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=1)), logic=2)
    story.begun()

    story.lost(among=1)

    assert (story[0].status, story[0].blame) == (TaskStatus.HELD, 0)


def test_an_effect_that_may_have_happened_is_looked_for_before_its_task_is_given_up() -> None:
    story = Story(task("a", effect=VERIFIABLE, retry=RetryPolicy(max_losses=1)))
    story.begun()
    story.lost(among=1)
    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "unknown_outcome")

    story.verified("absent")

    assert story[0].status is TaskStatus.FAILED
    assert story[0].error is not None
    assert story[0].error.code == "agents_lost"


def test_who_looked_and_says_to_go_on_begins_the_count_anew() -> None:
    story = Story(task("a", effect=VERIFIABLE, retry=RetryPolicy(max_losses=2)))
    story.begun()
    story.lost(among=1)
    story.verified("unknown")
    story.answered(False)
    story.later(60_000).fired("retry:0:1")
    story.begun()
    story.lost(among=1)

    story.verified("absent")

    assert (story[0].status, story[0].blame) == (TaskStatus.HELD, BLAME)


def test_a_new_run_counts_anew() -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=1)))
    story.begun()
    story.lost(among=1)
    story.reopened()

    assert story[0].blame == 0


def test_a_lost_lease_of_an_unsafe_task_asks_a_person() -> None:
    story = Story(task("a", effect=UNSAFE))
    story.begun()

    story.lost()

    assert story.open == ["ask:0:1"]


# -- no ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [FailureClass.BUSINESS, FailureClass.POLICY])
def test_a_no_is_final(failure: FailureClass) -> None:
    story = Story(task("a"))
    story.begun()

    story.failed(failure=failure, code="login_refused", message="wrong password")

    assert (story[0].status, story[0].attempts) == (TaskStatus.FAILED, 0)
    assert story.status == "failed"
    assert story.job.head.reason == "wrong password"


# -- unknown outcomes ----------------------------------------------------------------------------------------


def test_an_unknown_outcome_of_a_harmless_task_is_simply_tried_again() -> None:
    story = in_doubt(EffectClass.IDEMPOTENT)

    assert (story[0].status, story[0].attempts, story[0].reason) == (TaskStatus.HELD, 1, "retry")


def test_an_unknown_outcome_of_a_verifiable_task_is_looked_for() -> None:
    story = in_doubt(VERIFIABLE)

    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "unknown_outcome")
    verify = VerifyTask(key="verify:0:1", task=0, epoch=1, look=0, after=120_000)
    assert story.command("verify:0:1") == verify
    assert story.open == ["verify:0:1"]
    assert (story.job.head.busy, story.job.head.unsettled) == (0, 1)


def test_an_unknown_outcome_of_an_unsafe_task_asks_a_person() -> None:
    story = in_doubt(UNSAFE)

    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "doubt")
    assert story.command("ask:0:1") == AskPerson(key="ask:0:1", task=0, epoch=1, question="doubt")


def test_an_effect_that_is_found_makes_the_task_done_with_what_was_found() -> None:
    story = in_doubt(VERIFIABLE)

    story.verified("happened", result={"message_id": "<1@x>"})

    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "proved")
    assert story[0].result == {"message_id": "<1@x>"}
    assert story[0].error is None
    assert story.status == "done"


def test_an_effect_that_is_absent_is_tried_again_at_the_cost_of_an_attempt() -> None:
    story = in_doubt(VERIFIABLE)

    story.verified("absent")

    assert (story[0].status, story[0].reason, story[0].attempts) == (TaskStatus.HELD, "retry", 1)
    assert story.job.head.unsettled == 0
    assert story.open == ["retry:0:1"]


def test_an_effect_that_may_show_later_is_looked_for_again() -> None:
    story = in_doubt(VERIFIABLE)

    story.verified("unknown", look_again=60_000)

    assert story[0].verified == 1
    assert story.command("look:0:1") == StartTimer(key="look:0:1", task=0, after=500)
    assert story.open == ["look:0:1"]
    story.fired("look:0:1")
    assert story.open == ["verify:0:1"]
    verify = story.command("verify:0:1")
    assert isinstance(verify, VerifyTask)
    assert verify.look == 1


def test_a_second_look_comes_after_twice_the_time() -> None:
    story = in_doubt(VERIFIABLE)
    story.verified("unknown", look_again=60_000)
    story.fired("look:0:1")

    story.verified("unknown", look_again=60_000)

    assert story.command("look:0:1").after == 1_000
    assert story[0].verified == 2


def test_a_verifier_that_does_not_answer_is_asked_again_at_once() -> None:
    story = in_doubt(VERIFIABLE)

    story.fired("verify:0:1")

    assert story.open == ["look:0:1"]
    assert story.command("look:0:1").after == 1
    assert story[0].verified == 1


def test_an_effect_nobody_can_see_becomes_a_question() -> None:
    story = in_doubt(VERIFIABLE)

    story.verified("unknown", look_again=0)

    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "doubt")
    assert story.open == ["ask:0:1"]


def test_a_verifier_that_names_a_time_before_now_names_none() -> None:
    story = in_doubt(VERIFIABLE)

    story.verified("unknown", look_again=-5)

    assert story.open == ["ask:0:1"]


def test_a_task_without_a_delay_between_tries_comes_back() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=2, first_delay=0)))
    story.begun()
    story.fired("request:0:1")

    assert story.command("retry:0:1").after == 1
    story.fired("retry:0:1")
    assert story.open == ["dispatch:0:2"]


def test_looking_comes_to_an_end() -> None:
    story = in_doubt(VERIFIABLE)
    assert MOST_LOOKS == 12
    for _ in range(11):
        story.verified("unknown", look_again=10)
        story.fired("look:0:1")

    story.verified("unknown", look_again=10)

    assert story.open == ["ask:0:1"]


# -- "the agent says done" is not enough ---------------------------------------------------------------------


def test_a_claimed_success_of_a_verifiable_task_is_proved_first() -> None:
    story = proving()

    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "proving")
    assert story[0].result == {"sent": True}
    assert story.status == "running"
    assert story.open == ["verify:0:1"]


def test_a_proved_success_keeps_the_agents_result() -> None:
    story = proving()

    story.verified("happened", result={"other": 1})

    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "proved")
    assert story[0].result == {"sent": True}


def test_a_claimed_success_whose_effect_is_not_found_is_never_done_again() -> None:
    story = proving()

    story.verified("absent")

    assert (story[0].status, story[0].reason, story[0].result) == (
        TaskStatus.DONE,
        "unproved",
        {"sent": True},
    )
    assert story.status == "done"


def test_a_claimed_success_whose_effect_is_absent_was_a_technical_failure_under_logic_1() -> None:
    story = proving(logic=1)

    story.verified("absent")

    assert (story[0].status, story[0].attempts, story[0].result) == (TaskStatus.HELD, 1, None)
    absent = "looked for the effect and did not find it"
    assert story[0].error == TaskError(TECHNICAL, "effect_absent", absent)


def test_a_claimed_success_nobody_can_see_is_believed_and_marked() -> None:
    story = proving()

    story.verified("unknown")

    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "unproved")
    assert story[0].result == {"sent": True}


def test_an_absent_effect_is_not_explained_by_the_failure_of_an_earlier_attempt() -> None:
    story = Story(task("a", effect=VERIFIABLE), logic=1)
    story.begun()
    story.lost()
    story.verified("absent")
    story.fired("retry:0:1")
    story.begun()
    story.succeeded(sent=True)

    story.verified("absent")

    assert story[0].error is not None
    assert story[0].error.code == "effect_absent"
    assert (story[0].reason, story[0].attempts) == ("retry", 1)


def test_a_success_said_twice_proves_nothing() -> None:
    story = proving()

    assert story.ignored(events.TaskSucceeded(**story.attempt(0), result={"sent": True})) == "duplicate"
    assert story.open == ["verify:0:1"]


def test_a_late_success_is_a_claim_that_is_still_proved() -> None:
    story = in_doubt(VERIFIABLE)

    story.later(4).succeeded(sent=True)

    assert (story[0].status, story[0].reason) == (TaskStatus.IN_DOUBT, "proving")
    assert story[0].result == {"sent": True}
    assert story.open == ["verify:0:1"]
    story.verified("happened")
    assert story[0].result == {"sent": True}
    assert story[0].error is None


def test_a_late_success_between_two_looks_waits_for_the_next() -> None:
    story = in_doubt(VERIFIABLE)
    story.verified("unknown", look_again=60_000)

    story.succeeded(sent=True)

    assert story.open == ["look:0:1"]
    assert story[0].verified == 1
    story.fired("look:0:1")
    story.verified("unknown")
    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "unproved")


def test_a_late_success_answers_the_question_nobody_could_answer_by_looking() -> None:
    story = in_doubt(VERIFIABLE)
    story.verified("unknown")

    story.succeeded(sent=True)

    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "unproved")
    assert story.open == []


def test_a_late_success_of_an_unsafe_task_answers_the_question() -> None:
    story = in_doubt(UNSAFE)

    story.succeeded(order=12)

    assert (story[0].status, story[0].result) == (TaskStatus.DONE, {"order": 12})
    assert story.status == "done"


def test_a_question_is_closed_by_a_late_success_while_the_job_goes_on() -> None:
    story = Story(task("a", effect=UNSAFE), task("b"))
    story.begun(0)
    story.lost(0)

    story.succeeded(0)

    assert story.open == ["dispatch:1:1"]


def test_every_attempt_is_looked_for_from_the_beginning() -> None:
    story = in_doubt(VERIFIABLE)
    story.verified("unknown", look_again=60_000)
    story.fired("look:0:1")
    story.verified("absent")
    story.fired("retry:0:1")
    story.begun()

    story.lost()

    verify = story.command("verify:0:2")
    assert isinstance(verify, VerifyTask)
    assert verify.look == story[0].verified == 0


# -- answers of people ---------------------------------------------------------------------------------------


def test_a_person_who_saw_the_effect_makes_the_task_done() -> None:
    story = in_doubt(UNSAFE)

    story.answered(True)

    assert (story[0].status, story[0].reason, story[0].result) == (TaskStatus.DONE, "confirmed", None)


def test_a_person_who_did_not_see_the_effect_has_it_tried_again() -> None:
    story = in_doubt(UNSAFE)

    story.answered(False)

    assert (story[0].status, story[0].attempts) == (TaskStatus.HELD, 1)
    assert story[0].error == TaskError(TECHNICAL, "effect_absent", "Jörg says it did not happen")
    assert story.job.head.unsettled == 0


def test_a_task_that_needs_a_yes_asks_before_it_is_dispatched() -> None:
    story = Story(task("a", approval=True), task("b"))

    assert (story[0].status, story[0].reason) == (TaskStatus.HELD, "approval")
    assert story.command("ask:0:0") == AskPerson(key="ask:0:0", task=0, epoch=0, question="approval")
    assert story[0].since == START
    assert story.job.head.busy == 1


def test_a_yes_dispatches_the_task_and_is_not_asked_for_again_in_this_run() -> None:
    story = Story(task("a", approval=True))
    story.answered(True)

    assert story.open == ["dispatch:0:1"]
    assert (story[0].approved, story[0].reason) == (True, "")
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    assert story.open == ["dispatch:0:2"]


def test_a_denied_approval_fails_the_task() -> None:
    story = Story(task("a", approval=True))

    story.answered(False)

    assert story[0].error == TaskError(FailureClass.POLICY, "approval_denied", "Jörg said no")
    assert story.status == "failed"
    assert (story.job.head.cause, story.job.head.reason) == ("task:a", "Jörg said no")


def test_an_answer_to_a_question_nobody_asked_changes_nothing() -> None:
    story = Story(task("a"))
    story.deferred()

    event = events.QuestionAnswered(**story.attempt(0), yes=True, by="Jörg")

    assert story.ignored(event) == "not_open"


# -- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "status", "keys"),
    [
        (EffectClass.IDEMPOTENT, TaskStatus.HELD, ["retry:0:1"]),
        (VERIFIABLE, TaskStatus.IN_DOUBT, ["verify:0:1"]),
        (UNSAFE, TaskStatus.IN_DOUBT, ["ask:0:1"]),
    ],
)
def test_an_attempt_without_an_answer_has_an_unknown_outcome(
    effect: EffectClass, status: TaskStatus, keys: list[str]
) -> None:
    story = Story(task("a", effect=effect))
    story.begun()

    story.fired("request:0:1")

    assert story[0].status is status
    assert story.open == keys
    assert story[0].error == TaskError(UNKNOWN, "timeout", "no answer in time")


def test_a_timer_nobody_set_changes_nothing() -> None:
    story = Story(task("a"))

    assert story.ignored(events.TimerFired(time=START, key="retry:0:1")) == "not_open"
    assert story.ignored(events.TimerFired(time=START, key="dispatch:0:1")) == "not_open"


def test_the_second_firing_of_a_timer_changes_nothing() -> None:
    story = Story(task("a"))
    story.deferred()
    story.fired("retry:0:1")

    assert story.ignored(events.TimerFired(time=START, key="retry:0:1")) == "not_open"


# -- cancel --------------------------------------------------------------------------------------------------


def test_a_cancelled_attempt_is_told_to_stop_and_waited_for() -> None:
    story = Story(task("a"))
    story.begun()

    story.cancelled("changed my mind")

    assert story.status == "running"
    assert story.job.head.ending is JobStatus.CANCELLED
    assert (story.job.head.cause, story.job.head.reason) == ("cancel", "changed my mind")
    cancel = CancelAttempt(key="cancel:0:1", task=0, epoch=1, agent="agent-1", after=15_000)
    assert story.command("cancel:0:1") == cancel
    assert story.open == ["cancel:0:1"]


def test_a_cancelled_attempt_that_still_succeeds_is_done_in_a_cancelled_run() -> None:
    story = Story(task("a"), task("b", 0))
    story.begun()
    story.cancelled()

    story.succeeded(x=1)

    assert story.tasks == ["done", "waiting"]
    assert story.status == "cancelled"


@pytest.mark.parametrize("failure", [TECHNICAL, ENVIRONMENT, FailureClass.BUSINESS, UNKNOWN])
def test_a_cancelled_attempt_that_fails_is_cancelled_and_not_tried_again(failure: FailureClass) -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()

    story.failed(failure=failure)

    assert (story[0].status, story.status) == (TaskStatus.CANCELLED, "cancelled")
    assert story.job.head.cause == "cancel"


def test_a_cancelled_attempt_that_never_answers_ends_after_the_grace() -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()

    story.fired("cancel:0:1")

    assert (story[0].status, story.status) == (TaskStatus.CANCELLED, "cancelled")


def test_a_cancelled_job_with_an_unknown_unsafe_effect_stays_open_with_a_question() -> None:
    story = Story(task("a", effect=UNSAFE))
    story.begun()
    story.cancelled()

    story.fired("cancel:0:1")

    assert story.status == "running"
    assert story.open == ["ask:0:1"]
    story.answered(False)
    assert (story[0].status, story.status) == (TaskStatus.CANCELLED, "cancelled")


def test_a_second_cancel_changes_nothing() -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()

    assert story.ignored(events.CancelRequested(time=START, by="x")) == "duplicate"


# -- what must not count -------------------------------------------------------------------------------------


def attempt_events(story: Story, index: int, epoch: int) -> list[Event]:
    place: dict[str, Any] = {"time": story.time, "task": index, "epoch": epoch}
    return [
        events.AgentChosen(**place, agent="a"),
        events.DispatchDeferred(**place, reason="no_agent", after=1),
        events.TaskStarted(**place),
        events.TaskRefused(**place),
        events.TaskSucceeded(**place),
        events.TaskFailed(**place, failure=TECHNICAL, code="x"),
        events.LeaseLost(**place),
        events.TaskVerified(**place, verdict="happened"),
        events.QuestionAnswered(**place, yes=True, by="x"),
    ]


@pytest.mark.parametrize("index", [-1, 1, 99])
def test_an_event_about_a_task_that_does_not_exist_says_so(index: int) -> None:
    story = Story(task("a"))

    assert {story.ignored(event) for event in attempt_events(story, index, 0)} == {"no_such_task"}


def test_answers_of_an_older_attempt_are_stale() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed()
    story.fired("retry:0:1")
    story.begun()

    assert {story.ignored(event) for event in attempt_events(story, 0, 1)} == {"stale_epoch"}


def test_answers_of_an_attempt_that_never_was_are_not_expected() -> None:
    story = Story(task("a"))
    story.begun()

    assert {story.ignored(event) for event in attempt_events(story, 0, 2)} == {"not_expected"}


def test_answers_about_a_done_task_are_duplicates() -> None:
    story = Story(task("a"), task("b"))
    story.done(0)

    assert {story.ignored(event) for event in attempt_events(story, 0, 1)} == {"duplicate"}


def test_answers_about_a_failed_task_are_duplicates_while_its_run_ends() -> None:
    story = Story(task("a"), task("b"))
    story.begun(0)
    story.begun(1)
    story.failed(0, FailureClass.BUSINESS)

    assert {story.ignored(event) for event in attempt_events(story, 0, 1)} == {"duplicate"}


def test_a_task_that_stands_in_line_has_no_agent_to_hear_from() -> None:
    story = Story(task("a"), task("b"), max_parallel=1)

    assert {story.ignored(event) for event in attempt_events(story, 1, 0)} == {"not_expected"}


def test_a_second_choice_or_beginning_is_not_expected() -> None:
    story = Story(task("a"))
    story.begun()

    assert story.ignored(events.AgentChosen(**story.attempt(0), agent="b")) == "not_expected"
    assert story.ignored(events.TaskStarted(**story.attempt(0))) == "not_expected"
    assert story.ignored(events.TaskRefused(**story.attempt(0))) == "not_expected"


def test_a_look_nobody_asked_for_does_not_count() -> None:
    story = in_doubt(UNSAFE)

    assert story.ignored(events.TaskVerified(**story.attempt(0), verdict="happened")) == "not_open"


def test_a_second_start_is_refused_and_so_is_a_second_submission() -> None:
    story = Story(task("a"))

    again = events.JobSubmitted(time=START, tenant="default", job="job-1", spec="", tasks=1)
    assert story.ignored(events.JobStarted(time=START)) == "not_pending"
    assert story.ignored(again) == "exists"


def test_after_its_end_a_job_hears_nothing_but_a_reopening() -> None:
    story = Story(task("a"))
    story.done()

    rest = [
        *attempt_events(story, 0, 1),
        events.JobStarted(time=START),
        events.CancelRequested(time=START, by="x"),
        events.TimerFired(time=START, key="request:0:1"),
    ]
    assert {story.ignored(event) for event in rest} == {"ended"}


def test_a_decision_leaves_the_job_as_it_is() -> None:
    story = Story(task("a"), task("b", 0))
    before = (story.job.head, dict(story.job.tasks), list(story.job.waiting), dict(story.job.open))

    story.ignored(events.TaskStarted(time=START, task=0, epoch=1))

    assert (story.job.head, story.job.tasks, story.job.waiting, story.job.open) == before


# -- proposals -----------------------------------------------------------------------------------------------


def test_a_task_is_held_until_the_time_its_agent_proposed() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=1)), task("b"), max_parallel=1)
    story.begun()

    story.later(10).proposed(run_at=story.time + 90_000, reason="nachts")

    assert (story[0].status, story[0].reason, story[0].waited) == (TaskStatus.HELD, "proposal_time", 90_000)
    assert (story[0].attempts, story[0].agent) == (0, "")
    assert story[0].error == TaskError(ENVIRONMENT, "proposed", "nachts")
    assert story.command("retry:0:1") == StartTimer(key="retry:0:1", task=0, after=90_000)
    assert story.open == ["dispatch:1:1", "retry:0:1"]


@pytest.mark.parametrize("ahead", [1, 3_600_000])
def test_any_time_ahead_that_can_be_waited_for_is_waited_for(ahead: int) -> None:
    story = Story(task("a"))
    story.begun()

    story.proposed(run_at=story.time + ahead)

    assert (story[0].reason, story.command("retry:0:1").after) == ("proposal_time", ahead)


@pytest.mark.parametrize("ahead", [-5, 0, 3_600_001])
def test_a_proposed_time_that_is_none_or_too_late_is_a_refusal(ahead: int) -> None:
    story = Story(task("a"))
    story.begun()

    story.proposed(run_at=story.time + ahead)

    assert (story[0].reason, story[0].waited) == ("environment", 1_000)


def test_what_was_waited_before_counts_against_a_proposed_time() -> None:
    story = Story(task("a"), environment_wait=5_000)
    story.begun()
    story.failed(failure=ENVIRONMENT)
    story.fired("retry:0:1")
    story.begun()
    story.proposed(run_at=story.time + 4_000)
    assert (story[0].reason, story[0].waited) == ("proposal_time", 5_000)
    story.fired("retry:0:2")
    story.begun()

    story.proposed(run_at=story.time + 1)

    assert story[0].status is TaskStatus.FAILED


def test_a_proposal_in_a_run_that_is_ending_ends_the_attempt() -> None:
    story = Story(task("a"))
    story.begun()
    story.cancelled()

    story.proposed(run_at=story.time + 5)

    assert (story[0].status, story.status) == (TaskStatus.CANCELLED, "cancelled")


def test_a_proposal_counts_only_from_the_attempt_itself() -> None:
    story = Story(task("a"))

    assert story.ignored(events.TaskProposed(**story.attempt(0), run_at=START + 5)) == "not_expected"
