"""Agents register, say that they live, and leave; people see how they stand and decide what becomes of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from fastapi import Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from cpa.api.bodies import Body, parsed, read, read_json
from cpa.api.caller import Administrator, Agent, Fetcher, Newcomer, Reader
from cpa.api.render import answer, body_schema, problems, view
from cpa.api.route import DirectRouter
from cpa.api.services import Services
from cpa.api.signed import sent, signed_once, spent
from cpa.core.signatures import key_id
from cpa.core.views import Timestamp, View, moment
from cpa.orchestrator.agent_registry import Agent as Known
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.presence import Answer
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import AgentRecord, AgentState, AgentStatus, Beat, Named, Readiness

router = DirectRouter(prefix="/agents", tags=["agents"])
_Short = Annotated[str, Field(max_length=200)]


class AgentRegistration(Body):
    """What an agent says of itself."""

    name: str = Field(max_length=100, description="Its own in the tenant.", examples=["rechner-1"])
    type: str = Field(
        max_length=40, description="DESKTOP_RPA, EMAIL, WEB, DATA or a word of your own.", examples=["WEB"]
    )
    capabilities: list[str] = Field(
        max_length=500,
        description="Dotted names are actions, of the catalogue or own ones (`x.…`); the others are tags.",
        examples=[["web.goto", "web.click", "outlook"]],
    )
    endpoint: str = Field(
        default="",
        max_length=2000,
        description="Where it takes tasks (http or https); empty when it opens a channel.",
    )
    metadata: dict[_Short, Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=dict, max_length=50, description="version, platform, hostname …"
    )
    slots: int = Field(default=1, ge=1, le=1000, description="Attempts at the same time.")
    instance: _Short = Field(
        default="",
        description="Drawn anew at each start: what an older process had is lost. With 22 random characters and "
        "more a registration whose answer was lost can be said again, word for word, until the first beat.",
    )
    incarnation: int = Field(
        default=0,
        ge=0,
        le=2**53 - 1,
        description="Greater at each start, so that an older process cannot take the place of a newer one.",
    )
    public_key: _Short = Field(default="", description="Ed25519, base64, when it signs its messages.")


class AgentRegistered(BaseModel):
    agent_id: str
    address: str = Field(description="How it signs its messages.", examples=["agent://web/rechner-1"])
    state: AgentState
    heartbeat_interval: float = Field(description="Seconds between beats.")
    lease: float = Field(description="Seconds after which an attempt that no beat names is taken away.")
    key: str | None = Field(description="Its API key, this once; null when it has one already.")
    callback_key: str = Field(description="What the scheduler shows as X-CPA-Key at its endpoint.")
    withheld: list[str] = Field(
        description="Actions it named and was not enrolled for: it is not asked for them. With its key and a token "
        "for its name it may register once more."
    )
    key_id: str = Field(
        description="What it calls its signing key when it signs.", examples=["default/ag_0123456789abcdef"]
    )


class RunningAttempt(Body):
    """An attempt as the agent names it."""

    job: _Short
    task: _Short
    epoch: int = Field(ge=0, lt=2**53)


class ReadinessFacts(Body):
    """Facts that decide whether the agent can work at all; what is left out is not said."""

    session_locked: bool | None = None
    remote_session_closed: bool | None = None
    dpi: int | None = Field(default=None, ge=1, le=10_000)
    user: _Short | None = None
    applications: dict[_Short, _Short] = Field(
        default_factory=dict, max_length=200, description="Name to version."
    )


class Heartbeat(Body):
    """What an agent says of itself regularly."""

    status: AgentStatus = AgentStatus.ONLINE
    current_load: float = Field(default=0.0, ge=0, le=1000, description="1.0 is fully busy.")
    available_slots: int | None = Field(default=None, ge=0, le=1000, description="Slots it has left.")
    running: list[RunningAttempt] = Field(
        default_factory=list, max_length=2000, description="Only what is named here keeps its lease."
    )
    readiness: ReadinessFacts = ReadinessFacts()
    instance: _Short = ""


class HeartbeatAnswer(BaseModel):
    lost: list[RunningAttempt] = Field(description="Not its own any more: to be stopped.")
    state: AgentState
    heartbeat_interval: float
    lease: float = Field(description="Seconds after a beat in which what it named is its own.")


class Listed(StrEnum):
    """What agents are listed by: what they say of themselves, or what was decided about them."""

    ONLINE = "online"
    BUSY = "busy"
    OFFLINE = "offline"
    DRAINING = "draining"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"


class StateChange(Body):
    state: AgentState = Field(
        description="active; draining: ends what it has; quarantined: its answers do not count; "
        "revoked: its key is dead, for good."
    )


class AgentSummary(View):
    """An agent and how it stands."""

    id: str = Field(description="Empty for the part of the server itself.")
    name: str
    type: str
    address: str
    state: AgentState
    status: AgentStatus
    actions: list[str]
    tags: list[str]
    withheld: list[str] = Field(
        description="Actions it offers and was not enrolled for: it is not asked for them."
    )
    slots: int
    busy: int = Field(description="Attempts it has now.")
    load: float
    last_seen: float | None = Field(
        description="Seconds since its last sign of life; null when there was none since the server started."
    )
    trouble: str = Field(description="Why nothing can be handed to it just now; empty when it can.")


class LeasedAttempt(View):
    job: str
    task: str
    epoch: int
    lease_remaining: float = Field(description="Seconds.")


class Circuit(View):
    state: str = Field(description="closed, open or half_open")
    failures: int = Field(description="In a row.")
    retry_in: float = Field(description="Seconds until one attempt is let through.")


class AgentDetail(AgentSummary):
    endpoint: str
    metadata: dict[str, str]
    registered_at: Timestamp
    readiness: dict[str, Any] = Field(
        description="What its last beat said of session, screen, user, programs."
    )
    running: list[LeasedAttempt]
    weights: dict[str, float] = Field(
        description="By action that ever failed: what it counts for when an agent is chosen, 1 is in full. A "
        "failure takes a fifth of it, successes and time give it back; so it is no share of what ended well."
    )
    breakers: dict[str, Circuit] = Field(description="By family of actions that failed lately.")


class AgentList(BaseModel):
    agents: list[AgentSummary]
    total: int
    limit: int
    offset: int


class AgentChanged(BaseModel):
    agent_id: str
    state: AgentState


class AgentRemoved(BaseModel):
    agent_id: str
    removed: bool


AgentId = Annotated[str, Path(description="As its registration was answered.")]
EnrolmentToken = Annotated[
    str | None,
    Header(
        alias="X-Enrolment-Token",
        description="Instead of a key, for an agent's first registration; made with `cpa agents token`.",
    ),
]


def beat_of(said: Heartbeat) -> Beat:
    """A heartbeat as the scheduler keeps it."""
    return Beat(
        status=said.status,
        load=said.current_load,
        free=said.available_slots,
        running=tuple(Named(each.job, each.task, each.epoch) for each in said.running),
        readiness=Readiness(**said.readiness.model_dump()),
        instance=said.instance,
    )


def beat_answer(told: Answer) -> dict[str, Any]:
    """The answer to a heartbeat, as JSON values."""
    return {"lost": told.lost, "state": told.state, "heartbeat_interval": told.interval, "lease": told.lease}


@router.post(
    "/register",
    summary="Register an agent",
    status_code=201,
    response_model=AgentRegistered,
    responses={
        200: {"model": AgentRegistered, "description": "It was known and came back with its own key."},
        **problems(400, 408, 409, 413, 415, 422),
    },
    openapi_extra=body_schema(
        AgentRegistration,
        web={
            "name": "browser-1",
            "type": "WEB",
            "capabilities": ["web.goto", "web.click", "web.extract"],
            "slots": 4,
            "metadata": {"hostname": "rechner-größe", "platform": "linux"},
        },
        own={"name": "rechner-1", "type": "DATA", "capabilities": ["x.calculator.add"], "instance": "f3a1"},
    ),
)
async def register(
    request: Request, services: Services, caller: Newcomer, token: EnrolmentToken = None
) -> Response:
    """With an admin's key or an enrolment token a new agent gets its own key, once; until its first beat the same
    words with the same `instance` (a secret of 22 random characters and more) are answered the same. With its own
    key an agent comes back: another `instance` loses what the older process had. Nothing is connected to."""
    raw = await read_json(request)
    said, _ = parsed(raw, AgentRegistration)
    caller = services.signatures.admit(caller, sent(request, raw), said.public_key)
    caller = None if caller is None else await spent(services, caller)
    wanted = Registration(**said.model_dump() | {"capabilities": tuple(said.capabilities)})
    done = await services.agents.register(wanted, caller, token or "")
    body = {
        "agent_id": done.agent.id,
        "address": done.agent.address,
        "state": done.agent.state,
        "heartbeat_interval": services.agents.interval,
        "lease": services.agents.lease,
        "key": done.key,
        "callback_key": done.callback_key,
        "withheld": list(done.withheld),
        "key_id": key_id(done.agent.tenant, done.agent.id),
    }
    return answer(body, 201 if done.new else 200)


@router.post(
    "/{agent_id}/heartbeat",
    summary="Say that an agent lives",
    response_model=HeartbeatAnswer,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Heartbeat,
        idle={"status": "online", "current_load": 0.0, "available_slots": 4, "instance": "f3a1"},
        busy={
            "status": "online",
            "current_load": 0.25,
            "running": [{"job": "0199c0de-0000-7000-8000-000000000001", "task": "download", "epoch": 2}],
            "readiness": {"session_locked": False, "dpi": 96, "applications": {"outlook": "16"}},
        },
    ),
)
async def heartbeat(agent_id: AgentId, request: Request, services: Services, caller: Agent) -> Response:
    """Only attempts named in `running` keep their lease. What is in `lost` is not the agent's any more."""
    raw = await read_json(request)
    said, _ = parsed(raw, Heartbeat)
    caller = await signed_once(services, request, caller, raw)
    return answer(beat_answer(await services.agents.heartbeat(caller, agent_id, beat_of(said))))


@router.get("", summary="List agents", response_model=AgentList, responses=problems(422))
async def list_agents(
    services: Services,
    caller: Reader,
    type: Annotated[str, Query(max_length=40, description="Only of this type.")] = "",
    capability: Annotated[
        str, Query(max_length=200, description="Only who offers this action or tag.", examples=["web.click"])
    ] = "",
    status: Annotated[Listed | None, Query(description="Only who is so.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """In the order of their registration; first the part of the server itself, which is of the type BUILTIN. Who is
    revoked takes no tasks any more and is listed where that is asked for."""
    if status is Listed.REVOKED:
        known = await services.agents.revoked(caller.tenant)
        found = [agent for agent in known if agent.fits(type, capability)]
    else:
        found = [*services.agents.list(caller.tenant, type=type, capability=capability, status=status or "")]
    shown = [AgentSummary(**_summary(services.agents, agent)) for agent in found[offset : offset + limit]]
    return view(AgentList(agents=shown, total=len(found), limit=limit, offset=offset))


@router.get("/{agent_id}", summary="How an agent stands", response_model=AgentDetail, responses=problems(404))
async def show(agent_id: AgentId, services: Services, caller: Fetcher) -> Response:
    """Presence, load, attempts with their leases, success and circuit breakers. An agent sees itself only."""
    record, agent = await services.agents.get(caller, agent_id)
    return view(_detail(services.agents, record, agent))


@router.delete(
    "/{agent_id}", summary="Unregister an agent", response_model=AgentRemoved, responses=problems(404, 409)
)
async def remove(agent_id: AgentId, request: Request, services: Services, caller: Agent) -> Response:
    """Its key is dead at once, its attempts go to others, its name is free. An admin or the agent itself."""
    caller = await signed_once(services, request, caller)
    record = await services.agents.remove(caller, agent_id)
    return answer({"agent_id": record.id, "removed": True})


@router.post(
    "/{agent_id}/state",
    summary="Drain, quarantine, activate or revoke an agent",
    response_model=AgentChanged,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(StateChange, drain={"state": "draining"}, activate={"state": "active"}),
)
async def change(agent_id: AgentId, request: Request, services: Services, caller: Administrator) -> Response:
    """Takes effect at once. A revoked agent stays revoked."""
    wanted, _ = await read(request, StateChange)
    record = await services.agents.change(caller, agent_id, wanted.state)
    return answer({"agent_id": record.id, "state": record.state})


def _summary(directory: AgentDirectory, agent: Known) -> dict[str, Any]:
    record = agent.record
    return {
        "id": record.id if record else "",
        "name": agent.name,
        "type": agent.type,
        "address": agent.address,
        "state": agent.state,
        "status": agent.status,
        "actions": sorted(agent.actions),
        "tags": sorted(agent.capabilities),
        "withheld": list(record.withheld) if record else [],
        "slots": agent.slots,
        "busy": agent.busy,
        "load": agent.load,
        "last_seen": directory.last_seen(agent),
        "trouble": agent.trouble,
    }


def _detail(directory: AgentDirectory, record: AgentRecord, agent: Known | None) -> AgentDetail:
    known = agent or Known(record.address, frozenset(record.actions), record=record, online=False)
    standing = directory.describe(known)
    return AgentDetail(
        **_summary(directory, known),
        endpoint=record.endpoint,
        metadata=record.metadata,
        registered_at=moment(record.registered),
        readiness=msgspec.to_builtins(known.beat.readiness),
        running=[
            LeasedAttempt(job=each.job, task=each.task, epoch=each.epoch, lease_remaining=round(left, 3))
            for each, left in standing.running
        ],
        weights=standing.weights,
        breakers={family: Circuit(**found) for family, found in standing.breakers.items()},
    )
