"""The door of an agent that listens: the scheduler hands tasks in here.

    POST   /tasks       a LAM message; 202 with `task_id` and `estimated_duration`, 409 when it is not taken
    DELETE /tasks/{id}  stop what is done under this `task_id`
    GET    /health      how the agent stands; for everybody

The scheduler shows `X-CPA-Key`, which the agent learned when it registered: nobody else on the host can hand it
tasks. Called by a name that is not the agent's it answers nothing: a page whose name was made to lead to this
machine (DNS rebinding) is, for a browser, the same site as the agent.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cpa.agents.conversation import Conversations
from cpa.core.documents import MAX_BYTES
from cpa.core.lam_protocol import parse
from cpa.errors import BadInput, CPAError, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable

KEY = "X-CPA-Key"
_ENDING = 2


class Door:
    """What the listener needs of the agent; closed until `open`."""

    def __init__(self, health: Callable[[], Mapping[str, Any]], endpoint: str = "") -> None:
        """`endpoint` is how the agent is called, where that is not by an address."""
        self._health = health
        self._name = (urlsplit(endpoint).hostname or "").lower()
        self._conversations: Conversations | None = None
        self._key = ""

    def open(self, conversations: Conversations, key: str) -> None:
        """Let in who shows this key."""
        self._conversations, self._key = conversations, key

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/tasks", self._take, methods=["POST"]),
                Route("/tasks/{id}", self._stop, methods=["DELETE"]),
                Route("/health", self._tell, methods=["GET"]),
            ],
            exception_handlers={CPAError: _refused},
        )

    async def _take(self, request: Request) -> Response:
        conversations = self._admit(request)
        taken = await conversations.take(parse(await _body(request)))
        if taken is None:
            return JSONResponse({}, 202)
        return JSONResponse({"task_id": taken.id, "estimated_duration": taken.estimate}, 202)

    async def _stop(self, request: Request) -> Response:
        if not self._admit(request).stop(request.path_params["id"]):
            raise NotFound(
                "nothing is done for this request",
                field="id",
                value=request.path_params["id"],
                remedy="it has ended, or was never taken; GET /jobs/{id} at the scheduler tells",
            )
        return JSONResponse({}, 202)

    async def _tell(self, request: Request) -> Response:
        self._check_name(request)
        return JSONResponse(dict(self._health()))

    def _check_name(self, request: Request) -> None:
        """Raises `Forbidden` for a request to another name. An address is nobody's name."""
        called = request.headers.get("host", "")
        try:
            name = (urlsplit(f"//{called}").hostname or "").lower()
        except ValueError:
            name = ""
        if not name or (name not in (self._name, "localhost") and not _is_address(name)):
            raise Forbidden(
                "this agent does not answer to that name",
                field="Host",
                value=called,
                remedy="call it as it is registered; --endpoint says by which name that is",
            )

    def _admit(self, request: Request) -> Conversations:
        self._check_name(request)
        shown = request.headers.get(KEY, "").encode()
        if self._conversations is None:
            raise Unavailable("the agent has not registered yet", remedy="try again in a moment")
        if not self._key or not hmac.compare_digest(shown, self._key.encode()):
            raise Unauthorized(
                "only the scheduler hands tasks to this agent",
                field=KEY,
                remedy="it shows the key that the agent was told when it registered",
            )
        return self._conversations


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge("a message has at most 1 MiB", field="body", remedy="pass files as artifacts")
    return body


async def _refused(_request: Request, error: Exception) -> Response:
    # A plain function would be run by a thread of its own, and what is refused could overtake what is taken.
    assert isinstance(error, CPAError)
    return JSONResponse(error.problem(), error.status, media_type="application/problem+json")


def bound_to(address: str) -> socket.socket:
    """A socket that listens at `HOST:PORT` (port 0: a free one). `BadInput` for what is no such address,
    `Unavailable` when it cannot be had."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadInput(
            "this is no address to listen at",
            field="listen",
            value=address,
            remedy="write HOST:PORT, such as 127.0.0.1:0",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, int(port)))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise Unavailable(
            f"cannot listen at {address}: {error.strerror or error}",
            field="listen",
            value=address,
            remedy="choose another port (0 picks a free one), or stop what listens there",
        ) from error
    return opened


def url_of(bound: socket.socket) -> str:
    """By which what listens there is called. `BadInput` for a socket at all addresses: none of them is told."""
    host, port = bound.getsockname()[:2]
    if ip_address(host.partition("%")[0]).is_unspecified:
        raise BadInput(
            f"{host} is every address of this machine, and none by which it is called",
            field="endpoint",
            value=host,
            remedy=f"say by which with --endpoint, such as http://agent-1.example:{port}",
        )
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Leaves signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: Starlette, bound: socket.socket) -> AsyncIterator[None]:
    """Answer on this socket while the block runs."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_ENDING,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]), name="listener")
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        bound.close()
