"""What an agent would rather do than what it was asked for: with other arguments, or later. Nothing is begun then.

Whoever has made a bid and won does as asked: an `assign` is not answered with `propose`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cpa.agents.messages import Speaker, is_look, request_in
from cpa.core.lam_payloads import RequestPayload
from cpa.core.lam_protocol import BaseMessage
from cpa.core.views import rfc3339
from cpa.ports.agents import Named, named_in

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.world import World

_LATER = (3_000, 60_000, 900_000)
"""Milliseconds after which it would be possible."""


class Proposals:
    """Of one agent; they outlive its processes."""

    def __init__(self, world: World, agent: Process) -> None:
        self._world, self._agent = world, agent
        self._chance = world.scenario.stream(f"proposals of {agent.name}")
        self._speaker = Speaker(agent.address, self._agent.new_id, world.clock.now_ms)
        self._made: dict[Named, BaseMessage] = {}

    def instead_of(self, message: BaseMessage, taken: Iterable[Named]) -> BaseMessage | None:
        """What it says instead of doing this, always the same; None where it does it, or has done so before."""
        if not isinstance(message.payload, RequestPayload) or is_look(message):
            return None
        named = named_in(message)
        if named not in self._made:
            if named in taken or not self._world.strikes("proposals", self._chance, 0.5):
                return None
            self._made[named] = self._speaker.reply(message, "propose", self._rather(message))
        return self._made[named]

    def _rather(self, message: BaseMessage) -> dict[str, Any]:
        if self._chance.random() < 0.5:
            return {"run_at": rfc3339(self._world.clock.now_ms() + self._chance.choice(_LATER))}
        changed = {"n": self._chance.randint(1_000, 9_999)}
        return {"arguments": dict(request_in(message).arguments) | changed, "reason": "rather so"}
