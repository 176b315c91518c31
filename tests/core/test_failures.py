"""Failures in the language of the request: nothing is translated that nobody says, nothing filled in is lost."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from tests.core.situations import Story, task

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.explain import explain
from cpa.core.failures import FOR_GOOD, GERMAN, OF_PEOPLE, translated
from cpa.core.job import RetryPolicy
from cpa.core.views import job_detail

SOURCE = Path(__file__).parents[2] / "src" / "cpa"
PLACE = re.compile(r"\{\w*\}")


def sentences(node: ast.AST) -> Iterator[str]:
    """What a piece of code may say, with {} for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)  # type: ignore[misc]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (a + b for a in sentences(left) for b in sentences(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*sentences(body), *sentences(orelse))


def in_code() -> set[str]:
    files = [file for file in SOURCE.rglob("*.py") if file.name != "failures.py"]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    return {text for node in nodes for text in sentences(node)}


def test_every_sentence_is_one_that_is_said() -> None:
    said = {PLACE.sub("{}", text) for text in in_code()}  # some are filled in with `format`
    spoken = {PLACE.sub("{}", english) for english in GERMAN}
    of_hosts = {f"{{}}:{{}} {text}" for text in said}
    assert sorted(spoken - said - of_hosts) == []


@pytest.mark.parametrize(("english", "german"), GERMAN.items())
def test_a_translation_keeps_what_was_filled_in(english: str, german: str) -> None:
    places = {name for _, name, _, _ in Formatter().parse(english) if name}
    assert {name for _, name, _, _ in Formatter().parse(german) if name} == places
    filled = {name: f"<{name} {{x}} 'Tür'\n>" for name in places}
    assert translated(english.format(**filled), "de") == german.format(**filled)
    assert translated(english.format(**filled), "en") == english.format(**filled)


def test_what_was_filled_in_is_translated_where_it_is_a_sentence_itself() -> None:
    said = "the SMTP server smtp://mail.example:25 cannot be reached: Connection refused"
    assert translated(said, "de") == (
        "der SMTP-Server smtp://mail.example:25 ist nicht erreichbar: Connection refused"
    )


@pytest.mark.parametrize("text", ["", "The moon is full.", "{url}", "no answer in time" + " " * 3000])
def test_what_is_not_known_stays(text: str) -> None:
    assert translated(text, "de") == text


def missing_secret(locale: str) -> Story:
    story = Story(task("a"), task("b"), locale=locale)
    story.deferred(1)
    story.begun()
    story.failed(
        failure=FailureClass.BUSINESS,
        code="secret_missing",
        message="the secret 'tür' is not set",
        remedy="set the file cpa-data/secrets/tür (mode 0600)",
    )
    return story


def test_a_job_asked_for_in_german_tells_its_failure_in_german() -> None:
    snapshot = missing_secret("de").job.snapshot()
    shown, explained = job_detail(snapshot), explain(snapshot)[0]
    message, remedy = (
        "das Geheimnis „tür“ ist nicht gesetzt",
        "bitte in die Datei cpa-data/secrets/tür schreiben",
    )

    for failure in (shown.job.error, shown.tasks[0].error):
        assert failure is not None
        assert (failure.code, failure.message) == ("secret_missing", message)
        assert failure.remedy.startswith(remedy)
    assert explained.evidence == f"Versuch 1 ist gescheitert mit business secret_missing ({message})."
    assert explained.remedy.startswith(remedy)
    assert snapshot.tasks[0].error is not None
    assert snapshot.tasks[0].error.message == "the secret 'tür' is not set"  # as it is stored


@pytest.mark.parametrize(
    ("reason", "wording"),
    [
        ("its agent was restarted", "sein Agent wurde neu gestartet"),
        ("its agent was not heard of for 15 s", "sein Agent war 15 s lang nicht zu hören"),
    ],
)
def test_why_a_task_was_given_up_over_its_agents_is_told_in_german(reason: str, wording: str) -> None:
    story = Story(task("a", retry=RetryPolicy(max_losses=1)), locale="de")
    story.begun()
    story.tell(events.LeaseLost(**story.attempt(0), reason=reason, among=1))

    (found,) = explain(story.job.snapshot())

    assert found.evidence == (
        "Versuch 1 ist gescheitert mit technical agents_lost (ein Agent nach dem anderen ist dabei abgestürzt oder "
        f"verstummt, der letzte so: {wording})."
    )
    assert found.remedy.startswith("Bitte ansehen, was die Aufgabe bekommen hat")


def test_a_job_asked_for_in_another_language_tells_it_as_it_is_stored() -> None:
    snapshot = missing_secret("").job.snapshot()
    shown = job_detail(snapshot).tasks[0].error

    assert shown is not None
    assert shown.message == "the secret 'tür' is not set"
    assert explain(snapshot)[0].evidence.startswith(
        "Attempt 1 failed with business secret_missing (the secret"
    )


def test_what_failed_before_it_was_begun_is_told_in_german_too() -> None:
    story = Story(task("a", approval=True), locale="de")
    story.answered(False)

    found = explain(story.job.snapshot())[0]
    assert found.evidence == "Die Aufgabe ist gescheitert mit policy approval_denied (Jörg hat Nein gesagt)."
    assert found.remedy.startswith("Nichts, wenn es beim Nein bleibt.")


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("locale", ["", "de"])
@pytest.mark.parametrize("code", sorted(OF_PEOPLE))
def test_what_failed_over_people_has_nothing_to_mend(code: str, locale: str, dead: bool) -> None:
    asked = task("a", approval=True) if "approval" in code else task("a", action="person.ask")
    story = Story(asked, locale=locale, max_retries=0 if dead else 3)
    story.answered(False, by="" if code in ("approval_expired", "unanswered") else "Jörg")

    snapshot = story.job.snapshot()
    failed = job_detail(snapshot).tasks[0].error
    assert failed is not None
    assert failed.code == code
    command = "cpa dead-letters retry" if dead else "cpa retry"
    assert failed.remedy == OF_PEOPLE[code][locale == "de"].format(command=command)
    assert failed.remedy == explain(snapshot)[0].remedy


@pytest.mark.parametrize("code", sorted(OF_PEOPLE))
def test_an_agent_may_have_a_code_of_the_same_name(code: str) -> None:
    story = Story(task("a"))
    story.begun()
    story.failed(failure=FailureClass.BUSINESS, code=code)

    assert explain(story.job.snapshot())[0].remedy == "Mend the cause, then `cpa retry`."


UNREACHABLE = {"code": "imap_unreachable", "remedy": "it is tried again; check the mail server if it lasts"}


@pytest.mark.parametrize(
    ("locale", "waits", "ended"),
    [
        (
            "",
            "it is tried again; check the mail server if it lasts",
            "check the mail server, then `cpa retry`",
        ),
        (
            "de",
            "es wird noch einmal versucht; bitte den Mailserver prüfen, wenn es dabei bleibt",
            "bitte den Mailserver prüfen, dann `cpa retry`",
        ),
    ],
)
def test_what_is_not_tried_again_any_more_does_not_say_that_it_is(
    locale: str, waits: str, ended: str
) -> None:
    story = Story(task("look", retry=RetryPolicy(max_attempts=2)), locale=locale)
    for remedy in (waits, ended):
        story.begun()
        story.failed(**UNREACHABLE)
        shown = job_detail(story.job.snapshot())
        assert shown.tasks[0].error is not None
        assert shown.tasks[0].error.remedy == explain(story.job.snapshot())[0].remedy == remedy
        if remedy is waits:
            story.fired("retry:0:1")
    assert shown.job.error == shown.tasks[0].error


def test_a_dead_letter_is_taken_up_from_there() -> None:
    story = Story(task("look", retry=RetryPolicy(max_attempts=1)), max_retries=0)
    story.begun()
    story.failed(**UNREACHABLE)

    snapshot = story.job.snapshot()
    assert snapshot.dead
    remedy = "check the mail server, then `cpa dead-letters retry`"
    assert explain(snapshot)[0].remedy == remedy
    shown = job_detail(snapshot).tasks[0].error
    assert shown is not None
    assert shown.remedy == remedy


def test_every_remedy_of_what_is_tried_again_has_another_one_for_the_end() -> None:
    said = {text for text in in_code() if text.lower().startswith("it is tried again; ")}

    assert said == {text for text in FOR_GOOD if text}
