"""Large values: they go by reference, nothing is too much for the server, and what nobody needs is removed."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from temporalio.service import RPCError

from cpa.artifacts.claims import FolderClaims
from cpa.bootstrap import open_engine
from cpa.core.events import TaskSucceeded
from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.engines.temporal import codec as codecs
from cpa.engines.temporal import upkeep
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.keyring import KeyRing
from cpa.errors import TooLarge
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.settings import Settings
from tests.contracts.engine import ASKS, PATIENCE, TENANT, answered, asking, ended, submitted, until
from tests.engines.temporal.both import forgotten
from tests.engines.temporal.test_codec import Secrets
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

LIMIT = 600_000_000


class Digits(BaseExecutor):
    """Answers with so many digits of chance."""

    actions: ClassVar[tuple[str, ...]] = ("large.digits",)
    instant = True

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        drawn = random.Random(request.task).randbytes(request.arguments["digits"] // 2)
        return ExecutionResult(success=True, result={"digits": drawn.hex()})

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


def digits(name: str, count: int, needs: tuple[int, ...] = ()) -> TaskSpec:
    return TaskSpec(id=name, action="large.digits", arguments={"digits": count}, needs=needs)


def codec_in(folder: Path) -> Codec:
    secrets = Secrets()
    secrets.add("now")
    return Codec(KeyRing("now", secrets.resolve), FolderClaims(folder / "claims", LIMIT))


@pytest.fixture
def rolling(tmp_path: Path) -> Iterator[TemporalServer]:
    """Suggests to go on anew two or three times on the way."""
    server = TemporalServer(tmp_path, "limit.historyCount.suggestContinueAsNew=150")
    assert server.lasting
    server.start()
    yield server
    server.stop()


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_ten_thousand_results_of_two_kilobytes_roll_over_and_end(
    rolling: TemporalServer, tmp_path: Path
) -> None:
    """Twenty megabytes of state that no compression makes small: the server alone takes two."""
    wide = 10_000
    tasks = [digits(f"t{number}", 2_000) for number in range(wide)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(wide)))
    async with temporal_life(rolling, tmp_path, [Digits()], slots=wide, codec=codec_in(tmp_path)) as engine:
        job = await submitted(engine, JobSpec((*tasks, join), max_parallel=wide))
        head = await engine.wait(TENANT, job, 500)
        done = await engine.query(TENANT, job)
        described = await engine.client.get_workflow_handle(job).describe()
        runs = [each async for each in engine.client.list_workflows(f'WorkflowId = "{job}"')]

    size = described.raw_description.workflow_execution_info.history_size_bytes
    kept = sum(path.stat().st_size for path in (tmp_path / "claims").rglob("*") if path.is_file())
    print(
        f"\n{len(runs)} runs, the last of {described.history_length} events and {size} bytes; {kept} bytes aside"
    )
    assert head.status is JobStatus.DONE
    assert {run.status for run in done.tasks} == {TaskStatus.DONE}
    assert {len(run.result["digits"]) for run in done.tasks[:-1] if run.result is not None} == {2_000}
    assert len(runs) > 1, "it rolled over"
    assert size < 4 * 1024 * 1024


async def test_a_result_of_three_megabytes_is_a_clear_error(temporal: TemporalServer, tmp_path: Path) -> None:
    spec = JobSpec((digits("a", 3_000_000),))
    async with temporal_life(temporal, tmp_path, [Digits()], codec=codec_in(tmp_path)) as engine:
        job = await submitted(engine, spec)
        [run] = (await ended(engine, job)).tasks

    assert run.error is not None
    assert run.error.code == "result_invalid"
    assert run.error.remedy


async def test_a_plan_of_many_megabytes_goes_by_reference(temporal: TemporalServer, tmp_path: Path) -> None:
    drawn = random.Random(7).randbytes(3_000_000).hex()
    spec = JobSpec((TaskSpec(id="a", action="flow.noop"),), description=drawn)
    async with temporal_life(temporal, tmp_path, codec=codec_in(tmp_path)) as engine:
        job = await submitted(engine, spec)
        done = await ended(engine, job)
    assert done.head.status is JobStatus.DONE
    assert done.spec.description == drawn


async def test_a_plan_that_is_too_large_is_refused_with_the_remedy(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "MOST", 100_000)
    spec = JobSpec((TaskSpec(id="a", action="flow.noop"),), description="x" * 100_000)
    async with temporal_life(temporal, tmp_path, codec=codec_in(tmp_path)) as engine:
        with pytest.raises(TooLarge) as caught:
            await submitted(engine, spec)
        assert (caught.value.field, bool(caught.value.remedy)) == ("payload", True)

        job = await submitted(engine, ASKS)
        with pytest.raises(TooLarge):
            await engine.send(
                TENANT, job, TaskSucceeded(time=0, task=0, epoch=1, result={"a": "x" * 100_000})
            )
        assert engine.trouble is None
        assert engine.aside == 0
        assert (await answered(engine, job, "anna")).changed, "the job is as it was"
        assert (await ended(engine, job)).head.status is JobStatus.DONE


async def test_values_are_kept_as_long_as_the_server_knows_their_job(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    claims = FolderClaims(tmp_path / "claims", LIMIT)
    async with temporal_life(temporal, tmp_path, [Digits()], codec=Codec(None, claims)) as engine:
        spec = JobSpec(
            (digits("a", 200_000), TaskSpec(id="b", action="flow.noop", approval=True, needs=(0,)))
        )
        job = await submitted(engine, spec)
        await asking(engine, job)
        stray = "0190aaaa-0000-7000-8000-000000000001"
        await claims.put(stray, b"its start was never taken")

        assert await upkeep.clean(engine.client, claims) == 0, "young ones stay"
        assert await upkeep.clean(engine.client, claims, age=-1) == 1
        assert await claims.jobs(-1) == [job]
        await answered(engine, job, "anna")
        assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert await upkeep.clean(engine.client, claims, age=-1) == 0, "its history is still there"


class Looked(FolderClaims):
    """Counts how often somebody looked for what is left; the first look fails."""

    looks = 0

    async def jobs(self, age: float) -> Sequence[str]:
        self.looks += 1
        if self.looks == 1:
            raise OSError("größer als das Netz")
        return await super().jobs(age)


async def test_what_jobs_left_that_moved_away_goes_once_the_server_forgot_them(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    claims = Looked(tmp_path / "claims", LIMIT)
    async with temporal_life(temporal, tmp_path, [Digits()], codec=Codec(None, claims)) as engine:
        job = await submitted(engine, JobSpec((digits("a", 200_000),)))
        await ended(engine, job)
        await engine.client.get_workflow_handle(job).result()
    client = await connect(temporal.address, "default")

    sweeping = asyncio.create_task(
        upkeep.sweeping(lambda: connect(temporal.address, "default"), claims, pause=0.01, age=-1)
    )
    await until(lambda: claims.looks > 6)
    assert await claims.jobs(-1) == [job], "its history is still there"
    await forgotten(client, job)
    await asyncio.wait_for(sweeping, PATIENCE)
    assert await claims.jobs(-1) == []


async def test_the_local_engine_sees_to_it(temporal: TemporalServer, tmp_path: Path) -> None:
    """In `data/claims`, after a day, for jobs that no server has."""
    claims = FolderClaims(tmp_path / "claims", LIMIT)
    job = "0190aaaa-0000-7000-8000-000000000001"
    await claims.put(job, b"abc")
    for each in (tmp_path / "claims").rglob("*"):
        os.utime(each, (0, 0))
    settings = Settings(_env_file=None, data=tmp_path, temporal_address=temporal.address)  # type: ignore[call-arg]

    async def gone() -> bool:
        return await claims.jobs(-1) == []

    async with open_engine(settings):
        await until(gone)


@pytest.mark.soak
async def test_without_the_server_nothing_is_removed(server: TemporalServer, tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path / "claims", LIMIT)
    async with temporal_life(server, tmp_path, codec=Codec(None, claims)) as engine:
        await claims.put("0190aaaa-0000-7000-8000-000000000001", b"abc")
        server.kill()
        with pytest.raises(RPCError):
            await upkeep.clean(engine.client, claims, age=-1)
        server.start()
        assert len(await claims.jobs(-1)) == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(tmp_path)
    assert server.lasting
    server.start()
    yield server
    server.stop()
