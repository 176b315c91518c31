"""What the requester is told at the end: the intent's answer, filled from results.

Filled twice, like a plan: arguments and workspace values when it is planned (`prepared`), results when the run is
done (`told`). Unlike an argument an answer never fails: it is for people, so a list is written with commas, a file
by its name, and what is not there as a dash. A name asked of a list is asked of each of its entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from cpa.core.references import MISSING, Reference, Scope, literal, lookup, pieces

LONGEST = 10_000
"""Characters of an answer; the rest is in the results."""
ABSENT = "–"


def prepared(text: str, scope: Scope) -> str:
    """The answer with arguments and values in it, references to tasks left. Raises `InvalidDocument`."""
    return "".join(
        literal(part)
        if isinstance(part, str)
        else f"{{{{ {part.text} }}}}"
        if part.root == "tasks"
        else literal(_written(lookup(part, scope)))
        for part in pieces(text)
    )


def told(text: str, results: Mapping[str, Any]) -> str:
    """The answer as it is shown; `results` of the tasks that are done, by id."""
    scope: Scope = {"tasks": {name: {"result": result} for name, result in results.items()}}
    whole = "".join(part if isinstance(part, str) else _value(part, scope) for part in pieces(text))
    return whole if len(whole) <= LONGEST else whole[: LONGEST - 1] + "…"


def _value(reference: Reference, scope: Scope) -> str:
    found = lookup(reference, scope)
    return _written(_each(reference, scope) if found is MISSING else found)


def _each(reference: Reference, scope: Scope) -> list[Any]:
    """What the entries of a list have under the last name: the subjects of all messages."""
    *before, name = reference.path
    within = lookup(replace(reference, path=tuple(before)), scope)
    if not isinstance(within, list | tuple):
        return []
    return [each[name] for each in within if isinstance(each, Mapping) and name in each]


def _written(value: Any) -> str:
    if value is MISSING or value in (None, "", [], {}):
        return ABSENT
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(_written(each) for each in value)
    if isinstance(value, Mapping) and isinstance(value.get("artifact"), str):
        return str(value.get("name") or value["artifact"])
    return msgspec.json.encode(value).decode()
