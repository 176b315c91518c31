"""How a LAM message reaches an agent outside this process: posted to its endpoint, or pushed into its channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError
from cpa.ports.agents import AgentRecord

Standing: TypeAlias = Callable[[AgentRecord], Sequence[BaseMessage]]
"""Everything that is open for an agent, in its order: for a way that begins anew."""


class Receipts(Protocol):
    """Who hands in messages learns what becomes of them. Nothing here blocks or raises."""

    def left(self, agent: AgentRecord, message: BaseMessage) -> None:
        """From now on the agent may have it. Told before the first byte leaves, perhaps more than once."""
        ...

    def taken(self, agent: AgentRecord, message: BaseMessage) -> None:
        """The agent has it."""
        ...

    def refused(self, agent: AgentRecord, message: BaseMessage, why: CPAError, *, certain: bool) -> None:
        """The agent does not take it, and it is not tried again. `certain`: no earlier try can have reached it."""
        ...

    def troubled(self, agent: AgentRecord, trouble: str) -> None:
        """Why the agent cannot be reached just now, in one line; empty when it was reached again."""
        ...


class Delivery(Protocol):
    """At least once, in order within a conversation, until it is taken or dropped. No agent waits for another.

    Delivering is no retry of a task: the same message keeps its id, and the agent knows it again. Nothing here is
    durable: what is open stands in the outbox and is handed in again after a restart or a new channel.
    """

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        """Take the message; never blocks, never raises. Tried until the agent took it, refused it, or `drop`. The
        same message again while it is on its way changes nothing."""
        ...

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        """What was not taken yet of this conversation is not wanted any more."""
        ...

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        """The agent is out, or is another process now: drop everything, close its channel. Without a channel that
        it could see closed, `last` is said to it once."""
        ...
