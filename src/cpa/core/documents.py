"""What pydantic finds wrong with a document, told as the project's own error."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from cpa.errors import InvalidDocument


def invalid(error: ValidationError, prefix: str = "", *, union: Iterable[str] = ()) -> InvalidDocument:
    """The first finding, with its path such as `tasks[2].depends_on[0]`, below `prefix`.

    `union`: tags of a discriminated union, which pydantic puts into the path and the document does not have.
    """
    found = error.errors(include_url=False, include_context=False)
    first = found[0]
    tags = frozenset(union)
    location = [step for at, step in enumerate(first["loc"]) if not (at == 0 and step in tags)]
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidDocument(
        f"{_said(first['msg'])}{more}",
        field=path(prefix, *location) or None,
        value=None if first["type"] == "missing" else first["input"],
        remedy=_REMEDIES.get(first["type"], "Correct this field."),
    )


def path(prefix: str, *steps: str | int) -> str:
    """`prefix` and the steps below it, names joined by dots and indices in brackets."""
    text = prefix
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step.startswith("function-"):
            text += f".{step}" if text else step
    return text


def _said(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


_REMEDIES = {
    "missing": "Add this field.",
    "extra_forbidden": "Remove this field or correct its name.",
    "string_type": "Write a text.",
    "uuid_parsing": "Use a UUID such as 018f6b1e-0000-7000-8000-000000000000.",
}
