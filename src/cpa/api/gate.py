"""What every request passes first, as plain ASGI: the name it was called by, correlation id, one log line, and the
last catch for defects.

Plain ASGI because a wrapping middleware with its own task and body queue costs more than a whole job does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from cpa.api.problems import render
from cpa.errors import Forbidden, InternalError
from cpa.telemetry.logs import bound, correlation_id

log = structlog.stdlib.get_logger("cpa.api")
_stdlib = logging.getLogger("cpa.api")
HEADER: Final = "X-Correlation-ID"
_NAME: Final = HEADER.lower().encode()
_ALWAYS: Final = ((b"x-content-type-options", b"nosniff"),)


class Gate:
    """Outermost but for CORS."""

    def __init__(self, app: ASGIApp, *, host: str = "", hosts: Sequence[str] = ()) -> None:
        """`host` is the address that is listened on, `hosts` are the names to answer to."""
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._local = not hosts and _is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        offered = next((value for name, value in scope["headers"] if name == _NAME), None)
        correlation = correlation_id(offered.decode("latin-1") if offered is not None else None)
        scope["cpa.correlation"] = correlation
        with bound(correlation=correlation):
            if scope["type"] == "http":
                await self._request(scope, receive, send, (_NAME, correlation.encode()))
            else:
                await self._enter(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (self._local or self._hosts) and not self._answers_to(scope):
            await self._refuse(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _answers_to(self, scope: Scope) -> bool:
        """Whether the name that was called is ours. A page whose name was made to lead to this machine (DNS
        rebinding) is, for the browser, the same site as we: only the name tells that it is not."""
        called = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(called) != 1:
            return False
        name = _without_port(called[0])
        return called[0] in self._hosts or name in self._hosts or (self._local and _is_loopback(name))

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        error = Forbidden(
            "this server does not answer to that name",
            field="Host",
            value=connection.headers.get("host"),
            remedy="call it by a name of this machine, or have an operator add the name to CPA_HOSTS",
        )
        response = render(error, connection)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send, header: tuple[bytes, bytes]) -> None:
        began, status = perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header, *_ALWAYS]
            await send(message)

        try:
            await self._enter(scope, receive, sending)
        except ClientDisconnect:
            log.info("client_left", method=scope["method"], path=scope["path"])
        except Exception:
            log.exception("unexpected_error", method=scope["method"], path=scope["path"])
            if status:  # Too late for another answer: cutting the connection is the only honest signal.
                raise
            await render(InternalError("unexpected"), HTTPConnection(scope))(scope, receive, sending)
        finally:
            self._tell(scope, status, began)

    @staticmethod
    def _tell(scope: Scope, status: int, began: float) -> None:
        """One line per request: refusals and defects at INFO, the ordinary at DEBUG, because a line costs as
        much as a tenth of a request and the audit trail has what was done."""
        level = logging.INFO if status >= 400 or not status else logging.DEBUG
        if _stdlib.isEnabledFor(level):
            elapsed = round((perf_counter() - began) * 1000, 2)
            log.log(level, "request", method=scope["method"], path=scope["path"], status=status, ms=elapsed)


def _without_port(host: str) -> str:
    """The name or address of a Host header."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Origins(CORSMiddleware):
    """CORS for the configured origins; a refused preflight says why, like every other error."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("X-API-Key", "Idempotency-Key", "Content-Type", "If-None-Match", HEADER),
            expose_headers=(HEADER, "ETag", "Location", "Retry-After"),
            max_age=600,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        error = Forbidden(
            bytes(response.body).decode(),
            field="Origin",
            value=request_headers.get("origin"),
            remedy="an operator can add the origin to CPA_CORS_ORIGINS",
        )
        scope = {
            "type": "http",
            "path": "/",
            "headers": request_headers.raw,
            "query_string": b"",
            "server": None,
        }
        return render(error, HTTPConnection(scope))
