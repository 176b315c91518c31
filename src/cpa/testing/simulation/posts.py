"""HTTP over the simulated network: requests and answers are lost, repeated, late, and answered by others.

Between the real client and the real application stands nothing but this. A request may arrive and its answer not,
it may arrive again while the first copy is worked on, or minutes after whoever sent it has given up; what stands in
between may answer 502 instead, whether the request came through or not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2

from cpa.core.lam_protocol import parse
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.network import PATIENCE, SCHEDULER

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.world import World

LEAVES = "http11.send_request_headers.started"
"""What the library says when the first byte is about to leave."""
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class _Site:
    """Who answers somewhere just now."""

    name: str
    """On the network."""
    app: Callable[..., Awaitable[None]]
    start: Callable[[Coroutine[Any, Any, None]], None]
    """Runs something inside that process."""
    lives: Callable[[], bool]
    agent: Process | None = None


class Posts(httpx2.AsyncBaseTransport):
    """The network as one party's HTTP client sees it."""

    def __init__(self, world: World, source: str, awake: Callable[[], Awaitable[None]]) -> None:
        """`awake` returns once the party's process goes on."""
        self._world, self._source, self._awake = world, source, awake

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        network, limits = self._world.network, request.extensions.get("timeout", {})
        await self._awake()
        await request.aread()
        site = _site(self._world, request.url)
        if site is None:
            raise httpx2.ConnectError("nobody listens there")
        if not (network.open(self._source, site.name) and network.open(site.name, self._source)):
            await asyncio.sleep(limits.get("connect") or PATIENCE)
            raise httpx2.ConnectTimeout("nobody answers")
        if (trace := request.extensions.get("trace")) is not None:
            await trace(LEAVES, {})
        answer: asyncio.Future[Answered] = self._world.loop.create_future()
        upset = network.upset()
        if upset not in ("502 before", "reset before"):
            network.send(self._source, site.name, lambda: self._arrive(request, answer))
        patience = limits.get("read") or PATIENCE
        if upset:
            delay = network.delay()
            await asyncio.sleep(min(delay, patience))
            if delay > patience:
                raise httpx2.ReadTimeout("no answer")
            if upset.startswith("502"):
                return httpx2.Response(502, text="bad gateway")
            raise httpx2.ReadError("the connection was reset")
        try:
            async with asyncio.timeout(patience):
                status, headers, content = await answer
        except TimeoutError:
            raise httpx2.ReadTimeout("no answer") from None
        await self._awake()
        return httpx2.Response(status, headers=headers, content=content)

    def _arrive(self, request: httpx2.Request, answer: asyncio.Future[Answered]) -> None:
        """A copy of the request is there."""
        site = _site(self._world, request.url)
        if site is not None:
            if site.agent is not None and request.url.path == "/tasks":
                again = partial(self._arrive, request, self._world.loop.create_future())
                site.agent.echoes.arrived(parse(request.content), again)
            site.start(self._serve(site, request, answer))

    async def _serve(self, site: _Site, request: httpx2.Request, answer: asyncio.Future[Answered]) -> None:
        answered = await _exchange(site.app, request)
        if not site.lives():
            return
        _judge(self._world, site.name, request, answered)

        def told() -> None:
            if not answer.done():
                answer.set_result(answered)

        self._world.network.send(site.name, self._source, told)


def _site(world: World, url: httpx2.URL) -> _Site | None:
    life, where = world.life, f"http://{url.host}:{url.port}"
    if url.host == SCHEDULER:
        if life is None or not life.up:
            return None
        return _Site(SCHEDULER, life.app, life.start, lambda: not life.dead)
    for process in world.processes:
        if process.app is not None and process.endpoint == where:
            lives = partial(process.lives, process.number)
            return _Site(process.name, process.app, process.start, lives, process)
    return None


async def _exchange(app: Callable[..., Awaitable[None]], request: httpx2.Request) -> Answered:
    """What the application says to one copy of the request."""
    given, status, content = False, 0, b""
    headers: list[tuple[bytes, bytes]] = []

    async def receive() -> dict[str, Any]:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": request.content, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers, content
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            content += message.get("body", b"")

    await app(_scope(request), receive, send)
    return status, headers, content


def _judge(world: World, name: str, request: httpx2.Request, answered: Answered) -> None:
    """What was said to a message is true by now: it is stored, or the agent has it."""
    if request.method != "POST" or request.url.path not in ("/tasks", "/lam/message"):
        return
    status, _, content = answered
    message = json.loads(request.content)
    replayed = status == 409 and json.loads(content).get("code") == "replayed"
    if replayed:
        world.seen["replays"] += 1
    if not (200 <= status < 300 or replayed):
        return
    if name == SCHEDULER:
        kept = ("default", message["sender"], message["id"]) in world.journal.inbox
    else:
        kept = message["id"] in world.agents[message["to"][0]].heard
    if not kept:
        told = (
            f"{message['type']} {message['id']} is answered with {status} by {name}, which does not have it"
        )
        world.violated(Violation("durable", told))


def _scope(request: httpx2.Request) -> dict[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "root_path": "",
        "query_string": url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": None,
        "server": None,
        "state": {},
    }
