"""Which engine runs the jobs: the local one, or the one on Temporal, whose library is loaded only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from cpa.artifacts.claims import FolderClaims
from cpa.bootstrap.system import Chance, job_ids
from cpa.engines.local.engine import LocalEngine
from cpa.errors import BadInput
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.engine import Engine
from cpa.ports.moving import HolderStore
from cpa.ports.secrets import SecretsManager
from cpa.ports.steps import StepStore
from cpa.security.auth import Hasher
from cpa.settings import Settings

if TYPE_CHECKING:
    from cpa.engines.temporal.codec import Codec
    from cpa.engines.temporal.connection import Client
    from cpa.engines.temporal.tls import Tls

log = structlog.stdlib.get_logger("cpa.bootstrap")
_TENANT = "default"
"""Whose secrets are those of the server itself."""


@asynccontextmanager
async def running(
    settings: Settings,
    steps: StepStore,
    holders: HolderStore,
    orchestrator: Orchestrator,
    clock: Clock,
    vault: SecretsManager,
    hasher: Hasher,
) -> AsyncIterator[Engine]:
    """The engine of these settings, running. `Unavailable` or `BadInput` when its server is away or not as set."""
    chance = Chance()
    if settings.engine == "local":
        ids = job_ids(chance)
        local = LocalEngine(steps, orchestrator, clock, ids, chance=chance, max_running=settings.max_running)
        async with _swept(settings, vault), local:
            yield local
        return
    _check_line(settings)
    client = await temporal_client(settings, vault)
    await claim_queue(client, settings, hasher)
    queue, build = settings.temporal_queue, settings.temporal_build
    from cpa.engines.temporal.engine import TemporalEngine

    # Alone: the store's lock says that nobody else works on it.
    temporal = TemporalEngine(
        *(client, queue, steps, holders, orchestrator, clock, job_ids(chance)),
        chance=chance,
        build=build,
        alone=True,
    )
    async with _kept_up(settings, vault, client), temporal:
        yield temporal


def _check_line(settings: Settings) -> None:
    """Raise where a line of jobs is wanted that this engine has not."""
    if "max_running" in settings.model_fields_set:
        raise BadInput(
            "jobs wait in a line on the local engine only: on Temporal all of them begin at once",
            field="max_running",
            value=settings.max_running,
            remedy="unset CPA_MAX_RUNNING: how much is done at once is bounded by the slots of the agents and by "
            "CPA_MAX_PARALLEL in a job, and priority says which job goes first; or set CPA_ENGINE=local",
        )


async def temporal_client(settings: Settings, vault: SecretsManager) -> Client:
    """A connection to the server of these settings. Raises as `running`."""
    if find_spec("temporalio") is None:
        raise BadInput(
            "the engine on Temporal needs its library",
            field="engine",
            value=settings.engine,
            remedy="in a checkout: uv sync --frozen --inexact --no-dev --extra temporal; else: "
            "pip install 'cpa-scheduler[temporal]'; or set CPA_ENGINE=local",
        )
    from cpa.engines.temporal.connection import connect

    return await connect(
        settings.temporal_address,
        settings.temporal_namespace,
        tls=_tls(settings, vault),
        api_key=_api_key(settings, vault),
        codec=_codec(settings, vault),
    )


async def claim_queue(client: Client, settings: Settings, hasher: Hasher) -> None:
    """No other store works on the task queue of these settings. `BadInput` where one does."""
    from cpa.engines.temporal.owner import claim

    await claim(client, settings.temporal_queue, hasher.hash("the store of a task queue").hex()[:32])


@asynccontextmanager
async def _kept_up(settings: Settings, vault: SecretsManager, client: Client) -> AsyncIterator[None]:
    """See to what has to be seen to as long as the connection is open."""
    from cpa.engines.temporal import upkeep

    api_key = _api_key(settings, vault)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(upkeep.cleaning(client, _claims(settings)))]
        if api_key is not None:
            tasks.append(group.create_task(upkeep.renewing(client, api_key)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _swept(settings: Settings, vault: SecretsManager) -> AsyncIterator[None]:
    """See to the large values that jobs left which were on Temporal before; without any, its library is not
    needed."""
    claims = FolderClaims(settings.data / "claims", 0)
    if not await claims.jobs(0) or find_spec("temporalio") is None:
        yield
        return
    from cpa.engines.temporal import upkeep
    from cpa.engines.temporal.connection import LAST_BREATH

    task = asyncio.create_task(upkeep.sweeping(partial(temporal_client, settings, vault), claims))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(LAST_BREATH)


def _claims(settings: Settings) -> FolderClaims:
    from cpa.engines.temporal.codec import MOST

    return FolderClaims(settings.data / "claims", 2 * MOST)


def _api_key(settings: Settings, vault: SecretsManager) -> Callable[[], str] | None:
    return _secret(vault, settings.temporal_api_key) if settings.temporal_api_key else None


def _secret(vault: SecretsManager, name: str) -> Callable[[], str]:
    return partial(vault.resolve, _TENANT, name)


def _tls(settings: Settings, vault: SecretsManager) -> Tls | None:
    """None is plain text."""
    from cpa.engines.temporal.tls import Tls

    named = settings.temporal_tls_ca or settings.temporal_tls_cert or settings.temporal_tls_server_name
    wanted = bool(named or settings.temporal_api_key)
    if not (wanted if settings.temporal_tls is None else settings.temporal_tls):
        return None
    return Tls(
        authorities=settings.temporal_tls_ca,
        certificate=settings.temporal_tls_cert,
        key=_secret(vault, settings.temporal_tls_key) if settings.temporal_tls_cert else None,
        name=settings.temporal_tls_server_name,
    )


def _codec(settings: Settings, vault: SecretsManager) -> Codec:
    from cpa.engines.temporal.codec import Codec
    from cpa.engines.temporal.connection import is_loopback
    from cpa.engines.temporal.keyring import MAKE, KeyRing

    claims, current = _claims(settings), settings.temporal_payload_key
    if current:
        if settings.temporal_payload_plain:
            log.warning(
                "values_in_clear_accepted",
                field="temporal_payload_plain",
                detail="whoever may write into the namespace can answer and report without the key",
                remedy="unset CPA_TEMPORAL_PAYLOAD_PLAIN once the last job from before the key has ended",
            )
        keys = KeyRing(current, partial(vault.resolve, _TENANT))
        return Codec(keys, claims, plain=settings.temporal_payload_plain)
    if not is_loopback(settings.temporal_address):
        log.warning(
            "values_not_encrypted",
            field="temporal_payload_key",
            address=settings.temporal_address,
            detail="arguments and results of jobs stand in clear at the Temporal server",
            remedy=f"set CPA_TEMPORAL_PAYLOAD_KEY to an id, and the secret temporal_payload_<id>: {MAKE}",
        )
    return Codec(None, claims)
