"""Stores of agents: both keep the one contract, and the one on the disk outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.agents import BEAT, ME, AgentStoreContract, record

from cpa.repository.agents import MemoryAgentStore, SqlAgentStore
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
