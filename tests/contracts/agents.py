"""What every store of agents must keep. A test module subclasses it and gives the fixture `agents`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cpa.errors import Conflict
from cpa.ports.agents import AgentRecord, AgentState, AgentStatus, AgentStore, Beat, Named, Readiness, unread

ME, OTHER = "acme", "globex"


def record(id: str = "ag_1", name: str = "größe", tenant: str = ME, **more: Any) -> AgentRecord:
    given: dict[str, Any] = {
        "tenant": tenant,
        "id": id,
        "name": name,
        "type": "WEB",
        "address": f"agent://web/{name}",
        "actions": ("web.goto", "web.click"),
        "tags": ("outlook",),
        "endpoint": "http://127.0.0.1:9000",
        "metadata": {"hostname": "rechner-ä"},
        "slots": 3,
        "instance": "i1",
        "key": "key_1",
        "registered": 1_000,
    }
    return AgentRecord(**given | more)


BEAT = Beat(
    status=AgentStatus.BUSY,
    load=0.75,
    free=1,
    running=(Named("j1", "schritt-ä", 2),),
    readiness=Readiness(session_locked=True, applications={"outlook": "16"}),
    instance="i1",
    at=5_000,
)


class AgentStoreContract:
    async def test_an_agent_comes_back_as_given(self, agents: AgentStore) -> None:
        agent = record()
        await agents.put(agent)
        assert await agents.get(ME, "ag_1") == agent
        assert await agents.find(ME, "größe") == agent
        assert await agents.get(ME, "ag_2") is None
        assert await agents.find(ME, "web") is None

    async def test_the_same_id_replaces(self, agents: AgentStore) -> None:
        await agents.put(record())
        renewed = record(slots=9, name="anders", state=AgentState.DRAINING)
        await agents.put(renewed)
        assert await agents.get(ME, "ag_1") == renewed
        assert await agents.find(ME, "größe") is None
        assert await agents.all() == (renewed,)

    async def test_a_name_belongs_to_one_agent_of_a_tenant(self, agents: AgentStore) -> None:
        await agents.put(record())
        with pytest.raises(Conflict) as caught:
            await agents.put(record("ag_2"))
        assert (caught.value.field, caught.value.value) == ("name", "größe")
        assert await agents.get(ME, "ag_2") is None

        await agents.put(record("ag_2", tenant=OTHER))
        assert len(await agents.all()) == 2

    async def test_what_stands_for_an_agent_that_cannot_be_read_is_not_stored(
        self, agents: AgentStore
    ) -> None:
        await agents.put(record())
        with pytest.raises(Conflict, match="cannot be read"):
            await agents.put(unread(ME, "ag_1", "größe", 1_000, revoked=True))
        assert await agents.get(ME, "ag_1") == record()

    async def test_a_revoked_agent_gives_its_name_back_and_keeps_its_row(self, agents: AgentStore) -> None:
        revoked = record(state=AgentState.REVOKED)
        await agents.put(record())
        await agents.put(revoked)
        assert await agents.find(ME, "größe") is None
        assert await agents.all() == ()
        assert await agents.get(ME, "ag_1") == revoked

        heir = record("ag_2")
        await agents.put(heir)
        await agents.put(revoked)
        assert await agents.find(ME, "größe") == heir
        with pytest.raises(Conflict):
            await agents.put(record())

    async def test_revoked_agents_are_listed_by_themselves(self, agents: AgentStore) -> None:
        gone = [record(f"ag_{n}", registered=n, state=AgentState.REVOKED) for n in (3, 2)]
        for each in (*gone, record("ag_1"), record("ag_4", tenant=OTHER, state=AgentState.REVOKED)):
            await agents.put(each)
        assert await agents.revoked(ME) == (gone[1], gone[0])

    async def test_another_tenant_sees_nothing(self, agents: AgentStore) -> None:
        await agents.put(record())
        await agents.beat(OTHER, "ag_1", BEAT)
        assert await agents.get(OTHER, "ag_1") is None
        assert await agents.find(OTHER, "größe") is None
        assert await agents.last_beat(OTHER, "ag_1") is None
        assert await agents.last_beat(ME, "ag_1") is None
        assert not await agents.remove(OTHER, "ag_1")
        assert await agents.get(ME, "ag_1") is not None

    async def test_all_come_in_the_order_of_their_registration(self, agents: AgentStore) -> None:
        given = [record(f"ag_{n}", f"n{n}", tenant, registered=n) for n, tenant in enumerate((ME, OTHER, ME))]
        for agent in reversed(given):
            await agents.put(agent)
        assert await agents.all() == tuple(given)

    async def test_what_is_removed_is_gone_with_its_beat(self, agents: AgentStore) -> None:
        await agents.put(record())
        await agents.beat(ME, "ag_1", BEAT)
        assert await agents.remove(ME, "ag_1")
        assert not await agents.remove(ME, "ag_1")
        assert await agents.get(ME, "ag_1") is None
        assert await agents.last_beat(ME, "ag_1") is None
        await agents.put(record())
        assert await agents.last_beat(ME, "ag_1") is None

    async def test_the_newest_beat_is_kept(self, agents: AgentStore) -> None:
        await agents.put(record())
        assert await agents.last_beat(ME, "ag_1") is None
        await agents.beat(ME, "ag_1", BEAT)
        assert await agents.last_beat(ME, "ag_1") == BEAT
        newer = msgspec.structs.replace(BEAT, at=6_000, status=AgentStatus.ONLINE)
        await agents.beat(ME, "ag_1", newer)
        await agents.beat(ME, "ag_1", BEAT)
        assert await agents.last_beat(ME, "ag_1") == newer

    async def test_a_changed_agent_keeps_its_beat(self, agents: AgentStore) -> None:
        await agents.put(record())
        await agents.beat(ME, "ag_1", BEAT)
        await agents.put(record(slots=9))
        assert await agents.last_beat(ME, "ag_1") == BEAT
