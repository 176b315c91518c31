"""Jobs that wait long: a month, an approval that nobody gives, and many at once.

CPA_WAITING_JOBS says how many; `make chaos` has a thousand.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from temporalio.api.testservice.v1 import SleepRequest

from cpa.core.events import QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.temporal.engine import TemporalEngine
from cpa.errors import Unavailable
from tests.contracts.engine import ONE, TENANT, Outside, asking, ended, submission, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer, skipping

T = TypeVar("T")
DAY = 86_400_000
MONTH = 30 * DAY


MANY = int(os.environ.get("CPA_WAITING_JOBS", "200"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(tmp_path, use=skipping())
    server.start()
    yield server
    server.stop()


async def skip(engine: TemporalEngine, milliseconds: int) -> None:
    """Let so much time pass at the server."""
    request = SleepRequest()
    request.duration.FromTimedelta(timedelta(milliseconds=milliseconds))
    await engine.client.test_service.unlock_time_skipping_with_sleep(request)


async def test_a_job_waits_a_month_for_its_time(server: TemporalServer, tmp_path: Path) -> None:
    async with temporal_life(server, tmp_path, Outside().executors()) as engine:
        now = engine._clock.now_ms()
        job = await submitted(engine, ONE, not_before=now + MONTH)
        assert (await engine.query(TENANT, job)).head.status is JobStatus.PENDING
        await skip(engine, MONTH - DAY)
        assert (await engine.query(TENANT, job)).head.status is JobStatus.PENDING
        await skip(engine, DAY + 1_000)
        done = (await ended(engine, job)).head
        length = (await engine.client.get_workflow_handle(job).describe()).history_length

    assert done.status is JobStatus.DONE
    assert now + MONTH <= done.started < now + MONTH + DAY
    assert length < 60, "waiting costs no history"


async def test_an_approval_that_nobody_gives_expires(server: TemporalServer, tmp_path: Path) -> None:
    task = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=MONTH)
    async with temporal_life(server, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, JobSpec((task,)))
        await asking(engine, job)
        await skip(engine, MONTH - DAY)
        assert (await engine.query(TENANT, job)).head.status is JobStatus.RUNNING
        await skip(engine, DAY + 1_000)
        failed = await ended(engine, job)

    error = failed.tasks[0].error
    assert (failed.head.status, error is not None and error.code) == (JobStatus.FAILED, "approval_expired")
    assert failed.head.ended - failed.head.started >= MONTH


def memory() -> float:
    """Of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def patiently(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """All of them, a few at a time, and again where a loaded server took too long; in their order."""
    room = asyncio.Semaphore(20)

    async def called(call: Callable[[], Awaitable[T]]) -> T:
        while True:
            async with room:
                with suppress(Unavailable):
                    return await call()

    return await asyncio.gather(*map(called, calls))


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_many_jobs_wait_in_one_process(temporal: TemporalServer, tmp_path: Path) -> None:
    """Half of them for a person, with a day's end to that; half for their time."""
    task = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=DAY)
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        await until(lambda: engine.versions._settled)
        start = engine._clock.now_ms() + DAY
        before, begun = memory(), time.monotonic()
        wishes = [submission(JobSpec((task,)), sender="anna", dedupe=str(n)) for n in range(MANY // 2)]
        wishes += [submission(sender="uwe", dedupe=str(n), not_before=start) for n in range(MANY // 2)]
        jobs = [each.job for each in await patiently([partial(engine.submit, wish) for wish in wishes])]
        asked = [await asking(engine, job) for job in jobs[: MANY // 2]]
        waiting, held = time.monotonic() - begun, memory() - before
        lengths = [
            (await engine.client.get_workflow_handle(job).describe()).history_length
            for job in jobs[:: MANY // 20]
        ]
        print(
            f"\n{MANY} wait after {waiting:.0f} s: {held:.0f} MiB, {min(lengths)}-{max(lengths)} events each"
        )
        assert held < 0.2 * MANY + 20
        assert max(lengths) < 40

        begun = time.monotonic()
        answers = [
            QuestionAnswered(
                time=0, task=each.task, epoch=each.epoch, digest=each.digest, yes=True, by="anna"
            )
            for each in asked
        ]
        calls = [
            *(partial(engine.send, TENANT, job, answer) for job, answer in zip(jobs, answers, strict=False)),
            *(partial(engine.cancel, TENANT, job, by="anna") for job in jobs[MANY // 2 :]),
        ]
        await patiently(calls)
        ends = [(await ended(engine, job)).head.status for job in jobs]
        print(f"all ended {time.monotonic() - begun:.0f} s after they were answered")

    assert ends == [JobStatus.DONE] * (MANY // 2) + [JobStatus.CANCELLED] * (MANY // 2)
