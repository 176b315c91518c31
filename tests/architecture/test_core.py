"""The core decides and does nothing else: no clock, no chance, no environment, no output."""

from __future__ import annotations

import ast

import pytest

from .source import Module, below, modules

CORE = [module for module in modules() if below(module.name, "core")]

ALLOWED = frozenset(
    (
        "__future__",
        "abc",
        "base64",
        "bisect",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "graphlib",
        "hashlib",
        "hmac",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "string",
        "textwrap",
        "types",
        "typing",
        "unicodedata",
        "uuid",
        "msgspec",
        "pydantic",
        "pydantic_core",
        "typing_extensions",
        "cpa",
    )
)
"""Everything the core may import: values, text, hashes, data structures."""

IMPURE_CALLS = frozenset(
    ("print", "open", "input", "breakpoint", "exec", "eval", "compile", "__import__", "id", "hash")
)
"""Built-ins that touch the world, or whose answer differs from process to process."""

IMPURE_NAMES = {
    "uuid": frozenset(("uuid1", "uuid4", "uuid6", "uuid7", "getnode")),
    "datetime": frozenset(("now", "utcnow", "today", "fromtimestamp", "astimezone")),
    "date": frozenset(("today",)),
}
"""Names of allowed modules that read a clock, draw a number or know the machine's time zone."""


def test_the_core_is_there() -> None:
    assert {module.name for module in CORE} >= {"core.machine", "core.job", "core.events", "core.commands"}


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.name)
def test_core_imports_only_values_and_text(module: Module) -> None:
    foreign = [(line, name) for line, name in module.imports() if name.split(".")[0] not in ALLOWED]

    assert foreign == []


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.name)
def test_core_calls_no_clock_chance_or_output(module: Module) -> None:
    assert impurities(module.tree) == []


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.name)
def test_core_has_no_coroutines(module: Module) -> None:
    found = [
        node.lineno for node in ast.walk(module.tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))
    ]

    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "print('x')",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4",
        "from datetime import datetime\ndatetime.now()",
        "hash('text')",
        "open('file')",
        "for x in {1, 2}: pass",
        "[x for x in set(names)]",
    ],
)
def test_the_walker_sees_impure_code(code: str) -> None:
    assert impurities(ast.parse(code))


def impurities(tree: ast.Module) -> list[str]:
    """What of this code touches the world or depends on the order of a set."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                found.append(f"line {node.lineno}: {name}()")
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in IMPURE_NAMES.get(owner, ()):
                found.append(f"line {node.lineno}: {owner}.{name}")
            case ast.ImportFrom(module=str(owner)):
                names = [alias.name for alias in node.names if alias.name in IMPURE_NAMES.get(owner, ())]
                found += [f"line {node.lineno}: {owner}.{name}" for name in names]
            case ast.For(iter=order) | ast.comprehension(iter=order) if is_set(order):
                found.append(f"line {order.lineno}: order of a set")
            case _:
                pass
    return found


def is_set(node: ast.expr) -> bool:
    """Whether iterating this depends on hash order, as far as can be told without types."""
    named = (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )
    return named or isinstance(node, (ast.Set, ast.SetComp))
