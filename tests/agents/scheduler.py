"""A scheduler that does what a test says, on a real socket: the far side of the wire, as agents see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from cpa.core.ids import derived_id
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.demo.serving import serve
from cpa.errors import Conflict, CPAError, NotFound, Unauthorized, Unavailable
from cpa.ports.signatures import Frames

ADMIN = "admin-key"
KEY = "agent-key"
CALLBACK = "callback-key"
BEAT = 0.1
LEASE = 0.3


@dataclass(eq=False)
class FakeScheduler:
    """Takes everything, remembers it, and answers as it is told."""

    url: str = ""
    address: str = ""
    key: str = KEY
    """What it accepts of the agent."""
    registrations: list[dict[str, Any]] = field(default_factory=list)
    beats: list[dict[str, Any]] = field(default_factory=list)
    messages: list[BaseMessage] = field(default_factory=list)
    """Every message that came in, also the same one again."""
    order: list[str] = field(default_factory=list)
    """What happened, in its order: `register`, `beat`, and types of messages."""
    lost: list[dict[str, Any]] = field(default_factory=list)
    """Told with the next beat."""
    problem: CPAError | None = None
    """What every message is refused with."""
    beat_problem: CPAError | None = None
    unregistered: int = 0
    """So many registrations are taken, and their answers lost."""
    withheld: tuple[str, ...] = ()
    """What it was not enrolled for."""
    state: str = "active"
    deaf: bool = False
    """Beats and messages are read, and not answered."""
    unacknowledged: bool = False
    """Messages are read and kept, and not acknowledged."""
    agree: str = "task_started"
    """What `agree` does."""
    left_out: tuple[str, ...] = ()
    """What is not kept of the files that come with `done`."""
    lease: float = LEASE
    """What beats are answered with."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the end: who waits for ever may go."""
    hellos: list[dict[str, Any]] = field(default_factory=list)
    stream: str = "stream-1"
    acks: list[int] = field(default_factory=list)
    outgoing: dict[int, BaseMessage] = field(default_factory=dict)
    """What was pushed into the channel and is not acknowledged, by number."""
    number: int = 0
    frames: Callable[[], Frames] | None = None
    """Opens sealed frames, for an agent that signs; called for each connection."""
    channel: WebSocket | None = None
    channels: int = 0

    # -- for tests -----------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Any], what: str = "it", *, seconds: float = 10.0) -> None:
        """Wait until it holds."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{what} did not happen within {seconds:g} s; {self.order[-20:]}") from None

    def types(self, *, task: str = "") -> list[str]:
        """The types of the messages so far, each message once; `confirm` and the like too."""
        seen = {each.id: each for each in self.messages if not task or each.correlation.task_id == task}
        return [each.type for each in seen.values()]

    def of_type(self, *types: str) -> list[BaseMessage]:
        return [each for each in self.messages if each.type in types]

    def request(self, action: str, /, *, task: str = "t", epoch: int = 1, **more: Any) -> BaseMessage:
        """What the scheduler would send; `more` goes into the payload."""
        kind = "verify" if more.get("verify") else "request"
        cause = ("default", "job-1", task, epoch, kind, more.get("look", 0))
        payload = {"action": action, "arguments": {}, "timeout": 20.0, "lease": LEASE} | more
        return self._message("request", derived_id(*cause), task, epoch, payload)

    def cancel(self, task: str = "t", epoch: int = 1) -> BaseMessage:
        id = derived_id("default", "job-1", task, epoch, "cancel")
        return self._message("cancel", id, task, epoch, {"reason": "stop"})

    def job_ended(self) -> BaseMessage:
        document = self._message("inform", derived_id("ended"), "", 0, {"message": "job_ended"}).to_dict()
        document["correlation"] = {"conversationId": "c", "jobId": "job-1"}
        return parse(document)

    def discover(self, action: str) -> BaseMessage:
        return self._message("discover", derived_id("discover", action), "t", 1, {"action": action})

    def _message(self, type: str, id: Any, task: str, epoch: int, payload: dict[str, Any]) -> BaseMessage:
        return parse(
            {
                "id": str(id),
                "ts": datetime.now(UTC).isoformat(),
                "type": type,
                "sender": "agent://scheduler/cpa",
                "to": [self.address],
                "payload": payload,
                "context": {"tenant": "default"},
                "correlation": {
                    "conversationId": str(derived_id("default", "job-1", task, epoch, "conversation")),
                    "jobId": "job-1",
                    "taskId": task or "t",
                    "epoch": epoch,
                },
            }
        )

    async def push(self, *messages: BaseMessage) -> None:
        """Into the channel, now or when it is opened."""
        for message in messages:
            self.number += 1
            self.outgoing[self.number] = message
            if self.channel is not None:
                await self._send({"seq": self.number, "message": message.to_dict()})

    async def cut(self) -> None:
        """Close the channel, as a network does."""
        socket, self.channel = self.channel, None
        if socket is not None:
            await socket.close(1012)

    # -- the doors -----------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/agents/register", self._register, methods=["POST"]),
                Route("/agents/{id}/heartbeat", self._beat, methods=["POST"]),
                Route("/lam/message", self._take, methods=["POST"]),
                WebSocketRoute("/agents/{id}/channel", self._open),
            ],
            exception_handlers={CPAError: _render},
        )

    async def _register(self, request: Request) -> Response:
        said, key = await request.json(), request.headers.get("x-api-key")
        if key not in (ADMIN, KEY) and request.headers.get("x-enrolment-token") != "token":
            raise Unauthorized("no key")
        if (
            any(known["name"] == said["name"] and known != said for known in self.registrations)
            and key != KEY
        ):
            raise Conflict("the name is another's", field="name")
        self.registrations.append(said)
        self.order.append("register")
        if self.unregistered:
            self.unregistered -= 1
            raise Unavailable("somebody on the way could not hand on the answer", remedy="ask again")
        self.address = f"agent://{said['type'].lower()}/{said['name']}"
        return JSONResponse(
            {
                "agent_id": "ag_1",
                "address": self.address,
                "state": "active",
                "heartbeat_interval": BEAT,
                "lease": LEASE,
                "key": None if key == KEY else KEY,
                "callback_key": CALLBACK,
                "key_id": "default/ag_1",
                "withheld": self.withheld,
            }
        )

    async def _beat(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(await self._beaten(await request.json()))

    async def _beaten(self, beat: dict[str, Any]) -> dict[str, Any]:
        self.beats.append(beat)
        self.order.append("beat")
        if self.beat_problem is not None:
            raise self.beat_problem
        if self.deaf:
            await self.released.wait()
        lost, self.lost = self.lost, []
        return {"lost": lost, "state": self.state, "heartbeat_interval": BEAT, "lease": self.lease}

    async def _take(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(await self._taken(await request.json()))

    async def _taken(self, document: dict[str, Any]) -> dict[str, Any]:
        message = parse(document)
        self.messages.append(message)
        self.order.append(message.type)
        if self.problem is not None:
            raise self.problem
        if self.deaf or self.unacknowledged:
            await self.released.wait()
        effect = self.agree if message.type == "agree" else "taken"
        told = {"message_id": str(message.id), "new": True, "effect": effect, "job": ""}
        return told | {"left_out": self.left_out} if message.type == "done" else told

    def _check(self, request: Request) -> None:
        if request.headers.get("x-api-key") != self.key:
            raise Unauthorized("not this key")
        if request.path_params.get("id", "ag_1") != "ag_1":
            raise NotFound("no such agent")

    async def _open(self, socket: WebSocket) -> None:
        if socket.headers.get("x-api-key") != self.key:
            await socket.send_denial_response(_render(None, Unauthorized("not this key")))
            return
        await socket.accept()
        frames = self.frames() if self.frames is not None else None

        async def heard() -> Any:
            text = await socket.receive_text()
            return json.loads(text if frames is None else frames.take(text)[0])

        hello = (await heard())["hello"]
        self.hellos.append(hello)
        self.order.append("hello")
        self.channels += 1
        self.channel = socket
        await self._send({"hello": {"stream": self.stream, "cursor": 0}})
        if hello["stream"] == self.stream:
            self.outgoing = {n: each for n, each in self.outgoing.items() if n > hello["cursor"]}
        for number, message in list(self.outgoing.items()):
            await self._send({"seq": number, "message": message.to_dict()})
        works: set[asyncio.Task[None]] = set()
        try:
            while True:
                work = asyncio.create_task(self._frame(await heard()))
                works.add(work)
                work.add_done_callback(works.discard)
        except WebSocketDisconnect:
            if self.channel is socket:
                self.channel = None
        finally:
            for work in works:
                work.cancel()

    async def _frame(self, frame: dict[str, Any]) -> None:
        if "ack" in frame:
            self.acks.append(frame["ack"])
            self.outgoing = {n: each for n, each in self.outgoing.items() if n > frame["ack"]}
        elif "beat" in frame:
            await self._send(await self._beaten(frame["beat"]))
        else:
            try:
                answer = await self._taken(frame["message"])
            except CPAError as error:
                answer = {"problem": error.problem()}
            await self._send({"ack": frame["seq"]} | answer)

    async def _send(self, frame: dict[str, Any]) -> None:
        if self.channel is not None:
            await self.channel.send_text(json.dumps(frame))


def _render(_request: Request | None, error: Exception) -> Response:
    assert isinstance(error, CPAError)
    return JSONResponse(error.problem(), error.status, media_type="application/problem+json")


@asynccontextmanager
async def scheduling(port: int = 0, scheduler: FakeScheduler | None = None) -> AsyncIterator[FakeScheduler]:
    """The scheduler, answering."""
    scheduler = scheduler or FakeScheduler()
    async with serve(scheduler.app(), port=port) as url:
        scheduler.url = url
        yield scheduler
        scheduler.released.set()
        await scheduler.cut()
