"""A whole scheduler behind its door, on a store that outlives it, and agents that speak to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI

from cpa.agents.signing import Signer
from cpa.api.app import create_app
from cpa.bootstrap import Scheduler, open_engine, services_of
from cpa.bootstrap.system import SystemClock
from cpa.core.signatures import encoded
from cpa.ports.keys import Scope
from cpa.repository.enrolment import SqlTokenStore
from cpa.repository.keys import SqlKeyStore
from cpa.security.auth import Hasher, issue
from cpa.security.enrolment import issue_token
from cpa.settings import Settings

URL = "http://cpa.example"


@dataclass
class House:
    """One life of the scheduler."""

    scheduler: Scheduler
    app: FastAPI
    client: httpx2.AsyncClient
    hasher: Hasher

    async def key(self, *scopes: Scope, name: str = "anna", tenant: str = "default") -> str:
        """A new API key."""
        now = self.scheduler.clock.now_ms()
        key, stored = issue(self.hasher, name=name, scopes=frozenset(scopes), now=now, tenant=tenant)
        await SqlKeyStore(self.scheduler.database).add(stored)
        return key

    async def token(self, *, tenant: str = "default", **more: Any) -> str:
        """A new enrolment token."""
        token, stored = issue_token(self.hasher, now=self.scheduler.clock.now_ms(), tenant=tenant, **more)
        await SqlTokenStore(self.scheduler.database).add(stored)
        return token


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """The scheduler of this folder, until the end of the block."""
    given = Settings(
        _env_file=None, data=folder, shutdown_seconds=0.0, **{"hosts": ("cpa.example",)} | settings
    )
    folder.mkdir(exist_ok=True)
    async with open_engine(given) as scheduler:
        app = create_app(services_of(scheduler))
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            yield House(scheduler, app, client, Hasher.of(folder))


@dataclass
class Member:
    """An agent as its process knows itself."""

    id: str
    address: str
    key: str
    callback_key: str
    signer: Signer | None = None

    @classmethod
    async def enrol(
        cls,
        home: House,
        name: str,
        *,
        signs: bool = False,
        orders: bool = False,
        tenant: str = "default",
        **more: Any,
    ) -> Member:
        """Registered with a fresh token; who `orders` gets a key that may submit jobs too."""
        signer = (
            Signer(encoded(f"{tenant}/{name}".encode().ljust(32, b".")), SystemClock()) if signs else None
        )
        said = {"name": name, "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i1"} | more
        if signer is not None:
            said["public_key"] = signer.public
        headers = {"X-Enrolment-Token": await home.token(tenant=tenant)}
        answer = await home.client.post("/agents/register", json=said, headers=headers)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        if orders:
            told["key"] = await home.key(Scope.AGENT, Scope.SUBMIT, name=told["address"], tenant=tenant)
        if signer is not None:
            signer.key = told["key_id"]
        return cls(told["agent_id"], told["address"], told["key"], told["callback_key"], signer)

    def request(
        self, path: str, document: Mapping[str, Any] | None, *, method: str = "POST"
    ) -> httpx2.Request:
        """A request as the agent sends it: signed, if it signs."""
        body = b"" if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        if self.signer is not None:
            headers = self.signer.headers(method, URL + path, body)
        return httpx2.Request(method, URL + path, content=body, headers=headers | {"X-API-Key": self.key})

    def message(self, type: str, payload: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A LAM message of this agent."""
        return {
            "id": str(uuid4()),
            "ts": "2026-11-24T08:30:00Z",
            "type": type,
            "sender": self.address,
            "to": ["agent://scheduler/cpa"],
            "payload": dict(payload),
        } | more

    async def say(self, home: House, type: str, payload: Mapping[str, Any], **more: Any) -> httpx2.Response:
        """Send a LAM message."""
        return await home.client.send(self.request("/lam/message", self.message(type, payload, **more)))
