"""What a Temporal server is told of a job when there is a key: nothing anybody wrote. And when the key is away."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
)
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadConverter

from cpa.artifacts.claims import FolderClaims
from cpa.bootstrap.system import SystemClock
from cpa.core.classes import FailureClass
from cpa.core.events import QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.moving import Mover
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.connection import IDENTITY, connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.keyring import PREFIX, KeyRing
from cpa.engines.temporal.moving import TemporalSide
from cpa.engines.temporal.values import FACTS, Fact
from cpa.errors import Unavailable
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.moving import LOCAL, TEMPORAL
from cpa.ports.steps import StepBatch
from cpa.repository.database import Database
from cpa.repository.holders import SqlHolders
from cpa.repository.steps import SqlSteps
from tests.contracts.engine import ASKS, TENANT, Outside, answered, asking, ended, submitted, until
from tests.engines.temporal.test_codec import Secrets
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

MARKER = "Zuckerbäckerstraße"
PLAIN = "zuckerbaecker"
"""What could stand anywhere, also where only plain names are let through."""
OF_THE_SERVER = ("BuildIds", "Temporal")
"""Names of what it notes in its lists by itself begin so."""


class Tells(BaseExecutor):
    """Repeats what it is told, as a result or as a failure; with so many digits of chance behind it."""

    actions: ClassVar[tuple[str, ...]] = ("tell.back", "tell.failure")

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        text = str(request.arguments["text"])
        if request.action == "tell.failure":
            return ExecutionResult.failed(FailureClass.BUSINESS, "said", text)
        digits = random.Random(request.job + request.task).randbytes(request.arguments.get("digits", 0) // 2)
        return ExecutionResult(success=True, result={"text": text + digits.hex()})

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


TELLING = JobSpec(
    (
        TaskSpec(id=f"a-{PLAIN}", action="tell.back", arguments={"text": f"{MARKER} {PLAIN}"}),
        TaskSpec(id="large", action="tell.back", arguments={"text": MARKER, "digits": 200_000}, needs=(0,)),
        TaskSpec(id="asks", action="flow.noop", approval=True, arguments={"value": MARKER}, needs=(1,)),
        TaskSpec(id="fails", action="tell.failure", arguments={"text": f"Fehler in {MARKER}"}, needs=(2,)),
    ),
    intent="order.deliver",
    description=f"Lieferung an {MARKER}, {PLAIN}",
    context={"user": f"user-{PLAIN}"},
    requester=f"key-{PLAIN}",
)


@asynccontextmanager
async def life(
    server: TemporalServer, folder: Path, secrets: Secrets, key: str
) -> AsyncIterator[TemporalEngine]:
    codec = Codec(KeyRing(key, secrets.resolve), FolderClaims(folder / "claims", 10_000_000))
    async with temporal_life(server, folder, [Tells(), *Outside().executors()], codec=codec) as engine:
        yield engine


@pytest.fixture
def secrets() -> Secrets:
    found = Secrets()
    found.add("old")
    found.add("new")
    return found


async def kept(client: Client, job: str) -> list[bytes]:
    """All the server says about the job, each answer in the bytes it comes in."""
    service, namespace = client.workflow_service, client.namespace
    listed = await service.list_workflow_executions(
        ListWorkflowExecutionsRequest(namespace=namespace, query=f'WorkflowId = "{job}"')
    )
    found = [listed.SerializeToString()]
    for each in listed.executions:
        run = WorkflowExecution(workflow_id=job, run_id=each.execution.run_id)
        described = await service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(namespace=namespace, execution=run)
        )
        found.append(described.SerializeToString())
        page = b""
        while True:
            history = await service.get_workflow_execution_history(
                GetWorkflowExecutionHistoryRequest(
                    namespace=namespace, execution=run, next_page_token=page, maximum_page_size=50
                )
            )
            found += [event.SerializeToString() for event in history.history.events]
            if not (page := history.next_page_token):
                break
    return found


def listed(answer: bytes) -> list[dict[str, str]]:
    """What the server's lists show of each run of a job, but for what the server notes there itself."""
    runs = ListWorkflowExecutionsResponse.FromString(answer).executions
    assert not any(run.memo.fields for run in runs)
    return [
        {
            name: PayloadConverter.default.from_payload(found)
            for name, found in run.search_attributes.indexed_fields.items()
            if not name.startswith(OF_THE_SERVER)
        }
        for run in runs
    ]


def identities(history: WorkflowHistory) -> set[str]:
    """Who called, as the events tell it."""
    found = set()
    for event in history.events:
        attributes = getattr(event, str(event.WhichOneof("attributes")))
        found.add(getattr(attributes, "identity", ""))
    return found - {""}


def spelled(text: str) -> tuple[bytes, ...]:
    """As it may stand somewhere."""
    return text.encode(), text.encode("latin-1"), text.encode("utf-16-le"), text.encode("unicode-escape")


async def test_nothing_anybody_wrote_stands_in_clear_at_the_server(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = 3
    commit = SqlSteps.commit

    def refuses(store: SqlSteps, batch: StepBatch) -> None:
        nonlocal refusals
        if batch.jobs and refusals:
            refusals -= 1
            raise Unavailable(f"kein Platz in {MARKER}")
        commit(store, batch)

    monkeypatch.setattr(SqlSteps, "commit", refuses)
    sender, dedupe = f"{MARKER}.{PLAIN}@example.org", f"Anfrage {MARKER} {PLAIN}"
    async with life(temporal, tmp_path, secrets, "old") as engine:
        await until(lambda: engine.lists.searchable)
        job = await submitted(engine, TELLING, sender=sender, dedupe=dedupe, body_digest="1")
        await answered(engine, job, sender, note=f"Ja, {MARKER}, {PLAIN}")
        done = await ended(engine, job)
        await engine.retry(TENANT, job, by=sender)
        await ended(engine, job)
        waits = await submitted(engine, ASKS)
        await asking(engine, waits)
        await engine.cancel(TENANT, waits, by=sender, reason=f"Umzug aus {MARKER}, {PLAIN}")
        await ended(engine, waits)
        # The server's lists come after what they list.
        ours = f'WorkflowId = "{job}" AND CpaStatus = "failed"'

        async def seen() -> bool:
            return len([each async for each in engine.client.list_workflows(ours)]) == 2

        await until(seen)
        said = [*await kept(engine.client, job), *await kept(engine.client, waits)]
        plain = await engine.client.get_workflow_handle(job).fetch_history()
        values = [
            payload.data
            for event in plain.events
            for payload in event.workflow_execution_started_event_attributes.input.payloads
        ]
    claims = [path.read_bytes() for path in (tmp_path / "claims").rglob("*") if path.is_file()]

    assert done.head.status is JobStatus.FAILED
    assert refusals == 0
    assert len(said) > 40
    assert claims, "something went by reference"
    for bytes_ in (*said, *claims, *values):
        assert not any(way in bytes_ for way in (*spelled(MARKER), *spelled(PLAIN)))
        assert f"{os.getpid()}@{socket.gethostname()}".encode() not in bytes_
    shown = listed(said[0])
    assert len(shown) == 2, "its first run and its second"
    for run in shown:
        assert run == {"CpaIntent": "order.deliver", "CpaTenant": TENANT, "CpaStatus": "failed"}
    assert identities(plain) == {IDENTITY}


async def test_without_a_key_the_same_look_finds_it(temporal: TemporalServer, tmp_path: Path) -> None:
    """So that the look is one that can find."""
    async with temporal_life(temporal, tmp_path, [Tells()]) as engine:
        job = await submitted(engine, JobSpec((TELLING.tasks[0],)))
        await ended(engine, job)
        said = await kept(engine.client, job)

    for marker in (MARKER, PLAIN):
        assert any(marker.encode() in each for each in said)


async def test_who_has_no_key_cannot_answer(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    """They may write into the namespace: the job does not take it, says so, and goes on once they are kept out."""
    async with life(temporal, tmp_path, secrets, "old") as engine:
        job = await submitted(engine, ASKS)
        asked = await asking(engine, job)
        answer = QuestionAnswered(
            time=0, task=asked.task, epoch=asked.epoch, digest=asked.digest, yes=True, by="boss"
        )
        stranger = await connect(temporal.address, "default")
        await stranger.get_workflow_handle(job).signal(FACTS, [Fact(answer)])

        await until(lambda: engine.hindrance(TENANT, job))
        assert "CPA_TEMPORAL_PAYLOAD_PLAIN" in str(engine.hindrance(TENANT, job))
        assert (await engine.query(TENANT, job)).head.status is JobStatus.RUNNING

        await stranger.get_workflow_handle(job).terminate()
        await engine._orphans.adopt((TENANT, job))
        await until(lambda: engine.hindrance(TENANT, job) is None)
        await answered(engine, job, "anna")
        assert (await ended(engine, job)).head.status is JobStatus.DONE
        told = [event.event for event in await engine.events(TENANT, job)]
    assert [each.by for each in told if isinstance(each, QuestionAnswered)] == ["anna"]


async def test_jobs_of_an_old_key_wait_for_it_and_say_so(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    async with life(temporal, tmp_path, secrets, "old") as engine:
        waits = await submitted(engine, ASKS)
        asked = await asking(engine, waits)
    answer = QuestionAnswered(
        time=0, task=asked.task, epoch=asked.epoch, digest=asked.digest, yes=True, by="anna"
    )
    missing = secrets.values.pop(PREFIX + "old")

    async with life(temporal, tmp_path, secrets, "new") as engine:
        with pytest.raises(Unavailable) as caught:
            await answered(engine, waits, "anna")
        assert (caught.value.field, caught.value.value) == ("temporal_payload_key", "old")
        assert caught.value.remedy
        assert engine.hindrance(TENANT, waits) is not None
        assert engine.aside == 1

        other = await submitted(engine)
        assert (await ended(engine, other)).head.status is JobStatus.DONE, "others go on"
        assert engine.trouble is None
        assert engine.hindrance(TENANT, other) is None

        secrets.values[PREFIX + "old"] = missing

        async def done() -> bool:
            with suppress(Unavailable):
                await engine.send(TENANT, waits, answer)
            return (await engine.wait(TENANT, waits, 1)).status is JobStatus.DONE

        await until(done)
        await until(lambda: engine.aside == 0)


async def test_a_job_whose_key_is_missing_does_not_move_and_the_move_says_why(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(temporal, tmp_path, secrets, "old") as engine:
        waits = await submitted(engine, ASKS)
        await asking(engine, waits)
    del secrets.values[PREFIX + "old"]

    database = Database.open(tmp_path / "cpa.db")
    reads, writes = SqlSteps(database), SqlSteps(database, TEMPORAL)
    try:
        codec = Codec(KeyRing("new", secrets.resolve), FolderClaims(tmp_path / "claims", 10_000_000))
        client = await connect(temporal.address, "default", codec=codec)
        far = TemporalSide(client, f"cpa-{tmp_path.name}", writes, SystemClock())
        report = await Mover(SqlHolders(database), reads.load, far).move(LOCAL)
        await client.get_workflow_handle(waits).terminate()
    finally:
        reads.close()
        writes.close()
        database.close()

    assert report.moved == 0
    assert [problem.key for problem in report.problems] == [(TENANT, waits)]
    assert "'old'" in report.problems[0].error.message
    assert "temporal_payload_old" in str(report.problems[0].error.remedy)
    assert "Traceback" not in caplog.text, "one line says it"


async def test_a_key_is_changed_between_two_lives(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    async with life(temporal, tmp_path, secrets, "old") as engine:
        waits = await submitted(engine, ASKS)
        await asking(engine, waits)
    async with life(temporal, tmp_path, secrets, "new") as engine:
        assert (await answered(engine, waits, "anna")).changed
        assert (await ended(engine, waits)).head.status is JobStatus.DONE
