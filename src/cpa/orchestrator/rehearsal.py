"""Every intent's plan made once before anybody asks for it, with sample arguments, to find what cannot work.

A task in which something is wrong is reported and then stands aside for a task that gives whatever is asked of it,
so that one mistake hides no other. Nothing is reported that depends on what a request will say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cpa.core.actions import CATALOGUE
from cpa.core.catalogue import ActionCatalogue
from cpa.core.intents import ArgumentDefinition, ArgumentType, ArgumentValue, Intent, IntentDefinition
from cpa.core.references import Reference, references
from cpa.core.task_graph import TaskGraph, compile
from cpa.errors import InvalidDocument, SeveralProblems, TooLarge
from cpa.orchestrator.templates import escaped, for_arguments, kept

_SAMPLE = "sample-of-a-text"
_SAMPLES: Mapping[ArgumentType, Any] = {
    ArgumentType.TEXT: _SAMPLE,
    ArgumentType.EMAIL_LIST: ["sample@cpa.example"],
    ArgumentType.EMAIL: "sample@cpa.example",
    ArgumentType.DATE: "2026-01-02",
    ArgumentType.NUMBER: 1,
    ArgumentType.URL: "https://sample.example/",
}
_STAND_IN = "x.rehearsal.anything"
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in an intents file that no request can make right."""

    path: tuple[str | int, ...]
    """Where in the file: `intents`, the intent's name, `tasks`, …"""
    message: str
    remedy: str = ""


def rehearse(
    definitions: Iterable[IntentDefinition],
    values: Mapping[str, Any] | None,
    *,
    catalogue: ActionCatalogue = CATALOGUE,
) -> tuple[Fault, ...]:
    """What is wrong in the plans of these intents. `values` None: the workspace is not known, whatever is read of
    it counts as there."""
    found: dict[Fault, None] = {}
    for definition in definitions:
        missing, scope = _values(definition, values or {})
        if values is not None:
            found |= dict.fromkeys(_missing(definition, missing))
        given = {name: _sample(argument) for name, argument in definition.arguments.items()}
        least = {
            name: value if definition.arguments[name].required else definition.arguments[name].fallback("en")
            for name, value in given.items()
        }
        for arguments in (given, least):
            found |= dict.fromkeys(_faults(definition, arguments, scope, missing, catalogue))
    return tuple(found)


def _sample(argument: ArgumentDefinition) -> Any:
    if argument.type is ArgumentType.CHOICE:
        return next(iter(argument.choices))
    return _SAMPLES[argument.type]


def _values(definition: IntentDefinition, values: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """The workspace values that are read and not there, and the values with samples in their places."""
    missing: set[str] = set()
    scope = dict(values)
    for _, reference in _read(definition, "values"):
        inner: Any = scope
        for depth, step in enumerate(reference.path):
            last = depth == len(reference.path) - 1
            if isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                inner = inner[step]
                continue
            if isinstance(inner, dict) and step not in inner:
                missing.add(reference.text)
                inner[step] = _SAMPLE if last else {}
            elif not isinstance(inner, dict):
                missing.add(reference.text)
                break
            elif isinstance(inner[step], Mapping):
                inner[step] = dict(inner[step])  # what is added here must not get into the workspace
            inner = inner[step]
    return missing, scope


def _read(definition: IntentDefinition, root: str) -> Iterator[tuple[str | int, Reference]]:
    tasks = definition.tasks
    for key, task in tasks.items() if isinstance(tasks, dict) else enumerate(tasks):
        for reference in references(task):
            if reference.root == root:
                yield key, reference


def _missing(definition: IntentDefinition, missing: set[str]) -> Iterator[Fault]:
    for key, reference in _read(definition, "values"):
        if reference.text in missing:
            path = reference.text.removeprefix("values.")
            yield Fault(
                ("intents", definition.name, "tasks", key),
                f"{definition.name} needs the value {path}",
                f"Set {path} under `values:` in cpa.yaml.",
            )


def _faults(
    definition: IntentDefinition,
    arguments: Mapping[str, Any],
    values: Mapping[str, Any],
    missing: set[str],
    catalogue: ActionCatalogue,
) -> Iterator[Fault]:
    """One rehearsal: each fault, its task standing aside, until the plan can be made."""
    intent = Intent(
        name=definition.name,
        score=1.0,
        arguments={name: ArgumentValue(value=value) for name, value in arguments.items()},
    )
    document = for_arguments(definition, intent)
    tasks: dict[Any, Any] = dict(document.items() if isinstance(document, dict) else enumerate(document))
    places = dict(zip(tasks, kept(definition, intent), strict=True))
    scope = {"arguments": arguments, "values": values}
    for _ in range(len(tasks) + 1):
        error, steps = _error(tasks, scope, catalogue, named=isinstance(document, dict))
        if error is None:
            return
        key = steps[0] if steps and steps[0] in tasks else None
        where = ("intents", definition.name, "tasks", *(() if key is None else (places[key],)))
        found = [(error, steps[1:])]
        if isinstance(error, SeveralProblems):
            found = [(each, _steps(each.field or "")[2:]) for each in error.problems]
        for each, inside in found:
            if _SAMPLE not in str(each.value) and each.value not in missing:
                yield Fault((*where, *inside), each.message, each.remedy or "")
        if key is None or tasks[key].get("action") == _STAND_IN:
            return
        tasks[key] = _stand_in(definition, key, tasks[key])


def _error(
    tasks: Mapping[Any, Any], scope: Mapping[str, Any], catalogue: ActionCatalogue, *, named: bool
) -> tuple[InvalidDocument | TooLarge | None, tuple[str | int, ...]]:
    """What keeps these tasks from being a plan, and where below `tasks` that is."""
    ready: dict[Any, Any] = {}
    for key, task in tasks.items():
        try:
            ready |= escaped({key: task}, scope, ())
        except InvalidDocument as error:
            return error, (key,)
    try:
        graph = TaskGraph.from_template(
            ready if named else list(ready.values()), scope, tainted=(), catalogue=catalogue
        )
        compile(graph)
    except (InvalidDocument, TooLarge) as error:
        return error, _steps(error.field or "")[1:]
    return None, ()


def _stand_in(definition: IntentDefinition, key: str | int, task: Mapping[str, Any]) -> dict[str, Any]:
    """A task that gives whatever the plan reads of the one it stands in for."""
    name = task.get("id") or (key if isinstance(key, str) else f"task_{key}")
    asked = {r.field for _, r in _read(definition, "tasks") if r.field and r.task == name}
    return {"action": _STAND_IN, "outputs": sorted(asked)} | ({"id": name} if "id" in task else {})


def _steps(field: str) -> tuple[str | int, ...]:
    """`tasks[0].arguments.url` in its steps."""
    return tuple(int(number) if number else name for number, name in _PART.findall(field))
