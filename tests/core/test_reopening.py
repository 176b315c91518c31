"""The next run as a person wants it: fixed, skipped, done by hand, done again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.situations import START, Story, task

from cpa.core import events
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.job import LOGIC, TaskRun, TaskStatus
from cpa.core.machine import decide
from cpa.core.reopening import with_pages

BUSINESS = FailureClass.BUSINESS


def failed(**more: Any) -> Story:
    """a done, b failed; c needs b, d needs a and is done, e needs d."""
    story = Story(
        task("a"), task("b", 0), task("c", 1), task("d", 0), task("e", 3, arguments={"v": 1}), **more
    )
    story.done(0, x=1)
    story.done(3, x=2)
    story.done(4)
    story.begun(1)
    story.failed(1, BUSINESS)
    assert story.tasks == ["done", "failed", "waiting", "done", "done"]
    return story


def refused(story: Story, **more: Any) -> str:
    return story.ignored(events.JobReopened(time=story.time, by="x", **more))


def test_fixed_arguments_replace_the_plans_in_this_run_and_those_after_it() -> None:
    story = failed()

    story.later(7).reopened(fixes={"1": {"to": "ä"}, "2": {}})

    assert story[1] == TaskRun(1, epoch=1, since=story.time, arguments={"to": "ä"}, hands=("Jörg",))
    assert story[2] == TaskRun(2, since=story.time, arguments={}, hands=("Jörg",))
    story.start()
    story.begun(1)
    assert story[1].arguments == {"to": "ä"}
    story.failed(1, BUSINESS)
    story.reopened()
    assert (story[1].arguments, story[2].arguments) == ({"to": "ä"}, {})
    story.start()
    story.done(1)
    story.done(2)
    assert story.status == "done"


def test_an_approval_is_of_the_fixed_arguments() -> None:
    story = Story(task("a", approval=True, approvals=1, arguments={"v": 1}))
    first = story[0].digest
    story.answered(False)

    story.reopened(fixes={"0": {"v": 2}})
    story.start()

    assert story[0].digest not in ("", first)
    story.answered(True)
    story.done()


def test_a_skipped_task_lets_go_what_only_comes_after_it() -> None:
    story = failed()

    story.later(7).reopened(skip=(1,))

    skipped = {"reason": "skipped_by_person", "hands": ("Jörg",)}
    assert story[1] == TaskRun(1, TaskStatus.SKIPPED, epoch=1, since=story.time, **skipped)
    assert (story.job.head.open, story.status) == (1, "pending")
    story.start()
    assert story.open == ["dispatch:2:1"]


def test_what_uses_a_skipped_result_is_skipped() -> None:
    story = Story(task("a"), task("b", 0, references=(0,)), task("c", 1))
    story.begun()
    story.failed(failure=BUSINESS)

    story.reopened(skip=(0,))
    story.start()

    assert story.tasks == ["skipped", "skipped", "ready"]


def test_what_a_person_did_has_its_result() -> None:
    story = Story(task("a"), task("b", 0, when="tasks.a.result.x == 5"))
    story.begun()
    story.failed(failure=BUSINESS)

    story.later(3).reopened(done={"0": {"x": 5}})

    done = {"reason": "done_by_person", "result": {"x": 5}, "hands": ("Jörg",)}
    assert story[0] == TaskRun(0, TaskStatus.DONE, epoch=1, since=START + 3, **done)
    story.start()
    assert story.open == ["dispatch:1:1"]


def test_a_later_task_can_be_settled_while_an_earlier_one_is_done_again() -> None:
    story = failed()

    story.reopened(skip=(2,))
    story.start()

    assert story.tasks == ["done", "ready", "skipped", "done", "done"]
    story.done(1)
    assert story.status == "done"


def test_a_settled_task_lets_its_dependents_go_once() -> None:
    story = Story(task("a"), task("b", 0), task("c"), task("d", 1, 2))
    story.begun(0)
    story.begun(2)
    story.failed(0, BUSINESS)
    story.failed(2, BUSINESS)

    story.reopened(skip=(1,))
    story.start()
    story.done(0)

    assert story.tasks == ["done", "skipped", "ready", "waiting"]
    assert story.job.waiting[3] == 1


def test_what_depends_on_a_task_is_found_once_however_many_ways_lead_there() -> None:
    layers = [task(f"t{at}", *(() if at < 2 else (at // 2 * 2 - 2, at // 2 * 2 - 1))) for at in range(60)]
    story = Story(*layers, task("last", 58, 59))
    for index in range(60):
        story.done(index)
    story.begun(60)
    story.failed(60, BUSINESS)

    story.reopened(restart=(0,))

    assert story.tasks == ["waiting", "done", *["waiting"] * 59]


def test_a_settled_task_whose_dependencies_are_all_settled_is_not_offered_again() -> None:
    story = failed()

    story.reopened(done={"1": {}, "2": {}})
    assert story.job.head.open == 0
    story.start()

    assert (story.status, story.tasks) == ("done", ["done"] * 5)


def test_what_is_done_again_goes_back_with_all_that_depend_on_it() -> None:
    story = failed()

    story.later(5).reopened(restart=(3,))

    assert story.tasks == ["done", "waiting", "waiting", "waiting", "waiting"]
    assert story[3] == TaskRun(3, epoch=1, since=story.time)
    assert story.job.waiting == [0, 0, 1, 0, 1]
    assert story.job.head.open == 4
    story.start()
    assert story.open == ["dispatch:1:2", "dispatch:3:2"]
    story.done(3)
    story.done(4)
    assert story[4].epoch == 2


def test_the_first_done_again_is_the_whole_job_again() -> None:
    story = failed()

    story.reopened(restart=(0, 4))

    assert story.tasks == ["waiting"] * 5
    story.start()
    assert story.open == ["dispatch:0:2"]


def test_what_was_skipped_by_its_condition_is_weighed_again() -> None:
    story = Story(task("a"), task("b", 0, when="tasks.a.result.x == 1"), task("c", 1))
    story.done(0, x=0)
    story.begun(2)
    story.failed(2, BUSINESS)

    story.reopened(done={"0": {"x": 1}}, restart=(0,))

    assert (story[0].result, story.tasks) == ({"x": 1}, ["done", "waiting", "waiting"])
    story.start()
    assert story.tasks == ["done", "ready", "waiting"]


def test_a_done_task_can_be_skipped_instead() -> None:
    story = failed()

    story.reopened(skip=(3,), restart=(3,))

    assert story.tasks == ["done", "waiting", "waiting", "skipped", "waiting"]
    assert story[3].result is None


def test_a_task_done_again_can_be_fixed() -> None:
    story = failed()

    story.reopened(fixes={"4": {"v": 2}}, restart=(4,))

    assert story[4] == TaskRun(4, epoch=1, since=story.time, arguments={"v": 2}, hands=("Jörg",))


@pytest.mark.parametrize(
    "more",
    [
        {"skip": (5,)},
        {"skip": (-1,)},
        {"restart": (5,)},
        {"restart": (-1,)},
        {"fixes": {"5": {}}},
        {"done": {"-1": {}}},
        {"done": {"01": {}}},
        {"fixes": {"a": {}}},
        {"fixes": {"": {}}},
        {"fixes": {"²": {}}},
        {"fixes": {"9" * 5_000: {}}},
        {"fixes": {"١": {}}},
    ],
)
def test_what_names_no_task_is_refused(more: dict[str, Any]) -> None:
    assert refused(failed(), **more) == "no_such_task"


@pytest.mark.parametrize(
    "more",
    [
        {"skip": (1, 1)},
        {"skip": (1,), "done": {"1": {}}},
        {"skip": (1,), "fixes": {"1": {}}},
        {"fixes": {"1": {}}, "done": {"1": {}}},
    ],
)
def test_one_task_is_one_thing(more: dict[str, Any]) -> None:
    assert refused(failed(), **more) == "said_twice"


@pytest.mark.parametrize("more", [{"skip": (0,)}, {"done": {"3": {}}}, {"fixes": {"4": {}}}])
def test_what_stays_done_is_not_changed(more: dict[str, Any]) -> None:
    assert refused(failed(), **more) == "still_done"
    assert refused(failed(), **more, restart=(1,)) == "still_done"


def gated(logic: int = LOGIC, needs: tuple[int, ...] = (0,), **more: Any) -> Story:
    """People must allow `gate`, and said no; `pay` waits for it."""
    gate = task("gate", approval=True, **{"approvals": 1} | more)
    story = Story(gate, task("pay", *needs), requester="Anna", logic=logic)
    story.answered(False, by="Uwe")
    return story


@pytest.mark.parametrize("way", [{"skip": (0,)}, {"done": {"0": {}}}])
@pytest.mark.parametrize(
    ("story", "by"),
    [
        (gated(), "Anna"),
        (gated(approvals=2), "Ida"),
        (gated(approvers=("Uwe",)), "Ida"),
        (gated(approvals=2, approvers=("Uwe", "Ida")), "Ida"),
    ],
    ids=["requester", "one of two", "not asked", "one of two asked"],
)
def test_what_people_must_allow_first_is_not_passed_by_who_may_not_allow_it_alone(
    story: Story, by: str, way: dict[str, Any]
) -> None:
    assert story.ignored(story.reopening(by=by, **way)) == "approval_needed"


@pytest.mark.parametrize("way", [{"skip": (0,)}, {"done": {"0": {}}}])
@pytest.mark.parametrize(
    ("story", "by"),
    [
        (gated(), "Ida"),
        (gated(approvers=("Uwe",)), "Uwe"),
        (gated(needs=()), "Anna"),
        (gated(logic=3), "Anna"),
    ],
    ids=["anybody may", "asked", "nothing waits", "before logic 4"],
)
def test_who_could_allow_it_alone_or_lets_nothing_pass_may_settle_it(
    story: Story, by: str, way: dict[str, Any]
) -> None:
    assert decide(story.job, story.reopening(by=by, **way)).changes is not None


@pytest.mark.parametrize("way", [{"skip": (1,)}, {"done": {"1": {}}}])
@pytest.mark.parametrize(
    ("by", "fixes"),
    [
        ("Anna", {"0": {"to": "rita"}}),
        ("Anna", {}),
        ("Uwe", {"0": {"to": "uwe"}}),
        ("Uwe", {"1": {"to": "u"}}),
    ],
    ids=["requester corrects", "requester", "corrector", "corrector of itself"],
)
def test_a_yes_of_an_earlier_run_does_not_open_a_gate_that_is_done_again(
    by: str, fixes: dict[str, Any], way: dict[str, Any]
) -> None:
    gate = task("gate", 0, approval=True, approvals=1, references=(0,))
    story = Story(task("read"), gate, task("pay", 1), requester="Anna")
    story.done()
    story.answered(True, 1, by="Ida")
    story.done(1)
    story.begun(2)
    story.failed(2, BUSINESS)
    named = {"1"} & fixes.keys()
    first = story.reopening(by=by, restart=(0,), fixes=fixes, **({} if named else way))

    if named:
        story.tell(first)
        story.start()
        story.done(0)
        story.answered(False, 1, by="Ida")
        first = story.reopening(by=by, **way)

    assert story.ignored(first) == "approval_needed"


def test_who_settled_a_task_once_may_allow_what_uses_it_when_it_is_done_again() -> None:
    asked = {"approvals": 1, "approvers": ("Uwe", "Ida"), "references": (0,)}
    story = Story(task("read"), task("pay", 0, approval=True, **asked), requester="Anna")
    story.begun()
    story.failed(0, BUSINESS)
    story.reopened(by="Uwe", done={"0": {}})
    story.start()
    story.answered(False, 1, by="Ida")

    story.reopened(by="Ida", restart=(0,), fixes={"1": {"v": 2}})
    story.start()
    story.done(0)
    story.answered(True, 1, by="Uwe")


def test_who_skipped_a_gate_that_is_done_again_may_skip_it_again() -> None:
    story = gated()
    story.reopened(by="Ida", skip=(0,))
    story.start()
    story.begun(1)
    story.failed(1, BUSINESS)

    story.reopened(by="Ida", restart=(0,), skip=(0,))


def test_what_was_allowed_and_failed_may_be_done_by_hand_by_whoever_asked_for_it() -> None:
    story = Story(task("pay", approval=True, approvals=1), task("note", 0), requester="Anna")
    story.answered(True, by="Uwe")
    story.begun()
    story.failed(0, BUSINESS)

    story.reopened(by="Anna", done={"0": {}})

    assert story[0].status is TaskStatus.DONE


@pytest.mark.parametrize("fixes", [{"1": {"v": 2}}, {"0": {"v": 2}}], ids=["itself", "what it uses"])
def test_a_correction_after_which_too_few_could_allow_the_task_is_refused(fixes: dict[str, Any]) -> None:
    asked = {"approvals": 2, "approvers": ("Uwe", "Ida"), "references": (0,)}
    story = Story(task("read"), task("pay", 0, approval=True, **asked), requester="Anna")
    story.begun()
    story.failed(0, BUSINESS)

    assert story.ignored(story.reopening(by="Uwe", fixes=fixes)) == "nobody_left"
    story.reopened(by="Jörg", fixes=fixes)


def test_who_is_left_is_asked_of_what_is_done_in_the_next_run_alone() -> None:
    asked = {"approval": True, "approvals": 1, "approvers": ("Uwe",), "references": (0,)}
    story = Story(task("read"), task("pay", 0, **asked), task("gift", 0, **asked), requester="Anna")
    story.done()
    story.answered(True, 1, by="Uwe")
    story.done(1)
    story.answered(False, 2, by="Uwe")

    story.reopened(by="Uwe", done={"2": {}})

    assert story.tasks == ["done", "done", "done"]


def test_a_cancelled_job_is_taken_up_in_the_same_way() -> None:
    story = Story(task("a"), task("b", 0))
    story.begun()
    story.cancelled()
    story.failed()
    assert story.tasks == ["cancelled", "waiting"]

    story.reopened(done={"0": {}}, skip=(1,))
    story.start()

    assert story.status == "done"


def test_only_a_dead_letter_may_be_reopened_past_its_retries_whatever_is_said() -> None:
    story = failed(max_retries=0)

    assert refused(story, skip=(1,)) == "retries_used_up"
    story.reopened(skip=(1,), dead_letter=True)


def browsing() -> Story:
    """Opened, signed in, something kept and something told: done; then a wait failed, a download comes after it."""
    story = Story(
        task("open", action="web.goto"),
        task("sign_in", 0, action="web.click"),
        task("keep", 1, action="file.write"),
        task("signed_in", 1, action="web.wait_for"),
        task("download", 3, action="web.download"),
        task("told", action="mail.send", effect=EffectClass.UNSAFE),
    )
    for index in (0, 1, 2, 5):
        story.done(index)
    story.begun(3)
    story.failed(3, BUSINESS)
    return story


def again(story: Story, **more: Any) -> tuple[int, ...]:
    return with_pages(story.job, events.JobReopened(time=story.time, by="x", **more)).restart


def test_a_browser_task_that_runs_again_gets_its_page_again() -> None:
    story = browsing()
    assert again(story) == (0, 1)

    story.reopened(restart=again(story))
    story.start()
    assert story.tasks == ["ready", "waiting", "waiting", "waiting", "waiting", "done"]
    for index in range(5):
        story.done(index)
    assert story.status == "done"


def test_what_a_person_says_about_the_next_run_stays_said() -> None:
    story = browsing()
    assert again(story, restart=(1,)) == (0, 1)
    assert again(story, done={"3": {}}) == (0, 1)
    assert again(story, skip=(3, 4)) == ()
    assert again(story, skip=(0,)) == ()
    assert again(story, skip=(9,), restart=(8,)) == (8,)


@pytest.mark.parametrize(
    "second",
    [
        {"effect": EffectClass.UNSAFE},
        {"effect": EffectClass.UNSAFE, "action": "http.request"},
        {"action": "person.ask"},
    ],
)
def test_nothing_is_repeated_that_must_not_be(second: dict[str, Any]) -> None:
    story = Story(
        task("open", action="web.goto"), task("second", 0, **second), task("read", 1, action="web.extract")
    )
    story.done(0)
    if second.get("action") == "person.ask":
        story.answered(True, 1)
    else:
        story.done(1)
    story.begun(2)
    story.failed(2, BUSINESS)
    assert again(story) == ()


def test_what_a_person_settled_is_not_done_again() -> None:
    story = browsing()
    story.reopened(restart=(1,), done={"1": {}})
    story.start()
    story.done(2)
    story.begun(3)
    story.failed(3, BUSINESS)
    assert again(story) == ()


def test_other_tasks_need_no_page() -> None:
    assert again(failed()) == ()
