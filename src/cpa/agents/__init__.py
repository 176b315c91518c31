"""Agents: processes that do what the scheduler plans. `Agent` is all that a small one needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpa.agents.agent import Agent
    from cpa.agents.functions import Failed

_HOMES = {"Agent": "cpa.agents.agent", "Failed": "cpa.agents.functions"}

__all__ = ["Agent", "Failed"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cpa.agents' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
