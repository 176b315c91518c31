"""Errors carry data, and whatever data that is, they can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cpa.errors import CPAError, InvalidDocument, NotFound, SeveralProblems

BOTTOMLESS: Any = []
for _ in range(5_000):
    BOTTOMLESS = [BOTTOMLESS]


def test_a_problem_names_field_value_and_remedy() -> None:
    error = InvalidDocument(
        "no task 7", field="tasks[0].depends_on", value=7, remedy="Indices go from 0 to 1."
    )

    assert str(error) == "tasks[0].depends_on: no task 7 (Indices go from 0 to 1.)"
    assert error.problem() == {
        "type": "urn:cpa:error:invalid_document",
        "title": "invalid document",
        "status": 422,
        "detail": "no task 7",
        "code": "invalid_document",
        "actor": "caller",
        "retryable": False,
        "field": "tasks[0].depends_on",
        "value": "7",
        "remedy": "Indices go from 0 to 1.",
    }


def test_what_is_not_known_is_left_out() -> None:
    assert {"field", "value", "remedy"}.isdisjoint(NotFound("no such job").problem())
    assert str(NotFound("no such job")) == "no such job"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ([1, "ü"], "[1, 'ü']"),
        (10**5000, "<int>"),
        (BOTTOMLESS, "<list>"),
        ("\ud800", "\\ud800"),
    ],
    ids=["none", "fits", "long", "list", "huge", "bottomless", "half a pair"],
)
def test_the_value_is_shown_shortened(value: object, shown: str | None) -> None:
    assert InvalidDocument("wrong", value=value).value == shown


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"code": "too_small", "detail": "weniger als 1", "title": "Zahl"}, "weniger als 1"),
        ({"code": "too_small", "detail": {"loc": ["n"]}, "title": "zu klein"}, "zu klein"),
        ({"code": "too_small"}, "too_small"),
        ({"code": 7, "detail": {"a": 1}, "title": ["y"]}, "the server answered 422"),
        ({"detail": "n fehlt"}, "the server answered 422: n fehlt"),
        ({"detail": [{"loc": ["n"]}], "title": "Ungültig"}, "the server answered 422: Ungültig"),
        ("<html>", "the server answered 422"),
    ],
)
def test_what_a_problem_document_says_is_shown_as_text(body: object, told: str) -> None:
    found = CPAError.of_problem(422, body)
    assert (found.message, found.status) == (told, 422)


@pytest.mark.parametrize(
    ("status", "body", "retryable"),
    [
        (408, {"code": "slow", "detail": "too slow"}, True),
        (425, None, True),
        (429, {"detail": "too many"}, True),
        (502, "<html>", True),
        (504, None, True),
        (500, None, False),
        (404, None, False),
    ],
)
def test_what_may_be_answered_later_may_be_asked_again(status: int, body: object, retryable: bool) -> None:
    assert CPAError.of_problem(status, body).retryable is retryable


def test_an_error_about_broken_text_can_be_sent() -> None:
    error = InvalidDocument("\ud800", field="a.\ud800", value="\ud800", remedy="\ud800")

    assert json.dumps(error.problem(), ensure_ascii=False).encode()
    assert str(error).encode()


def test_of_several_problems_all_come_back_out_of_a_problem_document() -> None:
    wrong = [
        InvalidDocument("is missing", field="tasks[0].action", remedy="Add it."),
        InvalidDocument("is unknown", field="tasks[0].acton", value=7, remedy="Did you mean action?"),
    ]
    error = SeveralProblems("is missing (1 more)", field="tasks[0].action", remedy="Add it.", problems=wrong)

    body = json.loads(json.dumps(error.problem()))
    assert body["errors"][1] == {
        "field": "tasks[0].acton",
        "detail": "is unknown",
        "value": "7",
        "remedy": "Did you mean action?",
    }
    found = CPAError.of_problem(422, body)
    assert isinstance(found, InvalidDocument)
    assert [str(each) for each in found.problems] == list(map(str, wrong))


@pytest.mark.parametrize("errors", [None, "x", [], [{"detail": "alone"}], ["a", {"field": "b"}]])
def test_what_is_no_list_of_several_problems_adds_none(errors: object) -> None:
    found = CPAError.of_problem(422, {"code": "invalid_document", "detail": "wrong", "errors": errors})

    assert str(found) == "wrong"
    assert found.problems == ()
