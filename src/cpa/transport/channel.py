"""Messages pushed into channels that agents open: for agents behind a firewall.

Each agent has one stream of numbered messages. What was pushed stays until the agent acknowledged its number, or a
greater one; an agent that comes back names the stream and the last number it took, and goes on there. Who names
another stream, or none, gets everything that is open for it, numbered anew: this process may have been restarted,
or the agent. A second channel of the same agent takes the place of the first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Unavailable
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Receipts, Standing

MOST: Final = 5_000
"""Messages that may wait for one agent."""


class Connection:
    """One open channel: `following` gives what to push, in order; `closed` is set when another one took its place
    or the agent is gone."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._pushed = 0
        self.closed = asyncio.Event()

    @property
    def stream(self) -> str:
        return self._stream.name

    async def following(self) -> list[tuple[int, BaseMessage]]:
        """The messages not pushed on this connection yet; waits until there are some."""
        stream = self._stream
        while not (found := [(n, m) for n, m in stream.kept.items() if n > self._pushed]):
            stream.news.clear()
            await stream.news.wait()
        self._pushed = found[-1][0]
        for _, message in found:
            stream.receipts.left(stream.agent, message)
        return found

    def acknowledge(self, number: int) -> None:
        """The agent took everything up to this number; what it was not given cannot be taken. Nothing once another
        channel took the place of this one: its numbers may mean other messages."""
        if self._stream.connection is self:
            self._stream.acknowledge(min(number, self._pushed))


class _Stream:
    """What one agent was told and did not take yet."""

    def __init__(self, agent: AgentRecord, receipts: Receipts) -> None:
        self.agent = agent
        self.receipts = receipts
        self.name = secrets.token_hex(8)
        self.number = 0
        self.kept: dict[int, BaseMessage] = {}
        self.ids: set[UUID] = set()
        self.news = asyncio.Event()
        self.connection: Connection | None = None

    def add(self, message: BaseMessage) -> None:
        self.number += 1
        self.kept[self.number] = message
        self.ids.add(message.id)
        self.news.set()

    def acknowledge(self, number: int) -> None:
        for known in [known for known in self.kept if known <= number]:
            message = self._remove(known)
            self.receipts.taken(self.agent, message)

    def drop(self, conversation: str) -> None:
        for number, message in list(self.kept.items()):
            if message.correlation.conversation_id == conversation:
                self._remove(number)

    def begin(self, standing: Sequence[BaseMessage]) -> None:
        """Another stream: all that is open, and what was not taken, each where it stood before (a call for bids
        before the task that is then handed out)."""
        ids = {message.id for message in standing}
        before: dict[UUID, list[BaseMessage]] = {}
        others: list[BaseMessage] = []
        for message in self.kept.values():
            if message.id in ids:
                before[message.id], others = others, []
            else:
                others.append(message)
        self.name, self.number, self.kept, self.ids = secrets.token_hex(8), 0, {}, set()
        placed = [each for message in standing for each in (*before.get(message.id, ()), message)]
        for message in [*placed, *others]:
            if message.id not in self.ids:
                self.add(message)

    def _remove(self, number: int) -> BaseMessage:
        message = self.kept.pop(number)
        self.ids.discard(message.id)
        return message


class ChannelDelivery:
    """`ports.delivery.Delivery` into channels: what an agent acknowledged it has taken."""

    def __init__(self) -> None:
        self._receipts: Receipts | None = None
        self._standing: Standing = _nothing
        self._streams: dict[tuple[str, str], _Stream] = {}

    def connect(self, receipts: Receipts, standing: Standing | None = None) -> None:
        """`standing` is asked whenever an agent begins a new stream."""
        self._receipts, self._standing = receipts, standing or _nothing

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        stream = self._stream(agent)
        if message.id in stream.ids:
            return
        if len(stream.kept) >= MOST:
            why = Unavailable("too much waits for this agent", remedy="look why it takes nothing")
            receipts = stream.receipts
            asyncio.get_running_loop().call_soon(lambda: receipts.refused(agent, message, why, certain=True))
            return
        stream.add(message)

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        stream = self._streams.get((agent.tenant, agent.id))
        if stream is not None:
            stream.drop(conversation)

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        stream = self._streams.pop((agent.tenant, agent.id), None)
        if stream is not None and stream.connection is not None:
            stream.connection.closed.set()

    def open(self, agent: AgentRecord, stream: str, cursor: int) -> Connection:
        """The agent opened a channel; it took `stream` up to number `cursor`."""
        found = self._stream(agent)
        if found.connection is not None:
            found.connection.closed.set()
        if stream == found.name and cursor <= found.number:
            found.acknowledge(cursor)
        else:
            found.begin(self._standing(agent))
        found.connection = Connection(found)
        found.receipts.troubled(agent, "")
        return found.connection

    def close(self, agent: AgentRecord, connection: Connection) -> None:
        """The channel is closed."""
        stream = self._streams.get((agent.tenant, agent.id))
        if stream is not None and stream.connection is connection:
            stream.connection = None
            stream.receipts.troubled(agent, "its channel is closed")

    def _stream(self, agent: AgentRecord) -> _Stream:
        key = (agent.tenant, agent.id)
        stream = self._streams.get(key)
        if stream is None:
            assert self._receipts is not None
            stream = self._streams[key] = _Stream(agent, self._receipts)
            self._receipts.troubled(agent, "it has not opened its channel")
        stream.agent = agent
        return stream


def _nothing(_: AgentRecord) -> list[BaseMessage]:
    return []
