"""An execution that begins from an old state of its job goes by what is stored; large values go in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.events import JobReopened, JobSubmitted
from cpa.core.job import JobHead, JobSpec, JobStatus, TaskSpec
from cpa.engines.temporal.values import WORKFLOW, Ended, Fact, JobInput
from cpa.errors import Conflict, Unavailable
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import TENANT, Outside, answered, asking, ended, fails, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


def queue_of(folder: Path) -> str:
    return f"cpa-{folder.name}"


async def test_an_execution_from_an_old_state_ends_without_a_trace(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, fails(1))
        old = await ended(engine, job)
        await engine.retry(TENANT, job, by="anna")
        done = await ended(engine, job)
        await engine.client.get_workflow_handle(job).result()
        wish = Fact(JobReopened(time=0, by="uwe"))
        stale = JobInput(spec=old.spec, head=old.head, tasks=old.tasks, inbox=(wish,))

        result = await engine.client.execute_workflow(
            WORKFLOW, stale, id=job, task_queue=queue_of(tmp_path), result_type=Ended
        )

        assert result == Ended("done", done.head.number)
        assert await engine.query(TENANT, job) == done


async def test_a_second_job_of_one_id_is_refused(temporal: TemporalServer, tmp_path: Path) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, fails(1))
        before = await ended(engine, job)
        await engine.client.get_workflow_handle(job).result()
        event = JobSubmitted(time=1, tenant=TENANT, job=job, spec="another", tasks=1, start=True)
        other = JobInput(spec=before.spec, head=JobHead(TENANT, job, 1), inbox=(Fact(event),))

        with pytest.raises(WorkflowFailureError) as caught:
            await engine.client.execute_workflow(WORKFLOW, other, id=job, task_queue=queue_of(tmp_path))

        assert "there is another job" in str(caught.value.cause)
        assert await engine.query(TENANT, job) == before


async def test_an_execution_that_knows_less_than_the_store_catches_up(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    """As if the server had forgotten what people said: what follows from it went out, and its answer counts."""
    outside = Outside()
    outside.gate.clear()
    task = TaskSpec(id="m", action="mark.verifiable", approval=True, approvals=1)
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        job = await submitted(engine, JobSpec((task,)))
        await asking(engine, job)
        asked = await engine.query(TENANT, job)
        await answered(engine, job, "anna")
        await until(lambda: outside.effects[job, "m"])
        await engine.client.get_workflow_handle(job).terminate("to be begun again")
        old = JobInput(spec=asked.spec, head=asked.head, tasks=asked.tasks, commands=asked.commands)
        await engine.client.start_workflow(WORKFLOW, old, id=job, task_queue=queue_of(tmp_path))
        outside.gate.set()
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert outside.effects[job, "m"] == 1
    assert {run.epoch for run in done.tasks} == {1}


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


class Lost:
    """Of the first start of an execution the server has everything, and the answer is lost on its way back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.starts = 0
        whole, lost = Client.start_workflow, self

        async def start(client: Client, *arguments: Any, **more: Any) -> Any:
            handle = await whole(client, *arguments, **more)
            lost.starts += 1
            if lost.starts == 1:
                raise RPCError("timed out", RPCStatusCode.DEADLINE_EXCEEDED, b"")
            return handle

        patch.setattr(Client, "start_workflow", start)


async def test_a_start_whose_answer_is_lost_is_there_once(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        lost = Lost(monkeypatch)
        job = await submitted(engine)
        done = await ended(engine, job)

        assert lost.starts == 1
        assert done.head.status is JobStatus.DONE
        assert (await engine.list(TENANT)).total == 1


async def test_an_id_that_others_know_is_nobodys_own(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        Lost(monkeypatch)
        with pytest.raises(Unavailable):
            await submitted(engine, job=tmp_path.name)
        with pytest.raises(Conflict):
            await submitted(engine, job=tmp_path.name)

        async def stored() -> bool:
            return (await engine.list(TENANT)).total == 1

        await until(stored)  # nobody was told that it begins, so it may still be on its way
        assert (await ended(engine, tmp_path.name)).head.status is JobStatus.DONE
