"""The documents say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def test_generated_parts_are_up_to_date() -> None:
    """`make docs` writes them."""
    script = runpy.run_path(str(ROOT / "scripts" / "write_docs.py"))
    stale = [path.name for path, text in script["documents"]().items() if path.read_text("utf-8") != text]

    assert stale == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = [target for target, _ in LINK.findall(document.read_text("utf-8")) if "://" not in target]

    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_source_files_exist(document: Path) -> None:
    """Paths in backquotes that begin like the project's own."""
    text = document.read_text("utf-8")
    named = re.findall(r"`((?:src|tests|docs|scripts|benchmarks)/[\w./-]+)`", text)

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_decisions_are_numbered_without_gaps_and_complete() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    for file in files:
        text = file.read_text("utf-8")
        for part in (
            "Status:",
            "## Context",
            "## Decision",
            "## Consequences",
            "## Alternatives",
            "## What enforces it",
        ):
            assert part in text, f"{file.name} lacks {part}"
