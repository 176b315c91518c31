"""CPA: a person's sentence becomes a checked plan, carried out and proved.

The names below are promised: they stay where they are between major versions. Each is imported when first
used, so that `import cpa` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ActionType": "cpa.core.actions",
    "AgentRegistry": "cpa.orchestrator.agent_registry",
    "AuditLog": "cpa.audit.log",
    "BaseExecutor": "cpa.ports.executor",
    "BaseMessage": "cpa.core.lam_protocol",
    "CPAError": "cpa.errors",
    "ExecutionResult": "cpa.ports.executor",
    "ExecutorRegistry": "cpa.executors.registry",
    "Intent": "cpa.core.intent_router",
    "IntentRouter": "cpa.core.intent_router",
    "Job": "cpa.core.views",
    "JobQueue": "cpa.ports.queue",
    "JobStatus": "cpa.core.job",
    "Orchestrator": "cpa.orchestrator.orchestrator",
    "RequestMessage": "cpa.core.lam_protocol",
    "SecretsManager": "cpa.ports.secrets",
    "Settings": "cpa.settings",
    "TaskGraph": "cpa.core.task_graph",
    "ToDo": "cpa.core.todo",
    "create_app": "cpa.api.app",
    "find_agent_for_task": "cpa.core.assignment",
}

if TYPE_CHECKING:
    from cpa.api.app import create_app
    from cpa.audit.log import AuditLog
    from cpa.core.actions import ActionType
    from cpa.core.assignment import find_agent_for_task
    from cpa.core.intent_router import Intent, IntentRouter
    from cpa.core.job import JobStatus
    from cpa.core.lam_protocol import BaseMessage, RequestMessage
    from cpa.core.task_graph import TaskGraph
    from cpa.core.todo import ToDo
    from cpa.core.views import Job
    from cpa.errors import CPAError
    from cpa.executors.registry import ExecutorRegistry
    from cpa.orchestrator.agent_registry import AgentRegistry
    from cpa.orchestrator.orchestrator import Orchestrator
    from cpa.ports.executor import BaseExecutor, ExecutionResult
    from cpa.ports.queue import JobQueue
    from cpa.ports.secrets import SecretsManager
    from cpa.settings import Settings

__all__ = [
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
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'cpa' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
