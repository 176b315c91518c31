"""The plain Temporal way as a yardstick for the engine on Temporal: one workflow per job, one activity per task, no
core, no store, no audit, no orchestrator. What a task does is nothing, as in `engine.py`.

Called by `engine.py --engine temporal` on the same server.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

WINDOW = 500
"""Activities of one job open at the same time: the server refuses the 2,001st."""


@activity.defn
async def nothing() -> None: ...


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, length: int) -> None:
        for _ in range(length):
            await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=20))


@workflow.defn
class Fan:
    @workflow.run
    async def run(self, width: int) -> None:
        room = asyncio.Semaphore(WINDOW)

        async def one() -> None:
            async with room:
                await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=20))

        await asyncio.gather(*(one() for _ in range(width)))
        await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=20))


class Plain:
    """The workloads W1 to W3 of `engine.py`, each on a task queue of its own; figures by name."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client, self._queue = client, queue

    async def run(self, name: str, jobs: int, at_once: int) -> dict[str, float]:
        async with Worker(
            self._client,
            task_queue=self._queue,
            workflows=[Chain, Fan],
            activities=[nothing],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            found = await (self._many(jobs, at_once) if name == "w1" else self._single(name, jobs))
        return found | await history(self._client, f"{self._queue}-0")

    async def _many(self, jobs: int, at_once: int) -> dict[str, float]:
        numbers = iter(range(jobs))

        async def client() -> None:
            for number in numbers:
                await self._job(Chain.run, 3, number)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(client())
        return {"jobs/s": jobs / (time.perf_counter() - began)}

    async def _single(self, name: str, jobs: int) -> dict[str, float]:
        work, size, times = (Fan.run, 1000, []) if name == "w2" else (Chain.run, 1, list[float]())
        for number in range(jobs):
            began = time.perf_counter()
            await self._job(work, size, number)
            times.append((time.perf_counter() - began) * 1000)
        return {"ms" if name == "w2" else "p50 ms": statistics.median(times)}

    async def _job(self, work: Any, size: int, number: int) -> None:
        name = f"{self._queue}-{number}"
        await self._client.execute_workflow(work, size, id=name, task_queue=self._queue)


async def history(client: Client, job: str) -> dict[str, float]:
    """What the server keeps of one job."""
    handle = client.get_workflow_handle(job)
    # What is stored of a job may be ahead of what the server knows.
    await handle.result()
    described = await handle.describe()
    size = described.raw_description.workflow_execution_info.history_size_bytes
    return {"events/job": described.history_length, "history KiB/job": size / 1024}
