"""What the door needs of the house. `bootstrap` fills it; nothing here is global."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from cpa.api.shutdown import Shutdown
from cpa.api.uploads import Uploads
from cpa.audit.query import AuditQuery
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.planning import Planner
from cpa.ports.agents import MessageHandler
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.clock import Clock
from cpa.ports.engine import Engine
from cpa.ports.questions import DeadLetterQuery, QuestionQuery
from cpa.ports.signatures import Signatures
from cpa.security.auth import Authenticator
from cpa.settings import Settings
from cpa.telemetry.metrics import Figure
from cpa.transport.channel import ChannelDelivery


class Condition(StrEnum):
    """How a part is, worst last."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Works, with something to look after."""
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class PartHealth:
    condition: Condition
    detail: str = ""
    """One line for everybody: no address, no path, no credential."""


Probe = Callable[[], Awaitable[PartHealth]]
"""Looks after one part; must be cheap. A `CPAError` it raises means unhealthy."""


async def _no_figures() -> Sequence[Figure]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything the routes use."""

    engine: Engine
    planner: Planner
    messages: MessageHandler
    agents: AgentDirectory
    channels: ChannelDelivery
    artifacts: ArtifactStore
    audit: AuditQuery
    keys: Authenticator
    clock: Clock
    settings: Settings
    version: str
    questions: QuestionQuery
    dead_letters: DeadLetterQuery
    signatures: Signatures
    uploads: Uploads
    said: Uploads
    """Of messages: who stole an API key can send artifacts, and must not silence its owner by it."""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    """Health probes by the name of the part."""
    figures: Callable[[], Awaitable[Sequence[Figure]]] = _no_figures
    """What is told of the whole server, over all tenants; quick, and only what is known without looking far."""
    shutdown: Shutdown = field(default_factory=Shutdown)


def services_of(connection: HTTPConnection) -> ApiServices:
    """The services of the app that serves this request or socket."""
    services: ApiServices = connection.app.state.services
    return services


async def provide_services(request: Request) -> ApiServices:
    """Marks where a route takes the services; see `route`."""
    return services_of(request)


Services = Annotated[ApiServices, Depends(provide_services)]
