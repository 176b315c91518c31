"""Forms: what may be asked for, and what counts as an answer."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.forms import MAX_FIELDS, MAX_TEXT, PLAIN, WrongAnswer, check, fields
from cpa.errors import CPAError, InvalidDocument

FORM: dict[str, Any] = {
    "amount": {"type": "number", "label": "Betrag"},
    "way": {"type": "choice", "choices": ["Post", "Mail"]},
    "day": {"type": "date", "required": False},
    "sure": {"type": "flag"},
    "note": {"required": False},
}
GIVEN: dict[str, Any] = {"amount": 7.5, "way": "Post", "day": "2024-02-29", "sure": False, "note": "ä"}


def refused(form: Any, answer: Any) -> InvalidDocument:
    with pytest.raises(InvalidDocument) as caught:
        check(form, answer)
    assert caught.value.remedy
    return caught.value


def test_an_answer_has_every_field_in_the_order_of_the_form() -> None:
    assert check(FORM, dict(reversed(GIVEN.items()))) == GIVEN
    assert list(check(FORM, dict(reversed(GIVEN.items())))) == list(FORM)


@pytest.mark.parametrize("nothing", [{}, {"note": None, "day": None}, {"note": " ", "day": ""}])
def test_what_need_not_be_said_is_null(nothing: dict[str, Any]) -> None:
    given = {"amount": 0, "way": "Mail", "sure": True}

    assert check(FORM, given | nothing) == given | {"day": None, "note": None}


@pytest.mark.parametrize("name", ["amount", "way", "sure"])
@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_what_must_be_said_is_asked_for_by_name(name: str, nothing: Any) -> None:
    error = refused(FORM, GIVEN | {name: nothing})

    assert (error.field, error.message) == (f"answer.{name}", "this must be filled in")
    assert (
        refused(FORM, {key: value for key, value in GIVEN.items() if key != name}).field == f"answer.{name}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "7"),
        ("amount", True),
        ("amount", float("nan")),
        ("amount", float("inf")),
        ("amount", 2**64),
        ("amount", -(2**63) - 1),
        ("way", "Fax"),
        ("way", ["Post"]),
        ("day", "29.02.2024"),
        ("day", "2023-02-29"),
        ("day", "2024-02-29T00:00"),
        ("day", "٢٠٢٤-٠٢-٢٩"),
        ("day", 20240229),
        ("sure", 1),
        ("sure", "ja"),
        ("note", 5),
        ("note", "x" * (MAX_TEXT + 1)),
        ("note", "\ud800"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: Any) -> None:
    error = refused(FORM, GIVEN | {name: value})

    assert error.field == f"answer.{name}"
    assert error.message.startswith("this is not ")


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0, -0.5])
def test_numbers_that_can_be_stored_are_taken(value: float) -> None:
    assert check(FORM, GIVEN | {"amount": value})["amount"] == value


def test_a_choice_that_is_none_says_which_there_are() -> None:
    assert refused(FORM, GIVEN | {"way": "Fax"}).remedy == "Write one of Post, Mail."


def test_the_longest_text_is_taken() -> None:
    assert check(PLAIN, {"answer": "x" * MAX_TEXT}) == {"answer": "x" * MAX_TEXT}


def test_what_nobody_asked_for_is_refused_by_name() -> None:
    error = refused(PLAIN, {"answer": "ja", "über": 1})

    assert (error.field, error.message) == ("answer.über", "nobody asked for 'über'")


@pytest.mark.parametrize("answer", [None, [], "ja"])
def test_an_answer_is_an_object(answer: Any) -> None:
    assert refused(PLAIN, answer).field == "answer"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ([], "form"),
        ({}, "form"),
        ({f"f{index}": {} for index in range(MAX_FIELDS + 1)}, "form"),
        ({"a b": {}}, "form"),
        ({7: {}}, "form"),
        ({"a": {"type": "color"}}, "form.a.type"),
        ({"a": {"must": True}}, "form.a.must"),
        ({"a": {"required": 1}}, "form.a.required"),
        ({"a": "text"}, "form.a"),
        ({"a": {"type": "choice"}}, "form.a"),
        ({"a": {"choices": ["x"]}}, "form.a"),
        ({"a": {"type": "choice", "choices": [1]}}, "form.a.choices[0]"),
    ],
)
def test_a_form_that_is_none_is_refused_by_name(form: Any, field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        fields(form)

    assert caught.value.field == field
    assert caught.value.remedy


def test_a_field_is_a_text_that_must_be_filled_in_unless_it_says_otherwise() -> None:
    field = fields({"größe": {}})["größe"]

    assert (field.type, field.required, field.choices, field.label) == ("text", True, [], "")
    assert len(fields({f"f{index}": {} for index in range(MAX_FIELDS)})) == MAX_FIELDS


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(WrongAnswer) as caught:
        check(FORM, {"amount": "7", "sure": True, "über": 1})

    wrong = caught.value
    assert [each.field for each in wrong.problems] == ["answer.über", "answer.amount", "answer.way"]
    assert (wrong.field, wrong.message) == (wrong.problems[0].field, wrong.problems[0].message)
    body = wrong.problem()
    assert (body["code"], body["status"], body["field"]) == ("wrong_answer", 422, "answer.über")
    assert [each["field"] for each in body["errors"]] == ["answer.über", "answer.amount", "answer.way"]
    assert body["errors"][1] == {
        "field": "answer.amount",
        "detail": "this is not a number",
        "value": "7",
        "remedy": "Write a number.",
    }
    assert CPAError.of_problem(422, body).problem() == body
