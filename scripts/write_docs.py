"""Write the generated parts of the documents: settings, transitions. A test compares them with the tree.

python scripts/write_docs.py            write
python scripts/write_docs.py --check    say what is out of date, exit code 1 if anything is
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from cpa.core.transitions import JOB_MOVES, TASK_MOVES
from cpa.settings import Settings

S = TypeVar("S", bound=StrEnum)

ROOT = Path(__file__).resolve().parent.parent


def documents() -> dict[Path, str]:
    """Every document with generated parts, as it should be."""
    deployment, architecture = ROOT / "docs" / "deployment.md", ROOT / "docs" / "architecture.md"
    return {
        ROOT / ".env.example": env_example(),
        deployment: filled(deployment.read_text("utf-8"), {"settings": settings_table()}),
        architecture: filled(
            architecture.read_text("utf-8"),
            {"job-states": diagram(JOB_MOVES, "pending"), "task-states": diagram(TASK_MOVES, "waiting")},
        ),
    }


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with each part between its marks replaced."""
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"the marks of {name} are missing")
        text = f"{head}{begin}{part}{end}{tail}"
    return text


def names(name: str, field: FieldInfo) -> list[str]:
    """The environment variables of a setting, ours first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices if str(choice).isupper()]
    return [f"CPA_{name.upper()}"]


def default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr) or value in ("", None, ()):
        return ""
    return str(value)


def settings_table() -> str:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variables = " or ".join(f"`{variable}`" for variable in names(name, field))
        shown = f"`{default(field)}`" if default(field) else "–"
        lines.append(f"| {variables} | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def env_example() -> str:
    lines = [
        "# Every setting of CPA, with its default. Copy to .env in the folder you start `cpa` in, and change",
        "# what you need. Lists take commas: a.example, b.example. Secrets: see docs/automations.md.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        first, *others = names(name, field)
        also = f" Also read from {', '.join(others)}." if others else ""
        lines += [f"# {field.description}{also}", f"#{first}={default(field)}", ""]
    return "\n".join(lines)


def diagram(moves: Mapping[S, frozenset[S]], start: str) -> str:
    """A mermaid state diagram of a table of moves."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start}"]
    for state, targets in moves.items():
        lines += [f"    {state.value} --> {target}" for target in sorted(target.value for target in targets)]
    return "\n".join([*lines, "```", ""])


def main(arguments: list[str]) -> int:
    stale = [
        path for path, text in documents().items() if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in stale:
        print(f"out of date: {path.relative_to(ROOT)}")
    if "--check" in arguments:
        return 1 if stale else 0
    for path, text in documents().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
