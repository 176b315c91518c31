"""What a server that opens a damaged store says of its parts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from cpa.api.services import Condition
from cpa.bootstrap import TENANT, open_engine, services_of
from cpa.orchestrator.registration import Registration
from cpa.security.auth import FIXED
from cpa.settings import Settings

WANTED = Registration(name="eins", type="DATA", capabilities=("x.a.b",))


@pytest.mark.parametrize("column", ["body", "beat"])
@pytest.mark.parametrize("value", ["x'fffe7b'", "5", "'text'"])
async def test_an_agent_that_cannot_be_read_keeps_no_server_from_starting(
    tmp_path: Path, column: str, value: str
) -> None:
    settings = Settings(_env_file=None, data=tmp_path, builtin_agent=False)
    async with open_engine(settings) as scheduler:
        agent = (await scheduler.directory.register(WANTED, FIXED)).agent
    with closing(dbapi2.connect(tmp_path / "cpa.db")) as store:
        assert store.execute(f"UPDATE agents SET {column} = {value}").rowcount == 1
        store.commit()

    async with open_engine(settings) as scheduler:
        health = services_of(scheduler).probes["agents"]
        odd = column == "body"
        assert (await health()).condition is (Condition.DEGRADED if odd else Condition.HEALTHY)
        [known] = [each for each in scheduler.directory.list(TENANT) if each.remote]
        assert (known.record and known.record.id, "cannot be read" in known.trouble) == (agent.id, odd)
        await scheduler.directory.remove(FIXED, agent.id)
        assert (await health()).condition is Condition.HEALTHY
