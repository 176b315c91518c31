"""A scheduler on a Temporal server, without its doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cpa.bootstrap.system import Chance, SystemClock, job_ids
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.executors.flow import FlowExecutor
from cpa.ports.executor import BaseExecutor
from cpa.ports.moving import TEMPORAL
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from tests.engines.world import staff
from tests.servers.temporal import Address, TemporalServer


@asynccontextmanager
async def temporal_life(
    server: TemporalServer | Address, folder: Path, others: Sequence[BaseExecutor] = (), *, slots: int = 100
) -> AsyncIterator[TemporalEngine]:
    """One life of a process on the store in `folder`, which has a task queue of its own."""
    clock = SystemClock()
    database = Database.open(folder / "cpa.db")
    steps = SqlSteps(database, TEMPORAL)
    try:
        client = await connect(server.address, "default")
        _, orchestrator, runtime = staff([FlowExecutor(), *others], clock, slots=slots)
        queue, ids = f"cpa-{folder.name}", job_ids(Chance())
        engine = TemporalEngine(client, queue, steps, orchestrator, clock, ids, chance=Chance())
        async with engine, runtime:
            yield engine
    finally:
        steps.close()
        database.close()
