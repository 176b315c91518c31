"""What comes at once, and what kills whoever touches it: thousands of timers due in the same second, and a task
that ends each agent it is given to."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

from cpa.core.events import LeaseLost, TimerFired
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.core.retry import LOST_LEASE
from cpa.engines.local.engine import LocalEngine
from cpa.ports.engine import Submission
from tests.engines.fleet import BEAT, TENANT, Fleet, Worker, job, live

JOBS = 3_000
OPEN = 60_000
"""Milliseconds each question is open."""
LOSSES = 5


async def submitted(engine: LocalEngine) -> list[str]:
    """Jobs whose only task asks first; the ids."""
    asking = job(approval=True, approvals=1, approval_expires=OPEN)
    names: list[str] = []
    for _ in range(JOBS // 500):
        names += [receipt.job for receipt in await engine.submit_many([asking] * 500)]
    return names


async def lateness(engine: LocalEngine, names: list[str]) -> list[int]:
    """How late each timer fired, in milliseconds, sorted; each did once, and its job ended."""
    late = []
    for name in names:
        assert (await engine.wait(TENANT, name, 300)).status is JobStatus.FAILED
        told = [stored.event for stored in await engine.events(TENANT, name)]
        (fired,) = [event for event in told if isinstance(event, TimerFired)]
        late.append(fired.time - told[0].time - OPEN)
    return sorted(late)


def test_thousands_of_timers_due_at_once_fire_once_never_early_and_soon(tmp_path: Path) -> None:
    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            late = await lateness(engine, await submitted(engine))
            assert late[0] >= 0
            assert late[JOBS * 99 // 100] <= 2_000

    live(story, Worker("eins"))


def test_timers_that_were_due_while_nobody_ran_fire_once_and_soon_after_the_start(tmp_path: Path) -> None:
    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            names = await submitted(engine)
        await asyncio.sleep(120)
        begun = asyncio.get_running_loop().time()
        async with fleet.scheduler(tmp_path) as engine:
            late = await lateness(engine, names)
            assert late[0] >= 0
            assert asyncio.get_running_loop().time() - begun <= 10

    live(story, Worker("eins"))


def test_a_task_that_ends_every_agent_is_given_up_after_so_many_and_costs_no_other_its_result(
    tmp_path: Path,
) -> None:
    workers = [Worker(name, seconds=0.5, slots=4) for name in ("eins", "zwei", "drei")]
    poison = Submission(
        tenant=TENANT,
        spec=JobSpec((TaskSpec(id="gift", action="x.a.b"),), environment_wait=LOSSES * LOST_LEASE),
    )

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            bad = (await engine.submit(poison)).job
            killing = asyncio.create_task(kill_who_has(bad, workers))
            good = []
            for _ in range(20):
                good += [receipt.job for receipt in await engine.submit_many([job()] * 5)]
                await asyncio.sleep(1)
            ends = Counter([(await engine.wait(TENANT, name, 300)).status for name in good])
            assert ends == {JobStatus.DONE: 100}
            assert (await engine.wait(TENANT, bad, 600)).status is JobStatus.FAILED
            told = [stored.event for stored in await engine.events(TENANT, bad)]
            assert len([event for event in told if isinstance(event, LeaseLost)]) == LOSSES + 1
            assert (
                len([each for worker in workers for _, each in worker.got if each.job == bad]) == LOSSES + 1
            )
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing

    live(story, *workers)


async def kill_who_has(bad: str, workers: list[Worker]) -> None:
    """Whoever begins this job dies with all it has, and is started again a little later."""
    while True:
        await asyncio.sleep(0.1)
        for worker in workers:
            if worker.alive and any(attempt.job == bad for attempt in worker.running):
                worker.alive = False
                for _, work in worker.running.values():
                    if work is not None:
                        work.cancel()
                worker.running.clear()
                asyncio.get_running_loop().call_later(3.0, setattr, worker, "alive", True)
