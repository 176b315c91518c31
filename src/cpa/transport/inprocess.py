"""The built-in agent: same calls as for a remote one, without bytes in between."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt, Transport


class Hands(Protocol):
    """What the agent's runtime offers (`cpa.agents.runtime.AgentRuntime`)."""

    def start(self, attempt: Attempt, request: ActionRequest) -> None: ...

    def verify(self, attempt: Attempt, request: ActionRequest) -> None: ...

    def cancel(self, attempt: Attempt) -> None: ...

    def job_ended(self, tenant: str, job: str) -> None: ...


class InProcessTransport:
    """`ports.transport.Transport` to agents living in this process, by address. What is for others goes
    `elsewhere`, or nowhere."""

    def __init__(self, agents: Mapping[str, Hands], elsewhere: Transport | None = None) -> None:
        self._agents = agents
        self._elsewhere = elsewhere

    def send(
        self, agent: str, attempt: Attempt, request: ActionRequest, *, won: bool = False, again: bool = False
    ) -> None:
        if agent in self._agents:
            self._agents[agent].start(attempt, request)
        elif self._elsewhere is not None:
            self._elsewhere.send(agent, attempt, request, won=won, again=again)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        if agent in self._agents:
            self._agents[agent].verify(attempt, request)
        elif self._elsewhere is not None:
            self._elsewhere.verify(agent, attempt, request)

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        if agent in self._agents:
            self._agents[agent].cancel(attempt)
        elif self._elsewhere is not None:
            self._elsewhere.cancel(agent, attempt, task)

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        if agent not in self._agents:
            if self._elsewhere is not None:
                self._elsewhere.over(agent, attempt, answered=answered)
        elif not answered:
            self._agents[agent].cancel(attempt)

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None:
        for hands in self._agents.values():
            hands.job_ended(tenant, job)
        if agents and self._elsewhere is not None:
            self._elsewhere.job_ended(tenant, job, run, agents)
