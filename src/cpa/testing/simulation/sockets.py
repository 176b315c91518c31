"""A WebSocket over the simulated network: frames in their order, late, and now and then no more of them.

As with TCP nothing is lost between two ends that live: what is cut off is sent again until it comes through, and
who writes faster than the other reads has to wait. But the connection can break between any two frames, and an end
may learn of that late, or only once it says something itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from cpa.testing.simulation.network import SCHEDULER

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

ROOM: Final = 32
"""Frames that may be under way in one direction."""
_OPENING: Final = 10.0
_AGAIN: Final = 0.5
_LEFT: Final = (1006, "")
Ending = tuple[int, str]
"""Close code and reason."""


class _End:
    """What arrived at one end, and whether it knows that the connection is over."""

    def __init__(self) -> None:
        self.arrived: deque[str] = deque()
        self.news = asyncio.Event()
        self.over: Ending | None = None


class Pair:
    """Two ends, each under its party's name."""

    def __init__(self, world: World, agent: str) -> None:
        self._network = world.network
        self._others = {agent: SCHEDULER, SCHEDULER: agent}
        self._ends = {agent: _End(), SCHEDULER: _End()}
        self._ways: dict[str, deque[tuple[float, str | Ending | None]]] = {agent: deque(), SCHEDULER: deque()}
        """By who it is for: frames, the end, or None where the connection breaks."""
        self._broken = False
        self._moved = asyncio.Event()
        """Something was read, or will not be any more."""

    async def send(self, source: str, frame: str) -> None:
        """Raises `OSError` where this end knows that the connection is over."""
        end, target = self._ends[source], self._others[source]
        while self._full(target) and end.over is None and not self._broken:
            self._moved.clear()
            await self._moved.wait()
        if end.over is not None:
            raise OSError("the connection is closed")
        fate = "" if self._broken else self._network.breaks()
        if fate == "before":
            self.shatter()
        elif self._broken or self._ends[target].over is not None:
            self._later(source)  # nobody is there any more, says the other machine
        else:
            self._put(target, frame)
            if fate == "after":
                self._put(target, None)

    async def receive(self, name: str) -> str | Ending:
        """The next frame, or how the connection ended."""
        end = self._ends[name]
        while not end.arrived and end.over is None:
            end.news.clear()
            await end.news.wait()
        if end.arrived:
            self._moved.set()
            return end.arrived.popleft()
        assert end.over is not None
        return end.over

    def close(self, source: str, ending: Ending = _LEFT) -> None:
        """In order: the other end learns of it after all that was said."""
        if self._ends[source].over is None:
            self._learn(source, ending)
            if not self._broken:
                self._put(self._others[source], ending)

    def shatter(self) -> None:
        """Nothing gets through any more; each end learns of it, perhaps."""
        self._broken = True
        self._moved.set()
        for name, end in self._ends.items():
            self._ways[name].clear()
            if end.over is None and not self._network.hides():
                self._later(name)

    def _full(self, target: str) -> bool:
        return len(self._ways[target]) + len(self._ends[target].arrived) >= ROOM

    def _later(self, name: str) -> None:
        self._at(asyncio.get_running_loop().time() + self._network.delay(), self._learn, name, _LEFT)

    def _learn(self, name: str, ending: Ending) -> None:
        end = self._ends[name]
        if end.over is None:
            end.over = ending
            end.news.set()
            self._moved.set()

    def _put(self, target: str, item: str | Ending | None) -> None:
        loop, way = asyncio.get_running_loop(), self._ways[target]
        way.append((max(loop.time() + self._network.delay(), way[-1][0] if way else 0.0), item))
        if len(way) == 1:
            self._at(way[0][0], self._arrive, target)

    def _arrive(self, target: str) -> None:
        loop, way = asyncio.get_running_loop(), self._ways[target]
        if self._broken:
            return
        if not self._network.open(self._others[target], target):
            self._at(loop.time() + _AGAIN, self._arrive, target)
            return
        _, item = way.popleft()
        if item is None:
            self.shatter()
        elif isinstance(item, tuple):
            self._learn(target, item)
        elif self._ends[target].over is None:
            self._ends[target].arrived.append(item)
            self._ends[target].news.set()
        if way:
            self._at(way[0][0], self._arrive, target)

    def _at(self, when: float, happens: Callable[..., None], *what: object) -> None:
        """What is under way stands still with nobody."""
        asyncio.get_running_loop().call_at(when, happens, *what, context=self._network.context())


class _Socket:
    """What `agents.channel` uses of a `ClientConnection`."""

    def __init__(self, pair: Pair, process: Process, life: int) -> None:
        self._pair, self._process, self._life = pair, process, life
        self.transport = self

    async def send(self, text: str) -> None:
        await self._process.awake()
        if not self._process.lives(self._life):
            raise ConnectionClosedError(None, None)
        try:
            await self._pair.send(self._process.name, text)
        except OSError:
            raise ConnectionClosedError(None, None) from None

    async def recv(self) -> str:
        found = await self._pair.receive(self._process.name)
        await self._process.awake()
        if isinstance(found, str):
            return found
        raise ConnectionClosedError(None if found == _LEFT else Close(*found), None)

    def abort(self) -> None:
        self._pair.close(self._process.name)

    def leave(self) -> None:
        """The program is done with it, or dead."""
        if self._process.lives(self._life):
            self._pair.close(self._process.name)
        else:
            self._pair.shatter()


class Dialler:
    """Opens WebSockets from one agent's process to whatever life the scheduler is in."""

    def __init__(self, world: World, process: Process, life: int) -> None:
        self._world, self._process, self._life = world, process, life

    @asynccontextmanager
    async def open(self, where: str, headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
        """`agents.channel.Open`"""
        world, name, network = self._world, self._process.name, self._world.network
        await self._process.awake()
        verdict: asyncio.Future[tuple[int, bytes]] = world.loop.create_future()
        pair = Pair(world, name)
        socket = _Socket(pair, self._process, self._life)
        try:
            async with asyncio.timeout(_OPENING):
                await asyncio.sleep(network.delay())
                if not (network.open(name, SCHEDULER) and network.open(SCHEDULER, name)):
                    await asyncio.Event().wait()
                life = world.life
                if life is None or not life.up:
                    raise ConnectionRefusedError("nobody listens there")
                life.start(_serve(life, pair, _scope(where, headers), verdict))
                status, body = await verdict
            if status:
                raise InvalidStatus(Response(status, "", Headers(), body))
            yield cast("ClientConnection", socket)
        finally:
            socket.leave()


async def _serve(
    life: Life, pair: Pair, scope: dict[str, Any], verdict: asyncio.Future[tuple[int, bytes]]
) -> None:
    """The scheduler's end, as a server has it."""
    greeted, denied = False, 0

    def tell(status: int, body: bytes) -> None:
        if not verdict.done():
            verdict.set_result((status, body))

    async def receive() -> dict[str, Any]:
        nonlocal greeted
        if not greeted:
            greeted = True
            return {"type": "websocket.connect"}
        found = await pair.receive(SCHEDULER)
        if isinstance(found, str):
            return {"type": "websocket.receive", "text": found}
        return {"type": "websocket.disconnect", "code": found[0], "reason": found[1]}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal denied
        if life.dead:
            raise OSError("the process is dead")
        match message["type"]:
            case "websocket.accept":
                tell(0, b"")
            case "websocket.send":
                await pair.send(SCHEDULER, message["text"])
            case "websocket.close":
                tell(403, b"")
                pair.close(SCHEDULER, (message.get("code", 1000), message.get("reason") or ""))
            case "websocket.http.response.start":
                denied = message["status"]
            case "websocket.http.response.body":
                tell(denied, message["body"])

    try:
        await life.app(scope, receive, send)
    finally:
        if life.dead:
            pair.shatter()
        else:
            pair.close(SCHEDULER)


def _scope(where: str, headers: Mapping[str, str]) -> dict[str, Any]:
    parts = urlsplit(where)
    sent = [(b"host", parts.netloc.encode())]
    sent += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": sent,
        "subprotocols": [],
        "client": None,
        "server": None,
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
