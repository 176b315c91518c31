"""What the intent rules make of a text, and whether a file of rules is sound; needs no server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpa.cli.upkeep import Finding
from cpa.config.intents import check_file, explain_route, load_intents, router_of
from cpa.config.loading import ConfigError
from cpa.config.workspace import FILE, load_values, load_workspace


def route(text: str, workspace: Path | None, file: Path | None) -> Finding:
    """What `text` would become with the workspace's intents, or with those of one file alone."""
    router = load_workspace(workspace).intents if file is None else router_of([load_intents(file)])
    found = explain_route(router, text)
    well = found.intent.complete
    facts = {"understood": well, "intent": found.intent.model_dump(mode="json"), "why": list(found.lines)}
    return Finding(well, str(found), facts)


def check(file: Path, workspace: Path | None = None) -> Finding:
    """Whether the file can be used, every plan in it can be made with the values of its workspace, and every
    example becomes its intent. The workspace is the `cpa.yaml` beside the file, or else the one given."""
    from cpa.bootstrap import check_plans

    report = check_file(file)
    found = list(report.problems)
    try:
        source = load_intents(file)
    except ConfigError:
        pass  # its problems are in the report
    else:
        found = sorted([*check_plans(source, _values(file, workspace)), *found], key=lambda each: each.line)
    problems = [str(problem) for problem in found]
    return Finding(
        not problems, "\n".join(problems) or str(report), {"ok": not problems, "problems": problems}
    )


def _values(file: Path, workspace: Path | None) -> Mapping[str, Any] | None:
    """The values that the file's plans may read; None when no workspace is known."""
    beside = file.parent / FILE
    if beside.is_file():
        workspace = beside
    return None if workspace is None else load_values(workspace)
