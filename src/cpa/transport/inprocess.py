"""The built-in agent: same calls as for a remote one, without bytes in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt


class Hands(Protocol):
    """What the agent's runtime offers (`cpa.agents.runtime.AgentRuntime`)."""

    def start(self, attempt: Attempt, request: ActionRequest) -> None: ...

    def verify(self, attempt: Attempt, request: ActionRequest) -> None: ...

    def cancel(self, attempt: Attempt) -> None: ...

    def job_ended(self, tenant: str, job: str) -> None: ...


class InProcessTransport:
    """`ports.transport.Transport` to agents living in this process, by address. What is for others is not sent."""

    def __init__(self, agents: Mapping[str, Hands]) -> None:
        self._agents = agents

    def send(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        if agent in self._agents:
            self._agents[agent].start(attempt, request)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        if agent in self._agents:
            self._agents[agent].verify(attempt, request)

    def cancel(self, agent: str, attempt: Attempt) -> None:
        if agent in self._agents:
            self._agents[agent].cancel(attempt)

    def job_ended(self, tenant: str, job: str) -> None:
        for hands in self._agents.values():
            hands.job_ended(tenant, job)
