"""Web servers inside somebody else's event loop: they start and end with a block, and leave signals alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import uvicorn

from cpa.api.server import listen
from cpa.errors import Unavailable

HOST = "127.0.0.1"


class Guest(uvicorn.Server):
    """A server that does not catch Ctrl-C: ending the program is its owner's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(port: int, what: str) -> socket.socket:
    """A bound socket on the loopback address. `Unavailable` when the port cannot be had, with what helps here."""
    try:
        return listen(HOST, port)
    except Unavailable as error:
        _, _, reason = error.message.partition(": ")
        raise Unavailable(
            f"the demo's {what} cannot have port {port}: {reason}",
            value=error.value,
            remedy="stop what listens there: often another `cpa demo --serve`, in another terminal",
        ) from error


@asynccontextmanager
async def running(server: uvicorn.Server, *, sockets: list[Any]) -> AsyncIterator[None]:
    """Serve while the block runs; returns once the server has ended."""
    serving = asyncio.create_task(server.serve(sockets=sockets), name="web server")
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def serve(app: Any, *, port: int = 0, what: str = "portal") -> AsyncIterator[str]:
    """Serve an ASGI application on the loopback address while the block runs; gives its base URL.

    Port 0 takes a free one; `Unavailable`, which says `what` it was for, when the port is taken. Open connections
    are closed at the end of the block, after at most two seconds.
    """
    with closing(bind(port, what)) as bound:
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
        async with running(Guest(config), sockets=[bound]):
            yield f"http://{HOST}:{bound.getsockname()[1]}"
