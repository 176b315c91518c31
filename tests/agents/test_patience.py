"""A beat that vanishes, and a request that was signed long ago: on virtual time, neither costs an agent a thing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from cpa.agents.channel import Channel
from cpa.agents.client import LATE, SchedulerClient, Unreachable, beat_patience
from cpa.agents.posting import Posting
from cpa.agents.signing import Signer, draw
from cpa.errors import CPAError, Unauthorized
from cpa.ports.agents import AgentStatus, Beat
from cpa.testing.virtual import VirtualClock, VirtualLoop

LEASE = 15.0
BEAT = Beat(status=AgentStatus.ONLINE, instance="one")
TOO_OLD = Unauthorized("this was signed too long ago", field="created", remedy="sign it anew")


class Wire(httpx2.AsyncBaseTransport):
    """The first request is answered only after `seconds`, and then refused where there is a `refusal`."""

    def __init__(self, seconds: float, refusal: CPAError | None = None) -> None:
        self._seconds, self._refusal = seconds, refusal
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if len(self.requests) == 1:
            await asyncio.sleep(self._seconds)
            if self._refusal is not None:
                return httpx2.Response(self._refusal.status, json=self._refusal.problem())
        return httpx2.Response(200, json={"lost": []})


def on_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def signing(client: SchedulerClient) -> Signer:
    signer = client.signer = Signer(draw(), VirtualClock(asyncio.get_running_loop()))
    signer.key = "default/ag_1"
    return signer


def test_of_a_lease_there_is_enough_left_for_a_second_beat() -> None:
    async def main() -> None:
        wire, loop = Wire(1_000), asyncio.get_running_loop()
        client = SchedulerClient("http://scheduler", transport=wire)
        async with Posting(client, "ag_1", lambda *_: None, patience=beat_patience(LEASE)) as posting:
            with pytest.raises(Unreachable) as caught:
                await posting.beat(BEAT)
            assert caught.value.retryable
            assert loop.time() == LEASE / 2
            assert await posting.beat(BEAT) == {"lost": []}
            # The one before the first, which came through, was sent an interval earlier.
            assert LEASE / 3 + loop.time() < LEASE

    on_virtual_time(main)


def test_a_request_that_stood_still_between_signing_and_sending_is_signed_anew() -> None:
    async def main() -> None:
        wire = Wire(LATE, TOO_OLD)
        client = SchedulerClient("http://scheduler", transport=wire)
        signing(client)
        with pytest.raises(Unreachable) as caught:
            await client.hand_in(b"{}")
        assert caught.value.retryable
        await client.hand_in(b"{}")
        first, second = (request.headers["Signature-Input"] for request in wire.requests)
        assert first != second

    on_virtual_time(main)


@pytest.mark.parametrize(
    ("seconds", "refusal"),
    [
        (0.1, TOO_OLD),
        (LATE, Unauthorized("this is not your signature", field="Signature", remedy="sign it")),
    ],
)
def test_a_clock_that_is_wrong_and_a_bad_signature_stay_so(seconds: float, refusal: CPAError) -> None:
    async def main() -> None:
        client = SchedulerClient("http://scheduler", transport=Wire(seconds, refusal))
        signing(client)
        with pytest.raises(Unauthorized):
            await client.hand_in(b"{}")

    on_virtual_time(main)


class Line:
    """A WebSocket to a scheduler that greets, and says nothing more."""

    def __init__(self) -> None:
        self.transport = self
        self.greeted = asyncio.Event()

    async def send(self, text: str) -> None: ...

    async def recv(self) -> str:
        if self.greeted.is_set():
            await asyncio.Event().wait()
        self.greeted.set()
        return json.dumps({"hello": {"stream": "s", "cursor": 0}})


def refused_after(seconds: float) -> tuple[Callable[..., Any], Line]:
    """`agents.channel.Open`: the first try is refused after so long, the second one stands."""
    line, tries = Line(), 0

    @asynccontextmanager
    async def opened(where: str, headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.sleep(seconds)
            body = json.dumps(TOO_OLD.problem()).encode()
            raise InvalidStatus(Response(401, "", Headers(), body))
        yield cast("ClientConnection", line)

    return opened, line


async def nothing(_: object) -> None: ...


def channel(opened: Callable[..., Any], signer: Signer | None) -> Channel:
    return Channel(
        "http://scheduler", "key", "ag_1", "one", nothing, lambda *_: None, signer=signer, open=opened
    )


def test_a_channel_that_stood_still_while_it_was_opened_is_opened_again() -> None:
    async def main() -> None:
        opened, line = refused_after(LATE)
        client = SchedulerClient("http://scheduler", transport=Wire(0))
        running = asyncio.ensure_future(channel(opened, signing(client)).run())
        greeted = asyncio.ensure_future(line.greeted.wait())
        await asyncio.wait([running, greeted], return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running.exception()
        running.cancel()

    on_virtual_time(main)


@pytest.mark.parametrize(("seconds", "signs"), [(0.1, True), (LATE, False)])
def test_a_channel_that_is_refused_at_once_or_without_a_signature_is_over(
    seconds: float, signs: bool
) -> None:
    async def main() -> None:
        opened, _ = refused_after(seconds)
        client = SchedulerClient("http://scheduler", transport=Wire(0))
        with pytest.raises(ExceptionGroup) as caught:
            await channel(opened, signing(client) if signs else None).run()
        assert caught.group_contains(Unauthorized)

    on_virtual_time(main)
