"""The only way out of a browser context: a forward proxy that judges every destination.

A page, its frames, redirects, web sockets and workers ask for addresses on their own. Playwright's request
routes do not see redirects or the address a name resolves to, and they switch the HTTP cache off. So each
context gets a proxy of its own on the loopback interface: it asks `ports.addresses` for every connection and
connects to exactly the addresses that were judged, so a name that resolves differently the next moment gains
nothing. Bytes of HTTPS pass through untouched.

Plain HTTP is one request per connection (`Connection: close`), so no second request can ride on a judged one.
What is refused or unreachable is answered with the header `X-CPA-Gate` and remembered for the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from cpa.core.classes import FailureClass
from cpa.errors import CPAError, NameNotResolved, Unavailable
from cpa.executors.web.trouble import Trouble
from cpa.ports.addresses import OutboundAddresses, Target

HEADER = "x-cpa-gate"
_CONNECT_SECONDS = 10.0
_HEAD_BYTES = 128 * 1024
_HOP_BY_HOP = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive", "host"})


class Gate:
    """One listening proxy. Owns its connections; `close` ends them all."""

    def __init__(self, addresses: OutboundAddresses) -> None:
        self._addresses = addresses
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._seen: dict[tuple[str, int], Trouble] = {}
        self._allowed: int | None = None
        self.exceeded = False
        """More came in than `limit` allowed; the connection was cut."""

    async def open(self) -> str:
        """Listen; the URL to give to the browser."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._closing = True
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """A new step begins."""
        self._seen.clear()
        self._allowed, self.exceeded = None, False

    def limit(self, size: int) -> None:
        """Cut off what comes in beyond this many bytes, in this step."""
        self._allowed, self.exceeded = size, False

    def trouble(self, url: str) -> Trouble | None:
        """What kept a connection of this step from the host of `url`, if anything did."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return self._seen.get(((parts.hostname or "").lower(), port))

    # -- inside ----------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            writer.transport.abort()  # the browser left, or does not speak HTTP: there is nobody to answer
        except asyncio.CancelledError:
            writer.transport.abort()
            if not self._closing:
                raise
        finally:
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head[:-4].split("\r\n")
        method, target, _ = line.split(" ", 2)
        tunnel = method == "CONNECT"
        url = f"https://{target}/" if tunnel else target
        try:
            judged = await self._addresses.resolve(url)
            upstream_reader, upstream = await self._connect(judged)
        except CPAError as error:
            await self._refuse(writer, url, error)
            return
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _join(reader, upstream, self._down(upstream_reader, writer))
            else:
                upstream.write(_rewritten(method, url, fields))
                await _join(reader, upstream, self._answer(upstream_reader, writer))
        finally:
            upstream.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reason = "no address"
        for address in target.addresses:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(address, target.port)
            except TimeoutError:
                reason = f"no answer within {_CONNECT_SECONDS:g} s"
            except OSError as error:
                reason = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
        raise Unavailable(
            f"{target.host}:{target.port} cannot be reached: {reason}.",
            remedy="Check that the portal is up, and the address.",
        )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The server's answer, marked as the last on its connection: otherwise the browser could send the next
        request, for another host, to this server."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head[:-4].split("\r\n")
            if not line.partition(" ")[2].startswith("1"):  # interim answers say nothing a browser needs
                break
        lines = [line, *_end_to_end(fields), "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        await self._down(reader, writer)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes in, within the limit."""
        while chunk := await reader.read(65536):
            if self._allowed is not None:
                self._allowed -= len(chunk)
                if self._allowed < 0:
                    self.exceeded = True
                    writer.transport.abort()  # an orderly end would look like the end of the file
                    return
            writer.write(chunk)
            await writer.drain()

    async def _refuse(self, writer: asyncio.StreamWriter, url: str, error: CPAError) -> None:
        if isinstance(error, Unavailable):
            trouble = unreachable(error)
            status, kind = "502 Bad Gateway", "unreachable"
        else:
            trouble = refused(error)
            status, kind = "403 Forbidden", "refused"
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._seen[((parts.hostname or "").lower(), port)] = trouble
        body = f"{error.message}\n".encode()
        writer.write(
            f"HTTP/1.1 {status}\r\nX-CPA-Gate: {kind}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()


def refused(error: CPAError) -> Trouble:
    """An address that may not be reached."""
    return Trouble(
        FailureClass.POLICY, "address_refused", error.message, remedy=error.remedy or "", details=_url(error)
    )


def unreachable(error: CPAError) -> Trouble:
    return Trouble(
        FailureClass.TECHNICAL,
        error.code if isinstance(error, NameNotResolved) else "portal_unreachable",
        error.message,
        remedy=error.remedy or "Check that the portal is up, and the address.",
        details=_url(error),
    )


def _url(error: CPAError) -> dict[str, str]:
    return {"url": error.value} if error.value else {}


def _rewritten(method: str, url: str, fields: list[str]) -> bytes:
    """The request as the server wants it: path instead of URL, one request on this connection."""
    parts = urlsplit(url)
    path = url[len(f"{parts.scheme}://{parts.netloc}") :] or "/"
    if not path.startswith("/"):
        path = "/" + path
    head = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", *_end_to_end(fields), "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def _end_to_end(fields: list[str]) -> list[str]:
    return [text for text in fields if text.partition(":")[0].strip().lower() not in _HOP_BY_HOP]


async def _join(
    reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, down: Coroutine[Any, Any, None]
) -> None:
    """Copy both ways until one side is done: the server has said everything, or the browser has left."""
    ways = {asyncio.create_task(_copy(reader, upstream)), asyncio.create_task(down)}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
