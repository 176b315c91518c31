"""`WS /agents/{agent_id}/channel`: an agent behind a firewall gets its tasks here, and answers here.

The agent says who it is by `X-API-Key`, and first of all where it was:

    agent      {"hello": {"stream": "…", "cursor": 7, "instance": "…"}}
    scheduler  {"hello": {"stream": "…", "cursor": 0}}
    scheduler  {"seq": 8, "message": {…}}          a LAM message
    agent      {"ack": 8}                          it took everything up to this number
    agent      {"seq": 3, "message": {…}}          a LAM message, numbered within this connection
    scheduler  {"ack": 3, "effect": "task_succeeded", "new": true}    once it is durable; or with a "problem"
    agent      {"beat": {…}}                       as `POST /agents/{agent_id}/heartbeat`
    scheduler  {"lost": […], "state": "active", "heartbeat_interval": 5.0, "lease": 15.0}    the answer to a beat

What was not acknowledged is sent again on the next channel, by both sides: messages keep their ids, so nothing
counts twice. An agent that registered a public key signs every frame; the channel that was open when it did is
closed with 1013, for it to open another. Its key and its state are looked at again and again: the channel of one
that is revoked is closed. In quarantine it stays open, so that the agent learns what to stop; what it says then is
logged and changes nothing, as over HTTP. Close codes are 4000 + HTTP status, after a problem document, and 1013 for
what may be better later; 4409 also when another channel of the same agent took this one's place.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import WebSocket
from pydantic import Field
from starlette.websockets import WebSocketDisconnect, WebSocketState

from cpa.api.agents import Heartbeat, beat_answer, beat_of
from cpa.api.bodies import Body, decode, parsed
from cpa.api.lam import take
from cpa.api.live import GREETING, RECHECK, STALLED, accept, check_origin, refuse
from cpa.api.route import KEY_HEADER, DirectRouter
from cpa.api.services import ApiServices, services_of
from cpa.core.documents import MAX_BYTES
from cpa.errors import (
    BadInput,
    Conflict,
    CPAError,
    Forbidden,
    InternalError,
    InvalidDocument,
    TooLarge,
    Unavailable,
)
from cpa.orchestrator.registration import check_key
from cpa.ports.agents import AgentRecord
from cpa.ports.keys import Caller, Scope
from cpa.security.auth import require
from cpa.transport.channel import Connection

log = structlog.stdlib.get_logger("cpa.api")
router = DirectRouter()

AT_ONCE = 64
"""Messages of one agent that are worked on, or whose answers it has not taken, at the same time."""
_LEFT = 1006
"""The close code of a connection that broke."""
_REASON = 200
"""Signs of a reason that are logged."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Hello(Body):
    """Where an agent was when its last channel closed."""

    stream: str = Field(default="", max_length=64)
    cursor: int = Field(default=0, ge=0, le=2**53)
    instance: str = Field(default="", max_length=100)


_ABSENT = msgspec.Raw()


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent may say: hello, ack, beat, or seq and message. What is in it is looked at later: a message that
    nobody understands is answered, and does not end the channel."""

    hello: msgspec.Raw = _ABSENT
    ack: Number | None = None
    beat: msgspec.Raw = _ABSENT
    seq: Number | None = None
    message: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(Frame).decode


def _kinds(frame: Frame) -> list[str]:
    """What a frame says: of two things one would be lost without a word."""
    said = {
        "hello": frame.hello is not _ABSENT,
        "ack": frame.ack is not None,
        "beat": frame.beat is not _ABSENT,
        "message": frame.message is not _ABSENT or frame.seq is not None,
    }
    return [name for name, there in said.items() if there]


@router.websocket("/agents/{agent_id}/channel")
async def open_channel(socket: WebSocket, agent_id: str) -> None:
    """See the top of this file."""
    try:
        await _Channel(socket, services_of(socket), agent_id).run()
    except CPAError as error:
        _note("channel_refused", agent_id, error)
        await refuse(socket, error)
    except WebSocketDisconnect:
        log.debug("agent_left", path=socket.url.path)
    except TimeoutError:
        log.warning("agent_reads_nothing", path=socket.url.path)
    except Exception as error:
        log.exception("unexpected_error", path=socket.url.path)
        await refuse(socket, InternalError(f"unexpected {type(error).__name__}"))


def _note(event: str, agent: str, error: CPAError) -> None:
    """One line about a refusal, without the value that is wrong: it may be a secret."""
    log.info(event, agent=agent, code=error.code, reason=error.message[:_REASON])


class _Channel:
    """One open channel."""

    def __init__(self, socket: WebSocket, services: ApiServices, agent_id: str) -> None:
        self._socket, self._services, self._id = socket, services, agent_id
        self._key = socket.headers.get(KEY_HEADER, "")
        self._sending = asyncio.Lock()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._works: set[asyncio.Task[None]] = set()
        self._defect: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        check_origin(self._socket, self._services)
        caller = await self._identify()
        await self._record(caller)
        self._frames = self._services.signatures.frames(caller, self._socket.url.path)
        await accept(self._socket)
        hello = await self._hello(caller)
        # It may have come late: by now the key may be dead, or another process have registered.
        record = await self._record(await self._identify())
        if record.instance and hello.instance != record.instance:
            raise Conflict(
                "another process of this agent has registered",
                field="hello.instance",
                value=hello.instance,
                remedy="register again, then open the channel with that instance",
            )
        connection = self._services.channels.open(record, hello.stream, hello.cursor)
        try:
            await self._send({"hello": {"stream": connection.stream, "cursor": 0}})
            async with self._services.shutdown.patience(None):
                await self._serve(caller, connection)
                return
            raise Unavailable("the server is stopping", remedy="open the channel again with its cursor")
        finally:
            self._services.channels.close(record, connection)

    async def _record(self, caller: Caller) -> AgentRecord:
        record, agent = await self._services.agents.get(caller, self._id)
        if caller.name != record.address or agent is None:
            raise Forbidden(
                "a channel is opened by the agent itself",
                field="agent_id",
                value=self._id,
                remedy=f"this key speaks for {caller.name}",
            )
        check_key(record, caller)
        if record.endpoint:
            raise Conflict(
                "this agent is called at its endpoint",
                field="endpoint",
                value=record.endpoint,
                remedy="register without an endpoint to open a channel instead",
            )
        return record

    async def _hello(self, caller: Caller) -> Hello:
        try:
            async with asyncio.timeout(GREETING):
                frame = await self._receive(caller)
        except TimeoutError:
            frame = Frame()
        if not bytes(frame.hello):
            raise BadInput("the first frame says hello", field="hello", remedy='send {"hello": {}}')
        return parsed(bytes(frame.hello), Hello)[0]

    async def _serve(self, caller: Caller, connection: Connection) -> None:
        """Until the agent leaves, its key is revoked, or another channel takes its place."""
        sides: list[asyncio.Future[None]] = [
            asyncio.create_task(self._listen(caller, connection)),
            asyncio.create_task(self._push(connection)),
            asyncio.create_task(self._recheck(caller)),
            asyncio.create_task(self._replaced(caller, connection)),
            self._defect,
        ]
        try:
            done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
            if self._works:
                # What was begun is finished: said again in the middle of it, it would be new once more.
                await asyncio.wait(self._works, timeout=STALLED)
        for side in done:
            side.result()

    async def _push(self, connection: Connection) -> None:
        while True:
            for number, message in await connection.following():
                await self._send({"seq": number, "message": message.to_dict()})

    async def _replaced(self, caller: Caller, connection: Connection) -> None:
        await connection.closed.wait()
        await self._identify()
        await self._record(caller)
        raise Conflict(
            "another channel of this agent was opened, or it registered anew",
            field="agent_id",
            remedy="let one process be this agent; others need names of their own",
        )

    async def _recheck(self, caller: Caller) -> None:
        while True:
            await asyncio.sleep(RECHECK)
            await self._identify()
            await self._record(caller)
            self._frames.check()

    async def _identify(self) -> Caller:
        caller = await self._services.keys.identify(self._key)
        require(caller, Scope.AGENT)
        return caller

    async def _listen(self, caller: Caller, connection: Connection) -> None:
        while True:
            try:
                frame = await self._receive(caller)
            except WebSocketDisconnect:
                return
            if frame.ack is not None:
                connection.acknowledge(frame.ack)
            elif bytes(frame.beat):
                beat = beat_of(parsed(bytes(frame.beat), Heartbeat)[0])
                answer = await self._services.agents.heartbeat(caller, self._id, beat)
                await self._send(beat_answer(answer))
            elif bytes(frame.message) and frame.seq is not None:
                await self._room.acquire()
                work = asyncio.create_task(self._take(caller, frame.seq, bytes(frame.message)))
                self._works.add(work)
                work.add_done_callback(self._finished)
            else:
                raise BadInput(
                    "this frame says nothing that is known here", remedy="send ack, beat, or seq and message"
                )

    def _finished(self, work: asyncio.Task[None]) -> None:
        """A defect met while a message was worked on ends the channel, as any other does."""
        # Only once it was answered: who speaks and does not listen is not listened to either.
        self._room.release()
        self._works.discard(work)
        error = None if work.cancelled() else work.exception()
        if error is None:
            return
        if self._defect.done():
            # The channel has ended already: this one says it in the log.
            log.error("unexpected_error", path=self._socket.url.path, exc_info=error)
        else:
            self._defect.set_exception(error)

    async def _take(self, caller: Caller, seq: int, raw: bytes) -> None:
        try:
            document = decode(raw)
            if not isinstance(document, dict):
                raise InvalidDocument("a message is a JSON object", field="message", remedy="send an object")
            done = await take(self._services, document, len(raw), caller)
            answer: dict[str, Any] = {"ack": seq, "effect": done.effect, "new": done.new}
            if done.left_out:
                answer["left_out"] = done.left_out
        except CPAError as error:
            _note("message_refused", self._id, error)
            answer = {"ack": seq, "problem": error.problem()}
        await self._send(answer)

    async def _receive(self, caller: Caller) -> Frame:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(_LEFT)  # an answer found nobody any more
        try:
            raw = await self._socket.receive_text()
        except KeyError:
            raise BadInput("frames are text", remedy="send JSON") from None
        text, nonce = self._frames.take(raw)
        if nonce is not None:
            await self._services.engine.remember(caller.tenant, nonce=nonce)
        frame = text.encode("utf-8", "surrogatepass")
        if len(frame) > MAX_BYTES:
            raise TooLarge("a frame has at most 1 MiB", field="frame", remedy="pass files as artifacts")
        try:
            found = _decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = "it is nested too deep" if isinstance(error, RecursionError) else error
            raise BadInput(
                f"this is no frame: {why}", field="frame", remedy="send ack, beat, or seq and message"
            ) from None
        if len(kinds := _kinds(found)) > 1:
            raise BadInput(
                "a frame says one thing",
                field="frame",
                value=", ".join(kinds),
                remedy="send ack, beat, or seq and message, each in a frame of its own",
            )
        return found

    async def _send(self, frame: dict[str, Any]) -> None:
        async with self._sending, asyncio.timeout(STALLED):
            with suppress(RuntimeError, WebSocketDisconnect):  # closed meanwhile: the reading side says so
                await self._socket.send_text(msgspec.json.encode(frame).decode())
