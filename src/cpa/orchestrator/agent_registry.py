"""Which agents there are, and which of them takes a task.

The view of this process, in memory: who is registered, who is there, what each has to do, and the line of tasks
that wait for a free slot. What is durable of an agent is kept by `directory`, how long it stays without a sign of
life by `presence`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import msgspec

from cpa.core.assignment import find_agent_for_task, forgiven, weighed
from cpa.orchestrator.breakers import Breakers
from cpa.orchestrator.readiness import BREAKER, BUSY, NO_AGENT, STAGES, facts, obstacle
from cpa.ports.agents import AgentRecord, AgentState, AgentStatus, Beat

SESSIONS = ("web.", "desktop.")
"""Families of actions whose steps share something (a browser context, a screen): those of one job stay together."""
_SILENT = Beat()


@dataclass(slots=True, eq=False)
class Agent:
    """A process (or a part of this one) that does actions, as this process sees it."""

    address: str
    """`agent://<kind>/<name>`"""
    actions: frozenset[str]
    capabilities: frozenset[str] = frozenset()
    """Free tags besides the actions."""
    slots: int = 10_000
    """Attempts at the same time, as far as it has room for them now."""
    busy: int = 0
    sessions: int = 0
    """Most jobs that may hold a session at the same time; 0 is no limit."""
    holders: set[tuple[str, str]] = field(default_factory=set)
    """Jobs (tenant, id) that hold a session."""
    tenant: str = ""
    """Whose tasks it takes; empty is everybody's."""
    record: AgentRecord | None = None
    """What is durable of an agent outside this process."""
    online: bool = True
    beat: Beat = _SILENT
    """What it said last."""
    shares: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By action: share of success and when that was, in milliseconds. Only for what ever failed."""

    @property
    def key(self) -> tuple[str, str]:
        """(tenant, address): two tenants may call their agents alike."""
        return self.tenant, self.address

    @property
    def remote(self) -> bool:
        return self.record is not None

    @property
    def load(self) -> float:
        return self.beat.load

    @property
    def state(self) -> AgentState:
        return AgentState.ACTIVE if self.record is None else self.record.state

    @property
    def status(self) -> AgentStatus:
        """Offline when it is, else what it said last."""
        return self.beat.status if self.online else AgentStatus.OFFLINE

    def offers(self, capability: str) -> bool:
        return capability in self.capabilities or capability in facts(self.beat.readiness)

    def share(self, action: str, now: int) -> float:
        known = self.shares.get(action)
        return 1.0 if known is None else forgiven(known[0], now - known[1])

    def ended(self, action: str, now: int, *, well: bool) -> None:
        """One more outcome of this action."""
        share, at = self.shares.get(action, (1.0, now))
        if not well or action in self.shares:
            self.shares[action] = (weighed(share, now - at, well=well), now)


class Applicant(msgspec.Struct, frozen=True, gc=False):
    """A task that asks for an agent."""

    tenant: str
    job: str
    task: int
    epoch: int
    action: str
    capability: str = ""
    arguments: Mapping[str, Any] = {}
    retry: bool = False
    """Whether it was tried before, and failed."""


Called = tuple[Applicant, Agent | str]
"""Somebody from the line with who takes it, or with why nobody can."""
_Calls: TypeAlias = list[Called]


class _Kind(NamedTuple):
    """Applicants that only differ in their turn: where the first must wait, all must."""

    tenant: str
    action: str
    capability: str
    home: str
    """Address of the agent that has their job's session; empty for none."""


class AgentRegistry:
    """Agents by address; the line of tasks that wait for a free slot.

    A task that nobody could take now gets the reason; one whose agents are only busy waits here, in order, and is
    called when a slot or a session comes free, an agent comes, or none is left to wait for. What waits here is lost
    with the process and asked for again on recovery, because its `DispatchTask` stays open.
    """

    def __init__(self) -> None:
        self._agents: dict[tuple[str, str], Agent] = {}
        self._suitable: dict[tuple[str, str, str], tuple[tuple[Agent, ...], Agent | None]] = {}
        """By (tenant, action, capability): who could, and who that is when it can only be one part of us."""
        self.local: frozenset[str] = frozenset()
        """Addresses of the parts of this process."""
        self._lines: dict[_Kind, deque[Applicant]] = {}
        self._homes: dict[tuple[str, str], dict[str, str]] = {}
        """By job: where its session of each family is."""
        self._tried: dict[tuple[str, str], dict[int, str]] = {}
        """By job: the agent that was last tried in vain for a task."""
        self._now: Callable[[], int] = _no_time
        self._breakers = Breakers(lambda: 0.0)
        self._limited: tuple[Agent, ...] = ()
        """Agents with a limit of sessions."""
        self._called: Callable[[Sequence[Called]], None] = _nobody

    def connect(
        self, now: Callable[[], int], breakers: Breakers, called: Callable[[Sequence[Called]], None]
    ) -> None:
        """`now` in milliseconds; `called` takes whom a change among the agents calls from the line."""
        self._now, self._breakers, self._called = now, breakers, called

    # -- who there is --------------------------------------------------------------------------------------

    def register(self, agent: Agent) -> None:
        """Add or replace an agent."""
        self._agents[agent.key] = agent
        self.changed()

    def unregister(self, address: str, tenant: str = "") -> Agent | None:
        """The agent is gone; whoever waits for it alone is told."""
        agent = self._agents.pop((tenant, address), None)
        self.changed()
        return agent

    def get(self, address: str, tenant: str = "") -> Agent | None:
        """The agent of this address that takes this tenant's tasks."""
        return self._agents.get((tenant, address)) or self._agents.get(("", address))

    def list(
        self, tenant: str = "", *, type: str = "", capability: str = "", status: str = ""
    ) -> Sequence[Agent]:
        """The agents that take this tenant's tasks, in the order of their registration."""
        return [
            agent
            for agent in self._agents.values()
            if agent.tenant in ("", tenant)
            and type in ("", agent.record.type if agent.record else "BUILTIN")
            and (not capability or capability in agent.actions or agent.offers(capability))
            and status in ("", agent.status)
        ]

    def offers(self, action: str, capability: str = "", tenant: str = "") -> bool:
        """Whether any agent could ever take this."""
        return bool(self._look_up((tenant, action, capability))[0])

    def changed(self) -> None:
        """Something about the agents is not as it was: calls whom that concerns."""
        self._suitable.clear()
        self._limited = tuple(agent for agent in self._agents.values() if agent.sessions)
        self.local = frozenset(agent.address for agent in self._agents.values() if not agent.remote)
        if self._lines and (called := self._call()):
            self._called(called)

    # -- choosing ------------------------------------------------------------------------------------------

    def choose(self, applicant: Applicant) -> Agent | str:
        """The best agent with a free slot (and session), which is taken; else why there is none, a word of
        `readiness.STAGES`. `BUSY` means that waiting in line will do."""
        reason, free = NO_AGENT, []
        home = self._home(applicant)
        for agent in self._could(applicant):
            found = self._obstacle(agent, applicant, home)
            if agent.address == home and found in ("", BUSY):
                # The job's session is there: nobody else will do.
                reason, free = found, [] if found else [agent]
                break
            if not found:
                free.append(agent)
            elif STAGES.index(found) > STAGES.index(reason):
                reason = found
        tried = self._tried.get((applicant.tenant, applicant.job), _NONE).get(applicant.task, "")
        best = find_agent_for_task(free, applicant.action, now=self._now(), tried=tried)
        if best is None:
            return reason
        self._take(best, applicant)
        return best

    def lone(self, tenant: str, action: str, capability: str) -> Agent | None:
        """The one part of this process that does this, when nobody else does and nothing else is to be weighed; a
        slot of it is taken. None when `choose` has to find out more."""
        kind = (tenant, action, capability)
        known = self._suitable.get(kind) or self._look_up(kind)
        agent = known[1]
        if agent is None or agent.busy >= agent.slots or self._breakers.circuits:
            return None
        agent.busy += 1
        return agent

    def find_agent_for_task(self, applicant: Applicant) -> Agent | None:
        """As `choose`; None when nobody can take it now."""
        found = self.choose(applicant)
        return found if isinstance(found, Agent) else None

    def candidates(self, applicant: Applicant) -> Sequence[Agent]:
        """All that could take it now; none is taken."""
        home = self._home(applicant)
        return [agent for agent in self._could(applicant) if not self._obstacle(agent, applicant, home)]

    def take(self, agent: Agent, applicant: Applicant) -> bool:
        """Take a slot of this agent for the task; False when it cannot have it any more."""
        if self._obstacle(agent, applicant, self._home(applicant)):
            return False
        self._take(agent, applicant)
        return True

    def verifier(self, tenant: str, action: str, capability: str) -> Agent | None:
        """Who can look for the effect of this action; looking takes no slot."""
        for agent in self._look_up((tenant, action, capability))[0]:
            if not obstacle(action, agent.state, agent.online, agent.beat.readiness):
                return agent
        return None

    def occupy(self, agent: Agent) -> None:
        """The agent has an attempt from an earlier life of this process."""
        agent.busy += 1

    def wait(self, applicant: Applicant) -> None:
        """Stand in line for the next free slot."""
        kind = _Kind(applicant.tenant, applicant.action, applicant.capability, self._home(applicant))
        self._lines.setdefault(kind, deque()).append(applicant)

    # -- what ended ----------------------------------------------------------------------------------------

    def release(self, agent: Agent) -> None:
        """An attempt of this agent is over: calls who takes its place."""
        if agent.busy:
            agent.busy -= 1
        if self._lines and (called := self._call(agent)):
            self._called(called)

    def tried(self, tenant: str, job: str, task: int, agent: Agent, *, gone: bool) -> None:
        """This agent was tried for this task in vain: others go first next time. With `gone` (it refused, or
        vanished) a session that it had for the job counts as lost."""
        if agent.remote:
            self._tried.setdefault((tenant, job), {})[task] = agent.address
            if gone:
                self._homes.pop((tenant, job), None)

    def has_home(self, tenant: str, job: str) -> bool:
        return (tenant, job) in self._homes

    def settle(self, tenant: str, job: str, action: str, address: str) -> None:
        """What an earlier life of this process knew: the job's session for such actions is at this agent."""
        family = _session(action)
        if family and self.get(address, tenant) is not None:
            self._homes.setdefault((tenant, job), {}).setdefault(family, address)

    def release_session(self, tenant: str, job: str, *, ended: bool = False) -> None:
        """The job needs no session for now; with `ended` nothing of it is needed any more."""
        if ended and self._homes:
            self._homes.pop((tenant, job), None)
        if ended and self._tried:
            self._tried.pop((tenant, job), None)
        freed = False
        for agent in self._limited:
            if agent.holders and (tenant, job) in agent.holders:
                agent.holders.discard((tenant, job))
                freed = True
        if freed and self._lines and (called := self._call()):
            self._called(called)

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    # -- inside --------------------------------------------------------------------------------------------

    def _look_up(self, kind: tuple[str, str, str]) -> tuple[tuple[Agent, ...], Agent | None]:
        tenant, action, capability = kind
        agents = tuple(
            agent
            for agent in self._agents.values()
            if action in agent.actions
            and agent.tenant in ("", tenant)
            and (not capability or agent.offers(capability))
        )
        alone = len(agents) == 1 and not agents[0].remote and not action.startswith(SESSIONS)
        found = (agents, agents[0] if alone else None)
        if len(self._suitable) > 10_000:
            self._suitable.clear()
        self._suitable[kind] = found
        return found

    def _could(self, applicant: Applicant) -> tuple[Agent, ...]:
        kind = (applicant.tenant, applicant.action, applicant.capability)
        return (self._suitable.get(kind) or self._look_up(kind))[0]

    def _obstacle(self, agent: Agent, applicant: Applicant, home: str) -> str:
        """Why this agent cannot have it now; empty when it can. `home` has the session of the task's job."""
        action = applicant.action
        if agent.remote:
            at_home = home == agent.address
            found = obstacle(action, agent.state, agent.online, agent.beat.readiness, at_home=at_home)
            if found:
                return found
        if self._breakers.bars(agent.key, applicant.tenant, action, applicant.arguments):
            return BREAKER
        room = agent.busy < agent.slots
        if room and agent.sessions and action.startswith(SESSIONS):
            holds = (applicant.tenant, applicant.job) in agent.holders
            room = holds or len(agent.holders) < agent.sessions
        return "" if room else BUSY

    def _take(self, agent: Agent, applicant: Applicant) -> None:
        agent.busy += 1
        self._breakers.entered(agent.key, applicant.tenant, applicant.action, applicant.arguments)
        family = _session(applicant.action)
        if not family:
            return
        job = (applicant.tenant, applicant.job)
        if agent.sessions:
            agent.holders.add(job)
        homes = self._homes.setdefault(job, {})
        if homes.get(family) != agent.address:
            homes[family] = agent.address
            self._bring_home(job, family, agent.address)

    def _home(self, applicant: Applicant) -> str:
        homes = self._homes.get((applicant.tenant, applicant.job))
        return homes.get(_session(applicant.action), "") if homes else ""

    def _bring_home(self, job: tuple[str, str], family: str, home: str) -> None:
        """Others of this job that wait already need not stand behind those who have no session yet."""
        for kind, line in list(self._lines.items()):
            if kind.home == home or kind.tenant != job[0] or not kind.action.startswith(family):
                continue
            mine = [applicant for applicant in line if applicant.job == job[1]]
            if mine:
                left = deque(applicant for applicant in line if applicant.job != job[1])
                self._lines[kind] = left
                self._lines.setdefault(kind._replace(home=home), deque()).extend(mine)

    def _call(self, agent: Agent | None = None) -> Sequence[Called]:
        """Serve the lines that may go on: all, or those for which this agent could be the one."""
        called: _Calls = []
        served: set[_Kind] = set()
        # Serving one line can open another: that of a job which just found its home.
        while waiting := [kind for kind in self._lines if kind not in served]:
            for kind in waiting:
                served.add(kind)
                if agent is None or (kind.action in agent.actions and kind.home in ("", agent.address)):
                    self._serve(kind, called)
                if agent is not None and agent.busy >= agent.slots:
                    return called
        return called

    def _serve(self, kind: _Kind, called: _Calls) -> None:
        before = len(called)
        while self._lines[kind]:
            applicant = self._lines[kind].popleft()
            found = self.choose(applicant)
            if found == BUSY:
                self._lines[kind].appendleft(applicant)
                break
            called.append((applicant, found))
        if not self._lines[kind]:
            del self._lines[kind]
        elif len(called) > before:
            self._lines[kind] = self._lines.pop(kind)  # who got something goes behind the others


_NONE: dict[int, str] = {}


def _session(action: str) -> str:
    """The family whose steps share a session, or empty."""
    return next((family for family in SESSIONS if action.startswith(family)), "")


def _no_time() -> int:
    return 0


def _nobody(_: Sequence[Called]) -> None: ...
