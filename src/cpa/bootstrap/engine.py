"""Which engine runs the jobs: the local one, or the one on Temporal, whose library is loaded only then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cpa.bootstrap.system import Chance, job_ids
from cpa.engines.local.engine import LocalEngine
from cpa.errors import BadInput
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.engine import Engine
from cpa.ports.steps import StepStore
from cpa.settings import Settings

if TYPE_CHECKING:
    from cpa.engines.temporal.connection import Client


@asynccontextmanager
async def running(
    settings: Settings, steps: StepStore, orchestrator: Orchestrator, clock: Clock
) -> AsyncIterator[Engine]:
    """The engine of these settings, running. `Unavailable` or `BadInput` when its server is away or not as set."""
    chance = Chance()
    if settings.engine == "local":
        ids = job_ids(chance)
        local = LocalEngine(steps, orchestrator, clock, ids, chance=chance, max_running=settings.max_running)
        async with local:
            yield local
        return
    client, queue, build = await temporal_client(settings), settings.temporal_queue, settings.temporal_build
    from cpa.engines.temporal.engine import TemporalEngine

    # Alone: the store's lock says that nobody else works on it.
    temporal = TemporalEngine(
        *(client, queue, steps, orchestrator, clock, job_ids(chance)), chance=chance, build=build, alone=True
    )
    async with temporal:
        yield temporal


async def temporal_client(settings: Settings) -> Client:
    """A connection to the server of these settings. Raises as `running`."""
    if find_spec("temporalio") is None:
        raise BadInput(
            "the engine on Temporal needs its library",
            field="engine",
            value=settings.engine,
            remedy="pip install 'cpa-scheduler[temporal]', or set CPA_ENGINE=local",
        )
    from cpa.engines.temporal.connection import connect

    return await connect(settings.temporal_address, settings.temporal_namespace)
