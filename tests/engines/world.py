"""A whole scheduler around a real store file, with an effect ledger that outlives it, and a store that crashes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from cpa.agents.runtime import AgentRuntime
from cpa.bootstrap.system import Chance, SystemClock, job_ids
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Unavailable
from cpa.executors.flow import FlowExecutor
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.steps import StepBatch
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository
from cpa.repository.steps import SqlSteps
from cpa.transport.inprocess import InProcessTransport


class Crash(BaseException):
    """The process ends here; nothing after it is written, and nothing can catch it."""


class CrashingSteps(SqlSteps):
    """Ends the process at its n-th commit, before it is written or right after; 0 is never."""

    def __init__(self, database: Database, at: int, *, after: bool) -> None:
        super().__init__(database)
        self.kept = SqlJobRepository(database)
        """The same jobs, for who deletes and erases."""
        self.commits = 0
        self.full = False
        """While true the disk is full."""
        self.room = -1
        """Commits that still fit on the disk; negative is no end."""
        self.refused: set[str] = set()
        """Jobs of which nothing can be written."""
        self.hold: threading.Event | None = None
        """What a commit waits for before it is written."""
        self._at, self._after = at, after

    def commit(self, batch: StepBatch) -> None:
        if self.hold is not None:
            self.hold.wait(30)
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        if any(name in self.refused for _, name in batch.jobs):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        if not self.room:
            raise Unavailable("the disk is full", remedy="free some space")
        self.room -= 1
        self.commits += 1
        if self._at and self.commits > self._at:
            raise Crash
        if self.commits == self._at:
            if self._after:
                super().commit(batch)
            raise Crash
        super().commit(batch)


class Ledger(BaseExecutor):
    """Has effects outside: `mark.verifiable` and `mark.unsafe` count under (job, task)."""

    actions: ClassVar[tuple[str, ...]] = ("mark.verifiable", "mark.unsafe")

    def __init__(self, effects: Counter[tuple[str, str]], gate: asyncio.Event) -> None:
        self.effects, self.gate = effects, gate

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        self.effects[request.job, request.task] += 1
        await self.gate.wait()
        return ExecutionResult(success=True, result={"job": request.job})

    async def verify(self, request: ActionRequest) -> Verification:
        happened = self.effects[request.job, request.task] > 0
        return Verification(
            verdict=Verdict.HAPPENED if happened else Verdict.ABSENT, result={"job": request.job}
        )


@asynccontextmanager
async def life(
    folder: Path,
    effects: Counter[tuple[str, str]],
    *,
    crash_at: int = 0,
    after: bool = False,
    max_running: int = 100,
    slots: int = 100,
    gate: asyncio.Event | None = None,
    clock: Clock | None = None,
    others: Sequence[BaseExecutor] = (),
) -> AsyncIterator[tuple[LocalEngine, CrashingSteps, AgentRegistry]]:
    """One life of the process on the store in `folder`. Effects answer once the `gate` is open; none is open."""
    if gate is None:
        gate = asyncio.Event()
        gate.set()
    database = Database.open(folder / "cpa.db")
    steps = CrashingSteps(database, crash_at, after=after)
    try:
        clock = clock or SystemClock()
        executors = [FlowExecutor(), Ledger(effects, gate), *others]
        agents, orchestrator, runtime = staff(executors, clock, slots=slots)
        engine = LocalEngine(steps, orchestrator, clock, job_ids(Chance()), max_running=max_running)
        async with engine, runtime:
            yield engine, steps, agents
    finally:
        steps.close()
        database.close()


def staff(
    executors: Sequence[BaseExecutor], clock: Clock, *, slots: int = 100
) -> tuple[AgentRegistry, Orchestrator, AgentRuntime]:
    """An orchestrator with one agent inside this process, new in every life."""
    agents, hands = AgentRegistry(), dict[str, AgentRuntime]()
    orchestrator = Orchestrator(agents, InProcessTransport(hands), clock)
    registry = ExecutorRegistry(executors)
    runtime = AgentRuntime(registry, orchestrator.handle_agent_response)
    address = f"agent://test/{uuid4().hex[:8]}"
    hands[address] = runtime
    agents.register(Agent(address, frozenset(registry.actions), slots=slots))
    return agents, orchestrator, runtime
