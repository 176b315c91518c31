"""The app over a fake engine, the real artifacts folder and real keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from cpa.api.app import create_app
from cpa.api.services import ApiServices, Probe
from cpa.artifacts.folder import FolderArtifacts
from cpa.audit.query import AuditQuery
from cpa.ports.keys import Scope
from cpa.security.auth import Authenticator, Hasher, issue
from cpa.settings import Settings
from tests.api.fake_engine import FakeEngine
from tests.api.fakes import FakeMessages, FakePlanner, FakeTrail, MemoryKeys, SystemClock

ORIGIN = "https://werkbank.example"
MAX_ARTIFACT = 64 * 1024


@dataclass
class Door:
    """The app with everything behind it at hand."""

    app: FastAPI
    services: ApiServices
    engine: FakeEngine
    planner: FakePlanner
    messages: FakeMessages
    store: MemoryKeys
    hasher: Hasher
    probes: dict[str, Probe] = field(default_factory=dict)

    async def key(self, *scopes: Scope, tenant: str = "default", name: str = "anna") -> str:
        """A fresh key with these scopes."""
        key, stored = issue(self.hasher, name=name, scopes=frozenset(scopes), now=1, tenant=tenant)
        await self.store.add(stored)
        return key

    def client(self, key: str = "", **headers: str) -> httpx2.AsyncClient:
        """A client of the app, without a socket."""
        if key:
            headers["X-API-Key"] = key
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://cpa.test", headers=headers)


def open_door(folder: Path, *, auto: bool = True) -> Door:
    engine, planner, messages, store = FakeEngine(auto=auto), FakePlanner(), FakeMessages(), MemoryKeys()
    hasher, clock = Hasher(b"\x01" * 32), SystemClock()
    probes: dict[str, Probe] = {}
    services = ApiServices(
        engine=engine,
        planner=planner,
        messages=messages,
        artifacts=FolderArtifacts(folder / "artifacts", MAX_ARTIFACT),
        audit=AuditQuery(FakeTrail(engine)),
        keys=Authenticator(store, hasher, clock),
        clock=clock,
        settings=Settings(_env_file=None, cors_origins=(ORIGIN,), max_artifact_bytes=MAX_ARTIFACT),
        version="0.0.0-test",
        questions=engine,
        probes=probes,
    )
    return Door(create_app(services), services, engine, planner, messages, store, hasher, probes)


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
