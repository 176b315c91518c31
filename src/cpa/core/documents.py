"""Documents from outside: loading JSON safely, and telling what is wrong with them as the project's own
errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from cpa.errors import CPAError, InvalidDocument, SeveralProblems, TooLarge

MAX_BYTES = 1024 * 1024
"""Largest document."""
MAX_DEPTH = 64
"""How deep its lists and objects may be nested."""
MAX_FINDINGS = 20
"""So many of what is wrong are named."""


def invalid(
    error: ValidationError,
    prefix: str = "",
    *,
    union: Iterable[str] = (),
    remedy: Callable[[Mapping[str, Any]], str] = lambda _: "",
) -> InvalidDocument:
    """All findings, with their paths such as `tasks[2].depends_on[0]`, below `prefix`; the first is the headline.

    `union`: tags of a discriminated union, which pydantic puts into the path and the document does not have.
    `remedy`: of one of pydantic's findings, where that is not a general one.
    """
    details = error.errors(include_url=False, include_context=False)
    tags = frozenset(union)
    found: list[InvalidDocument] = []
    for detail in details[:MAX_FINDINGS]:
        location = [step for at, step in enumerate(detail["loc"]) if not (at == 0 and step in tags)]
        found.append(
            InvalidDocument(
                _said(detail["msg"]),
                field=path(prefix, *location) or None,
                value=None if detail["type"] == "missing" else detail["input"],
                remedy=remedy(detail) or _REMEDIES.get(detail["type"], "Correct this field."),
            )
        )
    first = found[0]
    if len(details) == 1:
        return first
    if left := len(details) - len(found):
        found.append(InvalidDocument(f"{left} more places are wrong"))
    said = f"{first.message} ({len(details) - 1} more)"
    return SeveralProblems(said, field=first.field, value=first.value, remedy=first.remedy, problems=found)


def every(error: CPAError) -> tuple[str, str]:
    """All that is wrong, and all that is to be done about it, each as one text."""
    found = [each for each in error.problems if isinstance(each, CPAError)] or [error]
    said = "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in found)
    return said, " ".join(dict.fromkeys(each.remedy for each in found if each.remedy))


def path(prefix: str, *steps: str | int) -> str:
    """`prefix` and the steps below it, names joined by dots and indices in brackets."""
    text = prefix
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def written(location: Iterable[str | int], document: Any, *, missing: bool) -> tuple[str | int, ...]:
    """pydantic's location without what it calls the members of a union, which stand in no document: the steps that
    can be taken in `document`, and the last also where it is what is `missing` there."""
    found: list[str | int] = []
    steps = list(location)
    for at, step in enumerate(steps, 1):
        if (isinstance(document, Mapping) and step in document) or (
            isinstance(document, list) and isinstance(step, int) and step < len(document)
        ):
            document = document[step]  # type: ignore[index]  # an index of a list, a name of a mapping
            found.append(step)
        elif missing and at == len(steps):
            found.append(step)
    return tuple(found)


def _said(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


_REMEDIES = {
    "missing": "Add this field.",
    "extra_forbidden": "Remove this field or correct its name.",
    "string_type": "Write a text.",
    "uuid_parsing": "Use a UUID such as 018f6b1e-0000-7000-8000-000000000000.",
}


def loaded(data: bytes | str) -> dict[str, Any]:
    """The JSON object in a body. Raises `InvalidDocument` or `TooLarge`."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        check_size(raw)
        document = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidDocument(
            f"the body is no JSON: {str(error)[:200]}", remedy="Send one JSON object in UTF-8."
        ) from error
    if not isinstance(document, dict):
        raise InvalidDocument("the body is no JSON object", value=document, remedy="Send one JSON object.")
    return document


def check_size(data: bytes) -> None:
    """Refuse more than `MAX_BYTES`."""
    if len(data) > MAX_BYTES:
        raise TooLarge(
            f"the body has {len(data)} bytes, more than {MAX_BYTES}",
            remedy="Send pictures and files as artifacts, by reference.",
        )


def check_json(document: Mapping[str, Any]) -> None:
    """Refuse what JSON or its readers elsewhere cannot carry. Iterative, as depth is one of those things."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while stack:
        where, value = stack.pop()
        if len(where) > MAX_DEPTH:
            raise _refused(where[:4], None, f"nested more than {MAX_DEPTH} deep", "Flatten the value.")
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str) or not writable(key):
                    raise _refused(where, None, "names of fields are texts", "Write names as valid UTF-8.")
                stack.append(((*where, key[:100]), item))
        elif isinstance(value, list | tuple):
            stack.extend(((*where, at), item) for at, item in enumerate(value))
        elif isinstance(value, str):
            if not writable(value):
                raise _refused(where, None, "half of a character pair", "Write texts as valid UTF-8.")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise _refused(where, value, "not a number that JSON knows", "Send a finite number.")
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise _refused(where, None, "a number of more than 64 bits", "Send long numbers as text.")


def writable(text: str) -> bool:
    """Whether it can be written as UTF-8: it holds no half of a character pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(where: tuple[str | int, ...], value: object, said: str, remedy: str) -> InvalidDocument:
    return InvalidDocument(said, field=path("", *where) or None, value=value, remedy=remedy)
