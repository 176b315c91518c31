from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from cpa.core.classes import FailureClass
from cpa.executors.web.gate import Gate
from cpa.ports.addresses import not_resolved
from cpa.security.addresses import AddressGuard


class Server:
    """Answers every request with what it was given, keeps what it read, and never closes on its own."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode("latin-1"))
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[Server]:
    served = Server(answer)
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = listening.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listening.close()


@asynccontextmanager
async def gate(*allowed: str, names: dict[str, list[str]] | None = None) -> AsyncIterator[tuple[Gate, int]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return (names or {})[host]

    opened = Gate(AddressGuard(allowed, resolver=resolve))
    port = urlsplit(await opened.open()).port
    assert port is not None
    try:
        yield opened, port
    finally:
        await opened.close()


async def ask(port: int, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1"))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return reader, writer, head.decode("latin-1")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nX-Kept: yes\r\n\r\nok"


async def test_a_request_reaches_the_server_as_its_own_and_the_answer_is_the_last_on_its_connection() -> None:
    async with server(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK) as portal:
        here = f"127.0.0.1:{portal.port}"
        async with gate(here) as (_, port):
            reader, writer, head = await ask(
                port,
                f"GET http://{here}/a/b?c=d HTTP/1.1\r\nHost: elsewhere.example\r\nCookie: a=b\r\n"
                "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n",
            )
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert head.count("Connection: close\r\n") == 1
            assert "keep-alive" not in head
            assert "X-Kept: yes\r\n" in head
            assert await reader.readexactly(2) == b"ok"
            writer.close()
        assert portal.heads == [
            f"GET /a/b?c=d HTTP/1.1\r\nHost: {here}\r\nCookie: a=b\r\nConnection: close\r\n\r\n"
        ]


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    async with server(OK) as portal:
        names = {"portal.example": ["127.0.0.1"]}
        async with gate("portal.example", names=names) as (_, port):
            _, writer, head = await ask(port, f"GET http://portal.example:{portal.port}/ HTTP/1.1\r\n\r\n")
            assert " 200 " in head
            writer.close()
        async with gate(names=names) as (closed, port):
            _, writer, head = await ask(port, f"GET http://portal.example:{portal.port}/ HTTP/1.1\r\n\r\n")
            writer.close()
            assert head.startswith("HTTP/1.1 403 ")
            assert "X-CPA-Gate: refused" in head
            trouble = closed.trouble(f"http://portal.example:{portal.port}/other")
            assert trouble is not None
            assert trouble.failure is FailureClass.POLICY
            closed.forget()
            assert closed.trouble(f"http://portal.example:{portal.port}/") is None
        assert portal.connections == 1


async def test_a_name_that_nobody_answers_for_is_not_the_portal_s_fault() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise not_resolved(host)

    opened = Gate(AddressGuard(resolver=resolve))
    port = urlsplit(await opened.open()).port
    assert port is not None
    _, writer, head = await ask(port, "GET http://portal.example/ HTTP/1.1\r\n\r\n")
    writer.close()
    assert head.startswith("HTTP/1.1 502 ")
    trouble = opened.trouble("http://portal.example/")
    assert trouble is not None
    assert (trouble.failure, trouble.code) == (FailureClass.TECHNICAL, "name_not_resolved")
    assert trouble.message == "the name portal.example was not resolved in time"
    await opened.close()


async def test_a_tunnel_is_judged_like_a_request_and_carries_bytes_untouched() -> None:
    async with server(OK) as portal:
        here = f"127.0.0.1:{portal.port}"
        async with gate(here) as (_, port):
            reader, writer, head = await ask(port, f"CONNECT {here} HTTP/1.1\r\nHost: {here}\r\n\r\n")
            assert " 200 " in head
            writer.write(b"anything\x00\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(len(OK)), 10) == OK
            writer.close()
        async with gate() as (_, port):
            _, writer, head = await ask(port, f"CONNECT {here} HTTP/1.1\r\nHost: {here}\r\n\r\n")
            assert head.startswith("HTTP/1.1 403 ")
            writer.close()
        assert portal.heads == ["anything\x00\r\n\r\n"]


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"x" * 300_000])
async def test_what_is_not_http_is_hung_up_on(garbage: bytes) -> None:
    async with gate() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        with suppress(ConnectionError):  # a reset hangs up as well
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_closing_ends_what_is_under_way() -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\nnever ends") as portal:
        here = f"127.0.0.1:{portal.port}"
        async with gate(here) as (_, port):
            reader, writer, _ = await ask(port, f"GET http://{here}/ HTTP/1.1\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(10), 10) == b"never ends"
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
