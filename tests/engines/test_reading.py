"""Nobody is shown what is not durable yet: a crash could undo it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Conflict, Unavailable
from cpa.ports.engine import Outcome, Submission
from cpa.ports.steps import StoredJob, Unreadable
from tests.engines.world import life

TENANT = "default"
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))


async def cancelling(engine: LocalEngine, job: str) -> asyncio.Task[Outcome]:
    """Somebody who cancels it, once it is cancelled in memory."""
    cancelled = asyncio.create_task(engine.cancel(TENANT, job, by="anna"))
    while (await engine.jobs.load(TENANT, job)).head.status is not JobStatus.CANCELLED:
        await asyncio.sleep(0)
    return cancelled


async def test_a_step_is_seen_once_it_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        steps.hold = threading.Event()
        cancelled = await cancelling(engine, job)

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
        cancelled = await cancelling(engine, job)

        seen = await engine.query(TENANT, job)

        assert (seen.head.status, seen.tasks[0].status) == (JobStatus.RUNNING, TaskStatus.HELD)
        with pytest.raises(Unavailable):
            await cancelled
        steps.full = False


async def test_a_job_that_cannot_be_stepped_keeps_none_of_those_that_are_read_with_it(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        receipts = await engine.submit_many([Submission(tenant=TENANT, spec=ASKS)] * 4)
        keys = [(TENANT, receipt.job) for receipt in receipts]
    with closing(dbapi2.connect(tmp_path / "cpa.db")) as store:
        head = "CAST(json_set(CAST(head AS TEXT), '$.logic', 99) AS BLOB)"
        store.execute(f"UPDATE jobs SET head = {head} WHERE id = ?", (keys[1][1],))
        store.commit()

    async with life(tmp_path, Counter()) as (engine, _, _):
        await engine.jobs.bring(keys)
        assert set(engine._stepper.jobs) == {keys[0], *keys[2:]}
        with pytest.raises(Unreadable):
            await engine.jobs.load(*keys[1])


async def test_an_end_that_the_disk_refused_does_not_come_back_with_a_retry_that_was_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        steps.hold = threading.Event()
        cancelled = await cancelling(engine, job)
        read, reading, go_on = engine.jobs.read, asyncio.Event(), asyncio.Event()

        async def slow(work: Callable[..., object], *arguments: object) -> object:
            if work == steps.events:
                reading.set()
                await go_on.wait()
            return await read(work, *arguments)

        monkeypatch.setattr(engine.jobs, "read", slow)
        again = asyncio.create_task(engine.retry(TENANT, job, by="uwe"))
        await reading.wait()
        steps.full = True
        steps.hold.set()
        with pytest.raises(Unavailable):
            await cancelled
        steps.full = False
        go_on.set()
        with pytest.raises(Conflict):
            await again

        assert (await engine.query(TENANT, job)).head.status is JobStatus.RUNNING
        numbers = [stored.number for stored in await engine.events(TENANT, job)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_store_that_cannot_be_read_after_it_could_not_be_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        tried = asyncio.Event()

        def unread(*_: str) -> StoredJob:
            tried.set()
            raise Unavailable("the store cannot be read")

        with monkeypatch.context() as broken:
            broken.setattr(steps, "load", unread)
            steps.full = True
            with pytest.raises(Unavailable):
                await engine.cancel(TENANT, job, by="anna")
            await asyncio.wait_for(tried.wait(), 20)
            steps.full = False
        assert (await engine.cancel(TENANT, job, by="anna")).changed
