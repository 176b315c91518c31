"""Whether the server and its parts are well. Needs no key, and tells no secrets."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from fastapi import Response
from pydantic import BaseModel

from cpa.api.render import answer
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Condition, PartHealth, Probe, Services
from cpa.errors import CPAError

log = structlog.stdlib.get_logger("cpa.api")
router = DirectRouter(tags=["health"])
_PATIENCE: Final = 2.0
"""Seconds a part has to say how it is."""


class Part(BaseModel):
    status: Condition
    detail: str


class Health(BaseModel):
    status: Condition
    version: str
    parts: dict[str, Part]


@router.get(
    "/health",
    summary="Is it well, and what is not",
    response_model=Health,
    responses={503: {"model": Health, "description": "Unhealthy, or stopping: send no work here."}},
)
async def health(services: Services) -> Response:
    """`degraded` still works; `unhealthy` answers 503."""
    parts = await conditions(services)
    worst = max(
        (part.condition for part in parts.values()), key=list(Condition).index, default=Condition.HEALTHY
    )
    body: dict[str, Any] = {
        "status": worst,
        "version": services.version,
        "parts": {name: {"status": part.condition, "detail": part.detail} for name, part in parts.items()},
    }
    return answer(body, 503 if worst is Condition.UNHEALTHY else 200)


async def conditions(services: ApiServices) -> dict[str, PartHealth]:
    """How the parts are, by name; `server` is one while it stops."""
    found = await asyncio.gather(*(_ask(name, probe) for name, probe in services.probes.items()))
    parts = dict(zip(services.probes, found, strict=True))
    if services.shutdown.begun:
        parts["server"] = PartHealth(Condition.UNHEALTHY, "stopping")
    return parts


async def _ask(name: str, probe: Probe) -> PartHealth:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await probe()
    except TimeoutError:
        return PartHealth(Condition.UNHEALTHY, f"no answer within {_PATIENCE:g} s")
    except CPAError as error:
        log.warning("part_unhealthy", part=name, error=str(error))
        return PartHealth(Condition.UNHEALTHY, error.code)
