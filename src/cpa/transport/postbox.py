"""Connections to an agent that listens: to the addresses of its endpoint that were judged, and to no others.

A name is resolved once, every address it has is judged, and the connection is made to one of exactly those.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import structlog

import cpa
from cpa.errors import Unavailable
from cpa.ports.addresses import OutboundAddresses, Target

log = structlog.get_logger(__name__)

CONNECT: Final = 5.0
ANSWER: Final = 10.0
"""Seconds an agent has to accept a connection, and to answer."""
IDLE: Final = 4.0
"""Seconds a connection is kept that nothing goes over; less than agents usually keep theirs."""
RESOLVED: Final = 60.0
"""Seconds after which a name is resolved anew, at the next message."""
_ANSWER_BYTES: Final = 64 * 1024


class Postbox:
    """One endpoint's. Use it with `async with`: leaving closes the connections."""

    def __init__(
        self,
        endpoint: str,
        guard: OutboundAddresses,
        *,
        tls: ssl.SSLContext | None,
        connections: int,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`tls` says which certificates are trusted; None where the endpoint is not `secured`. `connections`: how
        many may be open at the same time; a free one is used again. `transport` stands in for the network."""
        if tls is None and secured(endpoint):
            raise ValueError("nobody said which certificates are trusted")
        self._endpoint = endpoint
        self._guard = guard
        self._resolving = asyncio.Lock()
        self._target: tuple[float, Target] | None = None
        self._client = httpx2.AsyncClient(
            # Without a context there is no TLS: the endpoint of a postbox never changes.
            verify=tls if tls is not None else False,
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER, connect=CONNECT),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes, leaves: Callable[[], None]
    ) -> tuple[int, Any]:
        """Status and body of the answer; a body that is no small JSON counts as none. `leaves` is called before the
        first byte leaves. Raises `Unavailable` where another try may help, other `CPAError`s where none does."""
        target = await self._resolve()
        for address in target.addresses:
            try:
                request = self._pinned(method, path, headers, content, target, address, leaves)
                async with asyncio.timeout(CONNECT + ANSWER):
                    response = await self._client.send(request, stream=True)
                    try:
                        body = await _small(response)
                    finally:
                        await response.aclose()
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if address != target.addresses[-1]:
                    continue
                self._target = None
                raise _unreachable(target, error) from error
            except (httpx2.HTTPError, TimeoutError) as error:
                self._target = None
                raise _unreachable(target, error) from error
            except Exception as error:
                # Whatever an agent's end makes a library fall over must not end the scheduler: a socket that is
                # gone before it was looked at is an AttributeError on some loops.
                log.warning("posting_broke", endpoint=self._endpoint, error=repr(error))
                self._target = None
                raise _unreachable(target, error) from error
            return response.status_code, body
        raise AssertionError("a target has an address")

    async def _resolve(self) -> Target:
        async with self._resolving:
            now = asyncio.get_running_loop().time()
            if self._target is None or now >= self._target[0]:
                self._target = (now + RESOLVED, await self._guard.resolve(self._endpoint))
            return self._target[1]

    def _pinned(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes,
        target: Target,
        address: str,
        leaves: Callable[[], None],
    ) -> httpx2.Request:
        async def trace(event: str, _: Mapping[str, Any]) -> None:
            if event.endswith(".send_request_headers.started"):
                leaves()

        extensions: dict[str, Any] = {"trace": trace}
        if (name := target.server_name(address)) is not None:
            extensions["sni_hostname"] = name
        return self._client.build_request(
            method,
            httpx2.URL(self._endpoint + path).copy_with(host=address, port=target.port),
            headers={
                "User-Agent": f"cpa/{cpa.__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Host": target.authority,
                **headers,
            },
            content=content,
            extensions=extensions,
        )


async def _small(response: httpx2.Response) -> Any:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _unreachable(target: Target, error: Exception) -> Unavailable:
    where = f"{target.host}:{target.port}"
    slow = isinstance(error, (httpx2.ReadTimeout, TimeoutError))
    said = "it does not answer in time" if slow else (str(error) or type(error).__name__)
    return Unavailable(f"{where} cannot be reached: {said}", remedy="it is tried again")


def secured(endpoint: str) -> bool:
    """Whether the endpoint shows a certificate, however its scheme is written."""
    return endpoint[:6].lower() == "https:"


def trusting() -> ssl.SSLContext:
    """A context that trusts the certificates of the system; reading them takes a moment."""
    return httpx2.create_ssl_context()
