"""An outside library is imported only in the modules named for it."""

from __future__ import annotations

import sys
from functools import cache

import pytest

from .source import ROOT, Module, below, modules

HOMES: dict[str, tuple[str, ...]] = {
    "aiosmtpd": ("demo", "testing"),
    "aiosmtplib": ("executors.mail.smtp",),
    "alembic": ("repository",),
    "cryptography": ("agents.signing", "security.signatures", "engines.temporal"),
    "fastapi": ("api", "demo"),
    "google": ("engines.temporal",),
    "httpx2": (
        *("agents.client", "artifacts.remote", "cli.client", "executors.http", "transport.postbox"),
        *("demo", "testing"),
    ),
    "idna": ("security", "executors.mail.message"),
    "imap_tools": ("executors.mail.imap", "demo", "testing"),
    "jsonschema": ("executors.http", "orchestrator", "core"),
    "msgspec": ("",),
    "playwright": ("executors.web", "demo"),
    "prometheus_client": ("telemetry.metrics",),
    "pydantic": ("",),
    "pydantic_core": ("core", "api", "config", "agents.functions"),
    "pydantic_settings": ("settings",),
    "pysqlite3": ("repository", "queue", "agents.outbox"),
    "referencing": ("executors.http",),
    "rich": ("cli.terminal", "cli.watch", "demo"),
    "sqlalchemy": ("repository", "queue", "audit"),
    "starlette": ("api", "demo", "agents.listener"),
    "structlog": ("",),
    "temporalio": ("engines.temporal",),
    "typer": ("cli",),
    "uvicorn": ("bootstrap", "api", "agents.listener", "demo", "testing"),
    "uvloop": ("agents.loop",),
    "websockets": ("agents.channel", "cli.client", "testing.simulation.sockets"),
    "yaml": ("config",),
}
"""Library → where it may be imported (`executors.web` covers what is in that room); "" is everywhere."""


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name or "cpa")
def test_libraries_stay_at_home(module: Module) -> None:
    strangers = [
        f"line {line}: {name}"
        for line, name in module.imports()
        if (library := name.split(".")[0]) not in sys.stdlib_module_names
        and library != "cpa"
        and not any(at_home(module.name, home) for home in HOMES.get(library, ()))
    ]

    assert strangers == []


def test_the_table_lists_no_library_that_nobody_uses() -> None:
    used = {name.split(".")[0] for module in modules() for _, name in module.imports()}

    assert sorted(set(HOMES) - used) == []


def test_testing_helpers_are_imported_by_the_command_line_only() -> None:
    found = [
        module.name
        for module in modules()
        if not below(module.name, "testing", "cli")
        and any(below(name, "cpa.testing") for _, name in module.imports())
    ]

    assert found == []


@cache
def at_home(module: str, home: str) -> bool:
    return not home or below(module, home) or ("." in home and module.startswith(f"{home}_"))


def test_the_layer_contract_names_every_room() -> None:
    """An exhaustive contract that somebody switched off would pass silently."""
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8")

    assert "exhaustive = True" in contract
    assert "exhaustive_ignores" not in contract
    assert "ignore_imports" not in contract
