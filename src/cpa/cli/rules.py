"""What the intent rules make of a text, and whether a file of rules is sound; needs no server."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cpa.cli.call import Finding
from cpa.config.explanation import explain_route
from cpa.config.intents import check_file, load_intents, router_of
from cpa.config.loading import ConfigError
from cpa.config.workspace import FILE, load_values, load_workspace
from cpa.core.intents import IntentDefinition, RouteContext
from cpa.core.questions import language_of
from cpa.ports.keys import StoredKey


def route(
    text: str,
    workspace: Path | None,
    file: Path | None,
    *,
    replies: Mapping[str, str] | None = None,
    all: bool = False,
) -> Finding:
    """What `text` would become with the intents of the workspace, or of one file alone. Replies are refused as
    they are when the request is handed in."""
    from cpa.orchestrator.planning import check_replies

    router = load_workspace(workspace).intents if file is None else router_of([load_intents(file)])
    found = explain_route(router, text, RouteContext(replies=dict(replies or {})), all=all)
    for definition in router.definitions:
        if definition.name == found.intent.name:
            check_replies(definition, replies or {}, found.intent.locale)
    well = found.intent.complete
    facts = {"understood": well, "intent": found.intent.model_dump(mode="json"), "why": list(found.lines)}
    return Finding(well, str(found), facts)


def check(file: Path, workspace: Path | None = None, keys: Collection[StoredKey] | None = None) -> Finding:
    """Whether the file can be used, every plan in it can be made with the values of its workspace, and every
    example becomes its intent. The workspace is the `cpa.yaml` beside the file, or else the one given.

    `keys` are those of the store, where there is one: who is to answer and has none is told."""
    from cpa.bootstrap import check_plans
    from cpa.orchestrator.approvers import keyless

    report, warning = check_file(file), ""
    found = list(report.problems)
    try:
        source = load_intents(file)
    except ConfigError:
        pass  # its problems are in the report
    else:
        values = _values(file, workspace)
        found = sorted([*check_plans(source, values), *found], key=lambda each: each.line)
        if keys is not None:
            warning = keyless(source.definitions, values, keys, time.time_ns() // 1_000_000)
    problems = [str(problem) for problem in found]
    warnings = [f"{file}: {warning}"] if warning else []
    text = "\n".join([*(problems or [str(report)]), *warnings])
    return Finding(not problems, text, {"ok": not problems, "problems": problems, "warnings": warnings})


def _values(file: Path, workspace: Path | None) -> Mapping[str, Any] | None:
    """The values that the file's plans may read; None when no workspace is known."""
    beside = file.parent / FILE
    if beside.is_file():
        workspace = beside
    return None if workspace is None else load_values(workspace)


def listing(workspace: Path | None, file: Path | None) -> Finding:
    """What can be asked for: each intent with what it is for and an example in each language."""
    router = load_workspace(workspace).intents if file is None else router_of([load_intents(file)])
    facts = [_entry(definition) for definition in router.definitions]
    return Finding(True, "\n\n".join(map(_shown, facts)), {"intents": facts})


def _entry(definition: IntentDefinition) -> dict[str, Any]:
    examples: dict[str, str] = {}
    for example in definition.examples:
        examples.setdefault(language_of(example), " ".join(example.split()))
    return {
        "name": definition.name,
        "description": definition.description,
        "examples": dict(sorted(examples.items(), reverse=True)),
        "arguments": [
            {"name": name, "required": argument.required} for name, argument in definition.arguments.items()
        ],
    }


def _shown(entry: Mapping[str, Any]) -> str:
    pairs = [("", entry["description"]), *entry["examples"].items()]
    needed = [each["name"] for each in entry["arguments"] if each["required"]]
    others = [each["name"] for each in entry["arguments"] if not each["required"]]
    pairs += [("needs", ", ".join(needed))] if needed else []
    pairs += [("takes", ", ".join(others))] if others else []
    lines = [entry["name"]]
    for label, said in pairs:
        start = f"  {label:7}"
        lines += textwrap.wrap(said, 80, initial_indent=start, subsequent_indent=" " * len(start))
    return "\n".join(lines)
