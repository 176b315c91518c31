"""The workflow runs again in every replay: it must be as pure as the core it holds."""

from __future__ import annotations

import ast

import pytest

from .source import Module, modules
from .test_core import impurities

REPLAYED = tuple(f"engines.temporal.{name}" for name in ("workflow", "decider", "values"))
ALLOWED = (
    *("asyncio", "collections", "datetime", "hashlib"),
    *("msgspec", "temporalio.workflow", "temporalio.common", "temporalio.exceptions"),
    *(
        "cpa.core",
        "cpa.engines.temporal.values",
        "cpa.engines.temporal.decider",
        "cpa.ports.nonces",
        "__future__",
        "typing",
    ),
)
TIME = ("sleep", "wait", "wait_for", "timeout", "to_thread", "gather")
"""Of asyncio: what waits by the machine's clock, in a thread, or in no order."""
MODULES = [module for module in modules() if module.name in REPLAYED]


def test_they_are_there() -> None:
    assert {module.name for module in MODULES} == set(REPLAYED)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_replayed_code_imports_only_the_core_and_the_workflow_api(module: Module) -> None:
    foreign = [
        (line, name)
        for line, name in module.imports()
        if not any(name == home or name.startswith(f"{home}.") for home in ALLOWED)
    ]

    assert [each for each in foreign if each[1] != "temporalio"] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_replayed_code_calls_no_clock_chance_or_output(module: Module) -> None:
    timed = [
        f"line {node.lineno}: asyncio.{node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
        and node.attr in TIME
    ]

    assert impurities(module.tree) + timed == []
