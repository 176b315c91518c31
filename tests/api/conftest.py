"""The app over a fake engine, the real artifacts folder and real keys."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from tests.api.fake_engine import FakeEngine
from tests.api.fakes import FakeMessages, FakeTrail, MemoryKeys, MemoryTokens, SystemClock, small_planner
from tests.contracts.delivery import Told

from cpa.api.app import create_app
from cpa.api.server import Server, listen
from cpa.api.services import ApiServices, Probe
from cpa.api.uploads import Uploads
from cpa.artifacts.folder import FolderArtifacts
from cpa.audit.log import AuditLog
from cpa.audit.query import AuditQuery
from cpa.bootstrap import signing_keys
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.keys import Scope
from cpa.repository.agents import MemoryAgentStore
from cpa.security.addresses import AddressGuard
from cpa.security.auth import Authenticator, Hasher, issue
from cpa.security.credentials import AgentCredentials
from cpa.security.enrolment import Enrolment, issue_token
from cpa.security.signatures import MessageSignatures, SignedMessages
from cpa.settings import Settings
from cpa.telemetry.logs import configure
from cpa.transport.channel import ChannelDelivery
from cpa.transport.inprocess import InProcessTransport

ORIGIN = "https://werkbank.example"
MAX_ARTIFACT = 64 * 1024
MAX_SAID = 1024 * 1024


@dataclass
class Door:
    """The app with everything behind it at hand."""

    app: FastAPI
    services: ApiServices
    engine: FakeEngine
    messages: FakeMessages
    store: MemoryKeys
    hasher: Hasher
    orchestrator: Orchestrator
    trail: FakeTrail
    tokens: MemoryTokens
    probes: dict[str, Probe] = field(default_factory=dict)
    receipts: Told = field(default_factory=Told)
    """What became of messages that were pushed into channels."""

    async def key(self, *scopes: Scope, tenant: str = "default", name: str = "anna") -> str:
        """A fresh key with these scopes."""
        key, stored = issue(self.hasher, name=name, scopes=frozenset(scopes), now=1, tenant=tenant)
        await self.store.add(stored)
        return key

    async def token(self, *, tenant: str = "default", **more: Any) -> str:
        """A fresh enrolment token."""
        token, stored = issue_token(self.hasher, now=1, tenant=tenant, **more)
        await self.tokens.add(stored)
        return token

    def client(self, key: str = "", **headers: str) -> httpx2.AsyncClient:
        """A client of the app, without a socket."""
        if key:
            headers["X-API-Key"] = key
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(
            transport=transport,
            base_url="http://cpa.test",
            headers=headers,
            event_hooks={"response": [self._as_documented]},
        )

    async def _as_documented(self, response: httpx2.Response) -> None:
        """Every answer that a test sees stands in /openapi.json."""
        request = response.request
        for path, operations in promised(self.app):
            if path.fullmatch(request.url.path) and request.method in operations:
                seen = f"{request.method} {request.url.path}: {response.status_code}"
                assert str(response.status_code) in operations[request.method], f"not documented: {seen}"
                return


@dataclass
class Served:
    url: str
    server: Server
    running: asyncio.Task[None]

    @property
    def socket(self) -> str:
        return self.url.replace("http", "ws", 1)

    async def stop(self) -> None:
        """As SIGTERM does."""
        self.server.should_exit = True
        await self.running


_PROMISED: list[tuple[re.Pattern[str], dict[str, set[str]]]] = []


def promised(app: FastAPI) -> list[tuple[re.Pattern[str], dict[str, set[str]]]]:
    """Of each path what it may answer, by method; paths without parameters first. It is the same for each app."""
    if not _PROMISED:
        for path, operations in sorted(app.openapi()["paths"].items(), key=lambda item: "{" in item[0]):
            answers = {method.upper(): set(told["responses"]) for method, told in operations.items()}
            _PROMISED.append((re.compile(re.sub(r"{\w+}", "[^/]+", path)), answers))
    return _PROMISED


def open_door(folder: Path, *, auto: bool = True) -> Door:
    engine, messages, store = FakeEngine(auto=auto), FakeMessages(), MemoryKeys()
    hasher, clock = Hasher(b"\x01" * 32), SystemClock()
    probes: dict[str, Probe] = {}
    keys, trail, tokens = Authenticator(store, hasher, clock), FakeTrail(engine), MemoryTokens()
    agents = AgentRegistry()
    orchestrator = Orchestrator(agents, InProcessTransport({}), clock)
    channels, receipts = ChannelDelivery(), Told()
    channels.connect(receipts)
    ids = count(1)
    directory = AgentDirectory(
        MemoryAgentStore(trail.tell),
        agents,
        orchestrator,
        AgentCredentials(store, hasher, clock, Enrolment(tokens, hasher, clock), keys),
        AuditLog(trail, clock),
        clock,
        lambda: f"ag_{next(ids)}",
        check_endpoint=AddressGuard(("127.0.0.1",)).check_endpoint,
        gone=channels.forget,
    )
    services = ApiServices(
        engine=engine,
        planner=small_planner(),
        messages=messages,
        agents=directory,
        channels=channels,
        artifacts=FolderArtifacts(folder / "artifacts", MAX_ARTIFACT, MAX_ARTIFACT * 4),
        audit=AuditQuery(trail),
        keys=keys,
        clock=clock,
        settings=Settings(
            _env_file=None,
            hosts=("cpa.test", "127.0.0.1"),
            cors_origins=(ORIGIN,),
            max_artifact_bytes=MAX_ARTIFACT,
        ),
        version="0.0.0-test",
        questions=engine,
        dead_letters=engine,
        uploads=Uploads(MAX_ARTIFACT * 2, clock.now_ms),
        said=Uploads(MAX_SAID, clock.now_ms, "messages"),
        signatures=MessageSignatures(SignedMessages.OPTIONAL, signing_keys(agents), clock),
        probes=probes,
    )
    return Door(
        create_app(services),
        services,
        engine,
        messages,
        store,
        hasher,
        orchestrator,
        trail,
        tokens,
        probes,
        receipts,
    )


@pytest.fixture(autouse=True)
def lines() -> Iterator[io.StringIO]:
    """What is logged, one JSON object per line."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("INFO", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def served(door: Door) -> AsyncIterator[Served]:
    """The app behind a real server on a free port, stopped at the end."""
    bound = listen("127.0.0.1", 0)
    ready: asyncio.Queue[str] = asyncio.Queue()
    server = Server(door.app, bound, shutdown_seconds=5, ready=ready.put_nowait)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    served = Served(await ready.get(), server, running)
    yield served
    await served.stop()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return open_door(tmp_path)


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with an admin key."""
    async with door.client(await door.key(Scope.ADMIN)) as client:
        yield client


def noop(id: str = "echo", value: Any = 1, **more: Any) -> dict[str, Any]:
    """A task that does nothing."""
    return {"id": id, "action": "flow.noop", "arguments": {"value": value}, **more}


def problem(response: httpx2.Response, status: int, code: str, field: str) -> dict[str, Any]:
    """The body of a refusal of this kind."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert (body["code"], body.get("field")) == (code, field)
    assert body["remedy"]
    return body
