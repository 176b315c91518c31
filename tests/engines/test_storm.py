"""What comes at once, and what kills whoever touches it: fifty thousand timers due in the same second, and a task
that ends each agent it is given to.

In virtual time only the disk takes its time: here it counts that every timer fires once and none early. How late
they are when work takes time too: `benchmarks/storm.py`."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from cpa.core.events import LeaseLost
from cpa.core.job import JobSpec, JobStatus, RetryPolicy, TaskSpec
from cpa.engines.local.engine import LocalEngine
from cpa.ports.engine import Submission
from tests.engines.fleet import BEAT, TENANT, Fleet, Worker, job, live

JOBS = 50_000
OPEN = 60_000
"""Milliseconds from the submission to the second in which all questions expire."""
DISK = 0.005
"""Seconds each call to the disk takes."""
POISON = Submission(tenant=TENANT, spec=JobSpec((TaskSpec(id="gift", action="x.a.b"),), max_retries=0))
"""As any other task; the tests end whoever has it."""


def due(number: int) -> int:
    """When the question of this job expires, in milliseconds since its submission: anywhere in one second, and in
    another order than the jobs'."""
    return OPEN + number * 997 % 1_000


def asking(number: int) -> Submission:
    task = TaskSpec(id="frage", action="x.a.b", approval=True, approvals=1, approval_expires=due(number))
    return Submission(tenant=TENANT, spec=JobSpec((task,)))


@dataclass(frozen=True)
class Waiting:
    """A store in which jobs wait for answers, as a scheduler left it a moment after their submission."""

    store: Path
    expected: dict[str, int]
    """By job: when its timer is due."""

    def copied(self, folder: Path) -> Path:
        shutil.copy(self.store, folder / "cpa.db")
        return folder


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Waiting:
    folder = tmp_path_factory.mktemp("waiting")
    expected: dict[str, int] = {}

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(folder) as engine:
            for start in range(0, JOBS, 5_000):
                numbers = range(start, start + 5_000)
                receipts = await engine.submit_many([asking(number) for number in numbers])
                for number, receipt in zip(numbers, receipts, strict=True):
                    expected[receipt.job] = receipt.created + due(number)

    live(story)
    return Waiting(folder / "cpa.db", expected)


async def passed(engine: LocalEngine) -> None:
    """Return once no job runs any more."""
    async with asyncio.timeout(600):
        while (await engine.list(TENANT, status=JobStatus.RUNNING, limit=1)).total:
            await asyncio.sleep(0.05)


def lateness(folder: Path, expected: dict[str, int]) -> list[int]:
    """How late each timer fired, in milliseconds, sorted, as a stranger reads it: each did once, and nothing else
    happened to its job."""
    with closing(dbapi2.connect(f"file:{folder / 'cpa.db'}?mode=ro", uri=True)) as store:
        fired = store.execute("SELECT job, time FROM events WHERE type = 'timer_fired'").fetchall()
        assert Counter(job for job, _ in fired) == Counter(expected.keys())
        assert store.execute("SELECT count(*) FROM events").fetchone()[0] == 2 * JOBS
        assert store.execute("SELECT count(*) FROM outbox").fetchone()[0] == 0
        assert store.execute("SELECT DISTINCT status FROM jobs").fetchall() == [("failed",)]
    return sorted(time - expected[job] for job, time in fired)


def passed_over(folder: Path, expected: dict[str, int]) -> int:
    """By how many timers that were due later one of them was overtaken, at most."""
    with closing(dbapi2.connect(f"file:{folder / 'cpa.db'}?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT job FROM events WHERE type = 'timer_fired' ORDER BY seq").fetchall()
    turn = {job: place for place, (job,) in enumerate(rows)}
    return max(turn[job] - place for place, job in enumerate(sorted(expected, key=expected.__getitem__)))


def test_fifty_thousand_timers_of_one_second_fire_once_never_early_and_soon(
    waiting: Waiting, tmp_path: Path
) -> None:
    folder = waiting.copied(tmp_path)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(folder) as engine:
            await asyncio.sleep(OPEN / 1000)
            await passed(engine)

    live(story, latency=DISK)
    late = lateness(folder, waiting.expected)
    assert late[0] >= 0
    assert late[JOBS * 99 // 100] <= 2_000


def test_timers_that_were_due_while_nobody_ran_fire_once_and_soon_after_the_start(
    waiting: Waiting, tmp_path: Path
) -> None:
    folder = waiting.copied(tmp_path)

    async def story(fleet: Fleet) -> None:
        await asyncio.sleep(120)
        begun = asyncio.get_running_loop().time()
        async with fleet.scheduler(folder) as engine:
            await passed(engine)
            assert asyncio.get_running_loop().time() - begun <= 10

    live(story, latency=DISK)
    assert lateness(folder, waiting.expected)[0] >= 0
    assert passed_over(folder, waiting.expected) < JOBS // 4


def test_a_task_that_ends_every_agent_is_given_up_after_so_many_and_costs_no_other_its_result(
    tmp_path: Path,
) -> None:
    workers = [Worker(name, seconds=0.5, slots=4) for name in ("eins", "zwei", "drei")]

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            bad = (await engine.submit(POISON)).job
            killing = asyncio.create_task(kill_who_has(bad, fleet, workers))
            good = []
            for _ in range(20):
                good += [receipt.job for receipt in await engine.submit_many([job()] * 5)]
                await asyncio.sleep(1)
            ends = Counter([(await engine.wait(TENANT, name, 300)).status for name in good])
            assert ends == {JobStatus.DONE: 100}
            await given_up(engine, bad, workers)
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing

    live(story, *workers)


def test_neighbours_that_take_longer_than_it_are_not_given_up_with_it(tmp_path: Path) -> None:
    """There is one agent, so that they have no other place, and they never get done before it ends."""
    worker = Worker("eins", seconds=20, slots=4)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            bad, *good = [each.job for each in await engine.submit_many([POISON, job(), job(), job()])]
            killing = asyncio.create_task(kill_who_has(bad, fleet, [worker], after=10))
            await given_up(engine, bad, [worker])
            assert {(await engine.wait(TENANT, name, 300)).status for name in good} == {JobStatus.DONE}
            for name in good:
                lost = [
                    each for each in await engine.events(TENANT, name) if isinstance(each.event, LeaseLost)
                ]
                assert len(lost) <= 2
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing

    live(story, worker)


def test_an_agent_that_ends_over_everything_has_nothing_given_up_that_another_does_well(
    tmp_path: Path,
) -> None:
    """It is always free, the other one never: what it lost would come back to it each time."""
    good, bad = Worker("gut", seconds=20, slots=1), Worker("kaputt", seconds=1_000, slots=1)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            names = [each.job for each in await engine.submit_many([job(timeout=1_000_000)] * 10)]
            killing = [asyncio.create_task(kill_who_has(name, fleet, [bad], after=1)) for name in names]
            ends = Counter([(await engine.wait(TENANT, name, 1_000)).status for name in names])
            assert ends == {JobStatus.DONE: 10}
            assert len(bad.got) > 10
            for task in killing:
                task.cancel()
            await asyncio.gather(*killing, return_exceptions=True)

    live(story, good, bad)


async def given_up(engine: LocalEngine, bad: str, workers: list[Worker]) -> None:
    """The poison is, neither too early nor too late, and soon where it had neighbours."""
    assert (await engine.wait(TENANT, bad, 600)).status is JobStatus.FAILED
    (task,) = (await engine.query(TENANT, bad)).tasks
    assert task.error is not None
    assert task.error.code == "agents_lost"
    told = [stored.event for stored in await engine.events(TENANT, bad)]
    shares = [Fraction(1, event.among) for event in told if isinstance(event, LeaseLost)]
    most = RetryPolicy().max_losses
    assert sum(shares[:-1]) < most <= sum(shares)
    assert len(shares) <= most + 2
    got = [each for worker in workers for _, each in worker.got if each.job == bad]
    assert len(got) == len(shares)


async def kill_who_has(bad: str, fleet: Fleet, workers: list[Worker], after: float = 0.0) -> None:
    """Whoever has this job for so many seconds dies with all it has, and is started again a little later."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0.1)
        for worker in workers:
            begun = [time for time, each in worker.got if each.job == bad and each in worker.running]
            if worker.alive and begun and loop.time() - begun[-1] >= after:
                worker.alive = False
                for _, work in worker.running.values():
                    if work is not None:
                        work.cancel()
                worker.running.clear()
                loop.call_later(3.0, started, fleet, worker)


def started(fleet: Fleet, worker: Worker) -> None:
    """Again, as a process that registers."""
    assert fleet.orchestrator is not None
    agent = fleet.registry.get(worker.record.address, TENANT)
    assert agent is not None
    worker.alive = True
    fleet.orchestrator.presence.lose(agent, "its agent was restarted", ended=True)
