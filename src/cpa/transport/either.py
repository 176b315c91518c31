"""The way to every agent: posted to those that listen, pushed to those that open a channel."""

from __future__ import annotations

from collections.abc import Sequence

from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Delivery


class EitherDelivery:
    """`ports.delivery.Delivery` by one of two."""

    def __init__(self, posted: Delivery, pushed: Delivery) -> None:
        self._posted, self._pushed = posted, pushed

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        self._way(agent).deliver(agent, message)

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        self._way(agent).drop(agent, conversation)

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        self._posted.forget(agent, last if agent.endpoint else ())
        self._pushed.forget(agent)

    def _way(self, agent: AgentRecord) -> Delivery:
        return self._posted if agent.endpoint else self._pushed
