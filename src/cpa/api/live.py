"""`WS /ws/jobs/{id}`: a job's events and live progress, resumable.

The client says who it is by `X-API-Key`, or, where it cannot set headers, by a first message `{"key": "...",
"last_seq": 7}`; never in the URL, which ends up in logs. Frames are JSON: `{"type": "event", "seq": …}`,
`{"type": "progress", …}`, and at the end of the run `{"type": "end", "status": …}` before close code 1000.
Whoever reconnects with the last `seq` seen misses no event. Errors are a problem document (as an HTTP answer
before the handshake, as a frame after it) and close code 4000 + HTTP status; 1001 means the server is
stopping.

A reader that is too slow holds back only itself: the engine drops its live updates, and after `STALLED`
seconds without progress the socket is cut. The key is checked again every second, so a revoked one ends the
stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from fastapi import WebSocket
from pydantic import BaseModel, Field, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from cpa.api.bodies import Body, decode
from cpa.api.jobs import close_stream, known
from cpa.api.problems import close_code, invalid, render
from cpa.api.route import KEY_HEADER, DirectRouter
from cpa.api.services import ApiServices, services_of
from cpa.core.views import EventView, event_view, task_ids
from cpa.errors import BadInput, CPAError, Forbidden, InternalError, NotFound, Unauthorized
from cpa.ports.engine import LiveUpdate, StoredEvent
from cpa.ports.keys import Caller, Scope
from cpa.security.auth import require

log = structlog.stdlib.get_logger("cpa.api")
router = DirectRouter()

GREETING: Final = 5.0
"""Seconds a client without header has to say who it is."""
STALLED: Final = 30.0
"""Seconds a frame may wait for the client to take it."""
RECHECK: Final = 0.5
"""Seconds between two looks at the key; with the cache of the keys below two seconds in all."""
GOING_AWAY: Final = 1001
_FARTHEST: Final = 2**53
Told = Callable[[StoredEvent], EventView]


class Greeting(Body):
    """First message of a client that cannot set headers."""

    key: str = Field(max_length=200)
    last_seq: int = Field(default=0, ge=0, le=_FARTHEST)


class Place(BaseModel):
    """Where to resume: `after` and `last_seq` mean the same, the greater counts."""

    after: int = Field(default=0, ge=0, le=_FARTHEST)
    last_seq: int = Field(default=0, ge=0, le=_FARTHEST)


async def accept(socket: WebSocket) -> None:
    """Let the client in. `WebSocketDisconnect` when it has gone meanwhile, which is an `OSError` until it is in."""
    try:
        await socket.accept()
    except OSError as error:
        raise WebSocketDisconnect(1006) from error


@router.websocket("/ws/jobs/{job_id}")
async def follow_job(socket: WebSocket, job_id: str) -> None:
    """`?after=SEQ` or `?last_seq=SEQ` resumes. Read here and not as parameters of the route, whose errors
    would reach the client as a bare 403."""
    try:
        await _Stream(socket, services_of(socket)).run(job_id)
    except CPAError as error:
        await refuse(socket, error)
    except WebSocketDisconnect:
        log.debug("client_left", path=socket.url.path)
    except TimeoutError:
        log.warning("client_reads_nothing", path=socket.url.path)
    except Exception as error:
        log.exception("unexpected_error", path=socket.url.path)
        await refuse(socket, InternalError(f"unexpected {type(error).__name__}"))


@router.websocket("/{path:path}")
async def no_such_stream(socket: WebSocket, path: str) -> None:
    """Every other path."""
    remedy = "streams are at /ws/jobs/{id}"
    await refuse(socket, NotFound("there is no stream here", field="path", value=path, remedy=remedy))


class _Stream:
    """One open socket."""

    def __init__(self, socket: WebSocket, services: ApiServices) -> None:
        self._socket, self._services, self._after = socket, services, 0
        self._key = socket.headers.get(KEY_HEADER, "")

    async def run(self, job_id: str) -> None:
        check_origin(self._socket, self._services)
        try:
            place = Place.model_validate(dict(self._socket.query_params))
        except ValidationError as error:
            raise invalid(error, within="query") from None
        self._after = max(place.after, place.last_seq)
        if not self._key:
            await self._greet()
        caller = await self._identify()
        job = known(job_id)
        snapshot = await self._services.engine.query(caller.tenant, job)
        if self._after > snapshot.head.number:
            raise BadInput(
                "the job has no event with this number",
                field="last_seq",
                value=self._after,
                remedy=f"its last is {snapshot.head.number}",
            )
        if self._socket.client_state is WebSocketState.CONNECTING:
            await accept(self._socket)
        async with self._services.shutdown.patience(None):
            ids, locale = task_ids(snapshot.spec), snapshot.spec.locale
            await self._serve(caller, job, partial(event_view, tasks=ids, locale=locale))
            return
        await self._close(GOING_AWAY, "the server is stopping; reconnect with last_seq")

    async def _serve(self, caller: Caller, job: str, told: Told) -> None:
        """Until the run ends, the client leaves, or the key is revoked."""
        sides = [
            asyncio.create_task(self._send_all(caller.tenant, job, told)),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._recheck()),
        ]
        try:
            done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
        for side in done:
            side.result()

    async def _send_all(self, tenant: str, job: str, told: Told) -> None:
        stream = self._services.engine.follow(tenant, job, after=self._after)
        try:
            async for update in stream:
                await self._send(_frame(update, told))
        finally:
            await close_stream(stream)
        head = (await self._services.engine.query(tenant, job)).head
        await self._send({"type": "end", "status": head.status, "last_seq": head.number})
        await self._close(1000, "the run has ended")

    async def _listen(self) -> None:
        """Nothing is expected after the greeting; reading notices that the client left."""
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK)
            await self._identify()

    async def _identify(self) -> Caller:
        caller = await self._services.keys.identify(self._key)
        require(caller, Scope.READ)
        return caller

    async def _greet(self) -> None:
        await accept(self._socket)
        try:
            async with self._services.shutdown.patience(GREETING):
                raw = await self._socket.receive_text()
                greeting = Greeting.model_validate(decode(raw.encode("utf-8", "surrogatepass")))
                self._key, self._after = greeting.key, max(self._after, greeting.last_seq)
                return
        except ValidationError as error:
            raise invalid(error) from None
        except KeyError:
            raise BadInput("the first message must be text", remedy='send {"key": "..."}') from None
        raise Unauthorized(
            "no API key came in time", remedy='send X-API-Key, or a first message {"key": "..."}'
        )

    async def _send(self, frame: dict[str, Any]) -> None:
        async with asyncio.timeout(STALLED):
            await self._socket.send_text(msgspec.json.encode(frame).decode())

    async def _close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason)


def check_origin(socket: WebSocket, services: ApiServices) -> None:
    """A page of another site must not use what a browser sends along by itself (cross-site hijacking)."""
    origin = socket.headers.get("origin")
    if origin is None or origin in services.settings.cors_origins:
        return
    with suppress(ValueError):  # an origin that is no URL is nobody's
        if urlsplit(origin).netloc == socket.headers.get("host"):
            return
    raise Forbidden(
        "this origin is not allowed",
        field="Origin",
        value=origin,
        remedy="an operator can add it to CPA_CORS_ORIGINS",
    )


def _frame(update: StoredEvent | LiveUpdate, told: Told) -> dict[str, Any]:
    if isinstance(update, StoredEvent):
        seen = told(update)
        # What an event is called is `event` here, because `type` already tells frames apart.
        fields = seen.model_dump(mode="json", exclude={"type"}, exclude_none=True)
        return {"type": "event", "event": seen.type, **fields}
    return {
        "type": "progress",
        "task": update.task,
        "epoch": update.epoch,
        "progress": update.progress,
        "message": update.message,
    }


async def refuse(socket: WebSocket, error: CPAError) -> None:
    """Say why, in whatever way the connection's state still allows."""
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        if socket.client_state is WebSocketState.CONNECTING:
            await socket.send_denial_response(render(error, socket))
            return
        async with asyncio.timeout(1):
            await socket.send_text(bytes(render(error, socket).body).decode())
            await socket.close(close_code(error), error.message[:100])
