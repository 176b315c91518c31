"""The scheduler's API as agents call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import accumulate

import pytest
import uvloop
from tests.servers.resetting import resetting

from cpa.agents.client import SchedulerClient, Unreachable, longer
from cpa.errors import BadInput


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_scheduler_that_hangs_up_at_once_is_unreachable(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def busy() -> None:
        while True:
            time.sleep(0.005)  # so that connection and end of it are noticed together
            await asyncio.sleep(0)

    async def work(url: str) -> list[object]:
        async with SchedulerClient(url) as client:
            other = asyncio.create_task(busy())
            told: list[object] = [await asked(client) for _ in range(20)]
            other.cancel()
            return [*told, await asked(client)]

    async def asked(client: SchedulerClient) -> object:
        try:
            return await client.hand_in(b"{}")
        except Unreachable as error:
            return error

    with resetting(20) as (url, _), asyncio.Runner(loop_factory=loop) as runner:
        told = runner.run(work(url))
    assert [type(each) for each in told] == [Unreachable] * 20 + [dict]


def test_pauses_grow_from_a_moment_to_some_seconds() -> None:
    pauses = list(accumulate(range(8), lambda pause, _: longer(pause), initial=0.0))[1:]

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.mark.parametrize("text", ["tok_geheim ", "tök_geheim", "tok_geheim\r"])
@pytest.mark.parametrize("field", ["key", "token"])
async def test_a_credential_that_cannot_be_sent_is_named_and_not_shown(field: str, text: str) -> None:
    key, token = (text, "") if field == "key" else ("", text)
    async with SchedulerClient("http://127.0.0.1:9", key) as client:
        with pytest.raises(BadInput, match=f"no {field} has") as refused:
            await client.register({}, token=token)

    assert refused.value.field == field
    assert "geheim" not in str(refused.value)
