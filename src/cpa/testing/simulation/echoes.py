"""What was said to an agent comes again when things have gone on.

A copy of a `request` or `cancel` is kept somewhere on the way, and reaches its agent when that has a later attempt
of the same task. It may not touch what goes on by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cpa.agents.messages import is_look
from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import Named, named_in

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.world import World

_LATER: Final = 3.0
"""Seconds after the next request within which what came before it comes again."""


class Echoes:
    """Of what reached one agent."""

    def __init__(self, world: World, agent: Process) -> None:
        self._world, self._agent = world, agent
        self._chance = world.scenario.stream(f"echoes of {agent.name}")
        self._kept: dict[tuple[str, str], dict[str, tuple[BaseMessage, Callable[[], None]]]] = {}
        """By job and task: by id what reached it, and how that comes again."""

    def arrived(self, message: BaseMessage, again: Callable[[], None]) -> None:
        """This reached the agent; `again` lets it do so once more, as the copy that it is."""
        if "echoes" not in self._world.scenario.faults or is_look(message):
            return
        if message.type not in ("request", "assign", "cancel"):
            return
        named = named_in(message)
        kept = self._kept.setdefault((named.job, named.task), {})
        if message.type != "cancel" and str(message.id) not in kept:
            for earlier, repeat in list(kept.values()):
                if named_in(earlier).epoch < named.epoch:
                    self._world.loop.call_later(
                        self._chance.uniform(0, _LATER), self._repeat, earlier, repeat
                    )
        kept[str(message.id)] = message, again

    def _repeat(self, message: BaseMessage, again: Callable[[], None]) -> None:
        world, conversations = self._world, self._agent.conversations
        if not world.faulty or conversations is None:
            return
        if any(_later(each, named_in(message)) for each in conversations.running):
            world.seen["echoes"] += 1
            world.seen["late_cancels" if message.type == "cancel" else "late_requests"] += 1
        named = named_in(message)
        world.trace("echo", self._agent.name, message.type, named.job, named.task, named.epoch)
        again()


def _later(one: Named, other: Named) -> bool:
    """Whether the one is a later attempt of the same task."""
    return (one.job, one.task) == (other.job, other.task) and one.epoch > other.epoch
