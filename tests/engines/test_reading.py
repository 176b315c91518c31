"""Nobody is shown what is not durable yet: a crash could undo it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.engines.local.group import Key
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


async def test_a_job_in_two_portions_is_not_waited_for_in_the_first_until_the_second_has_its_turn(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        receipts = await engine.submit_many([Submission(tenant=TENANT, spec=ASKS)] * 5)
        first, *fresh = [(TENANT, receipt.job) for receipt in receipts]
        for key in fresh:
            del engine._stepper.jobs[key]

        def portions() -> Iterator[list[Key]]:
            yield [first, *fresh[:2]]
            del engine._stepper.jobs[first]  # evicted, after it was seen in memory
            yield [first, *fresh[2:]]

        async with aclosing(engine.jobs.in_turn(portions())) as turns:
            await anext(turns)
            async with asyncio.timeout(5):
                assert await engine.jobs.found(*first)
            assert set(engine._stepper.jobs) == {first, *fresh[:2]}
            await anext(turns)
            assert set(engine._stepper.jobs) == {first, *fresh}


async def test_who_wants_a_job_that_is_read_for_a_later_turn_gets_it_when_that_is_given_up(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        receipts = await engine.submit_many([Submission(tenant=TENANT, spec=ASKS)] * 4)
        keys = [(TENANT, receipt.job) for receipt in receipts]
        engine._stepper.jobs.clear()

        async with aclosing(engine.jobs.in_turn((keys[:2], keys[2:]))) as turns:
            await anext(turns)
            wanted = asyncio.create_task(engine.jobs.load(*keys[3]))
            await asyncio.sleep(0.05)
            assert not wanted.done()

        async with asyncio.timeout(5):
            assert (await wanted).head.id == keys[3][1]
