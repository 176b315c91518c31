"""An intent's task template made ready for the arguments of one request.

A template may leave tasks out by which arguments are there: `given: [project]`, `not_given: [project]`. Whoever
depended on a task left out depends on what that one needed. A task's argument that is nothing but a reference to
an argument nobody gave, and that has an empty default, is left out too. What a page's refusal means (`unless`)
may be said in both languages, `{de: …, en: …}`; the request's is taken. What a person wrote is escaped where it
stands inside a selector or an address, so a quotation mark in a name cannot end the selector.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cpa.core import references
from cpa.core.classes import Source
from cpa.core.intents import Intent, IntentDefinition

EMPTY: tuple[Any, ...] = (None, "", [])
_ARGUMENT = re.compile(r"\{\{\s*arguments\.(\w+)\s*\}\}")


def for_arguments(definition: IntentDefinition, intent: Intent) -> Any:
    """The template without the tasks and task arguments that the request's arguments rule out."""
    values = intent.values()
    there = {name for name, value in values.items() if value not in EMPTY}
    if not isinstance(definition.tasks, dict):
        return [_task_for(task, values, intent) for task in definition.tasks if _wanted(task, there)]
    kept = {name: task for name, task in definition.tasks.items() if _wanted(task, there)}
    dropped = {name: task for name, task in definition.tasks.items() if name not in kept}
    out = {}
    for name, task in kept.items():
        made = _task_for(task, values, intent)
        if "depends_on" in made:
            made["depends_on"] = list(dict.fromkeys(_needs(made["depends_on"], dropped)))
        out[name] = made
    return out


def kept(definition: IntentDefinition, intent: Intent) -> tuple[str | int, ...]:
    """Names or indices in the template of the tasks that `for_arguments` keeps, in its order."""
    there = {name for name, value in intent.values().items() if value not in EMPTY}
    tasks = definition.tasks
    items = tasks.items() if isinstance(tasks, dict) else enumerate(tasks)
    return tuple(key for key, task in items if _wanted(task, there))


def _wanted(task: Mapping[str, Any], there: set[str]) -> bool:
    return set(_listed(task.get("given"))) <= there and not there & set(_listed(task.get("not_given")))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _needs(names: Any, dropped: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """Dependencies, those on dropped tasks replaced by what these needed."""
    for name in _listed(names):
        if isinstance(name, str) and name in dropped:
            rest = {key: task for key, task in dropped.items() if key != name}
            yield from _needs(dropped[name].get("depends_on"), rest)
        else:
            yield name


def _task_for(task: Mapping[str, Any], values: Mapping[str, Any], intent: Intent) -> dict[str, Any]:
    made = {key: value for key, value in task.items() if key not in ("given", "not_given")}
    given = made.get("arguments")
    if isinstance(given, Mapping):
        made["arguments"] = {key: value for key, value in given.items() if not _void(value, values)}
        signs = made["arguments"].get("unless")
        if isinstance(signs, list):
            made["arguments"]["unless"] = [_said(sign, intent) for sign in signs]
    return made


def _said(sign: Any, intent: Intent) -> Any:
    """What a page's refusal is told as: in the request's language where the template says it in both, and without
    what an unconfirmed requester wrote."""
    if not isinstance(sign, Mapping):
        return sign
    tainted = {name for name, value in intent.arguments.items() if value.source is Source.TAINTED}
    made = {}
    for key, value in sign.items():
        both = isinstance(value, Mapping) and isinstance(value.get("en"), str)
        text = value.get(intent.locale, value["en"]) if both else value
        told = key in ("message", "remedy") and isinstance(text, str)
        made[key] = _ARGUMENT.sub(lambda m: "…" if m[1] in tainted else m[0], text) if told else text
    return made


def _void(value: Any, values: Mapping[str, Any]) -> bool:
    """Whether this is one reference alone, to an argument that is empty."""
    found = _alone(value) if isinstance(value, str) else None
    if found is None or found.root != "arguments" or len(found.path) > 1:
        return False
    name = str(found.path[0])
    return name in values and values[name] in EMPTY


def escaped(document: Any, scope: references.Scope, tainted: Sequence[str]) -> Any:
    """Selectors and addresses filled first, with what a person wrote escaped for the place it takes."""
    if isinstance(document, dict):
        return {name: _escaped_task(task, scope, tainted) for name, task in document.items()}
    return [_escaped_task(task, scope, tainted) for task in document]


def _escaped_task(task: dict[str, Any], scope: references.Scope, tainted: Sequence[str]) -> dict[str, Any]:
    made = dict(task)
    given = made.get("arguments")
    inner = dict(given) if isinstance(given, Mapping) else {}
    touched: list[str] = []
    for holder in (made, inner):
        for key, escape in (("selector", _in_selector), ("url", _in_address)):
            value = holder.get(key)
            if isinstance(value, str) and "{{" in value and _alone(value) is None:
                used = {str(r.path[0]) for r in references.references(value) if r.root == "arguments"}
                if used & set(tainted):
                    touched.append(key)
                safe = {
                    name: escape(v) if isinstance(v, str) else v for name, v in scope["arguments"].items()
                }
                holder[key] = references.prefill(value, {**scope, "arguments": safe})
    if isinstance(given, Mapping):
        made["arguments"] = inner
    if touched:
        made["tainted"] = [*_listed(made.get("tainted")), *touched]
    return made


def _alone(value: str) -> references.Reference | None:
    """The reference that the argument is, and nothing else."""
    return references.whole(value.strip())


def _in_selector(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _in_address(text: str) -> str:
    return quote(text, safe="")


def values_in(document: Any) -> tuple[str, ...]:
    """The names of the workspace's values that a template refers to, each once, sorted."""
    tasks: Iterable[Any] = document.values() if isinstance(document, Mapping) else document
    found = {
        r.text.removeprefix("values.")
        for task in tasks
        for r in references.references(task)
        if r.root == "values"
    }
    return tuple(sorted(found))
