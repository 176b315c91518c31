"""What was handed in for delivery in one life of the scheduler, and what became of it.

Stands before and behind the real delivery, as `ports.delivery.Delivery` and as its `Receipts`:

taken     what counts as taken was really taken in by the agent
lost      what an agent could take is taken, refused for good or dropped once all is well
order     within a conversation nothing is heard before what was handed in earlier
refused   only for good: what may be better later is tried again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Delivery, Receipts
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.claims import check_sent
from cpa.transport.channel import ChannelDelivery, Connection

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World


@dataclass(slots=True)
class _Entry:
    message: BaseMessage
    over: bool = False
    """Taken, refused or dropped."""
    dropped: bool = False


class Channels(ChannelDelivery):
    """The real one; it counts who comes back."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self._seen = seen

    def open(self, agent: AgentRecord, stream: str, cursor: int) -> Connection:
        connection = super().open(agent, stream, cursor)
        if stream:
            self._seen["resumed_channels" if connection.stream == stream else "new_streams"] += 1
        return connection

    def kept(self, agent: AgentRecord) -> int:
        """How many messages wait for the agent's acknowledgement."""
        stream = self._streams.get((agent.tenant, agent.id))
        return 0 if stream is None else len(stream.kept)


class Ledger:
    """Give it to those who deliver; `receipts` is set before the first message."""

    def __init__(self, world: World, life: Life, delivery: Delivery) -> None:
        self._world, self._life, self._delivery = world, life, delivery
        self._entries: dict[str, dict[str, _Entry]] = {}
        """By agent and message id, in the order in which they were handed in."""
        self.receipts: Receipts | None = None

    def open(self, address: str) -> list[BaseMessage]:
        """What this agent was not rid of yet."""
        return [entry.message for entry in self._entries.get(address, {}).values() if not entry.over]

    def heard(self, address: str, message: BaseMessage, known: Callable[[str], bool]) -> None:
        """The agent takes this in for the first time; `known`: by id, what it took in before."""
        about, entries = message.correlation.conversation_id, self._entries.get(address, {})
        if str(message.id) not in entries:
            return  # an earlier life of the scheduler said it
        for id, entry in entries.items():
            if id == str(message.id):
                return
            mine = entry.message.correlation.conversation_id == about and not entry.dropped
            if mine and not known(id):
                told = f"{address} hears {message.type} of {about} before {entry.message.type}"
                self._world.violated(Violation("order", told))

    # -- Delivery ------------------------------------------------------------------------------------------

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        if self._life.dead:
            return
        entries = self._entries.setdefault(agent.address, {})
        known = entries.get(str(message.id))
        if known is None or known.over:
            entries.pop(str(message.id), None)
            entries[str(message.id)] = _Entry(message)
        self._delivery.deliver(agent, message)

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        for entry in self._entries.get(agent.address, {}).values():
            if entry.message.correlation.conversation_id == conversation and not entry.over:
                entry.over = entry.dropped = True
        self._delivery.drop(agent, conversation)

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        self._entries.pop(agent.address, None)
        self._delivery.forget(agent, last)

    # -- Receipts ------------------------------------------------------------------------------------------

    def left(self, agent: AgentRecord, message: BaseMessage) -> None:
        if self._life.dead:
            return
        check_sent(self._world, agent.address, message)
        self._told.left(agent, message)

    def taken(self, agent: AgentRecord, message: BaseMessage) -> None:
        if self._life.dead:
            return
        self._end(agent, message)
        if str(message.id) not in self._world.agents[agent.address].heard:
            told = f"{agent.address} has {message.type} {message.id}, it is said, and it never took it in"
            self._world.violated(Violation("taken", told))
        self._told.taken(agent, message)

    def refused(self, agent: AgentRecord, message: BaseMessage, why: CPAError, *, certain: bool) -> None:
        if self._life.dead:
            return
        self._end(agent, message)
        if why.retryable or why.status >= 500:
            told = f"{message.type} to {agent.address} is given up because of {why}, which may pass"
            self._world.violated(Violation("refused", told))
        self._told.refused(agent, message, why, certain=certain)

    def troubled(self, agent: AgentRecord, trouble: str) -> None:
        if not self._life.dead:
            self._told.troubled(agent, trouble)

    @property
    def _told(self) -> Receipts:
        assert self.receipts is not None
        return self.receipts

    def _end(self, agent: AgentRecord, message: BaseMessage) -> None:
        entry = self._entries.get(agent.address, {}).get(str(message.id))
        if entry is not None:
            entry.over = True
