"""Which agents there are, and which of them takes a task."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from cpa.core.assignment import find_agent_for_task


@dataclass(slots=True)
class Agent:
    """A process (or a part of this one) that does actions."""

    address: str
    """`agent://<kind>/<name>`"""
    actions: frozenset[str]
    capabilities: frozenset[str] = frozenset()
    """Free tags besides the actions."""
    slots: int = 10_000
    """Attempts at the same time."""
    busy: int = 0
    sessions: int = 0
    """Most jobs that may hold a session (a browser context) at the same time; 0 is no limit."""
    session_family: str = ""
    """Prefix of the actions that need a session."""
    holders: set[tuple[str, str]] = field(default_factory=set)
    """Jobs (tenant, id) that hold a session."""

    def needs_session(self, action: str) -> bool:
        return self.sessions > 0 and action.startswith(self.session_family)


class Applicant(msgspec.Struct, frozen=True, gc=False):
    """A task that asks for an agent."""

    tenant: str
    job: str
    task: int
    epoch: int
    action: str
    capability: str = ""


class AgentRegistry:
    """Agents by address; the line of tasks that wait for a free slot.

    A task that no known agent could ever take is answered with `no_agent`; one whose agents are all busy waits
    here, in order, and is called when a slot or a session comes free. What waits here is lost with the process
    and asked for again on recovery, because its `DispatchTask` stays open.
    """

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}
        self._by_action: dict[str, list[Agent]] = {}
        self._in_session: set[str] = set()
        """Actions that need a session at some agent."""
        self._lines: dict[tuple[str, str], deque[Applicant]] = {}
        """Waiting tasks by (action, capability): within one kind the first is the first to be served."""

    def register(self, agent: Agent) -> None:
        """Add or replace an agent."""
        self._agents[agent.address] = agent
        self._by_action.clear()
        self._in_session.clear()
        for known in self._agents.values():
            for action in known.actions:
                self._by_action.setdefault(action, []).append(known)
                if known.needs_session(action):
                    self._in_session.add(action)

    def get(self, address: str) -> Agent | None:
        return self._agents.get(address)

    def offers(self, action: str, capability: str = "") -> bool:
        """Whether any agent could take this."""
        return bool(self._suitable(action, capability))

    def find_agent_for_task(self, applicant: Applicant) -> Agent | None:
        """The least busy suitable agent with a free slot (and session); it is taken. None if all are busy."""
        suitable = self._suitable(applicant.action, applicant.capability)
        if applicant.action not in self._in_session:
            best = find_agent_for_task(suitable)
        else:
            best = find_agent_for_task(agent for agent in suitable if self._has_session(agent, applicant))
            if best is not None and best.needs_session(applicant.action):
                best.holders.add((applicant.tenant, applicant.job))
        if best is not None:
            best.busy += 1
        return best

    def verifier(self, action: str, capability: str) -> Agent | None:
        """Who can look for the effect of this action; looking takes no slot."""
        return next(iter(self._suitable(action, capability)), None)

    def wait(self, applicant: Applicant) -> None:
        """Stand in line for the next free slot."""
        kind = (applicant.action, applicant.capability)
        self._lines.setdefault(kind, deque()).append(applicant)

    def release(self, address: str) -> list[tuple[Applicant, Agent]]:
        """An attempt of this agent is over; returns who takes what came free."""
        agent = self._agents.get(address)
        if agent is None:
            return []
        agent.busy = max(0, agent.busy - 1)
        return self._call() if self._lines else []

    def release_session(self, tenant: str, job: str) -> list[tuple[Applicant, Agent]]:
        """The job needs no session for now."""
        for agent in self._agents.values():
            agent.holders.discard((tenant, job))
        return self._call() if self._lines else []

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def _call(self) -> list[tuple[Applicant, Agent]]:
        called: list[tuple[Applicant, Agent]] = []
        for kind, line in list(self._lines.items()):
            self._serve(line, called)
            if not line:
                del self._lines[kind]
        return called

    def _serve(self, line: deque[Applicant], called: list[tuple[Applicant, Agent]]) -> None:
        """Give agents to those in front; where sessions are short, also to those behind who hold one."""
        passed: list[Applicant] = []
        while line:
            agent = self.find_agent_for_task(line[0])
            if agent is not None:
                called.append((line.popleft(), agent))
            elif any(known.sessions for known in self._suitable(line[0].action, line[0].capability)):
                passed.append(line.popleft())
            else:
                break
        line.extendleft(reversed(passed))

    def _suitable(self, action: str, capability: str) -> list[Agent]:
        agents = self._by_action.get(action, [])
        if not capability:
            return agents
        return [agent for agent in agents if capability in agent.capabilities]

    @staticmethod
    def _has_session(agent: Agent, applicant: Applicant) -> bool:
        if not agent.needs_session(applicant.action):
            return True
        return (applicant.tenant, applicant.job) in agent.holders or len(agent.holders) < agent.sessions
