"""House rules that a reader should not have to check by eye."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from .source import Module, modules

MODULE_LINES = 420
"""About 400; a module that outgrows this tells about a missing idea."""
FUNCTION_LINES = 60

ALL = modules()


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_a_module_stays_readable(module: Module) -> None:
    assert module.lines <= MODULE_LINES, f"{module.path.name} has {module.lines} lines"


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_a_function_stays_readable(module: Module) -> None:
    long = [
        f"{node.name} ({length} lines)"
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := code_lines(node)) > FUNCTION_LINES
    ]

    assert long == []


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_no_exception_is_swallowed(module: Module) -> None:
    """Catching everything is allowed only where it is raised again or handed on as a value."""
    silent = [
        handler.lineno for handler in handlers(module.tree) if catches_all(handler) and not passes_on(handler)
    ]

    assert silent == []


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_every_module_says_what_it_is(module: Module) -> None:
    if module.path.name == "__init__.py" and not module.text.strip():
        return
    assert ast.get_docstring(module.tree), f"{module.path.name} has no docstring"


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_nothing_is_left_to_do(module: Module) -> None:
    marks = ("TODO", "FIXME", "XXX", "raise NotImplementedError")

    assert [mark for mark in marks if mark in module.text] == []


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name or "cpa")
def test_what_is_logged_has_a_name_and_no_sentence(module: Module) -> None:
    """People filter by it; what belongs to it stands in fields."""
    assert [name for name in logged(module.tree) if not re.fullmatch("[a-z]+(_[a-z0-9]+)*", name)] == []


def test_the_walker_knows_a_sentence_in_a_log() -> None:
    code = (
        "log.info('all is well')\n_log.log(level, f'{n} of them', n=1)\nlog.error('gone', error='a sentence')"
    )
    assert list(logged(ast.parse(code))) == ["all is well", "f'{n} of them'", "gone"]


def logged(tree: ast.Module) -> Iterator[str]:
    """What the calls of loggers name; the source of what is no literal."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("log", "_log"):
            name = node.args[1 if node.func.attr == "log" else 0]
            yield str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name)


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring: help texts of commands do not count."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def handlers(tree: ast.Module) -> Iterator[ast.ExceptHandler]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))


def catches_all(handler: ast.ExceptHandler) -> bool:
    kind = handler.type
    return kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))


def passes_on(handler: ast.ExceptHandler) -> bool:
    """Raised again, or the caught exception itself becomes an answer: set on a future, collected to be raised,
    returned as a failure, or told to the other side. Logging alone is none of these."""
    nodes = [node for statement in handler.body for node in ast.walk(statement)]
    if any(isinstance(node, ast.Raise) for node in nodes):
        return True
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    kept = any(call.func.attr in ("set_exception", "append") and _names(call, handler.name) for call in calls)  # type: ignore[attr-defined]
    answers = [node for node in nodes if isinstance(node, ast.Return | ast.Await)]
    return kept or any(_names(answer, handler.name) for answer in answers)


def _names(node: ast.AST, name: str | None) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


@pytest.mark.parametrize(
    ("body", "silent"),
    [
        ("log(error)", True),
        ("pass", True),
        ("raise", False),
        ("raise Other() from error", False),
        ("future.set_exception(error)", False),
        ("errors.append(error)", False),
        ("return failed(error)", False),
        ("return None", True),
    ],
)
def test_the_walker_knows_a_swallowed_exception(body: str, silent: bool) -> None:
    source = f"def attempt():\n    try:\n        work()\n    except Exception as error:\n        {body}\n"
    tree = ast.parse(source)

    assert silent == any(catches_all(h) and not passes_on(h) for h in handlers(tree))
