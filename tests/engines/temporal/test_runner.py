"""A workflow that cannot be gone on with: its job says so, and no other one is told that the server is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cpa.core.events import CancelRequested
from cpa.core.job import JobStatus
from cpa.engines.temporal import decider, publisher
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.values import FACTS, Fact
from cpa.errors import Unavailable
from cpa.ports.nonces import Nonce
from tests.contracts.engine import ASKS, TENANT, answered, asking, ended, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


async def _more_than_it_takes(engine: TemporalEngine, job: str) -> None:
    await engine.client.get_workflow_handle(job).signal(FACTS, args=[[], 1])


async def _what_no_store_takes(engine: TemporalEngine, job: str) -> None:
    fact = Fact(CancelRequested(time=0, by="stranger"), nonce=Nonce("k", "v", 2**70))
    await engine.client.get_workflow_handle(job).signal(FACTS, [fact])


async def _goes_on_from_the_store(engine: TemporalEngine, job: str) -> None:
    await engine.client.get_workflow_handle(job).terminate("as it was told")
    await engine._orphans.adopt((TENANT, job))
    await until(lambda: engine.hindrance(TENANT, job) is None)
    assert (await answered(engine, job, "anna")).changed
    assert (await ended(engine, job)).head.status is JobStatus.DONE
    assert engine.aside == 0


@pytest.mark.parametrize("write", [_more_than_it_takes, _what_no_store_takes])
async def test_what_a_stranger_wrote_hinders_one_job_and_that_says_so(
    temporal: TemporalServer, tmp_path: Path, write: Callable[[TemporalEngine, str], Awaitable[None]]
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        job, other = await submitted(engine, ASKS), await submitted(engine, ASKS)
        await asking(engine, job)
        await write(engine, job)

        await until(lambda: engine.hindrance(TENANT, job))
        why = engine.hindrance(TENANT, job)
        assert why is not None
        assert f"--workflow-id {job}" in str(why)
        assert engine.aside == 1
        with pytest.raises(Unavailable):
            await answered(engine, job, "anna")
        assert engine.trouble is None
        await asking(engine, other)
        assert (await answered(engine, other, "anna")).changed
        assert (await ended(engine, other)).head.status is JobStatus.DONE

        await _goes_on_from_the_store(engine, job)


async def test_a_core_that_decides_otherwise_is_named_as_the_reason(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        job = await submitted(engine, ASKS)
        await asking(engine, job)
    for module in (decider, publisher):
        monkeypatch.setattr(module, "effect_of", lambda decision: "of another core")
    async with temporal_life(temporal, tmp_path) as engine:
        with pytest.raises(Unavailable):  # on a slow machine only that nothing answers: it was not noted yet
            await answered(engine, job, "anna")
        await until(lambda: "history" in str(engine.hindrance(TENANT, job)))
        with pytest.raises(Unavailable, match=job):
            await answered(engine, job, "anna")
        await until(lambda: engine.trouble is None)

        await _goes_on_from_the_store(engine, job)
