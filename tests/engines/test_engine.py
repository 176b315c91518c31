"""The engine's promises to its callers, on the real store."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.events import TaskSucceeded
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Conflict, NotFound, Unavailable
from cpa.ports.engine import StoredEvent, Submission
from cpa.repository.database import Database
from tests.engines.world import life

TENANT = "default"
ONE = JobSpec((TaskSpec(id="a", action="flow.noop"),))
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))


def submission(spec: JobSpec = ONE, **more: object) -> Submission:
    return Submission(tenant=TENANT, spec=spec, **more)  # type: ignore[arg-type]


async def done(engine: LocalEngine, job: str) -> JobStatus:
    return (await engine.wait(TENANT, job, 10)).status


async def test_a_job_is_found_after_submit_and_ends(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        receipt = await engine.submit(submission())

        assert (await engine.query(TENANT, receipt.job)).head.id == receipt.job
        assert await done(engine, receipt.job) is JobStatus.DONE
        assert [stored.number for stored in await engine.events(TENANT, receipt.job)] == [1, 2, 3]


async def test_another_tenant_finds_nothing(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(submission())).job

        for call in (
            engine.query("nord", job),
            engine.events("nord", job),
            engine.cancel("nord", job, by="x"),
        ):
            with pytest.raises(NotFound):
                await call


async def test_the_same_key_gives_the_same_job_and_another_body_a_conflict(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        twice = [submission(sender="k", dedupe="1", body_digest="x") for _ in range(5)]
        receipts = await asyncio.gather(*(engine.submit(each) for each in twice))

        assert len({receipt.job for receipt in receipts}) == 1
        assert [receipt.new for receipt in receipts].count(True) == 1
        with pytest.raises(Conflict):
            await engine.submit(submission(sender="k", dedupe="1", body_digest="y"))

        assert await engine.recall(TENANT, "k", "1", "x") == next(each for each in receipts if not each.new)
        assert await engine.recall(TENANT, "k", "2", "x") is None
        assert await engine.recall("nord", "k", "1", "x") is None
        with pytest.raises(Conflict):
            await engine.recall(TENANT, "k", "1", "y")


async def test_a_late_and_a_stale_answer_change_nothing_and_say_why(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(submission(ASKS))).job
        stale = await engine.send(TENANT, job, TaskSucceeded(time=0, task=0, epoch=9))
        assert (stale.changed, stale.reason) == (False, "not_expected")

        await engine.cancel(TENANT, job, by="anna", reason="Irrtum")
        late = await engine.send(TENANT, job, TaskSucceeded(time=0, task=0, epoch=1))
        assert (late.changed, late.reason) == (False, "ended")
        assert await done(engine, job) is JobStatus.CANCELLED


async def test_a_postponed_job_starts_at_its_time_and_not_before(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        start = time.time_ns() // 1_000_000 + 400
        job = (await engine.submit(submission(not_before=start))).job

        assert await done(engine, job) is JobStatus.DONE
        assert (await engine.query(TENANT, job)).head.started >= start


async def test_a_job_whose_time_has_passed_while_there_was_no_room_starts(tmp_path: Path) -> None:
    async with life(tmp_path, Counter(), max_running=1) as (engine, _, _):
        past = time.time_ns() // 1_000_000 - 5
        receipts = await engine.submit_many([submission(not_before=past) for _ in range(3)])

        assert [await done(engine, receipt.job) for receipt in receipts] == [JobStatus.DONE] * 3


async def test_a_waiting_person_holds_no_room(tmp_path: Path) -> None:
    async with life(tmp_path, Counter(), max_running=1) as (engine, _, _):
        asking = [(await engine.submit(submission(ASKS))).job for _ in range(3)]
        job = (await engine.submit(submission())).job

        assert await done(engine, job) is JobStatus.DONE
        assert [(await engine.query(TENANT, each)).head.busy for each in asking] == [0, 0, 0]


async def test_a_follower_sees_every_event_once_and_the_end(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        spec = JobSpec(
            tuple(TaskSpec(id=f"t{n}", action="flow.noop", needs=(n - 1,) if n else ()) for n in range(20))
        )
        job = (await engine.submit(submission(spec))).job
        seen = [each.number async for each in engine.follow(TENANT, job) if isinstance(each, StoredEvent)]

    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= 41


async def test_nothing_new_is_taken_while_draining(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        await engine.drain(1)

        with pytest.raises(Unavailable):
            await engine.submit(submission())


async def test_a_second_process_is_refused_naming_the_first(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()):
        with pytest.raises(Unavailable, match="in use by process"):
            Database.open(tmp_path / "cpa.db")


async def test_many_at_once_share_few_slots_and_all_end(tmp_path: Path) -> None:
    async with life(tmp_path, Counter(), slots=3, max_running=50) as (engine, _, agents):
        receipts = await engine.submit_many([submission() for _ in range(300)])

        assert {await done(engine, receipt.job) for receipt in receipts} == {JobStatus.DONE}
        assert agents.waiting == 0
