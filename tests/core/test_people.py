"""People: how many must say yes, to what, who may, how long; questions whose answer is the result; proposals."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.situations import START, UNSAFE, VERIFIABLE, Story, task

from cpa.core import events
from cpa.core.approval import digest_of
from cpa.core.classes import FailureClass
from cpa.core.commands import AskPerson, DispatchTask
from cpa.core.forms import PLAIN
from cpa.core.job import JobStatus, Proposal, TaskError, TaskRun, TaskSpec, TaskStatus
from cpa.core.machine import decide

NOOP = "flow.noop"


def approval(*needs: int, name: str = "a", **more: Any) -> TaskSpec:
    return task(name, *needs, approval=True, **{"approvals": 1, "arguments": {"value": 1}} | more)


def question(name: str = "q", *needs: int, **arguments: Any) -> TaskSpec:
    arguments = {"question": "Wie viel?"} | arguments
    return replace(task(name, *needs, arguments=arguments, timeout=7_000), action="person.ask")


def asked(story: Story, index: int = 0) -> AskPerson:
    command = story.command(f"ask:{index}:{story[index].epoch}")
    assert isinstance(command, AskPerson)
    return command


# -- approvals: the exact action -----------------------------------------------------------------------------


def test_an_approval_names_the_exact_action() -> None:
    spec = approval(capability="de", effect=UNSAFE, tainted=("value",))
    story = Story(spec, task("b"))

    digest = digest_of(NOOP, {"value": 1}, "de", UNSAFE, ("value",))
    assert asked(story) == AskPerson(key="ask:0:0", task=0, epoch=0, question="approval", digest=digest)
    assert story[0] == TaskRun(0, TaskStatus.HELD, since=START, reason="approval", digest=digest)
    assert story.job.head.busy == 1


def test_the_action_is_asked_about_as_it_will_go_out() -> None:
    spec = approval(0, name="b", references=(0,), arguments={"value": "{{ tasks.x.result.v }} EUR"})
    story = Story(task("x"), spec)

    story.done(0, v=7)

    assert asked(story, 1).digest == digest_of(NOOP, {"value": "7 EUR"}, effect=spec.effect)


def test_an_action_whose_reference_leads_nowhere_is_asked_about_as_it_is_written() -> None:
    arguments = {"value": "{{ tasks.x.result.v }}"}
    story = Story(task("x"), approval(0, name="b", references=(0,), arguments=arguments))
    story.done(0)

    assert asked(story, 1).digest == digest_of(NOOP, arguments)
    story.answered(True, 1)
    story.chosen(1)
    assert story[1].status is TaskStatus.ASSIGNED


def test_a_yes_to_another_action_does_not_count() -> None:
    story = Story(approval())
    for digest in ("", digest_of(NOOP, {"value": 2}), asked(story).digest[:-1]):
        for yes in (True, False):
            assert story.ignored(story.answer(yes, digest=digest)) == "other_action"


def test_a_yes_lets_the_task_go_and_says_who_gave_it() -> None:
    story = Story(approval())
    digest = asked(story).digest

    story.later(5).answered(True, by="Anna")

    run = story[0]
    assert (run.approved, run.approvals, run.digest, run.reason) == (True, ("Anna",), digest, "")
    assert (run.status, run.since, run.epoch) == (TaskStatus.READY, START + 5, 1)
    assert story.open == ["dispatch:0:1"]
    story.done()
    assert story.status == "done"


def test_an_approval_holds_over_the_attempts_of_a_run() -> None:
    story = Story(approval())
    story.answered(True)
    story.begun()
    story.failed()

    story.fired("retry:0:1")

    assert (story.open, story[0].approvals) == (["dispatch:0:2"], ("Jörg",))


def test_a_plan_of_old_asks_and_answers_without_a_digest() -> None:
    story = Story(task("a", approval=True))
    assert asked(story) == AskPerson(key="ask:0:0", task=0, epoch=0, question="approval")
    assert story.ignored(story.answer(True, digest="00")) == "other_action"

    story.answered(True)

    assert story[0] == TaskRun(0, TaskStatus.READY, epoch=1, since=START, approved=True)


# -- approvals: how many, who, how long ----------------------------------------------------------------------


def test_as_many_people_as_are_needed_must_say_yes() -> None:
    story = Story(approval(approvals=3), task("b"), max_parallel=1)
    story.later(5).answered(True, by="Anna")
    story.answered(True, by="Uwe")

    assert (story[0].status, story[0].approvals) == (TaskStatus.HELD, ("Anna", "Uwe"))
    assert (story[0].since, story[0].approved, story.job.head.busy) == (START, False, 1)
    assert story.open == ["ask:0:0", "dispatch:1:1"]
    story.answered(True, by="Ida")
    assert (story[0].status, story[0].approvals) == (TaskStatus.READY, ("Anna", "Uwe", "Ida"))
    assert story[0].approved
    assert story.open == ["dispatch:1:1"]


def test_the_same_person_counts_once() -> None:
    story = Story(approval(approvals=2))
    story.answered(True, by="Anna")

    assert story.ignored(story.answer(True, by="Anna")) == "duplicate"


def test_who_said_yes_may_still_say_no() -> None:
    story = Story(approval(approvals=2))
    story.answered(True, by="Anna")
    story.answered(False, by="Anna")

    assert (story[0].status, story.job.head.status) == (TaskStatus.FAILED, JobStatus.FAILED)
    assert story[0].error is not None
    assert story[0].error.message


def test_one_no_is_enough() -> None:
    story = Story(approval(approvals=2))
    story.answered(True, by="Anna")

    story.later(9).answered(False, by="Uwe")

    assert story[0].error == TaskError(FailureClass.POLICY, "approval_denied", "Uwe said no")
    assert (story[0].status, story.status, story.open) == (TaskStatus.FAILED, "failed", [])


@pytest.mark.parametrize("yes", [True, False])
def test_whoever_asked_for_the_job_does_not_decide(yes: bool) -> None:
    story = Story(approval(), requester="Jörg")

    assert story.ignored(story.answer(yes)) == "own_request"
    story.answered(True, by="Anna")
    assert story[0].approved


def test_who_fixed_what_is_done_does_not_allow_it_in_this_run_nor_in_later_ones() -> None:
    story = Story(approval(arguments={"to": "anna"}), requester="Anna")
    story.answered(False, by="Ida")

    story.reopened(by="Uwe", fixes={"0": {"to": "uwe"}})
    story.start()

    assert story[0].hands == ("Uwe",)
    assert story.ignored(story.answer(True, by="Uwe")) == "own_request"
    assert story.ignored(story.answer(True, by="Anna")) == "own_request"
    story.answered(False, by="Ida")
    story.reopened(by="Ida")
    story.start()
    assert story.ignored(story.answer(True, by="Uwe")) == "own_request"
    story.answered(True, by="Ida")
    assert story[0].approved


def test_who_gave_a_result_does_not_allow_what_uses_it() -> None:
    uses = {"references": (0, 1), "arguments": {"to": "{{ tasks.b.result.to }}"}}
    story = Story(
        task("a"), task("b", 0, references=(0,)), approval(0, 1, name="c", **uses), requester="Anna"
    )
    story.begun()
    story.failed(0, FailureClass.BUSINESS)

    story.reopened(by="Uwe", done={"0": {"x": 1}})
    story.start()
    story.done(1, to="büro")

    assert (story[0].hands, story[1].hands) == (("Uwe",), ())
    assert story.ignored(story.answer(True, 2, by="Uwe")) == "own_request"
    story.answered(True, 2, by="Ida")


def test_who_gave_what_a_condition_reads_does_not_allow_what_it_lets_through() -> None:
    story = Story(
        task("a"), approval(0, name="b", when="tasks.a.result.ok == true"), task("c", 1), requester="Anna"
    )
    story.begun()
    story.failed(0, FailureClass.BUSINESS)

    story.reopened(by="Uwe", done={"0": {"ok": True}})
    story.start()

    assert story.ignored(story.answer(True, 1, by="Uwe")) == "own_request"
    story.answered(True, 1, by="Ida")


def test_who_merely_did_what_comes_before_may_allow_what_comes_after() -> None:
    story = Story(task("a"), approval(0, name="b"), requester="Anna")
    story.begun()
    story.failed(0, FailureClass.BUSINESS)

    story.reopened(by="Uwe", done={"0": {}})
    story.start()

    story.answered(True, 1, by="Uwe")


def test_all_who_fixed_arguments_that_are_sent_along_are_their_authors() -> None:
    story = Story(approval(arguments={"to": "a", "subject": "b"}), requester="Anna")
    story.answered(False, by="Ida")
    story.reopened(by="Uwe", fixes={"0": {"to": "uwe", "subject": "b"}})
    story.start()
    story.answered(False, by="Ida")
    story.reopened(by="Jörg", fixes={"0": {"to": "uwe", "subject": "c"}})
    story.start()

    assert story[0].hands == ("Uwe", "Jörg")
    assert story.ignored(story.answer(True, by="Uwe")) == "own_request"
    assert story.ignored(story.answer(True, by="Jörg")) == "own_request"


def test_a_correction_is_forgotten_with_what_it_was_of() -> None:
    story = Story(task("a"), approval(0, name="b", references=(0,)), requester="Anna")
    story.begun()
    story.failed(0, FailureClass.BUSINESS)
    story.reopened(by="Uwe", done={"0": {}})
    story.start()
    story.answered(False, 1, by="Ida")

    story.reopened(by="Ida", restart=(0,))
    story.start()
    story.done(0)

    assert story[0].hands == ()
    story.answered(True, 1, by="Uwe")


def test_where_requesters_may_allow_their_own_correctors_may_too() -> None:
    story = Story(approval(arguments={"v": 1}))
    story.answered(False, by="Ida")
    story.reopened(by="Uwe", fixes={"0": {"v": 2}})
    story.start()

    story.answered(True, by="Uwe")

    assert story[0].approved


def test_before_logic_four_correctors_allowed_what_they_corrected() -> None:
    story = Story(approval(arguments={"v": 1}), requester="Anna", logic=3)
    story.answered(False, by="Ida")
    story.reopened(by="Uwe", fixes={"0": {"v": 2}})
    story.start()

    story.answered(True, by="Uwe")

    assert story[0].hands == ()


def test_a_job_whose_requester_is_not_known_may_be_allowed_by_anybody() -> None:
    story = Story(approval())

    story.answered(True, by="")

    assert story[0].approved


def test_only_approvers_decide() -> None:
    story = Story(approval(approvers=("Anna", "Uwe")), requester="Uwe")
    assert asked(story).people == ("Anna", "Uwe")

    assert story.ignored(story.answer(True, by="Ida")) == "not_approver"
    assert story.ignored(story.answer(False, by="Ida")) == "not_approver"
    assert story.ignored(story.answer(True, by="Uwe")) == "own_request"
    story.answered(True, by="Anna")
    assert story[0].approvals == ("Anna",)


def test_an_approval_expires() -> None:
    story = Story(approval(approvals=2, approval_expires=60_000), task("b"))
    assert asked(story).after == 60_000
    story.later(59_999).answered(True, by="Anna")

    story.later(1).fired("ask:0:0")

    error = TaskError(FailureClass.POLICY, "approval_expired", "not enough people said yes in time")
    assert (story[0].status, story[0].error) == (TaskStatus.FAILED, error)
    assert "ask:0:0" not in story.open
    assert story.job.head.cause == "task:a"


def test_a_question_without_a_time_does_not_expire() -> None:
    story = Story(approval())

    assert story.ignored(events.TimerFired(time=START, key="ask:0:0")) == "not_open"


def test_a_doubt_is_answered_by_anybody_and_the_requester_too() -> None:
    story = Story(approval(effect=UNSAFE, approvers=("Anna",)), requester="Jörg")
    story.answered(True, by="Anna")
    story.begun()
    story.lost()
    assert asked(story) == AskPerson(key="ask:0:1", task=0, epoch=1, question="doubt")

    story.answered(True, by="Jörg")

    assert (story[0].status, story[0].reason) == (TaskStatus.DONE, "confirmed")


def test_a_doubt_about_an_approved_action_does_not_count_those_who_allowed_it() -> None:
    story = Story(approval(effect=UNSAFE))
    story.answered(True, by="Anna")
    story.begun()
    story.lost()

    story.answered(False, by="Anna")

    assert (story[0].reason, story[0].attempts) == ("retry", 1)


# -- approvals: looked at once more --------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [approval(approval_expires=5), task("a")], ids=["approval", "agreed"])
def test_another_action_than_was_allowed_is_asked_about_anew(spec: TaskSpec) -> None:
    story = Story(spec)
    if spec.approval:
        story.answered(True)
    story.job.tasks[0] = replace(story[0], digest="00", approved=True, approvals=("Anna",))

    decision = story.later(7).chosen()

    held = story[0]
    assert (held.status, held.reason, held.since) == (TaskStatus.HELD, "approval", START + 7)
    assert (held.approved, held.approvals, held.epoch) == (False, (), 1)
    assert held.digest == asked(story).digest == digest_of(NOOP, spec.arguments)
    assert asked(story).after == spec.approval_expires
    assert decision.changes is not None
    assert decision.changes.closed == ("dispatch:0:1",)
    story.answered(True)
    assert (story[0].approved, story[0].approvals) == (True, ("Jörg",))


def test_a_cancel_takes_the_question_back() -> None:
    story = Story(approval(approval_expires=5), question(), task("b"))

    story.cancelled()

    assert story.tasks == ["cancelled"] * 3
    assert (story.status, story.open) == ("cancelled", [])


def test_an_approval_is_asked_anew_in_every_run_and_an_old_yes_is_stale() -> None:
    story = Story(approval())
    old = story.answer(True, by="Anna")
    story.answered(False)

    story.reopened()
    story.start()

    assert asked(story) == replace(asked(story), key="ask:0:1", epoch=1)
    assert (story[0].approvals, story[0].approved) == ((), False)
    assert story.ignored(old) == "stale_epoch"
    story.answered(True, by="Anna")
    assert story.open == ["dispatch:0:2"]


# -- input ---------------------------------------------------------------------------------------------------


FORM = {"amount": {"type": "number"}}


def test_a_question_opens_when_its_time_has_come_and_holds_no_slot() -> None:
    story = Story(task("a"), question("q", 0, form=FORM), task("b"), max_parallel=1)
    assert story.tasks == ["ready", "waiting", "ready"]

    story.later(5).done(0)

    form = AskPerson(key="ask:1:0", task=1, epoch=0, question="input", form=FORM, after=7_000)
    assert asked(story, 1) == form
    assert story[1] == TaskRun(1, TaskStatus.HELD, since=START + 5, reason="input")
    assert story.tasks == ["done", "held", "ready"]
    assert story.job.head.busy == 1


def test_what_is_answered_is_the_result() -> None:
    spec = task("b", 0, references=(0,), when="tasks.q.result.amount > 5")
    story = Story(question(form=FORM), spec)

    story.later(9).answered(True, by="Anna", answer={"amount": 7})

    run = TaskRun(0, TaskStatus.DONE, since=START + 9, reason="answered", result={"amount": 7})
    assert story[0] == run
    assert story.open == ["dispatch:1:1"]


def test_an_answer_without_words_is_an_empty_result() -> None:
    story = Story(question())

    story.answered(True)

    assert (story[0].status, story[0].result, story.status) == (TaskStatus.DONE, {}, "done")


def test_a_question_without_a_form_asks_for_a_text() -> None:
    for form in ({}, "{{ tasks.x.result.form }}", None):
        more = {} if form is None else {"form": form}
        assert asked(Story(question(**more))).form == PLAIN


def test_a_question_may_be_for_one_person() -> None:
    story = Story(question(**{"for": "Anna"}), requester="Anna")
    assert asked(story).people == ("Anna",)
    assert asked(Story(question(**{"for": 7}))).people == ()
    assert asked(Story(question(**{"for": ""}))).people == ()

    assert story.ignored(story.answer(True, by="Uwe")) == "not_approver"
    story.answered(True, by="Anna")
    assert story[0].status is TaskStatus.DONE


def test_who_will_not_say_fails_the_question() -> None:
    story = Story(question())

    story.answered(False, by="Anna")

    error = TaskError(FailureClass.BUSINESS, "declined", "Anna will not say")
    assert (story[0].status, story[0].error, story.open) == (TaskStatus.FAILED, error, [])


def test_a_question_nobody_answers_fails() -> None:
    story = Story(question())

    story.later(7_000).fired("ask:0:0")

    error = TaskError(FailureClass.BUSINESS, "unanswered", "nobody answered in time")
    assert (story[0].error, story.status, story.open) == (error, "failed", [])


def test_a_question_whose_condition_does_not_hold_is_skipped() -> None:
    assert Story(replace(question(), when="false")).status == "done"


def test_no_agent_is_ever_looked_for() -> None:
    story = Story(question(), max_parallel=1)
    story.answered(False)
    story.reopened()
    story.start()
    assert asked(story).key == "ask:0:1"
    story.answered(True)

    kinds = [type(command) for event in [story.first] for command in event.commands]
    assert DispatchTask not in kinds
    assert story.status == "done"


# -- proposals -----------------------------------------------------------------------------------------------


def proposed(*specs: TaskSpec, **more: Any) -> Story:
    """A job whose first task an agent would rather do with the value 2."""
    story = Story(*(specs or (task("a", arguments={"value": 1}),)), **more)
    if story[0].status is TaskStatus.HELD:
        story.answered(True, by="Anna")
    story.begun()
    story.later(5).proposed(arguments={"value": 2}, reason="1 ist weg")
    return story


def test_other_arguments_are_asked_about_and_hold_no_slot() -> None:
    story = proposed(task("a", arguments={"value": 1}), task("b"), max_parallel=1)

    digest = digest_of(NOOP, {"value": 2})
    assert asked(story) == AskPerson(key="ask:0:1", task=0, epoch=1, question="proposal", digest=digest)
    run = story[0]
    assert (run.status, run.reason, run.since, run.agent) == (TaskStatus.HELD, "proposal", START + 5, "")
    assert (run.proposed, run.arguments, run.digest) == (Proposal({"value": 2}), None, "")
    assert run.error == TaskError(FailureClass.ENVIRONMENT, "proposed", "1 ist weg")
    assert (run.waited, run.attempts) == (0, 0)
    assert story.open == ["ask:0:1", "dispatch:1:1"]


def test_a_proposal_that_is_agreed_to_is_done_so() -> None:
    story = proposed(requester="Jörg")

    story.later(5).answered(True)

    run = story[0]
    assert (run.arguments, run.proposed, run.approved) == ({"value": 2}, None, True)
    assert (run.approvals, run.digest) == (("Jörg",), digest_of(NOOP, {"value": 2}))
    assert story.open == ["dispatch:0:2"]
    story.done()
    assert story.status == "done"


def test_what_is_agreed_to_is_literal() -> None:
    arguments = {"value": "{{ tasks.x.result.v }} and {{{", "more": ["{{"]}
    story = Story(task("x"), task("a", 0, references=(0,), arguments={"value": "{{ tasks.x.result.v }}"}))
    story.done(0, v=1)
    story.begun(1)
    story.proposed(1, arguments=arguments)
    assert asked(story, 1).digest == digest_of(NOOP, arguments)
    story.answered(True, 1)

    story.chosen(1)

    assert story[1].status is TaskStatus.ASSIGNED


def test_a_proposal_that_is_turned_down_is_a_refusal() -> None:
    story = proposed()

    story.answered(False, by="Anna")

    run = story[0]
    assert (run.status, run.reason, run.waited) == (TaskStatus.HELD, "environment", 1_000)
    assert (run.arguments, run.proposed, run.digest, run.approved) == (None, None, "", False)
    said = "Anna said no to what the agent proposed"
    assert run.error == TaskError(FailureClass.ENVIRONMENT, "proposed", said)
    assert story.open == ["retry:0:1"]


def test_a_proposal_to_an_approved_task_needs_as_many_people() -> None:
    story = Story(
        approval(approvals=2, approvers=("Anna", "Uwe", "Ida"), approval_expires=9_000), requester="Ida"
    )
    story.answered(True, by="Anna")
    story.answered(True, by="Uwe")
    story.begun()
    first = story[0].digest
    story.proposed(arguments={"value": 2})
    assert (asked(story).after, asked(story).people) == (9_000, ("Anna", "Uwe", "Ida"))
    assert (story[0].approvals, story[0].digest, story[0].approved) == (("Anna", "Uwe"), first, True)

    story.answered(True, by="Uwe")

    assert story[0].proposed == Proposal({"value": 2}, ("Uwe",))
    assert story[0].status is TaskStatus.HELD
    assert story.ignored(story.answer(True, by="Uwe")) == "duplicate"
    assert story.ignored(story.answer(True, by="Ida")) == "own_request"
    assert story.ignored(story.answer(True, by="Anna", digest=first)) == "other_action"
    story.answered(True, by="Anna")
    assert (story[0].approvals, story[0].digest) == (("Uwe", "Anna"), digest_of(NOOP, {"value": 2}))


def test_the_approval_of_the_action_survives_a_proposal_that_is_turned_down() -> None:
    story = proposed(approval())
    first = digest_of(NOOP, {"value": 1})

    story.answered(False, by="Uwe")

    assert (story[0].approved, story[0].approvals, story[0].digest) == (True, ("Anna",), first)
    story.fired("retry:0:1")
    story.chosen()
    assert story[0].status is TaskStatus.ASSIGNED


def test_a_proposal_nobody_agrees_to_in_time_is_a_refusal() -> None:
    story = proposed(approval(approval_expires=9_000))

    story.later(9_000).fired("ask:0:1")

    said = "not enough people said yes in time to what the agent proposed"
    assert story[0].error == TaskError(FailureClass.ENVIRONMENT, "proposed", said)
    assert (story[0].reason, story.open) == ("environment", ["retry:0:1"])


def test_turning_down_is_bounded_as_all_waiting_is() -> None:
    story = proposed(environment_wait=999)

    story.answered(False)

    assert (story[0].status, story.status) == (TaskStatus.FAILED, "failed")


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ({"value": 1}, {"value": 1}),
        ({"value": {"secret": "own"}}, {"value": {"secret": "other"}}),
        ({"value": {"secret": "own"}}, {"value": {"secret": "own", "prefix": "x"}}),
        ({"value": {"secret": "own"}}, {"value": 3, "other": {"secret": "own"}}),
    ],
)
def test_nobody_is_asked_about_the_same_again_or_about_a_secret_that_was_not_there(
    own: dict[str, Any], other: dict[str, Any]
) -> None:
    story = Story(task("a", arguments=own))
    story.begun()

    story.proposed(arguments=other, run_at=START + 50_000)

    assert (story[0].reason, story.open) == ("environment", ["retry:0:1"])


def test_a_secret_that_is_there_may_stay() -> None:
    story = Story(task("a", arguments={"key": {"secret": "own"}, "value": 1}))
    story.begun()

    story.proposed(arguments={"key": {"secret": "own"}, "value": 2})

    assert story[0].reason == "proposal"


def test_what_is_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    story = Story(task("a"))
    story.begun()

    story.proposed(arguments={"value": deep})

    assert story[0].reason == "environment"


def test_other_arguments_in_a_run_that_is_ending_end_the_attempt() -> None:
    story = Story(task("a", arguments={"value": 1}), task("b"))
    story.begun(0)
    story.begun(1)
    story.failed(1, FailureClass.BUSINESS)

    story.proposed(arguments={"value": 2})

    assert (story[0].status, story.status) == (TaskStatus.FAILED, "failed")


def test_a_run_that_ends_takes_the_question_about_a_proposal_back() -> None:
    story = proposed()

    story.cancelled()

    assert (story[0].status, story.status, story.open) == (TaskStatus.CANCELLED, "cancelled", [])


def test_what_was_agreed_stays_for_the_next_run_and_is_asked_anew_where_a_yes_is_needed() -> None:
    for spec, status in ((task("a", arguments={"value": 1}), "ready"), (approval(), "held")):
        story = proposed(spec)
        story.answered(True, by="Uwe")
        story.begun()
        story.failed(failure=FailureClass.BUSINESS)

        story.reopened()
        story.start()

        assert story.tasks == [status]
        assert (story[0].arguments, story[0].approvals, story[0].approved) == ({"value": 2}, (), False)
        assert story[0].digest == (digest_of(NOOP, {"value": 2}) if spec.approval else "")


def test_an_answer_is_weighed_without_touching_the_job() -> None:
    story = Story(approval(approvals=2, effect=VERIFIABLE))
    before = story[0]

    decide(story.job, story.answer(True))

    assert story[0] is before
