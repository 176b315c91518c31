"""`GET /metrics`: the figures of the server for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import Response

from cpa.api.caller import Watcher
from cpa.api.health import conditions
from cpa.api.render import problems
from cpa.api.route import DirectRouter
from cpa.api.services import Condition, Services
from cpa.telemetry.metrics import CONTENT_TYPE, Figure, exposition

router = DirectRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="The figures of the whole server, for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format, version 0.0.4.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(),
    },
)
async def metrics(services: Services, caller: Watcher) -> Response:
    """Over all tenants, so for keys of the operator's own with the scope `metrics` or `admin`. What the store
    would have said is left out while it does not answer: `cpa_health` says so."""
    parts, figures = await asyncio.gather(conditions(services), services.figures())
    engine = services.settings.engine
    health: dict[tuple[str, ...], float] = {
        (name, condition.value): float(part.condition is condition)
        for name, part in parts.items()
        for condition in Condition
    }
    told = (
        Figure(
            "cpa_build_info",
            "Version and kind of engine.",
            {(services.version, engine): 1},
            ("version", "engine"),
        ),
        Figure("cpa_health", "How the parts are, as in /health: 1 is so.", health, ("part", "condition")),
        *figures,
    )
    return Response(await asyncio.to_thread(exposition, told), media_type=CONTENT_TYPE)
