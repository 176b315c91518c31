"""People whom the intents name to allow or to answer something, and who have no key to do it with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import quote
from typing import Any

from cpa.core.intents import IntentDefinition
from cpa.core.people import ASK
from cpa.core.references import fill
from cpa.errors import CPAError
from cpa.ports.keys import Scope, StoredKey

_PLAIN = re.compile(r"[\w.@][\w.@-]*")


def keyless(
    definitions: Iterable[IntentDefinition],
    values: Mapping[str, Any] | None,
    keys: Iterable[StoredKey],
    now: int,
) -> str:
    """One line about those of whose name none of the keys may answer questions at this time, in milliseconds since
    1970 UTC; empty where there are none. `values` are those of the workspace; what only a request will say is left
    out."""
    known = {key.name for key in keys if key.active(now) and key.caller().may(Scope.SUBMIT)}
    where: dict[str, list[str]] = {}
    for definition in definitions:
        for name, task in _named(definition, values or {}):
            if name not in known:
                where.setdefault(name, []).append(f"{definition.name}.{task}")
    if not where:
        return ""
    who = "; ".join(f"{name} ({', '.join(dict.fromkeys(places))})" for name, places in where.items())
    commands = ", ".join(f"`cpa keys add {_typed(name)}`" for name in where)
    return f"nobody has a key by the name of those who are to answer: {who}; make one with {commands}"


def _typed(name: str) -> str:
    """The name as a shell takes it; letters of any language need no quotes."""
    return name if _PLAIN.fullmatch(name) else quote(name)


def _named(definition: IntentDefinition, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, task)"""
    tasks = definition.tasks
    for key, task in tasks.items() if isinstance(tasks, dict) else enumerate(tasks):
        rule, arguments = task.get("approval"), task.get("arguments")
        said = [rule.get("approvers")] if isinstance(rule, Mapping) else []
        if task.get("action") == ASK and isinstance(arguments, Mapping):
            said.append(arguments.get("for"))
        for written in said:
            for name in _filled(written, values):
                yield name, str(task.get("id") or key)


def _filled(written: Any, values: Mapping[str, Any]) -> list[str]:
    """The names that are written there, as far as no request decides them."""
    try:
        found = fill(written, {"values": values})
    except CPAError:
        return []  # of the request; or missing, which is said elsewhere
    return [
        name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str) and name
    ]
