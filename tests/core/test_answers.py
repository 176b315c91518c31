"""What the requester is told: arguments at planning, results at the end, and never an error instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.core.situations import VERIFIABLE, Story, task

from cpa.core import answers
from cpa.core.explain import Reason, explain
from cpa.core.intents import IntentDefinition
from cpa.core.views import job_detail
from cpa.errors import InvalidDocument


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Grüße", "Grüße"),
        (["ACME", "Müller & Söhne"], "ACME, Müller & Söhne"),
        ([], "–"),
        ("", "–"),
        (None, "–"),
        (0, "0"),
        (True, "true"),
        ({"artifact": "sha256:ab", "name": "rechnung.pdf"}, "rechnung.pdf"),
        ({"artifact": "sha256:ab"}, "sha256:ab"),
        ({"a": 1}, '{"a":1}'),
    ],
)
def test_a_value_is_written_for_people(value: Any, text: str) -> None:
    told = answers.told("Da: {{ tasks.a.result.value }}", {"a": {"value": value}})

    assert told == f"Da: {text}"


def test_what_is_not_there_is_a_dash() -> None:
    assert answers.told("{{ tasks.a.result.x }}, {{ tasks.b.result.y }}", {"a": {}}) == "–, –"


def test_a_name_asked_of_a_list_is_asked_of_its_entries() -> None:
    messages = [
        {"subject": "Rechnung"},
        {"subject": ""},
        {"sender": "a@b.example"},
        "none",
        {"subject": "Größe"},
    ]
    said = answers.told("{{ tasks.a.result.m.subject }}; {{ tasks.a.result.m.9 }}", {"a": {"m": messages}})

    assert said == "Rechnung, –, Größe; –"


def test_a_long_answer_is_cut() -> None:
    told = answers.told("{{ tasks.a.result.x }}", {"a": {"x": "ä" * 20_000}})

    assert (len(told), told[-1]) == (answers.LONGEST, "…")


def test_what_a_person_wrote_stays_text() -> None:
    scope = {"arguments": {"to": ["a@b.example", "c@d.example"], "x": "{{ tasks.a.result.x }}"}}
    made = answers.prepared("An {{ arguments.to }}: {{ arguments.x }} {{ tasks.a.result.x }}", scope)

    assert answers.told(made, {"a": {"x": "!"}}) == "An a@b.example, c@d.example: {{ tasks.a.result.x }} !"


def test_a_broken_reference_is_refused_at_planning() -> None:
    with pytest.raises(InvalidDocument):
        answers.prepared("{{ nothing", {})


def test_a_job_tells_its_answer_when_it_is_done() -> None:
    story = Story(task("a"), answer="Es sind {{ tasks.a.result.count }}.")
    story.begun()
    assert job_detail(story.job.snapshot()).answer is None

    story.succeeded(count=3)

    assert job_detail(story.job.snapshot()).answer == "Es sind 3."


def intent(answer: str) -> IntentDefinition:
    document = {
        "name": "count",
        "description": "Zähle.",
        "patterns": [{"regex": "zähle (?P<what>.+)"}],
        "examples": ["zähle Äpfel"],
        "arguments": {"what": {"type": "text"}},
        "tasks": [{"id": "a", "action": "flow.noop"}],
        "answer": {"de": answer, "en": answer},
    }
    return IntentDefinition.model_validate(document)


def test_an_answer_may_name_what_is_there() -> None:
    assert intent("{{ arguments.what }}: {{ tasks.a.result.count }} {{ values.unit }}").answer is not None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("{{ tasks.b.result.count }}", "there is no task 'b'"),
        ("{{ arguments.who }}", "there is no argument 'who'"),
        ("{{ nothing", "answer: "),
    ],
)
def test_an_answer_that_cannot_be_filled_is_refused_with_its_intent(answer: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        intent(answer)


def test_a_result_nothing_shows_is_told_as_unproved() -> None:
    story = Story(task("a", effect=VERIFIABLE), task("b", 0))
    story.begun()
    story.succeeded(sent=True)
    story.verified("unknown")

    detail = job_detail(story.job.snapshot())
    assert detail.unproved == ["a"]
    found = {each.task: each.reason for each in explain(story.job.snapshot())}
    assert found == {"a": Reason.UNPROVED, "b": Reason.AGENT}
