"""How an agent stands, besides what is stored of it and what its last beat said."""

from __future__ import annotations

from typing import Any

import msgspec

from cpa.orchestrator.agent_registry import Agent
from cpa.orchestrator.breakers import Breakers
from cpa.orchestrator.presence import Presence
from cpa.ports.agents import Named


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Of one moment."""

    last_seen: float | None
    """Seconds since its last sign of life; None without one since this process began, and for a part of it."""
    running: tuple[tuple[Named, float], ...]
    """Its attempts, and how many seconds each lease still has."""
    weights: dict[str, float]
    """By action that ever failed, what the agent counts for when one is chosen: 1 in full, less after failures."""
    breakers: dict[str, dict[str, Any]]
    """By family of actions: circuits that saw failures."""

    @classmethod
    def of(cls, agent: Agent, presence: Presence, breakers: Breakers, now: int) -> Standing:
        return cls(
            last_seen=presence.last(agent),
            running=tuple((named, left) for _, named, left in presence.running(agent)),
            weights={action: agent.weight(action, now) for action in sorted(agent.weights)},
            breakers=breakers.of(agent.key),
        )
