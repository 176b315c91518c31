"""What operators find in Temporal's own lists, and what the server is told of who goes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from temporalio.client import WorkflowExecution
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.events import JobSubmitted
from cpa.core.job import LOGIC, JobHead, JobSpec, JobStatus, TaskSpec
from cpa.engines.graphs import digest_of
from cpa.engines.temporal import visibility
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.executions import start
from cpa.engines.temporal.values import STATUS, Fact, JobInput
from cpa.engines.temporal.visibility import INTENT, TENANT, priority_of
from tests.contracts.engine import ASKS, ONE, Outside, answered, asking, ended, submitted, until
from tests.contracts.engine import TENANT as TENANT_NAME
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


def plan(intent: str, *, asks: bool = False) -> JobSpec:
    return JobSpec(
        (TaskSpec(id="a", action="flow.noop", approval=asks),), intent=intent, description="für Jörg"
    )


async def found(engine: TemporalEngine, query: str) -> list[str]:
    return [each.id async for each in engine.client.list_workflows(query)]


async def of(engine: TemporalEngine, job: str) -> WorkflowExecution:
    return await engine.client.get_workflow_handle(job).describe()


async def test_jobs_are_found_by_intent_tenant_and_status(temporal: TemporalServer, tmp_path: Path) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        await until(lambda: engine.lists.searchable)
        done = await submitted(engine, plan("invoice.fetch"))
        waits = await submitted(engine, plan("invoice.fetch", asks=True))
        named = await submitted(engine, plan("Rechnung für Jörg Müller"))
        await asking(engine, waits)
        for job in (done, named):
            await ended(engine, job)

        ours = f"TaskQueue = 'cpa-{tmp_path.name}'"
        both = f"{ours} AND CpaTenant = '{TENANT_NAME}' AND CpaIntent = 'invoice.fetch'"

        async def shown() -> bool:
            return (
                set(await found(engine, both)) == {done, waits}
                and await found(engine, f"{both} AND CpaStatus = 'running'") == [waits]
                and set(await found(engine, f"{ours} AND CpaStatus = 'done'")) == {done, named}
            )

        await until(shown)
        attributes = (await of(engine, named)).typed_search_attributes
        history = await engine.client.get_workflow_handle(done).fetch_history()

    assert attributes.get(INTENT) is None, "what is no plain name is not shown"
    assert attributes.get(TENANT) == TENANT_NAME
    upserts = [e for e in history.events if e.HasField("upsert_workflow_search_attributes_event_attributes")]
    assert len(upserts) == 1, "one event, at the end"


async def test_a_second_run_and_a_postponed_job_are_shown_as_they_are(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
        await until(lambda: engine.lists.searchable)
        later = await submitted(engine, ASKS, not_before=engine._clock.now_ms() + 3_600_000)
        assert (await of(engine, later)).typed_search_attributes.get(STATUS) == "pending"
        await engine.cancel(TENANT_NAME, later, by="anna")
        await ended(engine, later)
        again = await submitted(engine, ASKS)
        await engine.cancel(TENANT_NAME, again, by="anna")
        await engine.client.get_workflow_handle(again).result()
        await engine.retry(TENANT_NAME, again, by="anna")
        assert (await of(engine, again)).typed_search_attributes.get(STATUS) == "running"
        await answered(engine, again, "anna")

        async def shown() -> bool:
            seen = [(await of(engine, job)).typed_search_attributes.get(STATUS) for job in (later, again)]
            return seen == ["cancelled", "done"]

        await until(shown)


async def test_a_server_without_our_attributes_runs_the_jobs_all_the_same(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(client: object) -> None:
        raise RPCError("no room for more", RPCStatusCode.INVALID_ARGUMENT, b"")

    monkeypatch.setattr(visibility, "_make", refuses)
    with capture_logs() as logs:
        async with temporal_life(temporal, tmp_path, Outside().executors()) as engine:
            await until(lambda: engine.lists.searchable is False)
            job = await submitted(engine)
            await ended(engine, job)

            assert not engine.lists.searchable
            assert (await of(engine, job)).typed_search_attributes.get(STATUS) is None

    [warning] = [each for each in logs if each["event"] == "jobs_not_searchable"]
    assert "--namespace default --name CpaIntent" in warning["remedy"]


@pytest.fixture
def fair(tmp_path: Path) -> Iterator[TemporalServer]:
    """A server that lets tenants take turns: one of today does not, unless it is told to."""
    # In one part, for each part of a queue has an order of its own.
    parts = [f"matching.numTaskqueue{each}Partitions=1" for each in ("Read", "Write")]
    server = TemporalServer(tmp_path, "matching.enableFairness=true", *parts)
    assert server.lasting, "this server knows no priorities: build the command line, see CONTRIBUTING"
    server.start()
    yield server
    server.stop()


async def test_who_is_urgent_goes_first_and_a_small_tenant_does_not_wait_for_a_large_one(
    fair: TemporalServer, tmp_path: Path
) -> None:
    """All wait before the first worker is there. Those that came last would go last."""
    client, queue = await connect(fair.address, "default"), f"cpa-{tmp_path.name}"
    wishes = [("groß", 0)] * 60 + [("klein", 0)] * 4 + [("groß", 5)] * 4
    for number, (tenant, priority) in enumerate(wishes):
        event = JobSubmitted(
            time=1, tenant=tenant, job=f"j{number}", spec=digest_of(ONE), tasks=1, logic=LOGIC
        )
        begin = JobInput(
            spec=ONE, head=JobHead(tenant, f"j{number}", 1), inbox=(Fact(event, salt="00" * 16),)
        )
        assert await start(client, queue, begin, again=False, priority=priority)

    async with temporal_life(fair, tmp_path, build="off") as engine:
        begun = list[tuple[int, int]]()
        for number, (tenant, _) in enumerate(wishes):
            head = await engine.stored((tenant, f"j{number}"), 1)
            begun.append((head.created, number))

    order = [number for _, number in sorted(begun)]
    print(f"\n{order}")
    assert max(order.index(number) for number in range(64, 68)) < 34, "the urgent ones"
    assert max(order.index(number) for number in range(60, 64)) < 34, "the small tenant's"


def test_our_priorities_in_the_servers_five_steps() -> None:
    steps = [priority_of("a", number).priority_key for number in (1000, 100, 99, 1, 0, -1, -99, -100, -1000)]

    assert steps == [1, 1, 2, 2, 3, 4, 4, 5, 5]
    long = priority_of("größer" * 20, 0).fairness_key
    assert long is not None
    assert len(long) == 64


async def test_an_attribute_that_was_taken_away_since_keeps_no_job_from_running(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_life(temporal, tmp_path) as engine:
        await until(lambda: engine.lists.searchable)
        monkeypatch.setattr(visibility, "TENANT", SearchAttributeKey.for_keyword("CpaNirgends"))
        job = await submitted(engine, ONE)
        assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert STATUS not in (await of(engine, job)).typed_search_attributes
