"""What the world sees of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.situations import START, UNSAFE, Story, task

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.job import JobStatus, TaskRun
from cpa.core.views import (
    Progress,
    event_view,
    job_detail,
    job_view,
    moment,
    question_id,
    questions,
    rfc3339,
    task_ids,
    task_views,
)


class Row:
    """A stored event as the trail hands it out."""

    job, number, leaf = "job-1", 4, "ab" * 32

    def __init__(self, event: events.Event) -> None:
        self.event = event


def test_times_are_utc_with_milliseconds() -> None:
    assert moment(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_795_509_000_123) == "2026-11-24T08:30:00.123Z"


def test_a_job_in_a_list_shows_its_head() -> None:
    story = Story(task("a"), start=False, priority=4, due=START + 60_000)

    view = job_view(story.job.head, "portal.invoice", "Hol die Rechnung für Müller")

    assert view.model_dump(mode="json", exclude_none=True) == {
        "id": "job-1",
        "status": "pending",
        "intent": "portal.invoice",
        "description": "Hol die Rechnung für Müller",
        "context": {},
        "priority": 4,
        "created_at": "1970-01-01T00:16:40.000Z",
        "updated_at": "1970-01-01T00:16:40.000Z",
        "deadline": "1970-01-01T00:17:40.000Z",
        "retry_count": 0,
        "last_seq": 1,
        "open_tasks": 1,
        "dead_letter": False,
        "discarded": False,
    }


def test_a_job_that_never_had_an_event_was_last_touched_when_it_was_made() -> None:
    head = Story(task("a")).job.head
    bare = type(head)(head.tenant, head.id, START + 7)

    assert job_view(bare, "", "").updated_at == moment(START + 7)


def test_a_running_job_shows_when_it_started_and_an_ended_one_when_and_why() -> None:
    story = Story(task("a"))
    running = job_view(story.job.head, "", "")
    assert (running.started_at, running.ended_at, running.reason) == (moment(START), None, None)
    story.begun()

    story.later(9).failed(failure=FailureClass.BUSINESS, message="wrong password")

    ended = job_view(story.job.head, "", "")
    assert (ended.ended_at, ended.reason) == (moment(START + 9), "wrong password")


def test_an_end_without_a_reason_names_its_cause() -> None:
    story = Story(task("a"))
    story.cancelled("")

    assert job_view(story.job.head, "", "").reason == "cancel"


def test_the_detail_of_a_job_has_its_plan_and_every_task() -> None:
    story = Story(
        task("a", arguments={"value": "ä"}, timeout=1_500),
        task("b", 0),
        description="Bitte",
        intent="x.y",
        context={"user": "Jörg"},
        max_retries=2,
    )
    story.begun()

    detail = job_detail(story.job.snapshot())

    job = detail.job
    assert (job.description, job.intent, job.context) == ("Bitte", "x.y", {"user": "Jörg"})
    assert (job.max_retries, job.dead_letter, job.error) == (2, False, None)
    assert detail.status == job.status == "running"
    assert detail.tasks[0].model_dump(mode="json") == {
        "id": "a",
        "index": 0,
        "action": "flow.noop",
        "status": "running",
        "depends_on": [],
        "arguments": {"value": "ä"},
        "timeout": 1.5,
        "effect": "idempotent",
        "attempts": 0,
        "epoch": 1,
        "agent": "agent-1",
        "since": "1970-01-01T00:16:40.000Z",
        "reason": None,
        "result": None,
        "error": None,
        "progress": None,
    }
    waiting = detail.tasks[1]
    assert (waiting.depends_on, waiting.since, waiting.agent) == (["a"], None, None)


def test_the_error_of_a_failed_job_is_that_of_the_task_that_failed_first() -> None:
    story = Story(task("a"), task("b"), max_retries=0)
    story.begun(0)
    story.begun(1)
    story.failed(1, FailureClass.BUSINESS, code="no", message="nein", remedy="ask")
    story.later(5).failed(0, FailureClass.POLICY)

    detail = job_detail(story.job.snapshot())

    assert detail.job.error is not None
    assert detail.job.error.model_dump() == {
        "failure": "business",
        "code": "no",
        "message": "nein",
        "remedy": "ask",
    }
    assert detail.tasks[0].error is not None
    assert detail.job.dead_letter


def test_of_two_tasks_that_failed_at_the_same_time_the_first_of_the_plan_is_told() -> None:
    story = Story(task("a"), task("b"))
    story.begun(0)
    story.begun(1)
    story.failed(1, FailureClass.BUSINESS, code="second")
    story.failed(0, FailureClass.BUSINESS, code="first")

    error = job_detail(story.job.snapshot()).job.error

    assert error is not None
    assert error.code == "first"


def test_a_job_that_failed_at_its_deadline_has_no_tasks_error() -> None:
    story = Story(task("a"), start=False, due=START + 5)
    story.fired("deadline")

    assert job_detail(story.job.snapshot()).job.error is None


def test_tasks_are_shown_a_page_at_a_time() -> None:
    snapshot = Story(*(task(name) for name in "abcde")).job.snapshot()

    assert [view.id for view in task_views(snapshot)] == list("abcde")
    assert [view.id for view in task_views(snapshot, offset=1, limit=2)] == ["b", "c"]
    assert [view.id for view in task_views(snapshot, offset=4, limit=9)] == ["e"]
    assert task_ids(snapshot.spec) == tuple("abcde")


def test_an_event_is_told_in_a_line() -> None:
    row = Row(events.AgentChosen(time=START, task=1, epoch=2, agent="agent-7"))

    view = event_view(row, ("a", "mail"))

    assert (view.seq, view.type, view.time) == (4, "agent_chosen", moment(START))
    assert (view.task, view.agent, view.epoch, view.leaf) == ("mail", "agent-7", 2, "ab" * 32)
    assert "mail" in view.summary
    assert view.artifacts == []


def test_why_a_task_failed_is_told_in_the_language_of_the_request() -> None:
    row = Row(
        events.TaskFailed(
            time=START,
            task=0,
            epoch=1,
            failure=FailureClass.BUSINESS,
            code="secret_missing",
            message="the secret 'tür' is not set",
        )
    )

    told = "Task a failed, business secret_missing: "
    assert event_view(row, ("a",)).summary == f"{told}the secret 'tür' is not set"
    assert event_view(row, ("a",), "de").summary == f"{told}das Geheimnis „tür“ ist nicht gesetzt"


def test_an_event_about_no_task_names_none() -> None:
    view = event_view(Row(events.JobStarted(time=START)), ("a",))

    assert (view.task, view.agent, view.epoch) == (None, None, None)


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        ({"approval": True}, "approval", "May task mail do flow.noop?"),
        (
            {"effect": UNSAFE},
            "doubt",
            "Did flow.noop of task mail happen? Its outcome is unknown. After a no it is done again, as long as it "
            "has tries left; `cpa cancel` ends the job instead.",
        ),
    ],
)
def test_an_open_question_shows_what_must_be_known_to_answer_it(
    spec: dict[str, Any], kind: str, text: str
) -> None:
    story = Story(task("other"), task("mail", arguments={"to": "jörg@example"}, **spec))
    if kind == "doubt":
        story.begun(1)
        story.lost(1)

    [question] = questions(story.job.snapshot())

    epoch = story[1].epoch
    assert question.id == question_id("job-1", 1, epoch) == f"job-1.1.{epoch}"
    assert (question.job, question.task, question.kind, question.text) == ("job-1", "mail", kind, text)
    assert question.arguments == {"to": "jörg@example"}
    assert question.since == moment(START)


def test_a_job_says_what_ends_its_run_until_it_has_ended() -> None:
    story = Story(task("a"), task("mail", effect=UNSAFE))
    story.begun(1)
    assert job_detail(story.job.snapshot()).job.ending is None
    story.lost(1)
    story.cancelled()

    waiting = job_detail(story.job.snapshot())
    assert (waiting.status, waiting.job.ending) == (JobStatus.RUNNING, "cancel")

    story.answered(False, 1)
    over = job_detail(story.job.snapshot())
    assert (over.status, over.job.ending) == (JobStatus.CANCELLED, None)


@pytest.mark.parametrize(
    ("cancelled", "locale", "said"),
    [
        (
            False,
            "de",
            "Nach einem Nein wird es noch einmal getan, solange es Versuche übrig hat; `cpa cancel`",
        ),
        (True, "en", "The run is ending: it is not done again after a no."),
        (True, "de", "Der Lauf endet gerade: Nach einem Nein wird es nicht noch einmal getan."),
    ],
)
def test_a_doubt_says_what_follows_from_a_no(cancelled: bool, locale: str, said: str) -> None:
    story = Story(task("a"), task("mail", effect=UNSAFE), locale=locale)
    story.begun(1)
    story.lost(1)
    if cancelled:
        story.cancelled()

    [question] = questions(story.job.snapshot())

    assert said in question.text


def test_a_question_about_a_task_without_a_time_has_none() -> None:
    story = Story(task("mail", approval=True))
    story.job.tasks[0] = TaskRun(0)

    [question] = questions(story.job.snapshot())

    assert question.since is None


def test_an_approval_shows_the_exact_action_and_who_said_yes() -> None:
    arguments = {"to": "{{ tasks.find.result.mail }}", "key": {"secret": "own"}}
    spec = task(
        "mail",
        0,
        references=(0,),
        arguments=arguments,
        approval=True,
        approvals=2,
        approvers=("Anna", "Uwe"),
        approval_expires=9_000,
    )
    story = Story(task("find"), spec, requester="Jörg")
    story.done(0, mail="ä@b.example")
    story.later(5).answered(True, 1, by="Uwe")

    [question] = questions(story.job.snapshot())

    assert question.arguments == {"to": "ä@b.example", "key": {"secret": "own"}}
    assert question.digest == story[1].digest
    assert len(question.digest) == 64
    assert (question.needed, question.given, question.approvers) == (2, ["Uwe"], ["Anna", "Uwe"])
    assert (question.requester, question.expires) == ("Jörg", moment(START + 9_000))
    assert (question.form, question.instead_of) == (None, None)


def test_a_credential_in_clear_is_shown_nowhere() -> None:
    spec = replace(
        task("call", approval=True, arguments={"headers": {"X-Key": "geheim"}}), action="http.request"
    )
    story = Story(spec)
    [question] = questions(story.job.snapshot())
    [seen] = task_views(story.job.snapshot())
    assert question.arguments == seen.arguments == {"headers": {"X-Key": "[hidden]"}}

    story = Story(replace(spec, approval=False))
    story.begun()
    story.proposed(arguments={"headers": {"X-Key": "anders"}})
    [question] = questions(story.job.snapshot())
    assert question.arguments == question.instead_of == {"headers": {"X-Key": "[hidden]"}}


def test_progress_is_that_of_the_attempt_under_way() -> None:
    said = Progress(share=0.5, message="Seite 2")
    story = Story(task("read"))
    story.begun()

    assert job_detail(story.job.snapshot(), {"read": (1, said)}).tasks[0].progress == said
    assert task_views(story.job.snapshot(), {"read": (0, said)})[0].progress is None
    story.succeeded()
    assert task_views(story.job.snapshot(), {"read": (1, said)})[0].progress is None


def test_a_proposal_shows_what_it_would_replace_and_why() -> None:
    story = Story(task("mail", arguments={"to": "a"}))
    story.begun()
    story.proposed(arguments={"to": "b"}, reason="a ist umgezogen")

    [question] = questions(story.job.snapshot())

    assert (question.kind, question.arguments, question.instead_of) == ("proposal", {"to": "b"}, {"to": "a"})
    said = "The agent would do flow.noop of task mail otherwise. May it? It says: a ist umgezogen"
    assert question.text == said
    assert (question.needed, question.given, question.expires, question.requester) == (1, [], None, None)
    story.answered(True)
    assert task_views(story.job.snapshot())[0].arguments == {"to": "b"}


def test_a_proposal_without_a_reason_is_asked_about_without_one() -> None:
    story = Story(task("mail", arguments={"to": "a"}))
    story.begun()
    story.proposed(arguments={"to": "b"})

    [question] = questions(story.job.snapshot())

    assert question.text == "The agent would do flow.noop of task mail otherwise. May it?"


def test_a_question_for_words_shows_its_form_and_whom_it_is_for() -> None:
    arguments = {"question": "Wie viel?", "form": {"x": {"type": "number"}}, "for": "Anna"}
    story = Story(replace(task("q", arguments=arguments, timeout=9_000), action="person.ask"))

    [question] = questions(story.job.snapshot())

    assert (question.kind, question.text, question.form) == ("input", "Wie viel?", {"x": {"type": "number"}})
    assert (question.approvers, question.expires) == (["Anna"], moment(START + 9_000))


def test_a_discarded_job_says_so() -> None:
    story = Story(task("a"), max_retries=0)
    story.begun()
    story.failed(failure=FailureClass.BUSINESS)
    assert job_detail(story.job.snapshot()).job.dead_letter

    story.discarded()

    job = job_detail(story.job.snapshot()).job
    assert (job.dead_letter, job.discarded) == (False, True)
