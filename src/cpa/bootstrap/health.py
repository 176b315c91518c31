"""What `/health` asks of the scheduler: its store, the engine that runs its jobs, and its agents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpa.api.services import Condition, PartHealth, Probe

if TYPE_CHECKING:
    from cpa.bootstrap import Scheduler


def probes(scheduler: Scheduler) -> Mapping[str, Probe]:
    """By the part's name. What they say is for whoever may ask about health: no path, no address."""
    database, engine, far = scheduler.database, scheduler.engine, scheduler.settings.engine != "local"

    async def store() -> PartHealth:
        if engine.trouble is not None and not far:
            return PartHealth(Condition.DEGRADED, "the store does not take writes just now")
        await database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
        return await asyncio.to_thread(scheduler.store.trouble) or PartHealth(Condition.HEALTHY)

    async def jobs() -> PartHealth:
        if engine.trouble is not None and far:
            said = "the Temporal server does not answer as it should just now: jobs wait for it"
            return PartHealth(Condition.DEGRADED, said)
        if engine.aside:
            said = f"jobs set aside, which cannot be gone on with: {engine.aside}; the log says which and why"
            return PartHealth(Condition.DEGRADED, said)
        return PartHealth(Condition.HEALTHY, scheduler.settings.engine)

    async def agents() -> PartHealth:
        if unread := scheduler.agents.unread:
            said = f"agents whose record cannot be read: {unread}; the log says which and why, remove them"
            return PartHealth(Condition.DEGRADED, said)
        return PartHealth(Condition.HEALTHY)

    return {"store": store, "engine": jobs, "agents": agents}
