"""An agent whose answer was lost comes in after all; a token that is used is worth nothing to who steals it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.security.house import URL, House, house

from cpa.agents.client import SchedulerClient, Unreachable
from cpa.agents.signing import Signer, draw
from cpa.bootstrap.system import SystemClock
from cpa.errors import Unauthorized
from cpa.ports.agents import Beat


class Losing(httpx2.AsyncBaseTransport):
    """The way to a house that takes requests and loses answers."""

    def __init__(self, home: House) -> None:
        self._way = httpx2.ASGITransport(home.app)
        self.losing = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._way.handle_async_request(request)
        if self.losing:
            await answer.aread()
            raise httpx2.ReadError("the connection was reset")
        return answer


def said(**more: Any) -> dict[str, Any]:
    about = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"]}
    return about | {"instance": secrets.token_hex(16)} | more


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path / "house") as home:
        yield home


@pytest.mark.parametrize("signs", [False, True])
async def test_an_agent_whose_answer_was_lost_comes_in_with_a_key_that_works(
    home: House, signs: bool
) -> None:
    way, token = Losing(home), await home.token()
    async with SchedulerClient(URL, transport=way) as client, SchedulerClient(URL, transport=way) as thief:
        words = said()
        if signs:
            client.signer = Signer(draw(), SystemClock())
            words["public_key"] = client.signer.public
        way.losing = True
        with pytest.raises(Unreachable):
            await client.register(words, token=token)
        way.losing = False
        with pytest.raises(Unauthorized, match="enrolment token"):
            await thief.register(words | {"instance": secrets.token_hex(16)}, token=token)
        told = await client.register(words, token=token)
        client.key = told["key"]
        if client.signer is not None:
            client.signer.key = told["key_id"]
        await client.beat(told["agent_id"], Beat(instance=words["instance"]))
        with pytest.raises(Unauthorized, match="enrolment token"):
            await thief.register(words, token=token)
        await client.beat(told["agent_id"], Beat(instance=words["instance"]))


async def test_a_late_copy_of_the_registration_does_not_cost_the_agent_its_key(home: House) -> None:
    token, words = await home.token(), said()
    async with SchedulerClient(URL, transport=Losing(home)) as client:
        told = await client.register(words, token=token)
        await client.register(words, token=token)
        client.key = told["key"]
        await client.beat(told["agent_id"], Beat(instance=words["instance"]))


async def test_another_life_of_the_scheduler_gives_the_answer_again(tmp_path: Path) -> None:
    words = said()
    async with house(tmp_path / "house") as home:
        token, way = await home.token(), Losing(home)
        way.losing = True
        async with SchedulerClient(URL, transport=way) as client:
            with pytest.raises(Unreachable):
                await client.register(words, token=token)
    async with house(tmp_path / "house") as home, SchedulerClient(URL, transport=Losing(home)) as client:
        told = await client.register(words, token=token)
        client.key = told["key"]
        await client.beat(told["agent_id"], Beat(instance=words["instance"]))
