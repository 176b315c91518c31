"""Whether an agent can take a task just now, by what an operator decided and what it says of itself.

    fact                      keeps from
    state draining            everything new, but for jobs whose session it holds
    state quarantined         everything
    no beat, or `offline`     everything
    session locked            what needs a screen
    remote session closed     what needs a screen

What a beat says of applications, user and DPI can be asked for as a capability: `outlook`, `outlook:16`,
`user:anna`, `dpi:96`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cpa.ports.agents import AgentState, Readiness

NO_AGENT: Final = "no_agent"
DRAINING: Final = "agents_draining"
OFFLINE: Final = "agents_offline"
NOT_READY: Final = "agents_not_ready"
BREAKER: Final = "breaker_open"
BUDGET: Final = "retry_budget"
BUSY: Final = "agent_busy"
HOME_BUSY: Final = "session_busy"
"""As `BUSY`, of the one agent that has the session of the task's job: nobody else will do."""
STAGES: Final = (NO_AGENT, DRAINING, OFFLINE, NOT_READY, BREAKER, BUSY)
"""How far an agent comes before something keeps it from a task; the furthest of all is the reason to tell."""
LASTING: Final = (NO_AGENT, DRAINING, OFFLINE, NOT_READY)
"""Reasons that only end when something about the agents changes; the others pass with time."""

_SCREEN: Final = ("desktop.",)
"""Families of actions that need an unlocked screen in front of a session."""
_TABLE: Final[tuple[tuple[Callable[[Readiness], bool], tuple[str, ...]], ...]] = (
    (lambda facts: facts.session_locked is True, _SCREEN),
    (lambda facts: facts.remote_session_closed is True, _SCREEN),
)
"""Fact, and the families of actions it keeps an agent from. What was not said keeps from nothing."""


def obstacle(
    action: str, state: AgentState, online: bool, readiness: Readiness, *, at_home: bool = False
) -> str:
    """Why an agent that does this action cannot take it now; empty when it can. `at_home`: the task's job holds a
    session there."""
    if state is not AgentState.ACTIVE and not (state is AgentState.DRAINING and at_home):
        return DRAINING
    if not online:
        return OFFLINE
    if any(action.startswith(families) and holds(readiness) for holds, families in _TABLE):
        return NOT_READY
    return ""


def facts(readiness: Readiness) -> frozenset[str]:
    """What a beat says, as capabilities that a task may ask for."""
    found = set(readiness.applications)
    found |= {f"{name}:{version}" for name, version in readiness.applications.items()}
    if readiness.user is not None:
        found.add(f"user:{readiness.user}")
    if readiness.dpi is not None:
        found.add(f"dpi:{readiness.dpi}")
    return frozenset(found)
