"""The line of an agent that nobody can call: a WebSocket it opens itself, and opens again whenever it breaks.

The frames are those of docs/lam.md. What the scheduler sent is acknowledged by its number once it was taken, in
order; what we say lasts until its number was acknowledged. After a break the agent names the stream and the number
it has, and says everything again that was not acknowledged: messages keep their ids, so nothing counts twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from cpa.agents.client import LATE, Unreachable, beat_body, longer
from cpa.agents.line import heed
from cpa.agents.signing import Signer
from cpa.core.ids import fraction
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.errors import CPAError, InvalidDocument, Unauthorized, Unavailable
from cpa.ports.agents import Beat

log = structlog.get_logger(__name__)

_OPENING: Final = 10.0
_FRAME: Final = 1024 * 1024 + 64 * 1024
_VOLATILE: Final = 100
"""Words that may wait in vain for a slow connection."""
_FINAL: Final = (400, 401, 403, 404, 409, 410, 422)
"""What trying again does not change."""

Hear = Callable[[BaseMessage], Coroutine[Any, Any, None]]
Acknowledged = Callable[[str, str, Mapping[str, Any] | None], None]
"""`Conversations.acknowledged`"""
Open = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[ClientConnection]]
"""(address, headers) → the WebSocket, closed at the end of the block."""


def opened_at(where: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[ClientConnection]:
    """A WebSocket over the network."""
    return connect(
        where,
        additional_headers=headers,
        open_timeout=_OPENING,
        close_timeout=1.0,
        ping_interval=None,  # Beats and their answers tell whether it lives.
        max_size=_FRAME,
        compression=None,
        proxy=None,
    )


class Channel:
    """One agent's channel. `run` keeps it open; `say` and `beat` may be called at any time."""

    def __init__(
        self,
        url: str,
        key: str,
        agent: str,
        life: str,
        hear: Hear,
        acknowledged: Acknowledged,
        *,
        opened: Callable[[], None] = lambda: None,
        patience: float = 10.0,
        signer: Signer | None = None,
        open: Open = opened_at,
    ) -> None:
        """`agent` is its id, `life` its instance. `opened` is called whenever the channel is open (again);
        `patience`: seconds within which a beat is answered, else the channel counts as broken. `signer` seals
        every frame."""
        self._where, self._headers = _address(url, agent), {"X-API-Key": key}
        self._life = life
        self._hear, self._acknowledged, self._opened = hear, acknowledged, opened
        self.patience = patience
        self._signer = signer
        self._open = open
        self._stream, self._cursor = "", 0
        self._hearing: deque[tuple[str, int, asyncio.Task[None]]] = deque()
        self._lasting: OrderedDict[str, BaseMessage] = OrderedDict()
        """By id: what is not acknowledged, in the order in which it was said."""
        self._connection: _Connection | None = None
        self._group = asyncio.TaskGroup()

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        """See `line.Line`."""
        if lasting:
            if str(message.id) in self._lasting:
                return
            self._lasting[str(message.id)] = message
        if self._connection is not None:
            self._connection.say(message, lasting=lasting)

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        """Send a beat before everything else; its answer. `Unreachable` when the channel is closed or breaks."""
        connection = self._connection
        if connection is None:
            raise _closed()
        try:
            async with asyncio.timeout(self.patience):
                return await connection.beat(beat)
        except TimeoutError:
            connection.abort()
            raise _closed() from None

    async def run(self) -> None:
        """Keep the channel open until cancelled. Raises the `CPAError` that no further try can mend."""
        async with self._group:
            pause, tries = 0.0, 0
            while True:
                tries += 1
                began = 0 if self._signer is None else self._signer.now()
                try:
                    await self._once()
                except (OSError, TimeoutError, WebSocketException, CPAError) as error:
                    if (problem := _final(error)) is not None and not self._late(problem, began):
                        raise problem from error
                    log.info("channel_closed", to=self._where, error=str(error) or type(error).__name__)
                if self._connection is not None:
                    self._connection, pause = None, 0.0
                pause = longer(pause)
                # Spread, so that many agents do not come back at once.
                await asyncio.sleep(pause * (0.75 + 0.5 * fraction(self._life, tries)))

    # -- one connection ------------------------------------------------------------------------------------

    async def _once(self) -> None:
        """Open the channel and serve it until it closes."""
        async with self._open(self._where, self._headers) as socket:
            seal = self._sealing()
            cursor = await self._greet(socket, seal)
            connection = _Connection(socket, cursor, self._acknowledged, self._settled, seal)
            for message in self._lasting.values():
                connection.say(message, lasting=True)
            self._connection = connection
            log.info("channel_open", to=self._where)
            self._opened()
            # No group of tasks: cancelled while one of them fails it tells only of that, until Python 3.13.
            sides = [
                asyncio.create_task(connection.write()),
                asyncio.create_task(connection.read(self._receive)),
            ]
            try:
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for side in sides:
                    side.cancel()
                ends = await asyncio.gather(*sides, return_exceptions=True)
                connection.close()
            # What the scheduler said about it counts for more than that the socket is closed.
            errors = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
            raise min(filter(None, errors), key=lambda error: not isinstance(error, CPAError))

    def _late(self, problem: CPAError, began: int) -> bool:
        """Whether the signature may have been good when it was made: then the next one tells."""
        signer = self._signer
        return signer is not None and isinstance(problem, Unauthorized) and signer.now() - began >= LATE

    def _sealing(self) -> Callable[[str], str]:
        """What is done to each frame of a new connection."""
        if self._signer is None or not self._signer.key:
            return lambda frame: frame
        return self._signer.channel(urlsplit(self._where).path)

    async def _greet(self, socket: ClientConnection, seal: Callable[[str], str]) -> int:
        """Say where we are; the number of our last word that the scheduler has."""
        hello = {"stream": self._stream, "cursor": self._cursor, "instance": self._life}
        await socket.send(seal(json.dumps({"hello": hello})))
        async with asyncio.timeout(_OPENING):
            frame = _loaded(await socket.recv())
        told = frame.get("hello")
        if "status" in frame and "code" in frame:
            raise CPAError.of_problem(int(frame["status"]), frame)
        if not isinstance(told, dict):
            raise _garbled("the scheduler did not say hello")
        if told.get("stream") != self._stream:
            self._stream, self._cursor = str(told.get("stream", "")), 0
        return _number(told, "cursor") if told.get("cursor") else 0

    def _receive(self, number: int, document: Mapping[str, Any]) -> None:
        """A message of the scheduler."""
        try:
            work = self._hear(parse(document))
        except InvalidDocument as error:
            log.error("unreadable_message", number=number, error=str(error))
            work = _nothing()
        task = self._group.create_task(work)
        self._hearing.append((self._stream, number, task))
        task.add_done_callback(self._heard)

    def _heard(self, _task: asyncio.Task[None]) -> None:
        """Acknowledge what was taken, in order."""
        number = 0
        while self._hearing and self._hearing[0][2].done():
            stream, taken, _ = self._hearing.popleft()
            if stream == self._stream:
                number = self._cursor = taken
        if number and self._connection is not None:
            self._connection.acknowledge(number)

    def _settled(self, message: str) -> None:
        self._lasting.pop(message, None)


class _Connection:
    """One open channel."""

    def __init__(
        self,
        socket: ClientConnection,
        number: int,
        acknowledged: Acknowledged,
        settled: Callable[[str], None],
        seal: Callable[[str], str],
    ) -> None:
        self._socket, self._seal = socket, seal
        self._number = number
        self._tell, self._settled = acknowledged, settled
        self._outgoing: deque[tuple[BaseMessage, bool]] = deque()
        self._numbers: dict[int, BaseMessage] = {}
        """What lasts and was said, by number."""
        self._beats: deque[tuple[Beat, asyncio.Future[Mapping[str, Any]]]] = deque()
        self._answers: deque[asyncio.Future[Mapping[str, Any]]] = deque()
        self._taken = 0
        """The number to acknowledge next; 0 is none."""
        self._news = asyncio.Event()
        self._closed = False

    def say(self, message: BaseMessage, *, lasting: bool) -> None:
        if lasting or len(self._outgoing) < _VOLATILE:
            self._outgoing.append((message, lasting))
            self._news.set()

    def acknowledge(self, number: int) -> None:
        self._taken = number
        self._news.set()

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        if self._closed:
            raise _closed()
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._beats.append((beat, answer))
        self._news.set()
        return await answer

    def abort(self) -> None:
        self._socket.transport.abort()

    def close(self) -> None:
        """Nothing more is answered."""
        self._closed = True
        for answer in (*self._answers, *(answer for _, answer in self._beats)):
            if not answer.done():
                answer.set_exception(_closed())

    async def write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while (frame := self._next()) is not None:
                await self._socket.send(self._seal(frame))

    def _next(self) -> str | None:
        """The next frame: beats first, then acknowledgements."""
        if self._beats:
            beat, answer = self._beats.popleft()
            self._answers.append(answer)
            return json.dumps({"beat": beat_body(beat)})
        if self._taken:
            number, self._taken = self._taken, 0
            return json.dumps({"ack": number})
        if self._outgoing:
            message, lasting = self._outgoing.popleft()
            self._number += 1
            if lasting:
                self._numbers[self._number] = message
            return f'{{"seq":{self._number},"message":{message.to_json().decode()}}}'
        return None

    async def read(self, receive: Callable[[int, Mapping[str, Any]], None]) -> None:
        """Until the connection ends, which is raised."""
        while True:
            frame = _loaded(await self._socket.recv())
            if "message" in frame:
                receive(_number(frame, "seq"), frame["message"])
            elif "ack" in frame:
                self._heard(_number(frame, "ack"), frame)
            elif "lost" in frame:
                if self._answers and not (answer := self._answers.popleft()).done():
                    answer.set_result(frame)
            elif "status" in frame and "code" in frame:
                raise CPAError.of_problem(int(frame["status"]), frame)

    def _heard(self, number: int, told: Mapping[str, Any]) -> None:
        message = self._numbers.pop(number, None)
        if message is None:
            return
        problem = told.get("problem")
        if problem is not None and (problem.get("retryable") or problem.get("status", 0) >= 500):
            asyncio.get_running_loop().call_later(1.0, lambda: self.say(message, lasting=True))
            return
        self._settled(str(message.id))
        heed(message, told)
        self._tell(str(message.id), str(told.get("effect", "")), problem)


def _address(url: str, agent: str) -> str:
    scheme, host, path, *_ = urlsplit(url)
    where = f"{path.rstrip('/')}/agents/{quote(agent, safe='')}/channel"
    return urlunsplit(("wss" if scheme == "https" else "ws", host, where, "", ""))


def _loaded(frame: str | bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(frame)
    except ValueError as error:
        raise _garbled("a frame of the scheduler is no JSON") from error
    if not isinstance(found, dict):
        raise _garbled("a frame of the scheduler is no object")
    return found


def _garbled(what: str) -> Unavailable:
    """Perhaps the next connection is better."""
    return Unavailable(what, field="frame", remedy="check what stands between agent and scheduler")


def _number(frame: Mapping[str, Any], name: str) -> int:
    if not isinstance(number := frame.get(name), int):
        raise _garbled(f"a frame of the scheduler has no number in {name}")
    return number


def _final(error: BaseException) -> CPAError | None:
    """What no further try can mend; None for what may pass."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        try:
            body = json.loads(error.response.body or b"")
        except ValueError:
            body = None
        return CPAError.of_problem(status, body) if status in _FINAL else None
    if isinstance(error, ConnectionClosed):
        received = error.rcvd
        if received is not None and received.code - 4000 in _FINAL:
            return CPAError.of_status(received.code - 4000)(
                f"the scheduler closed the channel: {received.reason or received.code}"
            )
        return None
    if isinstance(error, CPAError) and not error.retryable and error.status in _FINAL:
        return error
    return None


def _closed() -> Unreachable:
    return Unreachable("the channel to the scheduler is closed", remedy="it is opened again by itself")


async def _nothing() -> None: ...
