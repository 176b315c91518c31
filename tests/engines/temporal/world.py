"""A scheduler on a Temporal server, without its doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cpa.bootstrap.system import Chance, SystemClock, job_ids
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.engine import TemporalEngine
from cpa.executors.flow import FlowExecutor
from cpa.ports.executor import BaseExecutor
from cpa.ports.moving import TEMPORAL
from cpa.repository.database import Database
from cpa.repository.holders import SqlHolders
from cpa.repository.steps import SqlSteps
from tests.engines.world import staff
from tests.servers.temporal import Address, TemporalServer


@asynccontextmanager
async def temporal_life(
    server: TemporalServer | Address,
    folder: Path,
    others: Sequence[BaseExecutor] = (),
    *,
    slots: int = 100,
    build: str = "",
    alone: bool = True,
    first: bool = True,
    codec: Codec | None = None,
) -> AsyncIterator[TemporalEngine]:
    """One life of a process on the store in `folder`, which has a task queue of its own. `alone` as for the engine;
    who is not `first` finds the store in use."""
    clock = SystemClock()
    path = folder / "cpa.db"
    database = Database.open(path) if first else Database(path, None, readers=1, readonly=False)
    steps = SqlSteps(database, TEMPORAL)
    try:
        client = await connect(server.address, "default", codec=codec)
        _, orchestrator, runtime = staff([FlowExecutor(), *others], clock, slots=slots)
        queue, ids = f"cpa-{folder.name}", job_ids(Chance())
        engine = TemporalEngine(
            *(client, queue, steps, SqlHolders(database), orchestrator, clock, ids),
            chance=Chance(),
            build=build,
            alone=alone,
        )
        async with engine, runtime:
            yield engine
    finally:
        steps.close()
        database.close()
