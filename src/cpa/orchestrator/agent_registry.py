"""Which agents there are, and which of them takes a task.

The view of this process, in memory: who is registered, who is there, what each has to do, and the line of tasks
that wait for a free slot. What is durable of an agent is kept by `directory`, how long it stays without a sign of
life by `presence`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cpa.core.assignment import find_agent_for_task
from cpa.core.catalogue import close_names, is_own
from cpa.core.staffing import Member, Near, Staff
from cpa.orchestrator.agent import SESSIONS, Agent, Applicant, session_of
from cpa.orchestrator.breakers import Breakers
from cpa.orchestrator.lines import Called, Lines
from cpa.orchestrator.readiness import BREAKER, BUSY, DRAINING, HOME_BUSY, NO_AGENT, STAGES, obstacle
from cpa.ports.agents import AgentState, AgentStatus
from cpa.ports.transport import Attempt

__all__ = ["Agent", "AgentRegistry", "Applicant", "Called"]


class AgentRegistry:
    """Agents by address; the line of tasks that wait for a free slot.

    A task that nobody could take now gets the reason; one whose agents are only busy, or that was told the reason
    already, waits here, in order. It is called when a slot or a session comes free or an agent comes, and told
    when there is none to wait for any more. What waits here is lost with the process and asked for again on
    recovery, because its `DispatchTask` stays open.
    """

    def __init__(self) -> None:
        self._agents: dict[tuple[str, str], Agent] = {}
        self._suitable: dict[tuple[str, str, str], tuple[tuple[Agent, ...], Agent | None]] = {}
        """By (tenant, action, capability): who could, and who that is when it can only be one part of us."""
        self.local: frozenset[str] = frozenset()
        """Addresses of the parts of this process."""
        self.remote = False
        """Whether there are others."""
        self._lines = Lines()
        self._homes: dict[tuple[str, str], dict[str, str]] = {}
        """By job: where its session of each family is."""
        self._tried: dict[tuple[str, str], dict[int, str]] = {}
        """By job: the agent that was last tried in vain for a task."""
        self._now: Callable[[], int] = _no_time
        self._breakers = Breakers(lambda: 0.0)
        self._holding = False
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
            if agent.tenant in ("", tenant) and agent.fits(type, capability, status)
        ]

    def hold(self) -> None:
        """Give nothing to agents outside this process until `let_go`: whoever asks waits in line."""
        self._holding = True

    def let_go(self) -> None:
        """Undo `hold`, and call who waits."""
        self._holding = False
        self.changed()

    def offers(self, action: str, capability: str = "", tenant: str = "") -> bool:
        """Whether any agent could ever take this."""
        return bool(self._look_up((tenant, action, capability))[0])

    def near(self, action: str, capability: str = "", tenant: str = "") -> tuple[Near, ...]:
        """Where nobody offers this, what may have been meant: a tag of those that do the action, else an own
        action."""
        agents, offered = self.list(tenant), dict[str, str]()
        able = [agent for agent in agents if action in agent.actions]
        if not able and not is_own(action):
            return ()
        for agent in able or agents:
            for name in sorted(agent.tags if able else filter(is_own, agent.actions)):
                offered.setdefault(name, agent.name)
        wanted = capability if able else action
        close = close_names(wanted[:100], tuple(offered)[:_COMPARED])
        return tuple(Near(name, offered[name]) for name in close)

    def changed(self) -> None:
        """Something about the agents is not as it was: calls whom that concerns."""
        self._suitable.clear()
        self._limited = tuple(agent for agent in self._agents.values() if agent.sessions)
        self.local = frozenset(agent.address for agent in self._agents.values() if not agent.remote)
        self.remote = len(self.local) < len(self._agents)
        if self._lines and (called := self._lines.serve(self.choose)):
            self._called(called)

    # -- choosing ------------------------------------------------------------------------------------------

    def choose(self, applicant: Applicant) -> Agent | str:
        """The best agent with a free slot (and session), which is taken; else why there is none, a word of
        `readiness.STAGES`. `BUSY` means that waiting in line will do."""
        reason, free = self._survey(applicant)
        if self._holding and any(agent.remote for agent in free):
            reason, free = BUSY, [agent for agent in free if not agent.remote]
        if applicant.blame:
            free = [agent for agent in free if not agent.suspects] or free
        tried = self._tried_at(applicant)
        if applicant.last and [agent.address for agent in free] == [tried] and self._other(applicant, tried):
            return BUSY
        best = find_agent_for_task(free, applicant.action, now=self._now(), tried=tried)
        if best is None:
            return BUSY if reason == HOME_BUSY else reason
        self._take(best, applicant)
        return best

    def why(self, applicant: Applicant) -> str:
        """Why nobody can take it now, for people: a word of `readiness.STAGES`, or `HOME_BUSY`; empty when somebody
        could. Nothing is taken."""
        reason, free = self._survey(applicant)
        return "" if free else reason

    def staff(self, applicant: Applicant) -> Staff:
        """Who does such a task and cannot have it now, each with the reason; nobody when somebody could. Where
        nobody does it, who would."""
        if not (agents := self._could(applicant)):
            near = self.near(applicant.action, applicant.capability, applicant.tenant)
            return Staff(withheld=tuple(self._would(applicant)), near=near)
        found = [(agent, self._obstacle(agent, applicant, "")) for agent in agents]
        if not all(reason for _, reason in found):
            return Staff()
        return Staff(
            tuple(
                Member(agent.name, agent.state.value if reason == DRAINING else reason, agent.online)
                for agent, reason in found
            )
        )

    def _survey(self, applicant: Applicant) -> tuple[str, Sequence[Agent]]:
        """All that could take it now, and the best reason if there are none."""
        reason, free = NO_AGENT, []
        home = self._home(applicant)
        for agent in self._could(applicant):
            found = self._obstacle(agent, applicant, home)
            if agent.address == home and found in ("", BUSY):
                return HOME_BUSY if found else "", [] if found else [agent]
            if not found:
                free.append(agent)
            elif STAGES.index(found) > STAGES.index(reason):
                reason = found
        return reason, free

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
        return self._survey(applicant)[1]

    def take(self, agent: Agent, applicant: Applicant) -> bool:
        """Take a slot of this agent for the task; False when it cannot have it any more."""
        if (self._holding and agent.remote) or self._obstacle(agent, applicant, self._home(applicant)):
            return False
        self._take(agent, applicant)
        return True

    def verifier(self, tenant: str, action: str, capability: str) -> Agent | None:
        """Who can look for the effect of this action, rather not one that was asked before and said nothing;
        looking takes no slot."""
        able = (
            agent
            for agent in self._look_up((tenant, action, capability))[0]
            if not obstacle(action, agent.state, agent.online, agent.beat.readiness)
        )
        return min(able, key=lambda agent: agent.mute, default=None)

    def occupy(self, agent: Agent, applicant: Applicant) -> None:
        """The agent has this attempt from an earlier life of this process."""
        agent.busy += 1
        self._suspect(agent, applicant)

    def wait(self, applicant: Applicant) -> None:
        """Stand in line for the next free slot."""
        shuns = self._tried_at(applicant) if applicant.last else ""
        self._lines.add(applicant, self._home(applicant), shuns)

    # -- what ended ----------------------------------------------------------------------------------------

    def release(self, agent: Agent) -> None:
        """An attempt of this agent is over: calls who takes its place."""
        if agent.busy:
            agent.busy -= 1
        if self._lines and (called := self._lines.serve(self.choose, agent)):
            self._called(called)

    def give_back(self, agent: Agent, attempt: Attempt, *, alone: bool) -> None:
        """The choice of this agent is never stored. A session that its job got for it is free again where the job
        has nothing else there (`alone`): it may be over, and would keep it for ever."""
        job = (attempt.tenant, attempt.job)
        if alone and agent.holders.get(job) == attempt:
            del agent.holders[job]
        self.release(agent)

    def tried(self, tenant: str, job: str, task: int, action: str, agent: Agent, *, gone: bool) -> None:
        """This agent was tried for this task in vain: others go first next time. With `gone` (it refused, or
        vanished) nothing of the session was begun with this attempt: only the job knows now where it is."""
        if agent.remote:
            self._tried.setdefault((tenant, job), {})[task] = agent.address
            if gone and (homes := self._homes.get((tenant, job))):
                homes.pop(session_of(action), None)

    def has_home(self, tenant: str, job: str, action: str) -> bool:
        """Whether it is known where the job's session for such actions is."""
        return session_of(action) in self._homes.get((tenant, job), _NOWHERE)

    def settle(self, tenant: str, job: str, action: str, address: str) -> None:
        """The job's session for such actions is at this agent, as the job tells."""
        family = session_of(action)
        if family and self.get(address, tenant) is not None:
            self._homes.setdefault((tenant, job), {}).setdefault(family, address)

    def release_session(self, tenant: str, job: str, *, ended: bool = False) -> None:
        """The job needs no session for now; with `ended` nothing of it is needed any more."""
        if ended and self._homes:
            self._homes.pop((tenant, job), None)
        if ended and self._tried:
            self._tried.pop((tenant, job), None)
        if ended:
            self._lines.leave(tenant, job)
        freed = False
        for agent in self._limited:
            freed |= agent.holders.pop((tenant, job), None) is not None
        if freed and self._lines and (called := self._lines.serve(self.choose)):
            self._called(called)

    @property
    def unread(self) -> int:
        """How many agents cannot be read."""
        return sum(agent.record is not None and agent.record.unread for agent in self._agents.values())

    def census(self) -> Counter[tuple[AgentState, AgentStatus]]:
        """How many agents outside this process there are of each kind, of all tenants."""
        return Counter((agent.state, agent.status) for agent in self._agents.values() if agent.remote)

    @property
    def waiting(self) -> int:
        """How many tasks stand in line for a slot."""
        return len(self._lines)

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

    def _would(self, applicant: Applicant) -> Iterator[str]:
        """The names of those that offer such a task and were not enrolled for it."""
        for agent in self.list(applicant.tenant):
            withheld = agent.record is not None and applicant.action in agent.record.withheld
            if withheld and (not applicant.capability or agent.offers(applicant.capability)):
                yield agent.name

    def _obstacle(self, agent: Agent, applicant: Applicant, home: str) -> str:
        """Why this agent cannot have it now; empty when it can. `home` has the session of the task's job."""
        action = applicant.action
        if agent.remote:
            at_home = home == agent.address
            found = obstacle(action, agent.state, agent.online, agent.beat.readiness, at_home=at_home)
            if found:
                return found
        if self._breakers.bars(agent.way, applicant.tenant, action, applicant.arguments):
            return BREAKER
        room = agent.busy < agent.slots and agent.admits(applicant.blame)
        if room and agent.sessions and action.startswith(SESSIONS):
            holds = (applicant.tenant, applicant.job) in agent.holders
            room = holds or len(agent.holders) < agent.sessions
        return "" if room else BUSY

    def _tried_at(self, applicant: Applicant) -> str:
        return self._tried.get((applicant.tenant, applicant.job), _NONE).get(applicant.task, "")

    def _other(self, applicant: Applicant, tried: str) -> bool:
        """Whether another agent than this one takes the task when it is less busy. One that ends over whatever it
        gets would else be the only one asked, again and again, because it is always free."""
        home = self._home(applicant)
        others = (agent for agent in self._could(applicant) if agent.address != tried and agent.slots)
        return not home and any(self._obstacle(agent, applicant, home) == BUSY for agent in others)

    def _suspect(self, agent: Agent, applicant: Applicant) -> None:
        if applicant.blame and agent.remote:
            agent.suspects[applicant.attempt] = applicant.blame

    def _take(self, agent: Agent, applicant: Applicant) -> None:
        agent.busy += 1
        self._suspect(agent, applicant)
        self._breakers.entered(agent.way, applicant.tenant, applicant.action, applicant.arguments)
        family = session_of(applicant.action)
        if not family:
            return
        job = (applicant.tenant, applicant.job)
        if agent.sessions:
            agent.holders.setdefault(job, applicant.attempt)
        homes = self._homes.setdefault(job, {})
        if homes.get(family) != agent.address:
            homes[family] = agent.address
            self._lines.bring_home(*job, family, agent.address)

    def _home(self, applicant: Applicant) -> str:
        homes = self._homes.get((applicant.tenant, applicant.job))
        return homes.get(session_of(applicant.action), "") if homes else ""


_NONE: dict[int, str] = {}
_COMPARED = 200
"""Names that one is compared with."""
_NOWHERE: dict[str, str] = {}


def _no_time() -> int:
    return 0


def _nobody(_: Sequence[Called]) -> None: ...
