"""Lives of a scheduler on either engine around one store, an agent that outlives them, and moves in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from cpa.agents.runtime import AgentRuntime
from cpa.bootstrap.system import Chance, SystemClock, job_ids
from cpa.core.replay import replay
from cpa.engines.local.engine import LocalEngine
from cpa.engines.moving import FarEngine, Mover, Report
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.executions import status_of
from cpa.engines.temporal.moving import TemporalSide
from cpa.executors.flow import FlowExecutor
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.presence import Presence
from cpa.ports.agents import AgentRecord
from cpa.ports.engine import Engine
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.moving import LOCAL, TEMPORAL, HolderStore
from cpa.ports.transport import Attempt
from cpa.repository.database import Database
from cpa.repository.holders import SqlHolders
from cpa.repository.steps import SqlSteps
from cpa.transport.inprocess import InProcessTransport
from tests.contracts.engine import TENANT, Outside, until
from tests.servers.temporal import Address, TemporalServer

FAR = "agent://data/fern"
SILENCE = 600.0
"""Seconds between beats: nobody is taken for dead here."""


class Remote:
    """`ports.transport.Transport` to an agent outside, which outlives every scheduler; tests answer for it."""

    def __init__(self) -> None:
        self.sent: list[Attempt] = []
        """Anew; what is told again to somebody who has it does not count."""
        self.cancelled: list[Attempt] = []

    def view(self) -> Agent:
        actions = ("x.far.work",)
        record = AgentRecord(
            tenant=TENANT, id="ag_fern", name="fern", type="DATA", address=FAR, actions=actions, slots=50
        )
        return Agent(FAR, frozenset(actions), slots=50, tenant=TENANT, record=record)

    def send(
        self, agent: str, attempt: Attempt, request: ActionRequest, *, won: bool = False, again: bool = False
    ) -> None:
        if attempt not in self.sent:
            self.sent.append(attempt)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        raise AssertionError("nothing of it is verified")

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        if attempt not in self.cancelled:
            self.cancelled.append(attempt)

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None: ...

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None: ...


class Looks(BaseExecutor):
    """Has an effect at once, says so never, and finds it once it may look."""

    actions: ClassVar[tuple[str, ...]] = ("look.later",)

    def __init__(self, effects: Counter[tuple[str, str]], may: asyncio.Event) -> None:
        self._effects, self._may = effects, may

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        self._effects[request.job, request.task] += 1
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def verify(self, request: ActionRequest) -> Verification:
        await self._may.wait()
        happened = self._effects[request.job, request.task] > 0
        return Verification(verdict=Verdict.HAPPENED if happened else Verdict.ABSENT)


class Newcomer(BaseExecutor):
    """Does what nobody else does."""

    actions: ClassVar[tuple[str, ...]] = ("new.work",)

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


@dataclass
class Both:
    server: TemporalServer | Address
    folder: Path
    outside: Outside = field(default_factory=Outside)
    remote: Remote = field(default_factory=Remote)
    may_look: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def queue(self) -> str:
        return f"cpa-{self.folder.name}"

    @asynccontextmanager
    async def life(
        self, engine: str, others: Sequence[BaseExecutor] = (), *, max_running: int = 100
    ) -> AsyncIterator[Engine]:
        """One life of a scheduler on this engine."""
        clock, ids = SystemClock(), job_ids(Chance())
        looks = Looks(self.outside.effects, self.may_look)
        database = Database.open(self.folder / "cpa.db")
        steps = SqlSteps(database, engine)
        try:
            executors = [FlowExecutor(), *self.outside.executors(), looks, *others]
            orchestrator, runtime = self._staff(executors, clock)
            running: TemporalEngine | LocalEngine
            if engine == TEMPORAL:
                client = await connect(self.server.address, "default")
                running = TemporalEngine(
                    *(client, self.queue, steps, SqlHolders(database), orchestrator, clock, ids)
                )
            else:
                running = LocalEngine(steps, orchestrator, clock, ids, max_running=max_running)
            async with running, runtime:
                yield running
        finally:
            steps.close()
            database.close()

    def _staff(
        self, executors: Sequence[BaseExecutor], clock: SystemClock
    ) -> tuple[Orchestrator, AgentRuntime[Attempt]]:
        agents, hands = AgentRegistry(), dict[str, AgentRuntime[Attempt]]()
        transport = InProcessTransport(hands, self.remote)
        orchestrator = Orchestrator(agents, transport, clock, Presence(agents, clock, SILENCE))
        registry = ExecutorRegistry(executors)
        runtime = AgentRuntime(registry, orchestrator.handle_agent_response)
        address = f"agent://test/{Chance()(4).hex()}"
        hands[address] = runtime
        agents.register(Agent(address, frozenset(registry.actions), slots=100))
        agents.register(self.remote.view())
        return orchestrator, runtime

    @asynccontextmanager
    async def mover(
        self, wrap: type[Any] | None = None, *arguments: Any, readonly: bool = False
    ) -> AsyncIterator[Mover]:
        """What moves jobs; its two sides wrapped in `wrap(side, *arguments)`."""
        database = Database.open(self.folder / "cpa.db", readonly=readonly)
        reads, writes = SqlSteps(database), SqlSteps(database, TEMPORAL)
        try:
            holders: HolderStore = SqlHolders(database)
            client = await connect(self.server.address, "default")
            far: FarEngine = TemporalSide(client, self.queue, writes, SystemClock())
            if wrap is not None:
                holders, far = wrap(holders, *arguments), wrap(far, *arguments)
            yield Mover(holders, reads.load, far)
        finally:
            reads.close()
            writes.close()
            database.close()

    async def move(self, target: str, wrap: type[Any] | None = None, *arguments: Any) -> Report:
        async with self.mover(wrap, *arguments) as mover:
            return await mover.move(target)

    def rows(self, *tables: str) -> dict[str, list[Any]]:
        """All that stands in these tables, in the order of their keys."""
        database = Database.open(self.folder / "cpa.db", readonly=True)
        try:
            connection = database.connect(query_only=True)
            found = {
                table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
                for table in tables
            }
            connection.close()
            return found
        finally:
            database.close()


def other(engine: str) -> str:
    return LOCAL if engine == TEMPORAL else TEMPORAL


async def corrupted(path: Path, job: str) -> None:
    """What is stored of the job cannot be read any more; nobody else has the store."""
    database = Database.open(path)
    try:
        await database.write(lambda c: c.exec_driver_sql("UPDATE jobs SET head = x'00' WHERE id = ?", (job,)))
    finally:
        database.close()


async def forgotten(client: Client, job: str) -> None:
    """The server knows nothing of the job's execution any more."""
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=job)
        )
    )

    async def gone() -> bool:
        return await status_of(client, job) is None

    await until(gone)


async def check_history(engine: Engine, job: str) -> None:
    """The job's events have no gap, and lead to where it stands."""
    snapshot = await engine.query(TENANT, job)
    stored = await engine.events(TENANT, job)
    assert [each.number for each in stored] == list(range(1, snapshot.head.number + 1))
    *_, (_, _, state) = replay(snapshot.spec, [each.event for each in stored])
    assert state.snapshot() == snapshot
