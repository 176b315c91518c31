"""An execution that begins from an old state of its job changes nothing; large values go in parts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError

from cpa.core.events import JobReopened
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.temporal.values import WORKFLOW, Fact, JobInput
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import TENANT, Outside, ended, fails, submitted
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


async def test_an_execution_from_an_old_state_ends_without_a_trace(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, fails(1))
        old = await ended(engine, job)
        await engine.retry(TENANT, job, by="anna")
        done = await ended(engine, job)
        await engine.client.get_workflow_handle(job).result()
        stale = JobInput(
            spec=old.spec, head=old.head, tasks=old.tasks, inbox=(Fact(JobReopened(time=0, by="uwe")),)
        )

        queue = f"cpa-{tmp_path.name}"
        handle = await engine.client.start_workflow(WORKFLOW, stale, id=job, task_queue=queue)
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

        assert isinstance(caught.value.cause, ActivityError)
        assert "another execution" in str(caught.value.cause.cause)
        assert await engine.query(TENANT, job) == done


class Large(BaseExecutor):
    """Answers with 200 KB that no compression makes small, at once."""

    actions: ClassVar[tuple[str, ...]] = ("large.answer",)
    instant = True

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        text = "".join(
            chr(0x4E00 + (number * number * 7919 + len(request.task)) % 20_000) for number in range(66_000)
        )
        return ExecutionResult(success=True, result={"text": text})

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


async def test_many_large_results_at_once_fit(temporal: TemporalServer, tmp_path: Path) -> None:
    tasks = [TaskSpec(id="t" * (number + 1), action="large.answer") for number in range(20)]
    async with temporal_life(temporal, tmp_path, [Large()]) as engine:
        job = await submitted(engine, JobSpec(tuple(tasks)))
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert {len(run.result["text"]) for run in done.tasks if run.result is not None} == {66_000}
