"""How a LAM message reaches an agent outside this process: posted to its endpoint, or pushed into its channel."""

from __future__ import annotations

from typing import Protocol

from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import AgentRecord


class Delivery(Protocol):
    """At least once, in order per agent, until it is taken or dropped.

    Delivering is no retry of a task: the same message keeps its id, and the agent knows it again. Nothing here is
    durable: what is open stands in the outbox and is handed in again after a restart or a new channel.
    """

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        """Take the message; never blocks, never raises. Tried until the agent took it, refused it, or `drop`."""
        ...

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        """What was not delivered yet of this conversation is not wanted any more."""
        ...

    def forget(self, agent: AgentRecord) -> None:
        """The agent is gone: drop everything, close its channel."""
        ...
