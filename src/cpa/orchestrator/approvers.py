"""People who are named to allow or to answer something, and who have no key to do it with: in the intents, in a
plan, in a question."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from shlex import quote
from typing import Any

from msgspec.structs import replace

from cpa.core.explain import Actor, Explanation
from cpa.core.failures import translated
from cpa.core.intents import IntentDefinition
from cpa.core.job import JobSpec
from cpa.core.people import ASK, asked_of
from cpa.core.references import fill, references
from cpa.core.views import Question
from cpa.errors import CPAError
from cpa.ports.keys import StoredKey, answering

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
    known = answering(keys, now)
    where: dict[str, list[str]] = {}
    for definition in definitions:
        for name, task in _named(definition, values or {}):
            if name not in known:
                where.setdefault(name, []).append(f"{definition.name}.{task}")
    if not where:
        return ""
    who = "; ".join(f"{name} ({', '.join(dict.fromkeys(places))})" for name, places in where.items())
    return f"nobody has a key by the name of those who are to answer: {who}; make one with {_commands(where)}"


def in_plan(spec: JobSpec, known: Collection[str]) -> Iterator[str]:
    """A line for each task that would wait for people of whose name nobody has a key; `known` are those who can
    answer. What only a result will say is left out."""
    for task in spec.tasks:
        named = [*task.approvers, *(asked_of(task.arguments) if task.action == ASK else ())]
        missing = [name for name in dict.fromkeys(named) if name not in known and not references(name)]
        if missing:
            what = f"nobody has a key by the name of {', '.join(missing)}"
            yield f"{task.id}: {what}; make one with {_commands(missing)}"


def in_question(found: Explanation, asked: Question, known: Collection[str], locale: str) -> Explanation:
    """The explanation of a task that waits for this question, which also tells who of those it is for has no key.
    Where too few are left to answer, making one is what helps."""
    missing = [name for name in asked.approvers if name not in known]
    if not missing:
        return found
    evidence = translated(f"Nobody has a key by the name of {', '.join(missing)}.", locale)
    told = replace(found, evidence=f"{found.evidence} {evidence}")
    if len(asked.approvers) - len(missing) >= asked.needed:
        return told
    remedy = translated(f"Make one with {_commands(missing)}, then answer it: `cpa questions`.", locale)
    return replace(told, remedy=remedy, actor=Actor.OPERATOR)


def _commands(names: Iterable[str]) -> str:
    return ", ".join(f"`cpa keys add {_typed(name)}`" for name in names)


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
