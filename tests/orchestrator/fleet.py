"""Agents and applicants for the tests of this folder."""

from __future__ import annotations

from typing import Any

from cpa.orchestrator.agent_registry import Agent, Applicant
from cpa.ports.agents import AgentRecord, AgentState, Beat

TENANT = "acme"


def record(name: str = "eins", *actions: str, tenant: str = TENANT, **more: Any) -> AgentRecord:
    given: dict[str, Any] = {
        "tenant": tenant,
        "id": f"ag_{name}",
        "name": name,
        "type": "WEB",
        "address": f"agent://web/{name}",
        "actions": actions or ("web.click", "x.a.b", "desktop.click"),
        "slots": 2,
        "key": "key_1",
    }
    return AgentRecord(**given | more)


def remote(name: str = "eins", *actions: str, tenant: str = TENANT, **more: Any) -> Agent:
    """An agent outside this process, that is there."""
    about = {key: more.pop(key) for key in ("tags", "slots", "state", "type", "instance") if key in more}
    kept = record(name, *actions, tenant=tenant, **about)
    return Agent(
        kept.address,
        frozenset(kept.actions),
        frozenset(kept.tags),
        kept.slots,
        tenant=tenant,
        record=kept,
        **more,
    )


def builtin(*actions: str, **more: Any) -> Agent:
    return Agent("agent://builtin/1", frozenset(actions or ("x.a.b", "web.click")), **more)


def applicant(
    job: str = "j1", task: int = 0, *, action: str = "x.a.b", tenant: str = TENANT, **more: Any
) -> Applicant:
    return Applicant(tenant, job, task, more.pop("epoch", 1), action, **more)


DRAINING, QUARANTINED = AgentState.DRAINING, AgentState.QUARANTINED
SILENT = Beat()
