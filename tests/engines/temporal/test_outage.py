"""The Temporal server goes away and comes back: callers are told, jobs wait, and then they go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpa.core.job import JobStatus
from cpa.errors import Unavailable
from cpa.ports.engine import Engine
from tests.contracts.engine import (
    ASKS,
    MARKS,
    TENANT,
    Outside,
    answered,
    asking,
    ended,
    submission,
    submitted,
    until,
)
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(tmp_path)
    assert server.lasting, (
        "this server forgets everything at its end: build the command line, see CONTRIBUTING"
    )
    server.start()
    yield server
    server.stop()


async def accepted(engine: Engine) -> str:
    """A job, tried until the server takes it."""
    found: list[str] = []

    async def taken() -> bool:
        try:
            found.append(await submitted(engine, dedupe="1", sender="anna"))
        except Unavailable:
            return False
        return True

    await until(taken)
    return found[0]


async def test_jobs_wait_for_the_server_and_go_on(server: TemporalServer, tmp_path: Path) -> None:
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(server, tmp_path, outside.executors()) as engine:
        works, waits = await submitted(engine, MARKS), await submitted(engine, ASKS)
        await until(lambda: outside.effects[works, "m"])
        asked = await asking(engine, waits)
        server.kill()

        with pytest.raises(Unavailable) as caught:
            await engine.submit(submission(dedupe="1", sender="anna"))
        assert caught.value.field == "temporal_address"
        assert caught.value.remedy
        await until(lambda: engine.trouble is not None)
        assert engine.hindrance(TENANT, waits) is not None, "why it does not go on"
        assert await asking(engine, waits) == asked, "reading goes on"
        outside.gate.set()

        server.start()
        later = await accepted(engine)
        assert (await ended(engine, works)).head.status is JobStatus.DONE
        assert (await answered(engine, waits, "anna")).changed
        assert (await ended(engine, waits)).head.status is JobStatus.DONE
        assert (await ended(engine, later)).head.status is JobStatus.DONE
        await until(lambda: engine.trouble is None)
        assert engine.hindrance(TENANT, waits) is None
        assert (await engine.list(TENANT)).total == 3, "what was tried again is there once"
    assert outside.effects[works, "m"] == 1
