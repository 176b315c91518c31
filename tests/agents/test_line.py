"""A slow line: what does not last is left out beyond a bound, what lasts is said whatever waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from tests.agents.test_patience import Line, Wire, nothing, on_virtual_time
from tests.contracts.delivery import message
from websockets.asyncio.client import ClientConnection

from cpa.agents import channel, posting
from cpa.agents.channel import Channel
from cpa.agents.client import SchedulerClient
from cpa.agents.posting import Posting


def test_posted_words_of_one_conversation_wait_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "_VOLATILE", 2)

    async def main() -> None:
        wire = Wire(1)
        client = SchedulerClient("http://scheduler", transport=wire)
        async with Posting(client, "ag_1", lambda *_: None) as line:
            for number in range(5):
                line.say(message(number), lasting=False)
            line.say(message(5, "another"), lasting=False)
            line.say(message(6))
            await asyncio.sleep(5)
        said = {json.loads(request.content)["id"] for request in wire.requests}
        kept = (message(0), message(1), message(5, "another"), message(6))
        assert said == {str(each.id) for each in kept}

    on_virtual_time(main)


class Slow(Line):
    """After its greeting it takes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.taking = asyncio.Event()
        self.said: list[dict[str, Any]] = []

    async def send(self, text: str) -> None:
        if self.greeted.is_set():
            await self.taking.wait()
            self.said.append(json.loads(text))


def test_words_wait_for_a_channel_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_VOLATILE", 2)

    async def main() -> None:
        socket = Slow()

        @asynccontextmanager
        async def opened(where: str, headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
            yield cast("ClientConnection", socket)

        line = Channel("http://scheduler", "key", "ag_1", "one", nothing, lambda *_: None, open=opened)
        running = asyncio.ensure_future(line.run())
        await socket.greeted.wait()
        await asyncio.sleep(1)
        for number in range(5):
            line.say(message(number), lasting=False)
        line.say(message(5))
        socket.taking.set()
        await asyncio.sleep(1)
        said = [frame["message"]["id"] for frame in socket.said if "message" in frame]
        assert said == [str(message(number).id) for number in (0, 1, 5)]
        running.cancel()

    on_virtual_time(main)
