"""What the intent rules make of a text, and whether a file of rules is sound; needs no server."""

from __future__ import annotations

from pathlib import Path

from cpa.cli.upkeep import Finding
from cpa.config.intents import check_file, explain_route, load_intents, router_of
from cpa.config.workspace import load_workspace


def route(text: str, workspace: Path | None, file: Path | None) -> Finding:
    """What `text` would become with the workspace's intents, or with those of one file alone."""
    router = load_workspace(workspace).intents if file is None else router_of([load_intents(file)])
    found = explain_route(router, text)
    well = found.intent.complete
    facts = {"understood": well, "intent": found.intent.model_dump(mode="json"), "why": list(found.lines)}
    return Finding(well, str(found), facts)


def check(file: Path) -> Finding:
    """Whether the file can be used and every example in it becomes its intent."""
    report = check_file(file)
    problems = [str(problem) for problem in report.problems]
    return Finding(report.ok, str(report), {"ok": report.ok, "problems": problems})
