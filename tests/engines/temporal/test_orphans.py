"""Somebody terminates a job's workflow at the server, or that loses its file: the job goes on from the store."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.events import AgentChosen
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.temporal import orphans
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.executions import beginning_of, status_of
from cpa.engines.temporal.values import Fact
from cpa.errors import Conflict
from cpa.ports.moving import LOST_START
from tests.contracts.engine import (
    ASKS,
    MARKS,
    TENANT,
    Outside,
    answered,
    asking,
    ended,
    submission,
    submitted,
    until,
)
from tests.engines.temporal.both import corrupted, forgotten
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's lists may show for a moment what ran before: the next look is soon."""
    monkeypatch.setattr(orphans, "OFTEN", 1.0)


async def terminated(engine: TemporalEngine, job: str) -> None:
    await engine.client.get_workflow_handle(job).terminate("by hand")


async def test_an_answer_that_finds_no_workflow_goes_on_in_the_next(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, ASKS)
        asked = await asking(engine, job)
        await terminated(engine, job)

        assert await asking(engine, job) == asked
        assert (await answered(engine, job, "anna")).changed
        done = await ended(engine, job)

        assert done.head.status is JobStatus.DONE
        assert done.head.number == len(await engine.events(TENANT, job))


async def test_the_end_of_an_attempt_that_finds_no_workflow_is_not_lost(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        job = await submitted(engine, MARKS)
        await until(lambda: outside.effects[job, "m"])
        await terminated(engine, job)
        outside.gate.set()
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert outside.effects[job, "m"] == 1
    assert done.tasks[0].epoch == 1


async def test_after_a_start_jobs_without_a_workflow_go_on(temporal: TemporalServer, tmp_path: Path) -> None:
    """With their timers; postponed ones stay postponed."""
    expires = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True, approval_expires=3_000),))
    outside = Outside()
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        waits = await submitted(engine, expires)
        await asking(engine, waits)
        later = (await engine.submit(submission(not_before=2**42))).job
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        for job in (waits, later):
            await terminated(engine, job)
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        assert (await ended(engine, waits)).head.status is JobStatus.FAILED
        handle = engine.client.get_workflow_handle(later)
        await until(lambda: _runs(engine, later))
        assert (await engine.query(TENANT, later)).head.status is JobStatus.PENDING
        await engine.cancel(TENANT, later, by="anna")
        assert (await ended(engine, later)).head.status is JobStatus.CANCELLED
        await handle.result()


async def test_a_postponed_job_that_the_server_forgot_waits_until_it_is_cancelled(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        job = (await engine.submit(submission(not_before=2**41))).job
        await forgotten(engine.client, job)
    async with temporal_life(temporal, tmp_path) as engine:

        async def begun() -> bool:
            return await status_of(engine.client, job) is not None

        await until(begun)
        assert (await engine.query(TENANT, job)).head.status is JobStatus.PENDING
        begin = await beginning_of(engine.client, job)
        assert begin is not None
        assert begin.start == LOST_START
        assert (await engine.cancel(TENANT, job, by="anna")).changed
        assert (await ended(engine, job)).head.status is JobStatus.CANCELLED


async def test_a_job_that_cannot_be_read_does_not_keep_others_from_going_on(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_AT_ONCE", 1)
    async with temporal_life(temporal, tmp_path) as engine:
        jobs = sorted([await submitted(engine, ASKS) for _ in range(3)])
        for job in jobs:
            await asking(engine, job)
    for job in jobs:
        await (await connect(temporal.address, "default")).get_workflow_handle(job).terminate()
    await corrupted(tmp_path / "cpa.db", jobs[0])
    with closing(dbapi2.connect(tmp_path / "cpa.db")) as store:
        nameless = (
            "INSERT INTO job_engines SELECT tenant, CAST(x'ff' AS TEXT), engine, target FROM job_engines"
        )
        store.execute(f"{nameless} WHERE job = ?", (jobs[0],))
        store.commit()

    async with temporal_life(temporal, tmp_path) as engine:

        async def both_run() -> bool:
            return all([await _runs(engine, job) for job in jobs[1:]])

        await until(both_run)
        assert engine.aside == 2


async def test_a_choice_that_was_taken_back_is_made_anew(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found no execution, and by the time somebody looks the next one runs."""
    taken_back: list[str] = []
    signal = WorkflowHandle.signal

    async def missing(handle: WorkflowHandle[Any, Any], name: str, facts: list[Fact], **how: Any) -> None:
        if not taken_back and any(isinstance(fact.event, AgentChosen) for fact in facts):
            taken_back.append(handle.id)
            raise RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b"")
        await signal(handle, name, facts, **how)

    monkeypatch.setattr(WorkflowHandle, "signal", missing)
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(temporal, tmp_path, outside.executors(), slots=1) as engine:
        first = await submitted(engine, MARKS)
        await until(lambda: outside.effects[first, "m"])
        second = await submitted(engine, MARKS)
        outside.gate.set()
        for job in (first, second):
            assert (await ended(engine, job)).head.status is JobStatus.DONE

    assert taken_back == [second]
    assert outside.effects == {(first, "m"): 1, (second, "m"): 1}


async def _runs(engine: TemporalEngine, job: str) -> bool:
    status = (await engine.client.get_workflow_handle(job).describe()).status
    return status is not None and status.name == "RUNNING"


async def test_a_server_that_forgot_everything_gets_all_open_jobs_anew(tmp_path: Path) -> None:
    outside = Outside()
    for life in ("one", "two"):
        (tmp_path / life).mkdir()
    first, second = TemporalServer(tmp_path / "one"), TemporalServer(tmp_path / "two")
    first.start()
    try:
        async with temporal_life(first, tmp_path, outside.executors()) as engine:
            job = await submitted(engine, ASKS)
            asked = await asking(engine, job)
    finally:
        first.stop()
    second.start()
    try:
        async with temporal_life(second, tmp_path, outside.executors()) as engine:
            assert await asking(engine, job) == asked
            assert (await answered(engine, job, "anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.DONE
    finally:
        second.stop()


async def test_a_store_from_a_backup_is_told_of_and_its_jobs_go_on(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    """Their workflows know what the store has lost: whoever says it again is not told that it was known."""
    spec = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True, approvals=2),))
    async with temporal_life(temporal, tmp_path) as engine:
        job = await submitted(engine, spec)
        await asking(engine, job)
    shutil.copy(tmp_path / "cpa.db", tmp_path / "backup")
    async with temporal_life(temporal, tmp_path) as engine:
        assert (await answered(engine, job, "anna")).changed
    for rest in tmp_path.glob("cpa.db*"):
        rest.unlink()
    shutil.copy(tmp_path / "backup", tmp_path / "cpa.db")

    async with temporal_life(temporal, tmp_path) as engine:
        with pytest.raises(Conflict, match="backup") as caught:
            await answered(engine, job, "anna")
        assert f"workflow terminate --namespace default --workflow-id {job}" in str(caught.value.remedy)
        await terminated(engine, job)
        assert (await answered(engine, job, "anna")).changed
        assert (await answered(engine, job, "bert")).changed
        assert (await ended(engine, job)).head.status is JobStatus.DONE
