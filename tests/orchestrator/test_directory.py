"""The register of agents and the running view: they agree, also after a restart."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace
from tests.api.fake_engine import FakeEngine
from tests.api.fakes import FakeTrail, MemoryKeys, MemoryTokens
from tests.orchestrator.fleet import TENANT, applicant, remote
from tests.repository.shell import SteppedClock

from cpa.audit.log import AuditLog
from cpa.core.job import Graph, JobHead, JobSpec, JobState, TaskSpec
from cpa.errors import Conflict, Forbidden, InvalidDocument, NotFound, Unauthorized, Unavailable
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant
from cpa.orchestrator.breakers import THRESHOLD
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import AgentRecord, AgentState, AgentStatus, Beat, Readiness, unread
from cpa.ports.keys import Caller, Scope, StoredKey
from cpa.ports.repository import ActionLeaf
from cpa.ports.transport import Attempt
from cpa.repository.agents import MemoryAgentStore
from cpa.security.auth import FIXED, Hasher
from cpa.security.credentials import AgentCredentials
from cpa.security.enrolment import Enrolment, issue_token
from cpa.transport.inprocess import InProcessTransport

ADMINS = StoredKey(
    tenant=TENANT, id="key_1", name="anna", scopes=frozenset((Scope.ADMIN,)), hash=b"\x02" * 32, created=1
)
ADMIN = ADMINS.caller()
WANTED = Registration(name="eins", type="DATA", capabilities=("x.a.b", "büro"), slots=2, instance="i1")


class CountingStore(MemoryAgentStore):
    """Counts what an idle agent must not cost."""

    def __init__(self) -> None:
        super().__init__(lambda leaf: self.told.append(leaf.action))
        self.told: list[str] = []
        """What the trail tells."""
        self.writes = 0
        self.full = False
        """While true the disk is."""
        self.slow = False
        """While true others have their turn before something is stored."""

    async def put(self, agent: AgentRecord, leaf: ActionLeaf | None = None) -> None:
        if self.slow:
            await asyncio.sleep(0.01)
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        self.writes += 1
        await super().put(agent, leaf)

    async def remove(self, tenant: str, id: str, leaf: ActionLeaf | None = None) -> bool:
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        return await super().remove(tenant, id, leaf)

    def spoil(self, agent: AgentRecord) -> None:
        """From now on its record cannot be read."""
        odd = unread(agent.tenant, agent.id, agent.name, agent.registered, revoked=False)
        self._agents[agent.tenant, agent.id] = odd

    async def beat(self, tenant: str, id: str, beat: Beat) -> None:
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        self.writes += 1
        await super().beat(tenant, id, beat)


class Life:
    """One life of a scheduler, on a store that may be older."""

    def __init__(self, store: CountingStore, keys: MemoryKeys, tokens: MemoryTokens | None = None) -> None:
        self.clock = SteppedClock()
        self.agents = AgentRegistry()
        self.orchestrator = Orchestrator(self.agents, InProcessTransport({}), self.clock)
        self.gone: list[str] = []
        ids = count(len(keys.kept))
        if ADMINS not in keys.kept:
            keys.kept.append(ADMINS)
        hasher, self.tokens, self.keys = Hasher(b"\x01" * 32), tokens or MemoryTokens(), keys
        self.hasher = hasher
        self.directory = AgentDirectory(
            store,
            self.agents,
            self.orchestrator,
            AgentCredentials(keys, hasher, self.clock, Enrolment(self.tokens, hasher, self.clock)),
            AuditLog(FakeTrail(FakeEngine()), self.clock),
            self.clock,
            lambda: f"ag_{next(ids)}",
            gone=lambda record: self.gone.append(record.address),
        )

    async def token(self, **more: Any) -> str:
        """A new enrolment token."""
        token, stored = issue_token(self.hasher, now=1, **{"tenant": TENANT} | more)
        await self.tokens.add(stored)
        return token

    def seen(self) -> Agent:
        [agent] = self.agents.list(TENANT)
        return agent


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def life(store: CountingStore) -> Life:
    return Life(store, MemoryKeys())


def itself(record: AgentRecord) -> Caller:
    return Caller(tenant=record.tenant, key=record.key, name=record.address, scopes=frozenset((Scope.AGENT,)))


async def test_a_registered_agent_is_there_and_takes_work_at_once(life: Life) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    assert (record.actions, record.tags, record.address) == (("x.a.b",), ("büro",), "agent://data/eins")
    assert life.agents.choose(applicant(capability="büro")) is life.seen()


async def test_an_older_process_does_not_take_the_place_of_a_newer_one(life: Life) -> None:
    older, newer = replace(WANTED, incarnation=5), replace(WANTED, instance="i2", incarnation=6)
    record = (await life.directory.register(older, ADMIN)).agent
    await life.directory.register(newer, itself(record))
    with pytest.raises(Conflict, match="newer process") as refused:
        await life.directory.register(older, itself(record))
    assert (refused.value.field, refused.value.value) == ("incarnation", "5")
    await life.directory.heartbeat(itself(record), record.id, Beat(instance="i2"))
    assert life.seen().record is not None
    assert life.seen().beat.instance == "i2"
    back = await life.directory.register(newer, itself(record))
    assert (back.agent.instance, back.agent.incarnation) == ("i2", 6)


async def test_one_who_says_no_number_comes_back_as_before(life: Life) -> None:
    record = (await life.directory.register(replace(WANTED, incarnation=5), ADMIN)).agent
    back = await life.directory.register(replace(WANTED, instance="i2"), itself(record))
    assert back.agent.instance == "i2"


async def test_after_a_restart_agents_are_known_and_silent_until_they_beat(
    life: Life, store: CountingStore
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    facts = Readiness(user="jörg")
    await life.directory.heartbeat(itself(record), record.id, Beat(readiness=facts))

    next_life = Life(store, MemoryKeys())
    await next_life.directory.load()
    agent = next_life.seen()
    assert (agent.record, agent.beat.readiness) == (record, facts)
    assert next_life.agents.choose(applicant()) == "agents_offline"
    await next_life.directory.heartbeat(itself(record), record.id, Beat())
    assert next_life.agents.choose(applicant()) is agent


async def test_an_idle_agent_costs_no_write(life: Life, store: CountingStore) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    me = itself(record)
    await life.directory.heartbeat(me, record.id, Beat())
    written = store.writes
    for _ in range(1000):
        life.clock.now += 5_000
        await life.directory.heartbeat(me, record.id, Beat(load=0.5))
    assert store.writes == written
    await life.directory.heartbeat(me, record.id, Beat(status=AgentStatus.BUSY))
    await life.directory.heartbeat(me, record.id, Beat(readiness=Readiness(session_locked=True)))
    assert store.writes == written + 2


BOTH = replace(WANTED, capabilities=("x.a.b", "mail.send", "büro"))


async def test_an_agent_may_say_anew_what_it_can_do(life: Life, store: CountingStore) -> None:
    record = (await life.directory.register(BOTH, ADMIN)).agent
    me = itself(record)
    offered = await life.directory.offer(me, ["mail.send", "outlook"])
    assert (offered.actions, offered.tags) == (("mail.send",), ("outlook",))
    assert life.agents.choose(applicant(action="mail.send", capability="outlook")) is life.seen()
    assert life.agents.choose(applicant()) == "no_agent"
    assert await store.get(TENANT, record.id) == offered

    written = store.writes
    await life.directory.offer(me, ["mail.send", "outlook"])
    assert store.writes == written
    with pytest.raises(InvalidDocument, match="unknown action"):
        await life.directory.offer(me, ["mail.senden"])
    with pytest.raises(NotFound):
        await life.directory.offer(ADMIN, ["mail.send"])

    again = await life.directory.offer(me, ["x.a.b"])
    assert again.actions == ("x.a.b",)
    assert life.agents.choose(applicant()) is life.seen()


async def test_an_agent_offers_nothing_it_was_not_enrolled_for(life: Life, store: CountingStore) -> None:
    """Who steals one agent's key must not be given the tasks of the others."""
    record = (await life.directory.register(WANTED, ADMIN)).agent
    me = itself(record)
    with pytest.raises(Forbidden, match=r"mail\.send"):
        await life.directory.offer(me, ["x.a.b", "mail.send"])
    back = await life.directory.register(BOTH, me)
    assert (back.agent.actions, back.withheld) == (("x.a.b",), ("mail.send",))
    assert life.directory.staff(applicant(action="mail.send")).withheld == ("eins",)
    assert not life.directory.staff(applicant(action="mail.send", capability="rot")).withheld
    with pytest.raises(Forbidden) as caught:
        await life.directory.register(replace(BOTH, capabilities=("mail.send",)), me)
    assert "cpa agents token --name eins" in (caught.value.remedy or "")
    assert life.agents.choose(applicant(action="mail.send")) == "no_agent"
    assert life.seen().actions == {"x.a.b"}
    stored = await store.get(TENANT, record.id)
    assert stored is not None
    assert (stored.actions, stored.withheld) == (("x.a.b",), ("mail.send",))


async def test_a_token_for_its_name_lets_it_offer_more(life: Life) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    me = itself(record)
    other = await life.token(name="zwei")
    foreign = await life.token(tenant="globex")
    for token in ("", other, foreign, "cpa_made_up"):
        assert (await life.directory.register(BOTH, me, token)).withheld == ("mail.send",)
    token = await life.token(name="eins")
    assert (await life.directory.register(WANTED, me, token)).withheld == ()
    back = await life.directory.register(BOTH, me, token)
    assert (back.agent.actions, back.withheld, back.key) == (("x.a.b", "mail.send"), (), None)
    assert back.agent.withheld == ()
    # Used up, and not needed any more.
    assert (await life.directory.register(BOTH, me, token)).withheld == ()
    assert life.agents.choose(applicant(action="mail.send")) is life.seen()


async def test_one_who_comes_back_keeps_its_id_its_key_and_its_state(life: Life) -> None:
    first = await life.directory.register(WANTED, ADMIN)
    await life.directory.change(ADMIN, first.agent.id, AgentState.DRAINING)
    life.clock.now += 1_000
    changed = replace(WANTED, capabilities=("x.a.b", "blau"), slots=7, instance="i2")
    back = await life.directory.register(changed, itself(first.agent))
    assert (back.new, back.key, back.callback_key) == (False, None, first.callback_key)
    assert (back.agent.id, back.agent.registered) == (first.agent.id, first.agent.registered)
    assert (back.agent.state, back.agent.slots) == (AgentState.DRAINING, 7)
    assert (life.seen().actions, life.seen().capabilities) == ({"x.a.b"}, {"blau"})
    assert life.seen().slots == 7


async def test_who_is_revoked_or_leaves_is_told_to_who_delivers(life: Life) -> None:
    first = (await life.directory.register(WANTED, ADMIN)).agent
    await life.directory.change(ADMIN, first.id, AgentState.REVOKED)
    second = (await life.directory.register(WANTED, ADMIN)).agent
    await life.directory.remove(itself(second), second.id)
    assert life.gone == ["agent://data/eins"] * 2
    assert list(life.agents.list(TENANT)) == []
    with pytest.raises(NotFound):
        await life.directory.heartbeat(itself(second), second.id, Beat())


async def test_two_at_once_do_not_get_one_name(life: Life) -> None:
    found = await asyncio.gather(
        *(life.directory.register(WANTED, ADMIN) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in found) == 4
    assert len(life.agents.list(TENANT)) == 1


@pytest.mark.parametrize("first", ["change", "register"])
async def test_neither_of_a_change_and_a_return_at_the_same_moment_undoes_the_other(
    life: Life, store: CountingStore, first: str
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    store.slow = True
    change = life.directory.change(ADMIN, record.id, AgentState.QUARANTINED)
    register = life.directory.register(replace(WANTED, instance="i2"), itself(record))
    await asyncio.gather(*((change, register) if first == "change" else (register, change)))
    for known in (life.seen().record, await store.get(TENANT, record.id)):
        assert known is not None
        assert (known.state, known.instance) == (AgentState.QUARANTINED, "i2")


@pytest.mark.parametrize("how", ["revoke", "remove"])
async def test_who_is_put_out_while_it_comes_back_stays_out(
    life: Life, store: CountingStore, how: str
) -> None:
    """Its key was good when it asked, and is dead when it is its turn."""
    record = (await life.directory.register(WANTED, ADMIN)).agent
    store.slow = True
    out = (
        life.directory.change(ADMIN, record.id, AgentState.REVOKED)
        if how == "revoke"
        else life.directory.remove(ADMIN, record.id)
    )
    _, back = await asyncio.gather(
        out, life.directory.register(replace(WANTED, instance="i2"), itself(record)), return_exceptions=True
    )
    assert isinstance(back, Unauthorized)
    assert list(life.agents.list(TENANT)) == []
    assert (await life.directory.register(WANTED, ADMIN)).new


def _register(life: Life, caller: Caller, id: str) -> Awaitable[object]:
    return life.directory.register(replace(BOTH, name="drei"), caller)


def _offer(life: Life, caller: Caller, id: str) -> Awaitable[object]:
    return life.directory.offer(caller, ["mail.send"])


def _remove(life: Life, caller: Caller, id: str) -> Awaitable[object]:
    return life.directory.remove(caller, id)


def _changes(state: AgentState) -> Callable[[Life, Caller, str], Awaitable[object]]:
    return lambda life, caller, id: life.directory.change(caller, id, state)


@pytest.mark.parametrize("what", [_offer, _remove])
async def test_what_an_agent_wanted_whose_key_died_meanwhile_is_refused(
    life: Life, store: CountingStore, what: Callable[[Life, Caller, str], Awaitable[object]]
) -> None:
    """It waited behind its own revocation and the enrolment of another agent of its name."""
    record = (await life.directory.register(BOTH, ADMIN)).agent
    store.slow = True
    _, newer, refused = await asyncio.gather(
        life.directory.change(ADMIN, record.id, AgentState.REVOKED),
        life.directory.register(replace(BOTH, instance="i2"), ADMIN),
        what(life, itself(record), record.id),
        return_exceptions=True,
    )
    assert isinstance(refused, Unauthorized)
    assert not isinstance(newer, BaseException)
    assert life.seen().record == newer.agent
    assert life.seen().actions == {"x.a.b", "mail.send"}
    kept = await store.get(TENANT, record.id)
    assert kept is not None
    assert kept.state is AgentState.REVOKED


@pytest.mark.parametrize("what", [_register, _remove, *map(_changes, AgentState)])
async def test_what_an_admin_wanted_whose_key_died_meanwhile_is_refused(
    life: Life, store: CountingStore, what: Callable[[Life, Caller, str], Awaitable[object]]
) -> None:
    record = (await life.directory.register(BOTH, ADMIN)).agent
    await life.directory.change(ADMIN, record.id, AgentState.QUARANTINED)
    other = dataclasses.replace(ADMINS, id="key_2", name="bert", hash=b"\x03" * 32)
    await life.keys.add(other)
    store.slow = True
    before = life.directory.register(replace(WANTED, name="zwei"), ADMIN)
    waits = what(life, other.caller(), record.id)
    _, refused, _ = await asyncio.gather(
        before, waits, life.keys.revoke(TENANT, other.id, 1), return_exceptions=True
    )
    assert isinstance(refused, Unauthorized)
    assert [agent.state for agent in life.agents.list(TENANT)] == [AgentState.QUARANTINED, AgentState.ACTIVE]


async def test_who_has_the_key_of_the_settings_stands_in_no_store(life: Life) -> None:
    settings = dataclasses.replace(ADMIN, key=FIXED.key)
    record = (await life.directory.register(WANTED, settings)).agent
    changed = await life.directory.change(settings, record.id, AgentState.DRAINING)
    assert changed.state is AgentState.DRAINING


async def test_an_agent_offers_with_the_key_it_is_registered_with(life: Life) -> None:
    """Another living key of its address may be that of a process that was put aside."""
    record = (await life.directory.register(BOTH, ADMIN)).agent
    newer = dataclasses.replace(
        ADMINS, id="key_2", name=record.address, scopes=frozenset((Scope.AGENT,)), hash=b"\x03" * 32
    )
    await life.keys.add(newer)
    with pytest.raises(Forbidden) as refused:
        await life.directory.offer(newer.caller(), ["mail.send"])
    assert (refused.value.field, refused.value.value) == ("X-API-Key", "key_2")
    await life.directory.register(replace(BOTH, instance="i2"), newer.caller())
    with pytest.raises(Forbidden):
        await life.directory.offer(itself(record), ["mail.send"])
    assert (await life.directory.offer(newer.caller(), ["mail.send"])).actions == ("mail.send",)


async def test_the_states_of_a_stranger_cannot_be_changed(life: Life) -> None:
    with pytest.raises(NotFound):
        await life.directory.change(ADMIN, "ag_7", AgentState.DRAINING)


@pytest.mark.parametrize("state", [AgentState.REVOKED, AgentState.QUARANTINED])
async def test_who_is_to_be_stopped_is_stopped_although_nothing_can_be_stored(
    life: Life, store: CountingStore, state: AgentState
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    attempt = Attempt(TENANT, "j", 0, 1)
    lost: list[str] = []
    life.orchestrator.assignments.report = lambda tenant, job, event: lost.append(job)
    life.orchestrator.presence.begin(life.seen(), attempt, "t")
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.change(ADMIN, record.id, state)
    assert life.seen().state is AgentState.QUARANTINED
    assert lost == ["j"]
    assert life.agents.choose(applicant()) is not life.seen()
    with pytest.raises(Unavailable):
        await life.directory.change(ADMIN, record.id, state)

    store.full = False
    assert (await life.directory.change(ADMIN, record.id, state)).state is state
    kept = await store.get(TENANT, record.id)
    assert kept is not None
    assert kept.state is state
    assert store.told == ["agent.registered", f"agent.{state}"]


async def test_who_registers_while_nothing_can_be_stored_may_try_again_and_is_told_once(
    life: Life, store: CountingStore
) -> None:
    life.keys.kept.append(
        StoredKey(
            tenant=TENANT,
            id="key_a",
            name=WANTED.address,
            scopes=frozenset((Scope.AGENT,)),
            hash=b"\x08" * 32,
            created=1,
        )
    )
    own = life.keys.kept[-1].caller()
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.register(WANTED, own)
    store.full = False
    told = await life.directory.register(WANTED, own)
    assert (told.new, store.told) == (True, ["agent.registered"])

    store.full = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await life.directory.remove(ADMIN, told.agent.id)
    store.full = False
    await life.directory.remove(ADMIN, told.agent.id)
    assert store.told == ["agent.registered", "agent.removed"]


async def test_who_is_to_be_removed_is_stopped_although_nothing_can_be_stored(
    life: Life, store: CountingStore
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    lost: list[str] = []
    life.orchestrator.assignments.report = lambda tenant, job, event: lost.append(job)
    life.orchestrator.presence.begin(life.seen(), Attempt(TENANT, "j", 0, 1), "t")
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.remove(ADMIN, record.id)
    assert lost == ["j"]
    assert life.agents.choose(applicant()) is not life.seen()

    store.full = False
    assert (await life.directory.remove(ADMIN, record.id)).id == record.id
    assert await store.get(TENANT, record.id) is None
    assert life.gone == [record.address]
    assert store.told == ["agent.registered", "agent.removed"]


async def test_who_is_revoked_once_more_is_revoked_and_can_be_forgotten(
    life: Life, store: CountingStore
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    revoked = await life.directory.change(ADMIN, record.id, AgentState.REVOKED)
    newer = (await life.directory.register(WANTED, ADMIN)).agent
    assert await life.directory.change(ADMIN, record.id, AgentState.REVOKED) == revoked
    other = (await life.directory.register(replace(WANTED, name="zwei"), ADMIN)).agent
    with pytest.raises(Forbidden):
        await life.directory.remove(itself(other), record.id)

    assert await life.directory.remove(ADMIN, record.id) == revoked

    assert await store.get(TENANT, record.id) is None
    seen = life.agents.get(newer.address, TENANT)
    assert seen is not None
    assert seen.record == newer
    with pytest.raises(NotFound):
        await life.directory.remove(ADMIN, record.id)


async def test_only_the_key_it_registered_with_speaks_for_an_agent(life: Life) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    spare = dataclasses.replace(
        ADMINS, id="key_9", name=record.address, scopes=frozenset((Scope.AGENT,)), hash=b"\x09" * 32
    )
    life.keys.kept.append(spare)
    await life.directory.heartbeat(itself(record), record.id, Beat())
    with pytest.raises(Forbidden, match="not the key"):
        await life.directory.heartbeat(spare.caller(), record.id, Beat(status=AgentStatus.OFFLINE))
    with pytest.raises(Forbidden, match="not the key"):
        await life.directory.remove(spare.caller(), record.id)
    assert life.seen().status is AgentStatus.ONLINE

    newer = (await life.directory.register(WANTED, spare.caller())).agent
    await life.directory.heartbeat(itself(newer), record.id, Beat())
    with pytest.raises(Forbidden, match="not the key"):
        await life.directory.heartbeat(itself(record), record.id, Beat())


async def test_what_only_limits_an_agent_changes_nothing_where_nothing_can_be_stored(
    life: Life, store: CountingStore
) -> None:
    record = (await life.directory.register(WANTED, ADMIN)).agent
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.change(ADMIN, record.id, AgentState.DRAINING)
    assert life.seen().state is AgentState.ACTIVE


async def test_one_that_cannot_be_read_keeps_its_name_until_it_is_removed(
    life: Life, store: CountingStore
) -> None:
    told = await life.directory.register(WANTED, ADMIN)
    record, other = told.agent, replace(WANTED, name="zwei")
    await life.directory.register(other, ADMIN)
    store.spoil(record)
    later = Life(store, life.keys)
    await later.directory.load()

    odd, sound = later.agents.list(TENANT)
    assert "cannot be read" in odd.trouble
    assert (odd.record and odd.record.id, sound.trouble, later.agents.unread) == (record.id, "", 1)
    assert later.agents.choose(applicant()) == "agents_offline", "of the other"
    with pytest.raises(Forbidden):
        await later.directory.heartbeat(itself(record), record.id, Beat())
    for caller in (ADMIN, itself(record)):
        with pytest.raises(Conflict, match="another agent is called") as caught:
            await later.directory.register(WANTED, caller)
        assert "`cpa agents remove eins`" in (caught.value.remedy or "")
    for state in (AgentState.ACTIVE, AgentState.DRAINING):
        with pytest.raises(Conflict, match="cannot be read"):
            await later.directory.change(ADMIN, record.id, state)

    assert (await later.directory.remove(ADMIN, record.id)).id == record.id

    assert (await later.directory.get(ADMIN, sound.record.id))[0] == sound.record
    with pytest.raises(Unauthorized):
        await later.directory.register(WANTED, itself(record))
    with pytest.raises(NotFound):
        await later.directory.get(ADMIN, record.id)
    assert (await later.directory.register(WANTED, ADMIN)).new
    assert later.agents.unread == 0


# -- a lost answer -------------------------------------------------------------------------------------------

DRAWN = replace(WANTED, instance="0123456789abcdef0123456789abcdef")


async def test_whose_answer_was_lost_is_given_the_same_one_again(life: Life) -> None:
    token = await life.token()
    lost = await life.directory.register(DRAWN, None, token)
    assert await life.directory.register(DRAWN, None, token) == lost
    assert [key.name for key in life.keys.kept] == [ADMIN.name, lost.agent.address]
    record = lost.agent
    await life.directory.heartbeat(itself(record), record.id, Beat(instance=DRAWN.instance))
    assert life.seen().record == record


async def test_a_used_token_is_worth_nothing_to_others(life: Life) -> None:
    token = await life.token()
    lost = await life.directory.register(DRAWN, None, token)
    for other in (
        replace(DRAWN, instance="f" * 32),
        replace(DRAWN, public_key="another"),
        replace(DRAWN, name="zwei"),
        replace(DRAWN, endpoint="http://10.0.0.1:9000"),
        replace(DRAWN, instance=""),
    ):
        with pytest.raises(Unauthorized):
            await life.directory.register(other, None, token)
    assert [key.name for key in life.keys.kept] == [ADMIN.name, lost.agent.address]


async def test_an_instance_that_can_be_guessed_proves_nothing(life: Life) -> None:
    token = await life.token()
    await life.directory.register(WANTED, None, token)
    with pytest.raises(Unauthorized):
        await life.directory.register(WANTED, None, token)
    with pytest.raises(Conflict):
        await life.directory.register(WANTED, ADMIN)


async def test_after_its_first_beat_a_token_answers_nobody(life: Life, store: CountingStore) -> None:
    token, again = await life.token(), await life.token(uses=5)
    record = (await life.directory.register(DRAWN, None, token)).agent
    await life.directory.heartbeat(itself(record), record.id, Beat(instance=DRAWN.instance))
    with pytest.raises(Unauthorized):
        await life.directory.register(DRAWN, None, token)
    with pytest.raises(Conflict):
        await life.directory.register(DRAWN, None, again)
    with pytest.raises(Conflict):
        await life.directory.register(DRAWN, ADMIN)
    # What another life of the scheduler knows of it is what is stored.
    later = Life(store, life.keys, life.tokens)
    await later.directory.load()
    with pytest.raises(Unauthorized):
        await later.directory.register(DRAWN, None, token)


async def test_the_answer_is_given_again_by_another_life_of_the_scheduler(
    life: Life, store: CountingStore
) -> None:
    token = await life.token()
    lost = await life.directory.register(DRAWN, None, token)
    later = Life(store, life.keys, life.tokens)
    await later.directory.load()
    assert await later.directory.register(DRAWN, None, token) == lost


async def test_a_first_beat_that_could_not_be_stored_is_stored_with_the_next_one(
    life: Life, store: CountingStore
) -> None:
    token = await life.token()
    record = (await life.directory.register(DRAWN, None, token)).agent
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.heartbeat(itself(record), record.id, Beat())
    store.full = False
    await life.directory.heartbeat(itself(record), record.id, Beat())
    assert await store.last_beat(TENANT, record.id) == life.seen().beat

    later = Life(store, life.keys, life.tokens)
    await later.directory.load()
    with pytest.raises(Unauthorized):
        await later.directory.register(DRAWN, None, token)


async def test_a_token_used_for_an_agent_that_could_not_be_stored_is_not_lost(
    life: Life, store: CountingStore
) -> None:
    token = await life.token()
    store.full = True
    with pytest.raises(Unavailable):
        await life.directory.register(DRAWN, None, token)
    store.full = False
    assert (await life.directory.register(DRAWN, None, token)).agent == life.seen().record


async def test_only_while_the_token_lives_and_the_agent_is_wanted(life: Life) -> None:
    token = await life.token(expires=life.clock.now + 1_000)
    record = (await life.directory.register(DRAWN, None, token)).agent
    life.clock.now += 1_000
    with pytest.raises(Unauthorized):
        await life.directory.register(DRAWN, None, token)
    await life.directory.remove(ADMIN, record.id)

    token = await life.token()
    record = (await life.directory.register(DRAWN, None, token)).agent
    await life.directory.change(ADMIN, record.id, AgentState.QUARANTINED)
    assert (await life.directory.register(DRAWN, None, token)).agent.state is AgentState.QUARANTINED
    await life.directory.change(ADMIN, record.id, AgentState.REVOKED)
    with pytest.raises(Unauthorized):
        await life.directory.register(DRAWN, None, token)

    token = await life.token(uses=5)
    record = (await life.directory.register(DRAWN, None, token)).agent
    await life.directory.remove(ADMIN, record.id)
    with pytest.raises(Unauthorized):
        await life.directory.register(DRAWN, None, token)


async def test_an_admin_s_key_registers_the_same_process_again(life: Life) -> None:
    lost = await life.directory.register(DRAWN, ADMIN)
    assert await life.directory.register(DRAWN, ADMIN) == lost
    with pytest.raises(Conflict):
        await life.directory.register(replace(DRAWN, instance="f" * 32), ADMIN)


async def test_why_nobody_takes_a_task_is_asked_as_the_task_asks() -> None:
    life = Life(CountingStore(), MemoryKeys())
    for agent in (remote("a", slots=1), remote("b")):
        life.agents.register(agent)
    url = {"url": "http://kaputt.example/"}
    plan = [TaskSpec(id=name, action="web.click", arguments=url if name == "c" else {}) for name in "abc"]
    job = JobState(JobHead(TENANT, "j1", 1), Graph(JobSpec(tuple(plan))), []).snapshot()
    asked = [Applicant.of(job, run) for run in job.tasks]
    assert [life.directory.why(each) for each in asked] == ["", "", ""]
    life.agents.choose(applicant("j1", action="web.click"))
    for _ in range(THRESHOLD):
        life.orchestrator.assignments.breakers.failed(None, TENANT, "web.click", url)
    assert [life.directory.why(each) for each in asked] == ["session_busy"] * 2 + ["breaker_open"]
