"""What came in before is known again: by its sender's id, a signed message by its nonce, also after a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.events import QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.engines.inbox import KEEP_NONCES
from cpa.engines.local.engine import LocalEngine
from cpa.errors import NotFound
from cpa.ports.engine import Outcome, Submission
from cpa.ports.nonces import Nonce, Replayed
from cpa.repository.database import Database
from cpa.repository.steps import FORGET
from tests.engines.world import Crash, life
from tests.repository.shell import SteppedClock

TENANT = "default"
ME = "agent://web/größe"
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))


def nonce(value: str, *, key: str = "default/ag_1", expires: int = 2**52) -> Nonce:
    return Nonce(key, value, expires)


def yes() -> QuestionAnswered:
    return QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna")


async def asking(engine: LocalEngine) -> str:
    """A job that waits for a person."""
    job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
    async with asyncio.timeout(10):
        while (await engine.query(TENANT, job)).tasks[0].status is not TaskStatus.HELD:
            await asyncio.sleep(0)
    return job


async def number(engine: LocalEngine, job: str) -> int:
    return (await engine.query(TENANT, job)).head.number


async def refused(engine: LocalEngine, job: str, message: str, used: Nonce) -> bool:
    try:
        await engine.send(TENANT, job, None, message=(ME, message), nonce=used)
    except Replayed:
        return True
    return False


async def test_a_nonce_counts_once_whatever_message_it_comes_with(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await asking(engine)
        assert await engine.send(TENANT, job, None, message=(ME, "1"), nonce=nonce("n1")) == Outcome(
            False, await number(engine, job)
        )
        with pytest.raises(Replayed) as caught:
            await engine.send(TENANT, job, None, message=(ME, "2"), nonce=nonce("n1"))
        assert (caught.value.field, caught.value.value, caught.value.status) == ("nonce", "n1", 409)

        told = await engine.send(TENANT, job, None, message=(ME, "1"), nonce=nonce("n2"))
        assert told.reason == "duplicate"
        assert await refused(engine, job, "1", nonce("n2"))
        assert not await refused(engine, job, "2", nonce("n1", key="default/ag_2"))


async def test_a_refused_replay_gives_no_fact_to_the_job(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job, other = await asking(engine), await asking(engine)
        assert (await engine.send(TENANT, job, yes(), message=(ME, "1"), nonce=nonce("n1"))).changed
        before = await number(engine, other)
        with pytest.raises(Replayed):
            await engine.send(TENANT, other, yes(), message=(ME, "2"), nonce=nonce("n1"))
        assert await number(engine, other) == before
        with pytest.raises(Replayed):
            await engine.submit(Submission(tenant=TENANT, spec=ASKS, nonce=nonce("n1")))


async def test_of_many_at_once_one_is_taken(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await asking(engine)
        told = await asyncio.gather(*(refused(engine, job, str(n), nonce("n1")) for n in range(20)))
        assert told.count(False) == 1

        calls = (engine.remember(TENANT, message=(ME, "x"), nonce=nonce(f"r{n}")) for n in range(20))
        assert (await asyncio.gather(*calls)).count(True) == 1


async def test_the_same_nonce_of_another_tenant_is_another(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert await engine.remember(TENANT, nonce=nonce("n1"))
        assert await engine.remember("nord", nonce=nonce("n1"))
        with pytest.raises(Replayed):
            await engine.remember("nord", nonce=nonce("n1"))


async def test_a_message_of_no_job_is_remembered_once(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert await engine.remember(TENANT, message=(ME, "1"))
        assert not await engine.remember(TENANT, message=(ME, "1"))
        assert not await engine.remember(TENANT, message=(ME, "1"), nonce=nonce("n1"))
        with pytest.raises(Replayed):
            await engine.remember(TENANT, message=(ME, "1"), nonce=nonce("n1"))
        assert await engine.remember("nord", message=(ME, "1"))


async def test_a_signed_submission_counts_once_and_its_re_send_finds_the_job(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):

        def again(value: str) -> Submission:
            return Submission(tenant=TENANT, spec=ASKS, sender=ME, dedupe="1", nonce=nonce(value))

        first = await engine.submit(again("n1"))
        second = await engine.submit(again("n2"))
        assert (first.new, second.new, second.job) == (True, False, first.job)
        for used in ("n1", "n2"):
            with pytest.raises(Replayed):
                await engine.submit(again(used))


async def test_what_failed_for_another_reason_leaves_its_nonce_unused(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        with pytest.raises(NotFound):
            await engine.send(TENANT, "none", yes(), message=(ME, "1"), nonce=nonce("n1"))
        assert await engine.remember(TENANT, nonce=nonce("n1"))


@pytest.mark.parametrize("after", [False, True])
async def test_nonce_and_fact_are_durable_together_or_not_at_all(tmp_path: Path, after: bool) -> None:
    """The process dies at the commit that holds both."""
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await asking(engine)
        before = await number(engine, job)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with life(tmp_path, Counter(), crash_at=1, after=after) as (engine, _, _):
            await engine.send(TENANT, job, yes(), message=(ME, "1"), nonce=nonce("n1"))
    assert caught.group_contains(Crash)

    async with life(tmp_path, Counter()) as (engine, _, _):
        stored = (await number(engine, job)) > before
        assert await refused(engine, job, "2", nonce("n1")) == stored == after


async def test_nonces_are_forgotten_once_their_signature_has_expired(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with life(tmp_path, Counter(), clock=clock) as (engine, steps, _):
        end = clock.now_ms() + 60_000
        for n in range(600):
            await engine.remember(TENANT, nonce=nonce(f"n{n}", expires=end))
        clock.now = end + KEEP_NONCES
        await engine.remember(TENANT, nonce=nonce("a", expires=end * 2))
        assert steps.spent(TENANT, "default/ag_1", "n0")

        clock.now += 1
        for value in ("b", "c"):
            await engine.remember(TENANT, nonce=nonce(value, expires=end * 2))
        assert not any(steps.spent(TENANT, "default/ag_1", f"n{n}") for n in range(600))
        assert all(steps.spent(TENANT, "default/ag_1", value) for value in "abc")


async def test_forgetting_walks_no_more_rows_than_it_forgets(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "cpa.db")
    connection = database.connect()
    try:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {FORGET}", (1,))]
    finally:
        connection.close()
        database.close()
    assert not [step for step in plan if step.startswith("SCAN")]
    assert any("nonces_by_expiry" in step for step in plan)


async def test_a_job_goes_on_after_a_signed_fact(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await asking(engine)
        await engine.send(TENANT, job, yes(), message=(ME, "1"), nonce=nonce("n1"))
        assert (await engine.wait(TENANT, job, 10)).status is JobStatus.DONE
