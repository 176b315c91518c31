"""The register of agents: what is durable about them, who may change it, and how it reaches the running view.

An agent registers once, by an admin, by an enrolment token or by a key made for its address; its own key lets it
come back: the same agent, perhaps in a new process. Its name belongs to it until it is revoked or removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from cpa.audit.log import AuditLog
from cpa.core.actions import CATALOGUE, ActionCatalogue
from cpa.core.staffing import Staff
from cpa.errors import Conflict, CPAError, Unauthorized
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.presence import Answer
from cpa.orchestrator.registration import (
    Registered,
    Registration,
    anew,
    beyond,
    capabilities,
    check_key,
    check_newer,
    checked,
    granted,
    not_its_key,
    offers_more,
    only_own,
    record_of,
    told,
    unknown,
)
from cpa.orchestrator.standing import Standing
from cpa.ports.agents import AgentKeys, AgentRecord, AgentState, AgentStore, Beat, Named, taken
from cpa.ports.clock import Clock
from cpa.ports.keys import Caller, Scope
from cpa.ports.repository import ActionLeaf
from cpa.ports.transport import Attempt


class AgentDirectory:
    """`load` once, before the engine starts; then the register and the running view agree."""

    def __init__(
        self,
        store: AgentStore,
        agents: AgentRegistry,
        orchestrator: Orchestrator,
        keys: AgentKeys,
        audit: AuditLog,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        check_endpoint: Callable[[str], None] = lambda _: None,
        gone: Callable[[AgentRecord], None] = lambda _: None,
        moved: Callable[[AgentRecord], None] = lambda _: None,
        catalogue: ActionCatalogue = CATALOGUE,
    ) -> None:
        """`check_endpoint` refuses addresses that may not be called; it must not call them. `gone` is told of
        agents to whom nothing may be delivered any more, `moved` of those that are another process now, or
        elsewhere."""
        self._store = store
        self._agents = agents
        self._presence, self.last_seen = orchestrator.presence, orchestrator.presence.last
        self.interval, self.lease = orchestrator.presence.interval, orchestrator.presence.lease
        self._breakers = orchestrator.assignments.breakers
        self._keys = keys
        self._audit = audit
        self._clock = clock
        self._new_id = new_id
        self._check_endpoint = check_endpoint
        self._gone, self._moved = gone, moved
        self._catalogue = catalogue
        self._changing = asyncio.Lock()
        """Taken by `_turn`, and nowhere else."""
        self._by_id: dict[tuple[str, str], Agent] = {}

    async def load(self) -> None:
        """Learn of every agent there is. Whether they live, their beats will tell."""
        for record in await self._store.all():
            beat = await self._store.last_beat(record.tenant, record.id)
            agent = Agent.of(record, beat or Beat())
            self._by_id[record.tenant, record.id] = agent
            self._agents.register(agent)

    # -- coming and going ----------------------------------------------------------------------------------

    async def register(self, wanted: Registration, caller: Caller | None, token: str = "") -> Registered:
        """Add an agent, or let one come back with its own key. Connects to nobody.

        Raises `InvalidDocument` naming what is wrong, `Conflict` when the name is another's, `Forbidden` for a key
        of another agent, `Unauthorized` without a key or token.
        """
        if caller is None and not token:
            raise Unauthorized(
                "who registers an agent shows a key or an enrolment token",
                field="X-Enrolment-Token",
                remedy="send X-API-Key, or X-Enrolment-Token as `cpa agents token` prints it",
            )
        checked(wanted, self._catalogue)
        if wanted.endpoint:
            try:
                self._check_endpoint(wanted.endpoint)
            except CPAError as error:
                error.field = "endpoint"
                raise
        async with self._turn(caller):
            if caller is not None and not caller.may(Scope.ADMIN):
                return await self._return(wanted, caller, token)
            return await self._come(wanted, caller, token)

    async def heartbeat(self, caller: Caller, id: str, beat: Beat) -> Answer:
        """Take an agent's beat. Durable only where it says something new.

        A process whose place another one has taken renews nothing: all that it names is to be stopped.
        """
        agent, record = self._own(caller, id)
        if record.instance and beat.instance and beat.instance != record.instance:
            return self._answer(record, beat.running)
        beat = replace(beat, at=self._clock.now_ms(), instance=beat.instance or record.instance)
        lost = self._presence.beat(agent, beat)
        if _news(beat) != _news(agent.noted):
            await self._store.beat(record.tenant, id, beat)
            agent.noted = max(agent.noted, beat, key=lambda each: each.at)
        return self._answer(record, lost)

    async def offer(self, caller: Caller, offered: Sequence[str]) -> AgentRecord:
        """The agent says anew what it can do. Raises `Forbidden` for what it was not enrolled for."""
        async with self._turn(caller):
            agent = self._agents.get(caller.name, caller.tenant)
            if agent is None or agent.record is None:
                raise unknown(caller.name)
            check_key(agent.record, caller)
            actions, tags = capabilities(offered, self._catalogue)
            record, withheld = granted(agent.record, replace(agent.record, actions=actions, tags=tags))
            if withheld:
                raise beyond(record, withheld)
            if record != agent.record:
                await self._store.put(record)
                self._take_over(agent, record)
            return record

    async def remove(self, caller: Caller, id: str) -> AgentRecord:
        """Unregister: its key is dead, its attempts are lost, its name is free. One that was revoked is forgotten.

        Where nothing can be stored, as `change`.
        """
        async with self._turn(caller):
            stored = await self._store.get(caller.tenant, id)
            if stored is not None and stored.state is AgentState.REVOKED:
                only_own(caller, stored, Scope.ADMIN)
                await self._store.remove(stored.tenant, id, self._leaf(caller.name, "agent.removed", stored))
                return stored
            agent, record = self._own(caller, id)
            try:
                await self._keys.revoke(record.tenant, record.address)
                await self._store.remove(record.tenant, id, self._leaf(caller.name, "agent.removed", record))
            except CPAError:
                self._put_out(agent, record)
                raise
            self._drop(agent, record, "its agent was unregistered")
            return record

    async def change(self, caller: Caller, id: str, state: AgentState) -> AgentRecord:
        """Drain, quarantine, activate or revoke. `Conflict` for one that is revoked: that is for good.

        Where nothing can be stored, who is to be stopped is in quarantine nevertheless, until it can be or this
        process ends: a full disk must not keep an agent at work. What the store raised is raised.
        """
        async with self._turn(caller):
            return await self._change(caller, id, state)

    # -- reading -------------------------------------------------------------------------------------------

    def list(self, tenant: str, *, type: str = "", capability: str = "", status: str = "") -> Sequence[Agent]:
        """The agents that take this tenant's tasks; the part of this process among them."""
        return self._agents.list(tenant, type=type, capability=capability, status=status)

    async def revoked(self, tenant: str) -> Sequence[Agent]:
        """Those that did until they were revoked, in the order of their registration."""
        return [Agent.of(record, Beat()) for record in await self._store.revoked(tenant)]

    async def get(self, caller: Caller, id: str) -> tuple[AgentRecord, Agent | None]:
        """An agent, and its running view unless it is revoked. `NotFound`, also for another tenant's; `Forbidden`
        for an agent that asks about another."""
        agent = self._by_id.get((caller.tenant, id))
        if agent is not None and agent.record is not None:
            only_own(caller, agent.record, Scope.READ)
            return agent.record, agent
        record = await self._store.get(caller.tenant, id)
        if record is None:
            raise unknown(id)
        only_own(caller, record, Scope.READ)
        return record, None

    def why(self, applicant: Applicant) -> str:
        """As `AgentRegistry.why`."""
        return self._agents.why(applicant)

    def staff(self, applicant: Applicant) -> Staff:
        """Which agents there are for such a task, where none of them takes it just now."""
        return self._agents.staff(applicant)

    def trouble(self, attempt: Attempt, address: str) -> tuple[str, bool]:
        """Why an attempt's agent cannot be reached just now, as far as is known, and whether it is silent of it."""
        agent = self._agents.get(address, attempt.tenant)
        return "" if agent is None else agent.trouble, self._presence.silent(attempt)

    def describe(self, agent: Agent) -> Standing:
        """How an agent stands just now."""
        return Standing.of(agent, self._presence, self._breakers, self._clock.now_ms())

    # -- inside --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, caller: Caller | None) -> AsyncIterator[None]:
        """One at a time: a free name must still be free when it is taken, and what one changes nobody puts back.
        `Unauthorized` for a key that died while its owner waited: by now its name may be another agent's."""
        async with self._changing:
            if caller is not None:
                await self._keys.check(caller.tenant, caller.key)
            yield

    async def _come(self, wanted: Registration, caller: Caller | None, token: str) -> Registered:
        """A new agent, which gets a key; or one that did not hear the answer, and gets it again."""
        known = await self._unheard(wanted, caller, token)
        if known is not None:
            tenant, id = known
        else:
            tenant = caller.tenant if caller is not None else await self._keys.tenant(token, wanted.name)
            await self._check_free(tenant, wanted.name)
            id = self._new_id()
            if caller is None:  # Only now: a name that is taken must not use up the token.
                await self._keys.enrol(token, wanted.name, wanted.secret, id)
        key, key_id = await self._keys.make(tenant, wanted.address, id, wanted.secret)
        agent = self._by_id.get((tenant, id))
        record = None if agent is None else agent.record
        if agent is None or record is None:
            record = self._record(tenant, id, wanted, key_id)
            await self._add(record, caller.name if caller is not None else "enrolment")
        else:
            self._presence.sign(agent)
        callback = self._keys.callback(tenant, id)
        return Registered(agent=record, new=True, key=key, callback_key=callback)

    async def _unheard(
        self, wanted: Registration, caller: Caller | None, token: str
    ) -> tuple[str, str] | None:
        """Tenant and id of the agent that registered with these very words before, if it may not have heard the
        answer: from its first beat on a token that was used opens nothing any more."""
        if not wanted.secret:
            return None
        if caller is not None:
            record = await self._store.find(caller.tenant, wanted.name)
        elif (used := await self._keys.enrolled(token, wanted.name, wanted.secret)) is None:
            return None
        elif (record := await self._store.get(*used)) is None:
            # This process ended between the two; or the agent was removed, and its key is dead.
            await self._check_free(used[0], wanted.name)
            return used
        if record is None or record.state is AgentState.REVOKED:
            return None
        said = self._record(record.tenant, record.id, wanted, record.key)
        agent = self._by_id.get((record.tenant, record.id))
        if (agent and agent.beat.at) or await self._store.last_beat(record.tenant, record.id):
            return None
        same = replace(said, state=record.state, registered=record.registered) == record
        return (record.tenant, record.id) if same else None

    async def _return(self, wanted: Registration, caller: Caller, token: str) -> Registered:
        """An agent with a key of its own: it comes back, or comes for the first time with a key made for it."""
        address = wanted.address
        if Scope.AGENT not in caller.scopes or caller.name != address:
            raise not_its_key(caller, address)
        agent = self._agents.get(address, caller.tenant)
        withheld: tuple[str, ...] = ()
        if agent is None or agent.record is None:
            await self._check_free(caller.tenant, wanted.name)
            record = self._record(caller.tenant, self._new_id(), wanted, caller.key)
            await self._add(record, caller.name)
        else:
            record, withheld = await self._renewed(agent, agent.record, wanted, caller, token)
        callback = self._keys.callback(caller.tenant, record.id)
        new = agent is None
        return Registered(agent=record, new=new, key=None, callback_key=callback, withheld=withheld)

    async def _check_free(self, tenant: str, name: str) -> None:
        """`Conflict` for a name that another agent has, or one that only differs in capitals."""
        folded = name.casefold()
        for agent in self._by_id.values():
            known = agent.record
            if known is not None and known.tenant == tenant and known.name.casefold() == folded:
                raise taken(known.name)
        if await self._store.find(tenant, name) is not None:
            raise taken(name)

    async def _renewed(
        self, agent: Agent, known: AgentRecord, wanted: Registration, caller: Caller, token: str
    ) -> tuple[AgentRecord, tuple[str, ...]]:
        check_newer(known, wanted)
        record = replace(
            self._record(known.tenant, known.id, wanted, caller.key),
            state=known.state,
            registered=known.registered,
        )
        withheld: tuple[str, ...] = ()
        if not (offers_more(known, record) and await self._grants(token, known)):
            record, withheld = granted(known, record)
        restarted = known.instance != record.instance
        if record != known:
            leaf = self._leaf(caller.name, "agent.restarted", record) if restarted else None
            await self._store.put(record, leaf)
        if restarted:
            self._presence.lose(agent, "its agent was restarted", ended=True)
            self._breakers.forget(agent.key)
            agent.beat = Beat()
        self._take_over(agent, record)
        if restarted or known.endpoint != record.endpoint:
            self._moved(record)
        self._presence.sign(agent)
        return record, withheld

    async def _grants(self, token: str, known: AgentRecord) -> bool:
        """Whether a token besides its key lets the agent offer more. One that was used up is no reason to refuse an
        agent that comes back with it: what was withheld is told."""
        try:
            return bool(token) and await self._keys.enrol(token, known.name) == known.tenant
        except Unauthorized:
            return False

    async def _change(self, caller: Caller, id: str, state: AgentState) -> AgentRecord:
        stored = await self._store.get(caller.tenant, id)
        if stored is not None and stored.state is AgentState.REVOKED:
            if state is AgentState.REVOKED:
                return stored  # asked once more, by somebody who did not hear the answer
            raise Conflict(
                "this agent is revoked, for good",
                field="state",
                value=state.value,
                remedy=anew(stored.name),
            )
        agent, record = self._known(caller.tenant, id)
        if record.state is state and (stored is None or stored.state is state):
            return record
        changed = replace(record, state=state)
        try:
            if state is AgentState.REVOKED:
                await self._keys.revoke(record.tenant, record.address)
            await self._store.put(changed, self._leaf(caller.name, f"agent.{state.value}", changed))
        except CPAError:
            if state in (AgentState.REVOKED, AgentState.QUARANTINED):
                self._put_out(agent, record)
            raise
        self._take_over(agent, changed)
        if state is AgentState.REVOKED:
            self._drop(agent, changed, "its agent was revoked")
        elif state is AgentState.QUARANTINED:
            self._presence.lose(agent, "its agent is in quarantine")
        return changed

    def _put_out(self, agent: Agent, record: AgentRecord) -> None:
        """Nothing can be stored: until it can it does nothing all the same."""
        self._take_over(agent, replace(record, state=AgentState.QUARANTINED))
        self._presence.lose(agent, "its agent is in quarantine")

    async def _add(self, record: AgentRecord, by: str) -> None:
        await self._store.put(record, self._leaf(by, "agent.registered", record))
        agent = Agent.of(record, Beat())
        self._by_id[record.tenant, record.id] = agent
        self._agents.register(agent)
        self._presence.sign(agent)

    def _answer(self, record: AgentRecord, lost: tuple[Named, ...]) -> Answer:
        return Answer(lost=lost, state=record.state, interval=self.interval, lease=self.lease)

    def _take_over(self, agent: Agent, record: AgentRecord) -> None:
        agent.record = record
        agent.actions, agent.capabilities = frozenset(record.actions), frozenset(record.tags)
        agent.slots = record.slots
        self._agents.changed()

    def _drop(self, agent: Agent, record: AgentRecord, reason: str) -> None:
        self._by_id.pop((record.tenant, record.id), None)
        self._agents.unregister(record.address, record.tenant)
        self._gone(record)  # While it is known what the agent was at: it is told to stop.
        self._presence.forget(agent, reason)
        self._breakers.forget(agent.key)

    def _known(self, tenant: str, id: str) -> tuple[Agent, AgentRecord]:
        agent = self._by_id.get((tenant, id))
        if agent is None or agent.record is None:
            raise unknown(id)
        return agent, agent.record

    def _own(self, caller: Caller, id: str) -> tuple[Agent, AgentRecord]:
        agent, record = self._known(caller.tenant, id)
        only_own(caller, record, Scope.ADMIN)
        if caller.name == record.address:
            check_key(record, caller)
        return agent, record

    def _record(self, tenant: str, id: str, wanted: Registration, key: str) -> AgentRecord:
        return record_of(wanted, self._catalogue, tenant, id, key, self._clock.now_ms())

    def _leaf(self, by: str, action: str, record: AgentRecord) -> ActionLeaf:
        """What the trail tells of it: stored together with it, so that neither is without the other."""
        return self._audit.leaf(record.tenant, by, action, record.id, told(record))


def _news(beat: Beat) -> tuple[object, ...]:
    """What of a beat is worth a write where it changes: from its first one on, a process of an agent was heard."""
    return beat.at > 0, beat.instance, beat.status, beat.readiness
