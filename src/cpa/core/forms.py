"""Forms: what a person is asked for, field by field, and the check of what they answered.

    {amount: {type: number, label: Betrag}, reason: {required: false}, way: {type: choice, choices: [Post, Mail]}}

A field is a `text` unless it says otherwise, and must be filled in unless `required` is false. Names are those of
references, as later tasks read `{{ tasks.ask.result.amount }}`. A form is part of the plan: it is written there
literally, so that nothing from outside decides what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from math import isfinite
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cpa.core.documents import invalid, path, writable
from cpa.errors import InvalidDocument, SeveralProblems

MAX_FIELDS = 50
MAX_TEXT = 10_000
"""Longest text of an answer, in characters."""
PLAIN: dict[str, Any] = {"answer": {"type": "text"}}
"""What is asked for by a question without a form."""

_NAME = re.compile(r"\w(?:[\w-]{0,98}\w)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class WrongAnswer(SeveralProblems):
    """What is wrong with an answer, field by field; the first of `problems` is the headline."""

    code: ClassVar[str] = "wrong_answer"


class FormField(BaseModel):
    """One thing that is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["text", "number", "flag", "choice", "date"] = "text"
    required: bool = True
    choices: list[str] = Field(default=[], max_length=200)
    label: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _has_choices(self) -> FormField:
        if bool(self.choices) is not (self.type == "choice"):
            raise ValueError("`choices` go with the type choice, and with no other")
        return self


def fields(form: Any, at: str = "form") -> dict[str, FormField]:
    """The fields of a form, in its order. Raises `InvalidDocument` with a path below `at`."""
    if not isinstance(form, Mapping) or not 0 < len(form) <= MAX_FIELDS:
        raise InvalidDocument(
            f"a form is an object of at least one and at most {MAX_FIELDS} fields",
            field=at,
            value=form,
            remedy="Write {name: {type: text}, …}, or leave it out to ask for one text.",
        )
    found: dict[str, FormField] = {}
    for name, document in form.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidDocument(
                f"{str(name)[:100]!r} cannot be the name of a field",
                field=at,
                value=name,
                remedy="Names are texts of at most 100 letters, digits, _ and -.",
            )
        try:
            found[name] = FormField.model_validate(document)
        except ValidationError as error:
            raise invalid(error, path(at, name)) from error
    return found


def check(form: Mapping[str, Any], answer: Any, at: str = "answer") -> dict[str, Any]:
    """The answer with every field of the form: null where nothing was said that need not be.

    Raises `WrongAnswer` naming every field that is missing, unknown or of another type.
    """
    known = fields(form)
    if not isinstance(answer, Mapping):
        raise InvalidDocument(
            "an answer is an object", field=at, value=answer, remedy=f"It has: {', '.join(known)}."
        )
    wrong = [
        InvalidDocument(
            f"nobody asked for {str(name)[:100]!r}",
            field=path(at, str(name)[:100]),
            value=answer[name],
            remedy=f"The form has: {', '.join(known)}.",
        )
        for name in answer
        if name not in known
    ]
    found: dict[str, Any] = {}
    for name, field in known.items():
        try:
            found[name] = _checked(field, answer.get(name), path(at, name))
        except InvalidDocument as error:
            wrong.append(error)
    if wrong:
        first = wrong[0]
        raise WrongAnswer(
            first.message, field=first.field, value=first.value, remedy=first.remedy, problems=wrong
        )
    return found


def _checked(field: FormField, value: Any, at: str) -> Any:
    said = value is not None and not (isinstance(value, str) and not value.strip())
    if not said and not field.required:
        return None
    if not said or not _fits(field, value):
        wanted = _WANTED[field.type] + ", ".join(field.choices)
        said_ = f"this is not {wanted}" if said else "this must be filled in"
        raise InvalidDocument(said_, field=at, value=value, remedy=f"Write {wanted}.")
    return value


def _fits(field: FormField, value: Any) -> bool:
    match field.type:
        case "text":
            return isinstance(value, str) and len(value) <= MAX_TEXT and writable(value)
        case "number":
            return _is_number(value)
        case "flag":
            return isinstance(value, bool)
        case "choice":
            return value in field.choices
        case _:
            return isinstance(value, str) and _is_date(value)


def _is_number(value: Any) -> bool:
    """One that keeps its value when it is stored."""
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_WANTED = {
    "text": f"a text of at most {MAX_TEXT} characters",
    "number": "a number",
    "flag": "true or false",
    "choice": "one of ",
    "date": "a day such as 2026-11-24",
}
