"""Every task that has not ended says why it is not running, what helps, and who can act."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.core.situations import START, UNSAFE, VERIFIABLE, Story, task

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.explain import Actor, Explanation, Reason, explain
from cpa.core.job import TERMINAL, JobStatus, RetryPolicy, TaskError, TaskRun, TaskStatus
from cpa.core.staffing import Member, Near, Staff
from cpa.core.views import job_detail, rfc3339
from cpa.testing.schedules.schedule import Schedule
from cpa.testing.schedules.seen import Seen
from cpa.testing.schedules.world import World


def why(story: Story, index: int = 0) -> Explanation:
    """The explanation of one task."""
    name = story.spec.tasks[index].id
    return next(each for each in explain(story.job.snapshot()) if each.task == name)


def test_a_job_that_has_not_started_stands_in_line() -> None:
    story = Story(task("a"), task("b", 0), start=False)

    found = explain(story.job.snapshot())

    assert [(each.task, each.reason, each.actor) for each in found] == [
        ("a", Reason.JOB_PENDING, Actor.NOBODY),
        ("b", Reason.JOB_PENDING, Actor.NOBODY),
    ]
    assert found[0].status is TaskStatus.WAITING


@pytest.mark.parametrize(
    ("locale", "evidence", "remedy"),
    [
        ("", "The job is to start at {}.", "Wait; it starts by itself."),
        ("de", "Der Auftrag beginnt um {}.", "Bitte abwarten; er beginnt von selbst."),
    ],
)
def test_a_postponed_job_says_when_it_starts(locale: str, evidence: str, remedy: str) -> None:
    story = Story(task("a"), task("b", 0), start=False, locale=locale)

    for found in explain(story.job.snapshot(), start=START + 60_000):
        assert (found.reason, found.actor, found.starts) == (
            Reason.JOB_PENDING,
            Actor.NOBODY,
            START + 60_000,
        )
        assert found.evidence == evidence.format(rfc3339(START + 60_000))
        assert found.remedy == remedy


def test_a_waiting_task_names_what_it_waits_for() -> None:
    story = Story(task("a"), task("b"), task("c", 0, 1))
    story.done(0)

    assert why(story, 2).reason is Reason.DEPENDENCY
    assert why(story, 2).evidence == "It waits for b (ready)."


def test_of_many_dependencies_five_are_named() -> None:
    story = Story(*(task(f"t{index}") for index in range(7)), task("join", *range(7)))
    names = "t0 (ready), t1 (ready), t2 (ready), t3 (ready), t4 (ready)"

    assert why(story, 7).evidence == f"It waits for {names} and 2 more."
    story.done(0)
    story.done(1)
    assert why(story, 7).evidence.endswith("t6 (ready).")


def test_a_skipped_dependency_is_not_waited_for() -> None:
    story = Story(task("a", when="false"), task("b"), task("c", 0, 1))

    assert why(story, 2).evidence == "It waits for b (ready)."


def test_a_task_in_line_waits_for_a_slot() -> None:
    story = Story(task("a"), task("b"), max_parallel=1)

    assert why(story, 1).reason is Reason.SLOT
    assert why(story, 1).evidence == "1 of at most 1 tasks of this job run at the same time."


def test_a_dispatched_task_waits_for_an_agent() -> None:
    assert why(Story(task("a"))).reason is Reason.AGENT
    assert why(Story(task("a"))).evidence == "All agents that do flow.noop are busy."


def test_a_task_no_agent_does_is_the_operators() -> None:
    story = Story(task("a"))
    story.deferred()

    assert (why(story).reason, why(story).actor) == (Reason.NO_AGENT, Actor.OPERATOR)
    assert why(story).evidence == "No agent does flow.noop."


@pytest.mark.parametrize(
    ("reason", "actor", "evidence"),
    [
        (Reason.AGENTS_DRAINING, Actor.OPERATOR, "take nothing new"),
        (Reason.AGENTS_OFFLINE, Actor.OPERATOR, "have not been heard of"),
        (Reason.AGENTS_NOT_READY, Actor.OPERATOR, "are there, and not ready"),
        (Reason.BREAKER_OPEN, Actor.OPERATOR, "flow.noop failed again and again"),
        (Reason.RETRY_BUDGET, Actor.NOBODY, "second ones"),
        (Reason.BIDS_OPEN, Actor.NOBODY, "are asked for bids"),
        (Reason.SESSION_BUSY, Actor.NOBODY, "its session is at an agent that is busy"),
    ],
)
def test_a_task_that_no_agent_can_take_now_says_why(reason: Reason, actor: Actor, evidence: str) -> None:
    story = Story(task("a"))
    story.deferred(reason=reason.value)

    assert (why(story).reason, why(story).actor) == (reason, actor)
    assert evidence in why(story).evidence
    assert "{" not in why(story).evidence + why(story).remedy


@pytest.mark.parametrize(
    ("locale", "evidence"),
    [
        ("", "No agent does flow.noop with the capability 'größe-xl'."),
        ("de", "Kein Agent tut flow.noop mit der Fähigkeit „größe-xl“."),
    ],
)
def test_a_task_that_asks_for_a_tag_names_it(locale: str, evidence: str) -> None:
    story = Story(task("a", capability="größe-xl"), locale=locale)
    story.deferred()

    assert why(story).evidence == evidence


@pytest.mark.parametrize("reason", ["", "agents_offline"])
def test_where_agents_stand_differently_each_is_named(reason: str) -> None:
    story = Story(task("a"))
    if reason:
        story.deferred(reason=reason)
    staff = {0: Staff((Member("eins", "agents_offline", online=False), Member("zwei", "draining")))}

    (told,) = explain(story.job.snapshot(), waits={0: "agents_offline"}, staff=staff)

    assert (told.reason, told.actor) == (Reason.AGENTS_OFFLINE, Actor.OPERATOR)
    assert told.evidence.endswith("none takes it now: eins is offline, zwei is draining.")
    assert told.remedy.startswith("Let zwei work again with `cpa agents activate zwei`, or start eins")


@pytest.mark.parametrize(
    ("locale", "evidence", "remedy"),
    [
        ("", "No agent may do flow.noop: größe offers it and was not enrolled for it.", "Make a token with"),
        ("de", "Kein Agent darf flow.noop: größe bietet es an und ist dafür nicht zugelassen.", "Bitte mit"),
    ],
)
def test_one_that_would_do_it_and_was_not_enrolled_for_it_is_named(
    locale: str, evidence: str, remedy: str
) -> None:
    story = Story(task("a"), locale=locale)
    story.deferred()

    (told,) = explain(story.job.snapshot(), staff={0: Staff(withheld=("größe",))})

    assert (told.reason, told.actor, told.evidence) == (Reason.NO_AGENT, Actor.OPERATOR, evidence)
    assert told.remedy.startswith(f"{remedy} `cpa agents token --name größe`")


@pytest.mark.parametrize(
    ("locale", "remedy"),
    [
        ("", "Did you mean x.a.b (of größe) or x.a.c (of zwei)? Then end the job with `cpa cancel`"),
        (
            "de",
            "War x.a.b (von größe) oder x.a.c (von zwei) gemeint? Dann bitte den Auftrag mit `cpa cancel`",
        ),
    ],
)
def test_where_nobody_does_it_another_name_may_have_been_meant(locale: str, remedy: str) -> None:
    story = Story(task("a"), locale=locale)
    story.deferred()

    (told,) = explain(
        story.job.snapshot(), staff={0: Staff(near=(Near("x.a.b", "größe"), Near("x.a.c", "zwei")))}
    )

    assert told.reason is Reason.NO_AGENT
    assert told.remedy.startswith(remedy)


def test_not_all_agents_are_busy_where_one_drains() -> None:
    staff = {0: Staff((Member("eins", "agent_busy"), Member("zwei", "draining")))}

    (told,) = explain(Story(task("a")).job.snapshot(), waits={0: "agent_busy"}, staff=staff)

    assert (told.reason, told.actor) == (Reason.AGENT, Actor.NOBODY)
    assert told.evidence.endswith("eins is busy, zwei is draining.")


def test_a_task_kept_back_for_its_own_sake_is_not_laid_on_the_agents() -> None:
    story = Story(task("a"))
    story.deferred(reason="retry_budget")
    staff = {0: Staff((Member("eins", "agents_offline", online=False), Member("zwei", "draining")))}

    (told,) = explain(story.job.snapshot(), staff=staff)

    assert "second ones" in told.evidence


def test_a_task_whose_agent_cannot_be_reached_says_so_until_the_agent_has_it() -> None:
    story = Story(task("a"))
    story.chosen(agent="agent-7")
    (told,) = explain(story.job.snapshot(), troubles={0: "the name cannot be resolved"})
    assert (told.reason, told.actor) == (Reason.AGENT_NOT_REACHED, Actor.OPERATOR)
    assert "agent-7 (attempt 1), which cannot be reached: the name cannot be resolved" in told.evidence
    story.tell(events.TaskStarted(**story.attempt(0)))
    (told,) = explain(story.job.snapshot(), troubles={0: "its channel is closed"})
    assert told.reason is Reason.AT_WORK


@pytest.mark.parametrize(
    ("locale", "remedy"),
    [("", "Nothing: the job was discarded."), ("de", "Nichts: der Auftrag wurde verworfen.")],
)
@pytest.mark.parametrize("known", ["", "Renew the certificate."])
def test_a_discarded_job_says_that_nobody_takes_it_up(locale: str, remedy: str, known: str) -> None:
    story = Story(task("a"), max_retries=0, locale=locale)
    story.chosen()
    failure = {"failure": FailureClass.BUSINESS, "code": "nein", "remedy": known}
    story.tell(events.TaskFailed(**story.attempt(0), **failure))
    story.tell(events.JobDiscarded(time=START, by="anna"))

    shown = job_detail(story.job.snapshot()).tasks[0].error
    assert shown is not None
    assert shown.remedy == why(story).remedy
    assert shown.remedy.startswith(remedy)


def test_who_asks_for_an_agent_says_what_is_known_of_the_agents_now() -> None:
    story = Story(task("a"), task("b"))
    found = explain(story.job.snapshot(), {0: "agents_offline", 1: "agent_busy"})

    assert [each.reason for each in found] == [Reason.AGENTS_OFFLINE, Reason.AGENT]


def test_an_assigned_or_running_task_names_its_agent() -> None:
    story = Story(task("a"))
    story.chosen(agent="agent-7")

    assert why(story).reason is Reason.AT_WORK
    assert why(story).evidence == "Agent agent-7 works on it (attempt 1)."
    story.tell(events.TaskStarted(**story.attempt(0)))
    assert (why(story).reason, why(story).remedy) == (Reason.AT_WORK, "Wait for its answer.")


def test_what_the_scheduler_says_of_an_agent_is_no_word_of_its_own() -> None:
    """An agent that refuses by itself was reached."""
    for reason, told in (
        ("agent://data/x did not take it: so", "agent_not_reached"),
        ("satt", "environment"),
    ):
        story = Story(task("a"))
        story.chosen()
        story.tell(events.TaskRefused(**story.attempt(0), reason=reason))
        assert (why(story).reason, why(story).actor) == (told, Actor.OPERATOR)


def test_who_asked_in_german_is_told_so_of_an_agent_that_took_nothing() -> None:
    story = Story(task("a"), locale="de")
    story.chosen()
    said = "agent://data/x did not answer within 10 s: x:9 cannot be reached: nein"
    story.tell(events.TaskRefused(**story.attempt(0), reason=said))
    assert why(story).evidence == (
        "agent://data/x hat nicht innerhalb von 10 s geantwortet: x:9 ist nicht erreichbar: nein; "
        f"es wird um {rfc3339(why(story).starts)} noch einmal versucht."
    )
    assert why(story).remedy.startswith("Bitte den Agenten ansehen: `cpa agents show agent://data/x`. ")


SILENT = {0: Reason.AGENT_SILENT}


def test_who_has_a_task_and_gave_no_word_of_it_does_not_work_on_it() -> None:
    story = Story(task("a"))
    story.chosen(agent="agent-7")

    (found,) = explain(story.job.snapshot(), SILENT)
    assert (found.reason, found.actor) == (Reason.AGENT_SILENT, Actor.NOBODY)
    assert found.evidence == "Agent agent-7 has it (attempt 1) and has not said yet that it does it."
    story.tell(events.TaskStarted(**story.attempt(0)))
    (found,) = explain(story.job.snapshot(), SILENT)
    assert found.reason is Reason.AT_WORK


def test_of_a_run_that_is_ending_nobody_waits_for_a_word() -> None:
    story = Story(task("a"))
    story.chosen()
    story.cancelled()

    (found,) = explain(story.job.snapshot(), SILENT)
    assert found.reason is Reason.STOPPING


@pytest.mark.parametrize(
    ("locale", "evidence"),
    [
        (
            "",
            "Agent agent-7 has it (attempt 3; lost before it: 2) and has not said yet that it does it.",
        ),
        (
            "de",
            "agent-7 hat sie (Versuch 3; vorher verloren: 2) und noch nicht gesagt, dass er sie tut.",
        ),
    ],
)
def test_who_takes_one_attempt_after_the_other_without_a_word_is_the_operators(
    locale: str, evidence: str
) -> None:
    story = Story(task("a"), locale=locale)
    for number in (1, 2):
        story.chosen(agent="agent-7")
        story.lost()
        story.fired(f"retry:0:{number}")
    story.chosen(agent="agent-7")

    (found,) = explain(story.job.snapshot(), SILENT)
    assert (found.reason, found.actor, found.evidence) == (Reason.AGENT_SILENT, Actor.OPERATOR, evidence)
    assert "`cpa agents show agent-7`" in found.remedy


def test_a_running_task_of_an_ending_run_is_stopping_and_what_waits_will_not_start() -> None:
    story = Story(task("a"), task("b", 0))
    story.begun()
    story.cancelled()

    assert (why(story).reason, why(story).remedy) == (Reason.STOPPING, "The run ends after it.")
    assert why(story, 1).reason is Reason.STOPPING
    assert why(story, 1).evidence == "The run is ending (cancel); nothing new starts."


def test_a_task_between_two_attempts_tells_the_failure() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed(message="das Portal ist zu.")

    assert why(story).reason is Reason.RETRY
    assert why(story).evidence == (
        "Attempt 1 failed with technical http_503 (das Portal ist zu); "
        f"the next one is at {rfc3339(why(story).starts)}."
    )
    assert why(story).starts > story.time
    assert why(story).remedy == "Wait for the next attempt."


def test_only_what_an_agent_was_given_is_an_attempt() -> None:
    story = Story(task("a", retry=RetryPolicy(max_attempts=3)))
    for _ in range(2):  # nobody takes it, an agent refuses it, one is lost with it, one fails at it
        story.deferred()
        story.fired(f"retry:0:{story[0].epoch}")
        story.chosen()
        story.tell(events.TaskRefused(**story.attempt(0), reason="full"))
        story.fired(f"retry:0:{story[0].epoch}")
        if not story[0].lost:
            story.begun()
            assert "(attempt 1)" in why(story).evidence
            story.lost()
            story.fired(f"retry:0:{story[0].epoch}")
        story.begun()
        story.failed()
        if story[0].attempts == 1:
            assert why(story).evidence.startswith("Attempt 2 failed with")
        story.fired(f"retry:0:{story[0].epoch}")
    story.begun()
    assert story[0].epoch == 8
    assert "(attempt 4)" in why(story).evidence
    story.failed()

    assert why(story).evidence.startswith("Attempt 4 failed with technical http_503")


def test_what_waited_for_its_place_to_the_end_was_no_attempt() -> None:
    story = Story(task("a"), environment_wait=1)
    story.chosen()
    story.tell(events.TaskRefused(**story.attempt(0), reason="full"))

    assert story[0].status is TaskStatus.FAILED
    assert why(story).evidence == "It failed with environment refused (full)."


def test_a_remedy_the_executor_knows_is_handed_on() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed(message="", remedy="Renew the certificate.")

    assert why(story).remedy == "Renew the certificate."
    assert "failed with technical http_503;" in why(story).evidence


def test_an_unready_place_is_the_operators() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed(failure=FailureClass.ENVIRONMENT, code="desktop_locked", message="locked")

    assert (why(story).reason, why(story).actor) == (Reason.ENVIRONMENT, Actor.OPERATOR)
    assert why(story).evidence == (
        "The place where it is done is not ready with environment desktop_locked (locked); "
        f"it is tried again at {rfc3339(story.time + 1_000)}."
    )


def test_a_task_whose_agent_was_lost_says_so_and_when_it_is_done_again() -> None:
    story = Story(task("a"))
    story.begun()
    story.lost()

    assert (why(story).reason, why(story).actor) == (Reason.RETRY, Actor.NOBODY)
    again = rfc3339(why(story).starts)
    assert why(story).evidence == (
        f"The agent that had it was lost (agent gone); it is done again at {again}."
    )
    assert why(story).remedy == "Wait; it is done again by itself."


def test_who_asked_in_german_is_told_so_of_a_lost_agent() -> None:
    story = Story(task("a"), locale="de")
    story.begun()
    story.tell(events.LeaseLost(**story.attempt(0), reason="its agent was restarted"))

    again = rfc3339(why(story).starts)
    assert why(story).evidence == (
        "Der Agent, der sie hatte, ging verloren (sein Agent wurde neu gestartet); "
        f"sie wird um {again} noch einmal getan."
    )


def test_a_task_put_off_without_any_failure_has_no_failure_to_tell() -> None:
    story = Story(task("a"))
    story.deferred(reason="rate_limited")

    again = rfc3339(why(story).starts)
    assert why(story).evidence == f"The place where it is done is not ready; it is tried again at {again}."
    assert why(story).remedy == "Wait; it is tried again."


def test_an_approval_is_the_approvers() -> None:
    story = Story(task("a", approval=True))

    assert (why(story).reason, why(story).actor) == (Reason.APPROVAL, Actor.APPROVER)
    assert why(story).evidence == "A person must allow this task before it is done."
    story.answered(False)
    assert why(story).evidence == "It failed with policy approval_denied (Jörg said no)."


def test_an_approval_says_how_many_of_how_many_who_and_until_when() -> None:
    spec = task("a", approval=True, approvals=2, approvers=("Anna", "Uwe"), approval_expires=9_000)
    story = Story(spec)
    who = "It is for Anna, Uwe. The question expires at 1970-01-01T00:16:49.000Z."

    begin = "A person must allow this task before it is done."
    assert why(story).evidence == f"{begin} 0 of 2 said yes so far. {who}"
    story.later(5_000).answered(True, by="Uwe")
    assert why(story).evidence == f"{begin} 1 of 2 said yes so far (Uwe). {who}"
    assert why(story).starts == 0


def test_a_proposal_says_what_the_agent_said_and_who_agreed() -> None:
    story = Story(task("a", arguments={"v": 1}))
    story.begun()
    story.proposed(arguments={"v": 2}, reason="1 ist weg.")

    assert (why(story).reason, why(story).actor) == (Reason.PROPOSAL, Actor.APPROVER)
    said = "The agent would do it otherwise with environment proposed (1 ist weg); people must agree."
    assert why(story).evidence == said


def test_a_question_to_a_person_says_what_is_asked_and_whom() -> None:
    arguments = {"question": "Wie viel für {{ tasks.a.result.name }}?", "for": "Anna"}
    asks = replace(task("q", 0, references=(0,), arguments=arguments, timeout=9_000), action="person.ask")
    story = Story(task("a"), asks)
    story.done(0, name="Müller")

    found = why(story, 1)

    assert (found.reason, found.actor, found.remedy) == (
        Reason.INPUT,
        Actor.PERSON,
        "Answer it: `cpa questions`.",
    )
    until = "The question expires at 1970-01-01T00:16:49.000Z."
    assert found.evidence == f"A person is asked: Wie viel für Müller? It is for Anna. {until}"


def test_a_held_task_says_when_it_goes_on() -> None:
    story = Story(task("a"), task("b"), task("c"))
    story.deferred(0, after=2_000)
    story.begun(1)
    story.failed(1, retry_after=30_000)
    story.begun(2)
    story.later(10).proposed(2, run_at=START + 60_000, reason="nachts")

    found = {each.task: each for each in explain(story.job.snapshot())}

    assert [found[name].starts for name in "abc"] == [START + 2_000, START + 30_000, START + 60_000]
    assert (found["c"].reason, found["c"].actor) == (Reason.PROPOSAL_TIME, Actor.NOBODY)
    night = "The agent will do it at 1970-01-01T00:17:40.000Z with environment proposed (nachts)."
    assert found["c"].evidence == night
    assert found["c"].remedy == "Wait until then."


def test_who_has_no_time_to_go_on_at_has_no_forecast() -> None:
    story = Story(task("a"), task("b", 0), task("c", approval=True), task("d", effect=VERIFIABLE))
    story.begun(3)
    story.lost(3)

    assert [each.starts for each in explain(story.job.snapshot())] == [0] * 4
    snapshot = replace(story.job.snapshot(), commands=())
    held = replace(snapshot.tasks[0], status=TaskStatus.HELD, reason="retry")
    assert explain(replace(snapshot, tasks=(held,)))[0].starts == 0


def test_a_success_that_is_being_proved_says_so() -> None:
    story = Story(task("a", effect=VERIFIABLE))
    story.done()

    assert why(story).reason is Reason.PROVING
    assert "the first look is under way" in why(story).evidence
    story.verified("unknown", look_again=9)
    assert "looks in vain so far: 1" in why(story).evidence


def test_an_unknown_outcome_that_is_looked_for_says_so() -> None:
    story = Story(task("a", effect=VERIFIABLE))
    story.begun()
    story.lost()

    assert (why(story).reason, why(story).actor) == (Reason.UNKNOWN_OUTCOME, Actor.NOBODY)
    assert why(story).evidence == (
        "The attempt ended without an answer (agent gone); its effect is being looked for "
        "(the first look is under way)."
    )


def test_a_doubt_is_the_requesters() -> None:
    story = Story(task("a", effect=UNSAFE))
    story.begun()
    story.lost()

    assert (why(story).reason, why(story).actor) == (Reason.QUESTION, Actor.REQUESTER)


def test_a_doubt_in_a_cancelled_job_says_that_a_no_does_not_have_it_done_again() -> None:
    story = Story(task("a", effect=UNSAFE))
    story.begun()
    story.tell(events.CancelRequested(time=START, by="anna"))
    story.lost()

    assert why(story).reason is Reason.QUESTION
    assert "The run is ending (cancel" in why(story).evidence


def test_a_failed_run_explains_the_tasks_that_failed_and_no_others() -> None:
    story = Story(task("a"), task("b", 0), task("c"))
    story.deferred(2)
    story.begun()
    story.failed(failure=FailureClass.BUSINESS, code="login_refused", message="wrong password")

    found = explain(story.job.snapshot())

    assert [(each.task, each.reason, each.actor) for each in found] == [("a", Reason.FAILED, Actor.OPERATOR)]
    assert found[0].evidence == "Attempt 1 failed with business login_refused (wrong password)."
    assert found[0].remedy == "Mend the cause, then `cpa retry`."


def test_what_an_agent_says_stays_in_one_line_of_some_length() -> None:
    text = "no\r\n\n  such\u2028customer\x85" + "x" * 5_000
    story = Story(task("a"))
    story.begun()
    story.failed(failure=FailureClass.BUSINESS, code="a\nb", message=text, remedy=text)

    (found,) = explain(story.job.snapshot())

    assert found.evidence.startswith("Attempt 1 failed with business a b (no such customer xxx")
    assert found.evidence.endswith("x…).")
    assert found.remedy.startswith("no such customer xxx")
    assert max(len(found.evidence), len(found.remedy)) < 1_100


def test_why_an_agent_cannot_be_reached_stays_in_one_line_of_some_length() -> None:
    story = Story(task("a"))
    story.chosen()

    (found,) = explain(story.job.snapshot(), troubles={0: "it answers 500:\n" + "x\n" * 5_000})

    assert "it answers 500: x x x" in found.evidence
    assert "\n" not in found.evidence
    assert len(found.evidence) < 1_200


@pytest.mark.parametrize(
    ("failure", "code", "actor"),
    [
        (FailureClass.BUSINESS, "customer_not_found", Actor.REQUESTER),
        (FailureClass.POLICY, "approval_denied", Actor.REQUESTER),
        (FailureClass.BUSINESS, "smtp_auth_failed", Actor.OPERATOR),
        (FailureClass.BUSINESS, "imap_auth_failed", Actor.OPERATOR),
        (FailureClass.BUSINESS, "secret_missing", Actor.OPERATOR),
        (FailureClass.TECHNICAL, "portal_unreachable", Actor.OPERATOR),
        (FailureClass.ENVIRONMENT, "no_browser", Actor.OPERATOR),
    ],
)
def test_a_failure_of_the_installation_is_the_operators(
    failure: FailureClass, code: str, actor: Actor
) -> None:
    run = TaskRun(0, TaskStatus.FAILED, error=TaskError(failure, code, "no"))
    snapshot = Story(task("a"), start=False).job.snapshot()
    head = replace(snapshot.head, status=JobStatus.FAILED)

    (found,) = explain(replace(snapshot, head=head, tasks=(run,)))

    assert found.actor is actor


def test_a_failed_task_hands_the_executors_remedy_on() -> None:
    story = Story(task("a"))
    story.begun()
    story.failed(failure=FailureClass.POLICY, remedy="Allow the folder.")

    assert why(story).remedy == "Allow the folder."


def test_a_task_over_which_an_agent_ended_does_not_say_that_all_are_busy() -> None:
    """One that has nothing to do but another such task has slots that anybody can see."""
    story = Story(task("a"))
    story.begun()
    story.lost(among=1)
    story.fired("retry:0:1")

    found = why(story)

    assert found.reason is Reason.AGENT
    assert found.evidence == (
        "All agents that do flow.noop are busy, or have another task over which an agent ended."
    )


def test_a_task_over_which_agents_ended_says_how_and_what_to_look_at() -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=1)))
    story.begun()
    story.lost(among=1)

    found = why(story)

    assert (found.reason, found.actor) == (Reason.FAILED, Actor.OPERATOR)
    assert found.evidence == (
        "Attempt 1 failed with technical agents_lost (one agent after the other ended or fell silent while it did "
        "this, the last one so: agent gone)."
    )
    assert found.remedy.startswith("Look at what the task was given (a file, a page) and mend it, then")
    assert "`max_losses`" in found.remedy


def test_a_done_job_has_nothing_to_explain() -> None:
    story = Story(task("a"))
    story.done()

    assert explain(story.job.snapshot()) == ()


class Explained(World):
    """A world in which everything is asked why, after every event."""

    def tell(self, event: events.Event) -> None:
        super().tell(event)
        snapshot = self.job.snapshot()
        found = explain(snapshot)
        if snapshot.head.status.ended:
            wanted = [run.index for run in snapshot.tasks if run.status is TaskStatus.FAILED]
        else:
            wanted = [run.index for run in snapshot.tasks if run.status not in TERMINAL]
        # After them those that are done, though nothing shows it.
        wanted += [
            run.index for run in snapshot.tasks if run.status is TaskStatus.DONE and run.reason == "unproved"
        ]
        assert [each.task for each in found] == [self.spec.tasks[index].id for index in wanted]
        assert all(each.evidence and each.remedy for each in found)
        if snapshot.head.status is JobStatus.RUNNING and snapshot.head.ending is None:
            assert Reason.JOB_PENDING not in {each.reason for each in found}


def test_every_open_task_of_any_job_has_an_explanation() -> None:
    for seed in range(120):
        Explained(Schedule(seed=seed), Seen()).live()
