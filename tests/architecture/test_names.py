"""The names that users build on, and what loading them costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import cpa

from .source import ROOT, for_checkers, modules

PROMISED = (
    "ActionType",
    "AgentRegistry",
    "AuditLog",
    "BaseExecutor",
    "BaseMessage",
    "CPAError",
    "ExecutionResult",
    "ExecutorRegistry",
    "Intent",
    "IntentRouter",
    "Job",
    "JobQueue",
    "JobStatus",
    "Orchestrator",
    "RequestMessage",
    "SecretsManager",
    "Settings",
    "TaskGraph",
    "ToDo",
    "create_app",
    "find_agent_for_task",
)


def test_the_promised_names_are_exactly_these() -> None:
    assert sorted(PROMISED) == sorted(cpa.__all__)


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_name_is_there(name: str) -> None:
    assert getattr(cpa, name).__name__ == name


def test_type_checkers_see_the_same_homes() -> None:
    """The table that is used at run time and the imports that type checkers read say the same."""
    root = next(module for module in modules() if module.name == "")
    block = next(node for node in root.tree.body if for_checkers(node))
    assert isinstance(block, ast.If)
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == cpa._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = cpa.Nonsense


def test_importing_cpa_loads_no_library() -> None:
    code = "import sys, cpa; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert set(loaded).isdisjoint({"pydantic", "msgspec", "sqlalchemy", "fastapi", "typer", "rich", "httpx2"})


@pytest.mark.parametrize("module", ["cpa.cli.commands", "cpa.cli.rules", "cpa.cli.client"])
def test_commands_that_need_no_store_load_none(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert set(loaded).isdisjoint({"sqlalchemy", "pysqlite3", "fastapi", "playwright"})


def test_the_version_is_the_distribution_s() -> None:
    stated = re.search(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert stated is not None
    assert stated[1] == cpa.__version__
