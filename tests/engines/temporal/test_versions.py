"""Old and new workers: each job stays with the version that began it, and what those leave behind is taken up."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.events import JobSubmitted
from cpa.core.job import LOGIC, JobHead, JobStatus
from cpa.engines.graphs import digest_of
from cpa.engines.temporal import versions
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.executions import start
from cpa.engines.temporal.values import Fact, JobInput
from cpa.engines.temporal.versions import OFF, Versions, build_of, deployment_of, logic_of
from cpa.errors import BadInput
from tests.contracts.engine import (
    ASKS,
    MARKS,
    ONE,
    TENANT,
    Outside,
    answered,
    asking,
    ended,
    submitted,
    until,
)
from tests.engines.temporal.newcomer import BUILD, URGENT
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

JOBS = 5
ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def newcomer(folder: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    with (folder / "newcomer.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.temporal.newcomer", str(folder), address, str(JOBS)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def version(engine: TemporalEngine, job: str) -> str:
    """The build that the job's workflow is bound to."""
    described = await engine.client.get_workflow_handle(job).describe()
    info = described.raw_description.workflow_execution_info.versioning_info
    return info.versioning_override.pinned.version.build_id or info.deployment_version.build_id


async def broken_tasks(engine: TemporalEngine, job: str) -> int:
    """Workflow tasks that failed, as those of a core that decides otherwise do."""
    history = await engine.client.get_workflow_handle(job).fetch_history()
    return sum(event.HasField("workflow_task_failed_event_attributes") for event in history.events)


async def test_an_old_and_a_new_core_work_side_by_side(temporal: TemporalServer, tmp_path: Path) -> None:
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(temporal, tmp_path, outside.executors(), build="alt", alone=False) as engine:
        await until(lambda: engine.versions._settled)
        old = [await submitted(engine, MARKS if n % 2 else ASKS) for n in range(2 * JOBS)]
        await until(lambda: len(outside.effects) == JOBS)

        with newcomer(tmp_path, temporal.address) as process:
            said = await asyncio.to_thread(_until_ready, process)
            assert [line[2] for line in said] == ["done"] * JOBS, (tmp_path / "newcomer.log").read_text()[
                -3000:
            ]
            new = [line[1] for line in said]
            # The old ones ran all the while, and end now, while the new one is there.
            outside.gate.set()
            for job in old[::2]:
                await answered(engine, job, "anna")
            ends = [(await ended(engine, job)).head for job in old]
            for job in (*old, *new):
                await engine.client.get_workflow_handle(job).result()
            broken = [await broken_tasks(engine, job) for job in (*old, *new)]
            builds = [[await version(engine, job) for job in jobs] for jobs in (old, new)]
        later = [(await engine.query(TENANT, job)).head for job in new]

    assert {head.status for head in (*ends, *later)} == {JobStatus.DONE}
    assert broken == [0] * (2 * JOBS + JOBS), "no history came to something else"
    assert [set(each) for each in builds] == [{build_of("alt")}, {build_of(BUILD)}]
    assert ({head.priority for head in ends}, {head.priority for head in later}) == ({0}, {URGENT})
    assert outside.effects == Counter({(job, "m"): 1 for job in old[1::2]})
    assert sorted((tmp_path / "effects").read_text().splitlines()) == sorted(f"{job} m" for job in new)


def _until_ready(process: subprocess.Popen[str]) -> list[list[str]]:
    """What it says of its jobs."""
    assert process.stdout is not None
    said = list[list[str]]()
    for line in process.stdout:
        if line == "ready\n":
            break
        if line.startswith("ended "):
            said.append(line.split())
    return said


async def test_who_is_alone_takes_up_what_earlier_versions_left(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, build="1.0") as engine:
        waits, later = await submitted(engine, ASKS), await submitted(engine, ASKS)
        await asking(engine, waits)
        assert await version(engine, waits) == build_of("1.0")
    async with temporal_life(temporal, tmp_path, build="2.0") as engine:
        await answered(engine, waits, "anna")
        assert (await ended(engine, waits)).head.status is JobStatus.DONE
        assert await version(engine, waits) == build_of("2.0")
        new = await submitted(engine)
        # What is stored may be ahead of what the server knows.
        await engine.client.get_workflow_handle(new).result()
        assert await version(engine, new) == build_of("2.0")
    async with temporal_life(temporal, tmp_path, build="1.0") as engine:
        await answered(engine, later, "anna")
        assert (await ended(engine, later)).head.status is JobStatus.DONE, "also the way back"


async def test_a_job_of_a_newer_core_waits_for_it(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(versions, "LOGIC", LOGIC + 1)
        async with temporal_life(temporal, tmp_path) as engine:
            job = await submitted(engine, ASKS)
            await asking(engine, job)
    async with temporal_life(temporal, tmp_path) as engine:
        await until(lambda: engine.aside == 1)
        assert logic_of(await version(engine, job)) == LOGIC + 1
        other = await submitted(engine)
        assert (await ended(engine, other)).head.status is JobStatus.DONE, "everything else goes on"
    monkeypatch.setattr(versions, "LOGIC", LOGIC + 1)
    async with temporal_life(temporal, tmp_path) as engine:
        await answered(engine, job, "anna")
        assert (await ended(engine, job)).head.status is JobStatus.DONE


async def test_workers_without_a_version_do_not_leave_bound_jobs_behind(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, build=OFF) as engine:
        free = await submitted(engine, ASKS)
        await asking(engine, free)
        assert not await version(engine, free)
    async with temporal_life(temporal, tmp_path) as engine:
        await until(lambda: engine.versions._settled)
        await answered(engine, free, "anna")
        assert (await ended(engine, free)).head.status is JobStatus.DONE
    with pytest.raises(BadInput) as caught:
        async with temporal_life(temporal, tmp_path, build=OFF):
            pass
    assert caught.value.field == "temporal_build"
    assert caught.value.remedy


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.FAILED_PRECONDITION])
async def test_a_server_that_keeps_new_jobs_from_us_is_said(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: RPCStatusCode
) -> None:
    """It gives us no right to, or does not come to know of us: its namespace has all the deployments it takes."""

    async def refused(self: Versions) -> None:
        raise RPCError("not you", status, b"")

    monkeypatch.setattr(versions, "KNOWN_WITHIN", 1.0)
    with monkeypatch.context() as without_rights:
        without_rights.setattr(Versions, "become_current", refused)
        async with temporal_life(temporal, tmp_path, build="1.0") as engine:
            await until(lambda: engine.trouble)
            assert engine.trouble is not None
            assert engine.trouble.field == "temporal_build"
            named = f"set-current-version --namespace default --deployment-name cpa-{tmp_path.name}"
            assert named in engine.trouble.remedy
            assert engine.hindrance(TENANT, "any") is None, "jobs that have begun go on"
            without_rights.undo()
            await until(lambda: engine.trouble is None)


async def test_a_core_does_not_decide_on_a_job_of_a_newer_one(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    """Also without versions: its workflow task fails, and is tried again until a newer worker takes it."""
    event = JobSubmitted(
        time=1, tenant=TENANT, job=tmp_path.name, spec=digest_of(ONE), tasks=1, logic=LOGIC + 1
    )
    begin = JobInput(spec=ONE, head=JobHead(TENANT, tmp_path.name, 1), inbox=(Fact(event, salt="00" * 16),))
    async with temporal_life(temporal, tmp_path, build=OFF) as engine:
        assert await start(engine.client, f"cpa-{tmp_path.name}", begin, again=False)

        async def refused() -> bool:
            return await broken_tasks(engine, tmp_path.name) > 0

        await until(refused)
        assert (await engine.list(TENANT)).total == 0


def test_a_build_says_its_core() -> None:
    assert [logic_of(build) for build in (build_of(""), build_of("2026.11"), "fremd", "")] == [
        LOGIC,
        LOGIC,
        0,
        0,
    ]
    assert build_of(OFF) == ""


def test_each_queue_has_a_deployment_of_its_own() -> None:
    names = [deployment_of(queue) for queue in ("cpa", "a.b", "a-b", "a b", "büro")]

    assert names[0] == "cpa"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)
