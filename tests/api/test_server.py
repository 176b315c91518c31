"""What a WebSocket may cost before anybody is known, and after its end."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message
from tests.api.conftest import Served
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cpa.api.live import accept
from cpa.api.server import Socket


@pytest.fixture
def sparing() -> Iterator[None]:
    """No collector, which in a server goes by the number of objects and comes too late for large ones."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def sockets(served: Served) -> list[Socket]:
    return [each for each in served.server.server_state.connections if isinstance(each, Socket)]


@pytest.mark.usefixtures("sparing")
async def test_nothing_is_kept_of_a_socket_that_broke_off_in_the_middle_of_a_message(served: Served) -> None:
    socket = await connect(f"{served.socket}/ws/jobs/x", proxy=None)
    socket.transport.write(b"\x81\xfe\x7f\xff" + bytes(4) + b"a" * 30_000)
    [at_server] = sockets(served)
    gone = weakref.ref(at_server.conn)
    del at_server
    socket.transport.abort()

    async with asyncio.timeout(20):
        while gone() is not None:
            await asyncio.sleep(0.01)


async def test_the_first_message_is_small_or_the_last(served: Served) -> None:
    async with connect(f"{served.socket}/ws/jobs/x", proxy=None) as socket:
        with suppress(ConnectionClosed):
            await socket.send("a" * 65_537)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_what_is_no_text_ends_the_socket_and_is_no_error(served: Served, lines: io.StringIO) -> None:
    for parts in ([b"\xff\xfe"], [b'{"key": "gr', b"\xc3", b'"}']):
        async with connect(f"{served.socket}/ws/jobs/x", proxy=None) as socket:
            await socket.send(parts, text=True)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
    async with connect(f"{served.socket}/ws/jobs/x", proxy=None) as socket:
        await socket.send([b'{"key": "gr\xc3', b'\xbcn"}'], text=True)
        assert json.loads(await socket.recv())["status"] == 401, "a letter may come in two frames"

    assert [line for line in lines.getvalue().splitlines() if '"level":"error"' in line] == []


async def test_who_left_before_being_let_in_is_one_who_left() -> None:
    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(_: Message) -> None:
        raise OSError("gone")

    with pytest.raises(WebSocketDisconnect):
        await accept(WebSocket({"type": "websocket"}, receive, send))
