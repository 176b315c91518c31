"""Serving the app: uvicorn, with open streams ended before it waits for them."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cpa.api.live import GOING_AWAY
from cpa.api.services import ApiServices
from cpa.errors import BadInput, Unavailable

__all__ = ["GOING_AWAY", "Server", "listen", "serve"]

_FRAME: Final = 2 * 1024 * 1024 + 64 * 1024
"""Bytes of the largest WebSocket frame taken: an agent's, of 1 MiB, sealed as a text within it."""
_GREETING: Final = 64 * 1024
"""Bytes of the first message of a WebSocket: until it is read nobody knows who speaks."""
_CLOSING: Final = 2.0
"""Seconds a WebSocket that was told to close is kept for the other side: for its word, or to take what is left."""
_GRACE: Final = 0.05
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_LINE: Final = 2048
_SILENCE: Final = 10.0
"""Seconds a request's head may take to arrive."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. `Unavailable` when the address cannot be had, `BadInput` for no
    address."""
    if not host.strip():
        raise BadInput(
            "there is no address to listen on",
            field="host",
            remedy="name one, such as 127.0.0.1; 0.0.0.0 is every address of this machine, on purpose",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is; without, each answer on a kept
    # connection waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_LINE)
    except socket.gaierror as error:
        bound.close()
        raise BadInput(
            f"there is no such address: {error.strerror or error}",
            field="host",
            value=host,
            remedy="name one of this machine, such as 127.0.0.1",
        ) from error
    except OSError as error:
        bound.close()
        raise Unavailable(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            field="port",
            value=f"{host}:{port}",
            remedy="choose another --port (0 picks a free one), or stop what listens there",
        ) from error
    return bound


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that holds little before anybody is known, and nothing after its end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.close_timeout = _CLOSING
        self.conn.max_message_size = _GREETING
        self._cut: asyncio.TimerHandle | None = None

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(self.frames):
            # uvicorn does the same, and logs a traceback for whoever sends it.
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()
        self.conn.max_message_size = _FRAME

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._end()

    def shutdown(self) -> None:
        super().shutdown()
        self._end()

    def _end(self) -> None:
        """Closing waits until everything is sent, for ever where the other side takes nothing."""
        if self._cut is None and not self.disconnected:
            self._cut = self.loop.call_later(_CLOSING, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._cut is not None:
            self._cut.cancel()
        # A generator that holds the connection that holds it, with all that came: the collector, which goes by the
        # number of objects and not by their size, would leave it for hours (`bootstrap.tune`).
        self.conn.parser.close()


def _is_text(parts: Sequence[bytes]) -> bool:
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        return False
    return True


class Server(uvicorn.Server):
    """Ends waiting answers and streams first; uvicorn's own shutdown would wait for them, or cut them."""

    def __init__(
        self,
        app: FastAPI,
        bound: socket.socket,
        *,
        shutdown_seconds: float,
        ready: Callable[[str], None] | None,
    ) -> None:
        services: ApiServices = app.state.services
        self._ending, self._bound, self._ready = services.shutdown, bound, ready
        self._silent: dict[Any, float] = {}
        self.silence = _SILENCE
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
                ws=Socket,
                ws_max_size=_FRAME,
                ws_per_message_deflate=False,  # Frames are small; a compressor per socket costs more than it saves.
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT ends serving, and no more: uvicorn would raise it again at the end,
        before the engine has drained and the store is closed. A second one ends the process as it always
        does."""
        loop = asyncio.get_running_loop()
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            with super().capture_signals():
                yield
            return
        for each in _ENDING:
            loop.add_signal_handler(each, self._ask_to_end, each)
        try:
            yield
        finally:
            for each in _ENDING:
                loop.remove_signal_handler(each)

    def _ask_to_end(self, number: int) -> None:
        for each in _ENDING:
            asyncio.get_running_loop().remove_signal_handler(each)
        self.handle_exit(number, None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._ready is not None:
            host, port = self._bound.getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._close_silent(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _close_silent(self, now: float) -> None:
        """Close what is connected and asks nothing: a few bytes a minute must not hold connections for ever."""
        waiting = [each for each in self.server_state.connections if _asks_nothing(each)]
        self._silent = {each: self._silent.get(each, now) for each in waiting}
        for each, since in self._silent.items():
            if now - since > self.silence:
                each.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.begin()
        # Time for the interrupted handlers to write their last frame before connections are told to close.
        await asyncio.sleep(_GRACE)
        await super().shutdown(sockets)


def _asks_nothing(connection: Any) -> bool:
    """Whether no request of this connection is known, and none was just answered (uvicorn has a time for
    those)."""
    if not hasattr(connection, "cycle"):
        return False  # a WebSocket
    cycle = connection.cycle
    idle = cycle is None or cycle.response_complete
    return idle and connection.timeout_keep_alive_task is None


async def serve(
    app: FastAPI, bound: socket.socket, *, shutdown_seconds: float, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then end gracefully within `shutdown_seconds`. `ready` gets the URL once
    requests are answered."""
    await Server(app, bound, shutdown_seconds=shutdown_seconds, ready=ready).serve(sockets=[bound])
