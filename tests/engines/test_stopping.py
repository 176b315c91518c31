"""An attempt that is stopped before anybody was asked for it never was: nobody waits for it or asks about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.classes import EffectClass
from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.ports.engine import Submission
from tests.engines.world import life

TENANT = "default"
UNSAFE = JobSpec(
    tuple(TaskSpec(id=f"t{n}", action="mark.unsafe", effect=EffectClass.UNSAFE) for n in range(5)),
)


@pytest.mark.parametrize("ticks", [1, 2, 3])
async def test_what_was_never_sent_is_cancelled_at_once(tmp_path: Path, ticks: int) -> None:
    effects = Counter[tuple[str, str]]()
    async with life(tmp_path, effects, gate=asyncio.Event()) as (engine, _, agents):
        submitted = asyncio.create_task(engine.submit(Submission(tenant=TENANT, spec=UNSAFE, job="j")))
        for _ in range(ticks):
            await asyncio.sleep(0)
        cancelled = asyncio.create_task(engine.cancel(TENANT, "j", by="anna"))
        await asyncio.gather(submitted, cancelled)

        head = await engine.wait(TENANT, "j", 10)

        assert head.status is JobStatus.CANCELLED
        assert head.ended - head.created < 10_000, "nobody waited for an answer"
        found = await engine.query(TENANT, "j")
        assert {run.status for run in found.tasks} == {TaskStatus.CANCELLED}
        assert not effects
        assert [agent.busy for agent in agents.list(TENANT)] == [0]
