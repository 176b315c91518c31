"""The stories the committed histories tell: the main paths of a job, and drawn worlds in which much happens."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from tests.core.situations import START, UNSAFE, VERIFIABLE, Story, task

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.job import RetryPolicy, TaskSpec
from cpa.testing.schedules.schedule import Schedule
from cpa.testing.schedules.seen import Seen
from cpa.testing.schedules.world import World

BUSINESS, ENVIRONMENT = FailureClass.BUSINESS, FailureClass.ENVIRONMENT
WORLDS = (24, 65, 121, 181, 228, 279, 297, 341, 358)
"""Seeds; the histories are kept, so it does not matter when other code draws other worlds from them."""


def linear() -> Story:
    """three tasks, one after the other"""
    story = Story(task("login"), task("find", 0), task("mail", 1), start=False, priority=5)
    story.later(20).start()
    story.begun(0)
    story.later(300).succeeded(0, url="https://portal.example/")
    story.done(1, file={"artifact": "sha256:00", "size": 3})
    story.later(50).done(2, message_id="<1@example>")
    return story


def fork_and_join() -> Story:
    """four tasks over two slots between a first and a last"""
    middle = [task(f"m{index}", 0) for index in range(4)]
    story = Story(task("first"), *middle, task("last", 1, 2, 3, 4), max_parallel=2)
    story.done(0)
    for index in (2, 1, 3, 4):
        story.later(7).done(index, value=index)
    story.done(5)
    return story


def retry() -> Story:
    """two technical failures, then a success"""
    story = Story(task("a", retry=RetryPolicy(max_attempts=3, first_delay=700)))
    for epoch, after in ((1, 0), (2, 30_000)):
        story.begun()
        story.later(100).failed(retry_after=after, remedy="warten")
        story.later(60_000).fired(f"retry:0:{epoch}")
    story.done()
    return story


def agents_lost() -> Story:
    """agents end over a task: among others, then with nothing else; one that lives begins the count anew"""
    story = Story(task("a", retry=RetryPolicy(max_losses=2)))
    for epoch, among in ((1, 3), (2, 1), (3, 0), (4, 1), (5, 3), (6, 3)):
        story.begun()
        if epoch == 3:
            story.later(100).failed()
        else:
            story.later(100).lost(among=among)
        story.later(60_000).fired(f"retry:0:{epoch}")
    story.begun()
    story.lost(among=3)
    return story


def retries_used_up() -> Story:
    """attempts run out while a sibling finishes"""
    story = Story(task("a", retry=RetryPolicy(max_attempts=1)), task("b"), task("c", 0))
    story.begun(0)
    story.begun(1)
    story.failed(0)
    story.succeeded(1)
    return story


def environment() -> Story:
    """no agent, a refusal, a locked desktop, a lost lease; no attempt is burnt"""
    story = Story(task("a", retry=RetryPolicy(max_attempts=1)))
    story.deferred(after=2_000)
    story.later(2_000).fired("retry:0:1")
    story.chosen()
    story.tell(events.TaskRefused(**story.attempt(0), reason="kein Bildschirm"))
    story.later(1_000).fired("retry:0:2")
    story.begun()
    story.failed(failure=ENVIRONMENT, code="desktop_locked")
    story.later(1_000).fired("retry:0:3")
    story.begun()
    story.lost()
    story.later(1).fired("retry:0:4")
    story.done()
    return story


def outcome_verified() -> Story:
    """a mail whose outcome is unknown is found at the third look"""
    story = Story(task("mail", effect=VERIFIABLE), task("log", 0))
    story.begun()
    story.fired("request:0:1")
    for _ in range(2):
        story.verified("unknown", look_again=60_000)
        story.later(500).fired("look:0:1")
    story.verified("happened", result={"message_id": "<ä@example>"}, evidence="gefunden")
    story.done(1)
    return story


def outcome_absent() -> Story:
    """an effect is not found after a lost lease, tried again and proved; the verifier fell silent once"""
    story = Story(task("mail", effect=VERIFIABLE))
    story.begun()
    story.lost()
    story.verified("absent")
    story.later(2_000).fired("retry:0:1")
    story.begun()
    story.succeeded(sent=True)
    story.later(120_000).fired("verify:0:2")
    story.later(1).fired("look:0:2")
    story.verified("happened")
    return story


def claimed_and_absent() -> Story:
    """a claimed success is not found, and is not done again"""
    story = Story(task("mail", effect=VERIFIABLE), task("file", 0))
    story.begun()
    story.succeeded(sent=True)
    story.later(60_000).verified("absent", evidence="in keinem Postfach")
    story.done(1)
    return story


def late_success() -> Story:
    """the agent's answer comes while its effect is being looked for, and is believed in the end"""
    story = Story(task("mail", effect=VERIFIABLE))
    story.begun()
    story.lost()
    story.later(40).succeeded(sent=True)
    story.verified("unknown")
    return story


def in_doubt_answered() -> Story:
    """an order may have been placed; a person says no, then yes"""
    story = Story(task("order", effect=UNSAFE), task("mail", 0))
    story.begun()
    story.failed(failure=FailureClass.UNKNOWN_OUTCOME, code="timeout", message="keine Antwort")
    story.later(3_600_000).answered(False)
    story.later(2_000).fired("retry:0:1")
    story.begun()
    story.lost()
    story.answered(True)
    story.done(1)
    return story


def cancel() -> Story:
    """one attempt stops, one still succeeds, one never answers; what waits is dropped"""
    story = Story(*(task(name) for name in "abcde"), task("f", 0), max_parallel=4)
    for index in range(3):
        story.begun(index)
    story.deferred(3)
    story.cancelled("hat sich erledigt")
    story.failed(0, BUSINESS, message="stopped")
    story.later(10).succeeded(1)
    story.later(15_000).fired("cancel:2:1")
    return story


def cancel_before_start() -> Story:
    """cancelled while it stood in line"""
    story = Story(task("a"), start=False)
    story.later(9).cancelled()
    return story


def reopen() -> Story:
    """fails, is run again from the failed task, and is done"""
    story = Story(task("a"), task("b", 0), task("c", 1), timeout=90_000, max_parallel=1)
    story.done(0, x=1)
    story.begun(1)
    story.failed(1, BUSINESS, code="login_refused", message="falsches Kennwort")
    story.later(5_000).reopened()
    story.later(5).start()
    story.done(1)
    story.done(2)
    return story


def dead_letter() -> Story:
    """its retries are used up; reopened from the inbox of dead letters"""
    story = Story(task("a"), max_retries=1)
    for again in (False, True):
        story.begun()
        story.failed(failure=FailureClass.POLICY, code="not_allowed")
        story.reopened(dead_letter=again)
        story.start()
    story.done()
    return story


def deadline() -> Story:
    """the deadline passes while one task runs and one stands in line"""
    story = Story(task("a"), task("b"), due=START + 60_000, max_parallel=1)
    story.begun(0)
    story.later(60_000).fired("deadline")
    story.later(15_000).fired("cancel:0:1")
    return story


def timeout() -> Story:
    """the job's time is up while a question is open"""
    story = Story(task("a", approval=True), task("b", effect=UNSAFE), timeout=5_000)
    story.begun(1)
    story.lost(1)
    story.later(5_000).fired("timeout")
    story.answered(False, 1)
    return story


def approval() -> Story:
    """one task is allowed, another denied"""
    story = Story(task("a", approval=True), task("b", 0, approval=True))
    story.later(90_000).answered(True)
    story.done(0)
    story.answered(False, 1)
    return story


def skip() -> Story:
    """a condition does not hold; what uses the skipped result is skipped, what only comes after it goes"""
    story = Story(
        task("find"),
        task("mail", 0, when="tasks.find.result.count > 0"),
        task("log", 1, references=(1,)),
        task("tidy", 2),
        task("also", 0, when="tasks.find.result.count == 0"),
    )
    story.done(0, count=0)
    story.done(4)
    story.done(3)
    return story


def later_proposed() -> Story:
    """an agent would rather do it tonight, and does"""
    story = Story(task("a"), environment_wait=40_000_000)
    story.begun()
    story.proposed(run_at=story.time + 36_000_000, reason="nachts")
    story.later(36_000_000).fired("retry:0:1")
    story.done()
    return story


def discarded() -> Story:
    """a dead letter is discarded, and found again after all"""
    story = Story(task("a"), max_retries=0)
    story.begun()
    story.failed(failure=FailureClass.POLICY, code="not_allowed")
    story.later(9).discarded("hat sich erledigt")
    story.later(9).reopened(dead_letter=True)
    story.start()
    story.done()
    return story


def allowed_by_two() -> Story:
    """two of three people must allow a payment: one of them twice, one who asked for it, one other amount"""
    pay = task(
        "pay",
        0,
        approval=True,
        approvals=2,
        approvers=("Anna", "Jörg", "Uwe"),
        approval_expires=86_400_000,
        references=(0,),
        arguments={"value": "{{ tasks.sum.result.value }} EUR"},
    )
    story = Story(task("sum"), pay, requester="Jörg")
    story.done(0, value=12)
    story.later(60_000).answered(True, 1, by="Anna", note="geprüft")
    assert story.ignored(story.answer(True, 1, by="Anna")) == "duplicate"
    assert story.ignored(story.answer(True, 1, by="Jörg")) == "own_request"
    assert story.ignored(story.answer(True, 1, by="Uwe", digest="00")) == "other_action"
    story.later(60_000).answered(True, 1, by="Uwe")
    story.begun(1)
    story.failed(1)
    story.later(2_000).fired("retry:1:1")
    story.done(1)
    return story


def approval_expired() -> Story:
    """nobody allows it in time; in the next run somebody says no, in the one after that yes"""
    story = Story(task("a", approval=True, approvals=1, approval_expires=60_000), max_retries=5)
    story.later(60_000).fired("ask:0:0")
    story.reopened()
    story.start()
    story.later(5).answered(False, by="Anna", note="zu teuer")
    story.reopened()
    story.start()
    story.answered(True, by="Anna")
    story.done()
    return story


def asked_for_words() -> Story:
    """a person says which amount and to whom, another will not say, a third never answers"""

    def ask(name: str, *needs: int, **more: object) -> TaskSpec:
        arguments = {"question": "Wie viel?", "form": {"x": {"type": "number"}}} | more
        return replace(task(name, *needs, arguments=arguments, timeout=60_000), action="person.ask")

    story = Story(
        ask("one"), task("use", 0, references=(0,)), ask("two", 1, **{"for": "Anna"}), ask("three", 2)
    )
    story.later(9).answered(True, by="Uwe", answer={"x": 5})
    story.done(1)
    assert story.ignored(story.answer(True, 2, by="Uwe", answer={"x": 6})) == "not_approver"
    story.answered(False, 2, by="Anna")
    story.reopened()
    story.start()
    story.answered(True, 2, by="Anna", answer={"x": 6})
    story.later(60_000).fired("ask:3:0")
    return story


def otherwise_proposed() -> Story:
    """an agent would rather send elsewhere: turned down, then agreed to, also where an approval is needed"""
    story = Story(
        task("a", arguments={"to": "a@x.example"}),
        task("b", 0, approval=True, approvals=1, arguments={"to": "b@x.example"}),
    )
    for yes in (False, True):
        story.begun()
        story.proposed(arguments={"to": "{{ä}}@y.example"}, reason="umgezogen")
        story.later(60_000).answered(yes, by="Anna")
        if not yes:
            story.later(1_000).fired("retry:0:1")
    story.done()
    story.answered(True, 1, by="Anna")
    story.begun(1)
    story.proposed(1, arguments={"to": "c@x.example"})
    story.answered(True, 1, by="Uwe")
    story.done(1)
    return story


def taken_up() -> Story:
    """a failed job is taken up: one task fixed, one skipped, one done by hand, one done again with what needs it"""
    story = Story(
        task("a"),
        task("b", 0),
        task("c", 1),
        task("d", 0),
        task("e", 3, when="tasks.d.result.x > 1"),
        task("f", 1),
    )
    story.done(0, x=1)
    story.done(3, x=1)
    story.begun(1)
    story.failed(1, BUSINESS, code="unknown_customer")
    story.later(9).reopened(
        fixes={"1": {"to": "ä@b.example"}}, skip=(2,), done={"5": {"x": 3}}, restart=(3,), dead_letter=True
    )
    story.start()
    story.done(3, x=2)
    story.done(1)
    story.done(4)
    return story


def corrected() -> Story:
    """who corrects a task, or gives a result it uses, does not allow it; who asked for the job passes no gate"""
    pay = {"arguments": {"to": "{{ tasks.read.result.to }}"}, "references": (0,)}
    story = Story(
        task("read"),
        task("gate", 0, approval=True, approvals=1, approvers=("Anna", "Uwe", "Ida")),
        task("pay", 0, 1, approval=True, approvals=1, **pay),
        requester="Anna",
    )
    story.chosen(0)
    story.failed(0, BUSINESS)
    by_hand = {"0": {"to": "büro"}}
    assert story.ignored(story.reopening(by="Anna", done=by_hand, skip=(1,))) == "approval_needed"
    story.later(9).reopened(by="Uwe", done=by_hand)
    story.start()
    story.answered(True, 1, by="Uwe")
    story.done(1)
    assert story.ignored(story.answer(True, 2, by="Uwe")) == "own_request"
    story.answered(False, 2, by="Ida")
    story.later(9).reopened(by="Ida", fixes={"2": {"to": "lager"}})
    story.start()
    assert story.ignored(story.answer(True, 2, by="Ida")) == "own_request"
    story.answered(True, 2, by="Jörg")
    story.done(2)
    return story


STORIES: tuple[Callable[[], Story], ...] = (
    linear,
    fork_and_join,
    retry,
    agents_lost,
    retries_used_up,
    environment,
    outcome_verified,
    outcome_absent,
    claimed_and_absent,
    late_success,
    in_doubt_answered,
    cancel,
    cancel_before_start,
    reopen,
    dead_letter,
    deadline,
    timeout,
    approval,
    skip,
    later_proposed,
    discarded,
    allowed_by_two,
    approval_expired,
    asked_for_words,
    otherwise_proposed,
    taken_up,
    corrected,
)


def world(seed: int) -> World:
    drawn = World(Schedule(seed=seed), Seen())
    drawn.live()
    return drawn
