"""A job whose history grows long goes on as a new execution, and nothing is lost at the seam."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from cpa.core.events import TaskSucceeded
from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import PATIENCE, TENANT, ended, submitted
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

WIDE = 60
LONG = 40
"""Events after which the server suggests to go on anew."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(tmp_path, f"limit.historyCount.suggestContinueAsNew={LONG}")
    assert server.lasting, "this server has no such setting: build the command line, see CONTRIBUTING"
    server.start()
    yield server
    server.stop()


class Late(BaseExecutor):
    """Answers a little later: what it says comes as a signal of its own."""

    actions: ClassVar[tuple[str, ...]] = ("late.answer",)

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        await asyncio.sleep(0.01)
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


async def test_nothing_is_lost_where_an_execution_follows_another(
    server: TemporalServer, tmp_path: Path
) -> None:
    tasks = [TaskSpec(id=f"t{n}", action="late.answer") for n in range(WIDE)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(WIDE)))
    async with temporal_life(server, tmp_path, [Late()]) as engine:
        job = await submitted(engine, JobSpec((*tasks, join), max_parallel=2))
        stale = [
            asyncio.create_task(
                engine.send(TENANT, job, TaskSucceeded(time=0, task=n, epoch=9), message=("x", str(n)))
            )
            for n in range(30)
        ]
        told = await asyncio.wait_for(asyncio.gather(*stale), PATIENCE)
        done = await ended(engine, job)
        handle = engine.client.get_workflow_handle(job)
        first = [each async for each in engine.client.list_workflows(f'WorkflowId = "{job}"')]
        length = (await handle.describe()).history_length

        assert done.head.status is JobStatus.DONE
        assert {run.status for run in done.tasks} == {TaskStatus.DONE}
        assert {run.epoch for run in done.tasks} == {1}
        assert [each.changed for each in told] == [False] * 30
        assert len(first) > 2, "it went on more than once"
        assert length < 3 * LONG
        assert done.head.number == len(await engine.events(TENANT, job)) == 1 + 2 * (WIDE + 1)


async def test_ten_thousand_tasks_cost_little_history(temporal: TemporalServer, tmp_path: Path) -> None:
    wide = 10_000
    tasks = [TaskSpec(id=f"t{n}", action="flow.noop") for n in range(wide)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(wide)))
    async with temporal_life(temporal, tmp_path, slots=wide) as engine:
        job = await submitted(engine, JobSpec((*tasks, join), max_parallel=wide))
        done = await engine.wait(TENANT, job, 200)
        described = await engine.client.get_workflow_handle(job).describe()

    size = described.raw_description.workflow_execution_info.history_size_bytes
    print(f"\n{described.history_length} events, {size} bytes, {done.ended - done.created} ms")
    assert (done.status, done.number) == (JobStatus.DONE, 1 + 2 * (wide + 1))
    assert described.history_length < 1_000
    assert size < 4 * 1024 * 1024
