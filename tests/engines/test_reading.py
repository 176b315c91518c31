"""Nobody is shown what is not durable yet: a crash could undo it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.errors import Unavailable
from cpa.ports.engine import Submission
from tests.engines.world import life

TENANT = "default"
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))


async def test_a_step_is_seen_once_it_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        steps.hold = threading.Event()
        cancelled = asyncio.create_task(engine.cancel(TENANT, job, by="anna"))
        while (await engine.jobs.load(TENANT, job)).head.status is not JobStatus.CANCELLED:
            await asyncio.sleep(0)

        seen = asyncio.create_task(engine.query(TENANT, job))
        waited = asyncio.create_task(engine.wait(TENANT, job, 0))
        await asyncio.wait([seen, waited], timeout=0.2)

        assert not seen.done()
        assert not waited.done()
        steps.hold.set()
        assert (await seen).head.status is JobStatus.CANCELLED
        assert (await waited).status is JobStatus.CANCELLED
        assert (await cancelled).changed


async def test_what_could_not_be_stored_is_never_seen(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        steps.full = True
        cancelled = asyncio.create_task(engine.cancel(TENANT, job, by="anna"))
        while (await engine.jobs.load(TENANT, job)).head.status is not JobStatus.CANCELLED:
            await asyncio.sleep(0)

        seen = await engine.query(TENANT, job)

        assert (seen.head.status, seen.tasks[0].status) == (JobStatus.RUNNING, TaskStatus.HELD)
        with pytest.raises(Unavailable):
            await cancelled
        steps.full = False
