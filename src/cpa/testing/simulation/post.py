"""Without a wire: messages go to agents over the simulated network as values, again and again until taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpa.core.lam_protocol import BaseMessage
from cpa.orchestrator.requests import Requests
from cpa.ports.agents import AgentRecord
from cpa.testing.simulation.claims import check_sent
from cpa.testing.simulation.network import SCHEDULER

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

RESEND = 3.0
"""Seconds after which a message that was not acknowledged is sent again."""


class Post:
    """`ports.delivery.Delivery` over the simulated network: in order per agent, again and again until taken."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life
        self._lines: dict[str, deque[BaseMessage]] = {}
        self._busy: set[str] = set()
        self.requests: Requests | None = None

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        line = self._lines.setdefault(agent.address, deque())
        if self._life.dead or any(waiting.id == message.id for waiting in line):
            return
        line.append(message)
        if agent.address not in self._busy:
            self._busy.add(agent.address)
            self._life.start(self._run(agent, line))

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        line = self._lines.get(agent.address, deque())
        for message in [each for each in line if each.correlation.conversation_id == conversation]:
            if message.type != "cancel":
                line.remove(message)

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        # Whoever has its name next goes on with this line.
        self._lines.get(agent.address, deque()).clear()

    async def _run(self, agent: AgentRecord, line: deque[BaseMessage]) -> None:
        while line:
            await self._push(agent, line, line[0])
        self._busy.discard(agent.address)

    async def _push(self, agent: AgentRecord, line: deque[BaseMessage], message: BaseMessage) -> None:
        world, receipts = self._world, self.requests
        assert receipts is not None
        process = world.agents[agent.address]
        taken = asyncio.Event()

        def acknowledged() -> None:
            if not taken.is_set() and not self._life.dead:
                taken.set()
                receipts.taken(agent, message)

        def arrived() -> None:
            process.hear(message, lambda: world.network.send(process.name, SCHEDULER, acknowledged))

        while not taken.is_set() and message in line:
            if world.network.open(SCHEDULER, process.name):
                check_sent(world, agent.address, message)
                receipts.left(agent, message)
                world.network.send(SCHEDULER, process.name, arrived)
            try:
                async with asyncio.timeout(RESEND):
                    await taken.wait()
            except TimeoutError:
                continue
        if message in line:
            line.remove(message)
