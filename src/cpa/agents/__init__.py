"""Agents: processes that do what the scheduler plans. `Agent` is all that a small one needs, the rest what a larger
one returns and raises."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpa.agents.agent import Agent
    from cpa.agents.fence import checkpoint
    from cpa.agents.functions import Failed
    from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

_EXECUTOR = "cpa.ports.executor"
_HOMES = {
    "ActionRequest": _EXECUTOR,
    "Agent": "cpa.agents.agent",
    "BaseExecutor": _EXECUTOR,
    "ExecutionResult": _EXECUTOR,
    "Failed": "cpa.agents.functions",
    "Verdict": _EXECUTOR,
    "Verification": _EXECUTOR,
    "checkpoint": "cpa.agents.fence",
}

__all__ = [
    "ActionRequest",
    "Agent",
    "BaseExecutor",
    "ExecutionResult",
    "Failed",
    "Verdict",
    "Verification",
    "checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cpa.agents' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
