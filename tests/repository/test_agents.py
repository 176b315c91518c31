"""Stores of agents: both keep the one contract, and the one on the disk outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.contracts.agents import BEAT, ME, AgentStoreContract, record
from tests.repository.shell import SteppedClock

from cpa.audit.log import AuditLog
from cpa.core.audit import unseal
from cpa.errors import Conflict, InternalError
from cpa.ports.agents import AgentState
from cpa.ports.repository import AuditFilter
from cpa.repository.agents import MemoryAgentStore, SqlAgentStore
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database


class TestMemoryAgentStore(AgentStoreContract):
    @pytest.fixture
    def agents(self) -> MemoryAgentStore:
        return MemoryAgentStore()


class TestSqlAgentStore(AgentStoreContract):
    @pytest.fixture
    def agents(self, database: Database) -> SqlAgentStore:
        return SqlAgentStore(database)


async def test_agents_and_beats_outlive_the_process(tmp_path: Path) -> None:
    first = Database.open(tmp_path / "cpa.db")
    await SqlAgentStore(first).put(record())
    await SqlAgentStore(first).beat(ME, "ag_1", BEAT)
    first.close()

    second = Database.open(tmp_path / "cpa.db")
    try:
        assert await SqlAgentStore(second).all() == (record(),)
        assert await SqlAgentStore(second).last_beat(ME, "ag_1") == BEAT
    finally:
        second.close()


async def test_an_agent_and_what_the_trail_tells_of_it_are_stored_both_or_neither(
    database: Database,
) -> None:
    store, trail = SqlAgentStore(database), SqlAuditRepository(database)
    leaf = AuditLog(trail, SteppedClock()).leaf(
        ME, "anna", "agent.registered", "ag_1", {"address": "agent://web/größe"}
    )
    refuse = "CREATE TRIGGER f BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no'); END"
    await database.write(lambda c: c.exec_driver_sql(refuse) and None)
    with pytest.raises(InternalError):
        await store.put(record(), leaf)
    assert await store.all() == ()
    await database.write(lambda c: c.exec_driver_sql("DROP TRIGGER f") and None)

    await store.put(record(), leaf)
    with pytest.raises(Conflict):
        await store.put(record("ag_2"), leaf)
    assert not await store.remove(ME, "ag_2", leaf)
    [entry] = (await trail.slice(ME, AuditFilter())).rows
    assert entry.event == unseal(leaf.sealed.body, leaf.sealed.private)
    assert await store.remove(ME, "ag_1", leaf)
    assert len((await trail.slice(ME, AuditFilter())).rows) == 2


ILLEGIBLE = (
    "x'fffe7b'",
    "substr(body, 1, 20)",
    "x''",
    "'text'",
    "CAST(x'ff' AS TEXT)",
    "5",
    "1.5",
    "CAST('[]' AS BLOB)",
    "CAST('null' AS BLOB)",
    "CAST(replace(body, 'ag_1', 'ag_2') AS BLOB)",
)


async def hold(database: Database, column: str, value: str, id: str = "ag_1") -> None:
    changed = sa.text(f"UPDATE agents SET {column} = {value} WHERE id = '{id}'")
    assert await database.write(lambda c: c.execute(changed).rowcount)


@pytest.mark.parametrize("value", ILLEGIBLE)
async def test_an_agent_that_cannot_be_read_keeps_its_name_and_hides_no_other(
    database: Database, value: str
) -> None:
    store, other = SqlAgentStore(database), record("ag_9", "neun")
    await store.put(record())
    await store.put(other)
    await hold(database, "body", value)

    [odd, sound] = await store.all()
    assert sound == other
    assert (odd.unread, odd.tenant, odd.id, odd.name, odd.registered) == (True, ME, "ag_1", "größe", 1_000)
    assert (odd.actions, odd.tags, odd.endpoint, odd.state) == ((), (), "", AgentState.QUARANTINED)
    assert await store.get(ME, "ag_1") == odd == await store.find(ME, "größe")
    with pytest.raises(Conflict, match="another agent is called größe"):
        await store.put(record("ag_3"))
    assert await store.remove(ME, "ag_1")
    await store.put(record("ag_3"))


async def test_one_that_was_revoked_stays_so(database: Database) -> None:
    store = SqlAgentStore(database)
    await store.put(record(state=AgentState.REVOKED))
    await hold(database, "body", "x'00'")
    odd = await store.get(ME, "ag_1")
    assert odd is not None
    assert (odd.unread, odd.state) == (True, AgentState.REVOKED)


@pytest.mark.parametrize("column", ["name", "state"])
async def test_a_word_that_is_no_utf8_hides_nobody(database: Database, column: str) -> None:
    store, other = SqlAgentStore(database), record("ag_9", "neun")
    await store.put(record())
    await store.put(other)
    await hold(database, column, "CAST(x'ff' AS TEXT)")
    assert await store.all() == (record(), other)


@pytest.mark.parametrize("value", [each for each in ILLEGIBLE if "body" not in each])
async def test_a_beat_that_cannot_be_read_was_none(database: Database, value: str) -> None:
    store = SqlAgentStore(database)
    await store.put(record())
    await store.beat(ME, "ag_1", BEAT)
    await hold(database, "beat", value)
    assert await store.last_beat(ME, "ag_1") is None
    assert await store.all() == (record(),)


async def test_one_that_cannot_be_read_hides_no_other_revoked_one(database: Database) -> None:
    store = SqlAgentStore(database)
    await store.put(record("ag_1", "eins", state=AgentState.REVOKED))
    await store.put(record("ag_2", "zwei", state=AgentState.REVOKED))
    await hold(database, "body", "CAST('{' AS BLOB)")
    assert [(each.name, each.unread) for each in await store.revoked(ME)] == [("eins", True), ("zwei", False)]
