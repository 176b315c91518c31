"""What moves jobs from one engine to the other, wired: the store, alone, and the far engine from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cpa.bootstrap.engine import claim_queue, temporal_client
from cpa.bootstrap.system import SystemClock
from cpa.engines.moving import Mover, Progress, Report
from cpa.ports.moving import TEMPORAL, Holder
from cpa.repository.database import Database
from cpa.repository.holders import SqlHolders
from cpa.repository.steps import SqlSteps
from cpa.security.auth import Hasher
from cpa.security.secrets import EnvironmentAndFileSecrets
from cpa.settings import Settings


async def move(settings: Settings, target: str, *, rehearsal: bool, told: Progress) -> Report:
    """Move all open jobs to this engine; a rehearsal only looks, and may do so beside a running server. Raises
    `Unavailable` when the store is in use, or the far engine's server does not answer."""
    async with AsyncExitStack() as stack:
        database = Database.open(settings.database_url or settings.data / "cpa.db", readonly=rehearsal)
        stack.callback(database.close)
        holders = SqlHolders(database)
        if set(await holders.holders()) <= {Holder(target)}:
            # No server is needed to find that there is nothing to do.
            return Report()
        mover = await stack.enter_async_context(_mover(settings, database, holders, told, rehearsal))
        return await (mover.rehearse(target) if rehearsal else mover.move(target))


@asynccontextmanager
async def _mover(
    settings: Settings, database: Database, holders: SqlHolders, told: Progress, rehearsal: bool
) -> AsyncIterator[Mover]:
    client = await temporal_client(settings, EnvironmentAndFileSecrets(settings.data / "secrets"))
    from cpa.engines.temporal.connection import LAST_BREATH
    from cpa.engines.temporal.moving import TemporalSide

    if not rehearsal:
        await claim_queue(client, settings, Hasher.of(settings.data))
    reads, writes = SqlSteps(database), SqlSteps(database, TEMPORAL)
    try:
        far = TemporalSide(
            *(client, settings.temporal_queue, writes, SystemClock()), build=settings.temporal_build
        )
        yield Mover(holders, reads.load, far, told)
    finally:
        reads.close()
        writes.close()
        await asyncio.sleep(LAST_BREATH)
