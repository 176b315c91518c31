"""The project's own source as syntax trees, for the tests of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cpa"


@dataclass(frozen=True)
class Module:
    """One Python file below src/cpa."""

    name: str
    """Dotted, below the package: `core.machine`; the package itself is the empty string."""
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of every import, nested too, without those for type checkers only."""
        hidden = {
            id(node) for block in ast.walk(self.tree) if for_checkers(block) for node in ast.walk(block)
        }
        for node in ast.walk(self.tree):
            if id(node) in hidden:
                continue
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def for_checkers(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:` block."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def modules() -> tuple[Module, ...]:
    return tuple(read(path) for path in sorted(PACKAGE.rglob("*.py")))


def read(path: Path) -> Module:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, filename=str(path)))


def below(module: str, *rooms: str) -> bool:
    """Whether the module is one of these or lies in one of them."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)
