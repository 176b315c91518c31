"""The HTTP door: `create_app` puts routes, errors, limits and documentation together.

Routes parse, call and render; whatever decides anything is behind a port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cpa.api import (
    agents,
    answers,
    approvals,
    artifacts,
    audit,
    channel,
    dead_letters,
    health,
    jobs,
    lam,
    live,
    metrics,
    problems,
    questions,
    reference,
    schedule,
)
from cpa.api.gate import Gate, Origins
from cpa.api.render import Problem
from cpa.api.services import ApiServices

__all__ = ["ApiServices", "create_app"]

_TAGS: Final = [
    {"name": "requests", "description": "A person's sentence or a whole task graph becomes a job."},
    {"name": "jobs", "description": "Watch, explain, cancel and retry jobs. Live: `WS /ws/jobs/{id}`."},
    {
        "name": "questions",
        "description": "What only a person can decide: approvals, proposals, forms, doubts.",
    },
    {"name": "dead letters", "description": "Failed jobs that only a person takes up again."},
    {"name": "agents", "description": "Who does the work: register, beat, drain, revoke."},
    {"name": "lam", "description": "Lumina Agent Messages: agents and channels speak to the scheduler."},
    {"name": "artifacts", "description": "Files, named by their content."},
    {"name": "audit", "description": "What was done, why, with which result."},
    {"name": "health", "description": "Whether the server is well, and its figures."},
]
_ABOUT: Final = """A sentence becomes a checked plan, carried out and proved.

Every request but `GET /health` needs the header `X-API-Key`. Every error is `application/problem+json` with
the field, the value, the remedy and who can act. Send `Idempotency-Key` with whatever creates a job: the same
key with the same body gives the same answer. `X-Correlation-ID` comes back in every answer and stands in
every log line."""
_BODIES: Final[tuple[type[BaseModel], ...]] = (
    Problem,
    schedule.JobRequest,
    schedule.ScheduleRequest,
    answers.Answer,
    dead_letters.Reopening,
    dead_letters.Discarding,
    dead_letters.Decision,
    agents.AgentRegistration,
    agents.Heartbeat,
    agents.StateChange,
)
"""Models that routes read themselves or only errors use; FastAPI does not see them."""


_DOCUMENTED: Final = tuple(
    room.router
    for room in (
        schedule,
        jobs,
        questions,
        approvals,
        dead_letters,
        agents,
        lam,
        artifacts,
        audit,
        health,
        metrics,
    )
)
_SOCKETS: Final = (channel.router, live.router)
"""The last refuses every other WebSocket."""


def create_app(services: ApiServices) -> FastAPI:
    """The whole API over these services. Owns none of them: `bootstrap` opens and closes what it made."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        services.shutdown.begin()

    app = FastAPI(
        title="CPA",
        summary="Cognitive Process Automation",
        description=_ABOUT,
        version=services.version,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,
    )
    app.state.services = services
    problems.install(app)
    # Side by side, not included: FastAPI looks through each included router, twice, for every request.
    for router in (*_DOCUMENTED, *_SOCKETS):
        app.router.routes += router.routes
    reference.install(app)
    app.add_middleware(Gate, host=services.settings.host, hosts=services.settings.hosts)
    if services.settings.cors_origins:
        app.add_middleware(Origins, origins=services.settings.cors_origins)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def _describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once: what FastAPI sees, and the models it does not."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=[route for router in _DOCUMENTED for route in router.documented()],
            tags=app.openapi_tags,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, extra = models_json_schema(
            [(model, "validation") for model in _BODIES], ref_template="#/components/schemas/{model}"
        )
        schemas |= extra["$defs"]
        _replace_validation_errors(document)
        app.openapi_schema = document
    return app.openapi_schema


def _replace_validation_errors(document: dict[str, Any]) -> None:
    """FastAPI documents its own 422; ours is a problem like all others."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in document["paths"].values():
        for operation in path.values():
            found = operation["responses"].get("422")
            if found is not None and "application/json" in found.get("content", {}):
                found["content"] = problem
