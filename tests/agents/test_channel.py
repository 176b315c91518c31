"""The channel breaks and comes back, and nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from tests.agents.process import Running, agent
from tests.agents.scheduler import FakeScheduler, scheduling
from tests.agents.test_patience import Line, nothing
from websockets.asyncio.client import ClientConnection

from cpa.agents.channel import Channel
from cpa.agents.client import Unreachable
from cpa.errors import CPAError, Unauthorized
from cpa.ports.agents import AgentStatus, Beat

DO = "x.test.do"


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


@pytest.fixture
async def tester(scheduler: FakeScheduler, tmp_path: Path) -> AsyncIterator[Running]:
    async with agent(scheduler, tmp_path) as running:
        yield running


async def test_a_broken_channel_is_opened_again_where_it_was(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await scheduler.push(scheduler.request(DO, task="a"), scheduler.request(DO, task="b"))
    await scheduler.until(lambda: scheduler.acks[-1:] == [2], "acknowledging")
    for count in (2, 3):
        await scheduler.cut()
        await scheduler.until(lambda count=count: scheduler.channels == count, "coming back")
    assert [(hello["stream"], hello["cursor"]) for hello in scheduler.hellos] == [
        ("", 0),
        ("stream-1", 2),
        ("stream-1", 2),
    ]
    assert {hello["instance"] for hello in scheduler.hellos} == {tester.session.life}
    await scheduler.push(scheduler.request(DO, task="c"))
    await scheduler.until(lambda: len(tester.hands.done) == 3, "the third")


async def test_a_beat_comes_first_on_a_new_channel(tester: Running, scheduler: FakeScheduler) -> None:
    scheduler.unacknowledged = True
    await scheduler.push(scheduler.request(DO, effect="idempotent"))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    await scheduler.cut()
    scheduler.order.clear()
    await scheduler.until(lambda: "done" in scheduler.order, "saying it again")
    assert scheduler.order[:2] == ["hello", "beat"]
    await tester.die()


async def test_what_was_not_acknowledged_is_said_again_with_the_same_id_in_order(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.unacknowledged = True
    await scheduler.push(scheduler.request(DO, task="a", effect="idempotent"))
    await scheduler.until(lambda: "done" in scheduler.types(task="a"), "the first")
    await scheduler.push(scheduler.request(DO, task="b", effect="idempotent"))
    await scheduler.until(lambda: "done" in scheduler.types(task="b"), "the second")
    first = [each.id for each in scheduler.of_type("agree", "done")]
    scheduler.messages.clear()
    scheduler.unacknowledged = False
    await scheduler.cut()
    await scheduler.until(lambda: len(scheduler.of_type("agree", "done")) == 4, "saying it again")
    assert [each.id for each in scheduler.of_type("agree", "done")] == first
    await scheduler.until(lambda: scheduler.beats[-1]["running"] == [], "settling")
    scheduler.messages.clear()
    await scheduler.cut()
    await scheduler.until(lambda: scheduler.channels == 3, "coming back")
    await scheduler.push(scheduler.request(DO, task="c"))
    await scheduler.until(lambda: "done" in scheduler.types(task="c"), "the third")
    assert scheduler.types(task="a") == scheduler.types(task="b") == []


async def test_another_stream_begins_at_nothing_and_brings_nothing_twice(
    tester: Running, scheduler: FakeScheduler
) -> None:
    request = scheduler.request(DO)
    await scheduler.push(request)
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    scheduler.stream, scheduler.number = "stream-2", 0
    await scheduler.cut()
    await scheduler.until(lambda: scheduler.channels == 2, "coming back")
    scheduler.acks.clear()
    await scheduler.push(request)
    await scheduler.until(lambda: scheduler.acks == [1], "acknowledging")
    await scheduler.until(lambda: len(scheduler.of_type("done")) == 2, "answering again")
    assert len(tester.hands.began) == 1


async def test_a_scheduler_that_does_not_answer_beats_gets_a_new_channel(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.deaf = True
    await scheduler.until(lambda: scheduler.channels == 2, "giving up on it")
    scheduler.deaf = False
    await scheduler.push(scheduler.request(DO))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")


@pytest.mark.parametrize(
    "frame",
    ["no json", "[]", '{"seq": "x", "message": {}}', '{"ack": null}', '{"hello": {}}', '{"new": "kind"}'],
)
async def test_garbled_frames_cost_at_most_the_connection(
    tester: Running, scheduler: FakeScheduler, frame: str
) -> None:
    await scheduler.until(lambda: scheduler.channel, "channel")
    assert scheduler.channel is not None
    await scheduler.channel.send_text(frame)
    await scheduler.push(scheduler.request(DO))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    assert not tester.life.done()


async def test_a_message_nobody_can_read_is_acknowledged_and_holds_up_nothing(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await scheduler.until(lambda: scheduler.channel, "channel")
    assert scheduler.channel is not None
    scheduler.number = 1
    await scheduler.channel.send_text(json.dumps({"seq": 1, "message": {"type": "dance"}}))
    await scheduler.push(scheduler.request(DO))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    await scheduler.until(lambda: scheduler.acks[-1:] == [2], "acknowledging")


@pytest.mark.parametrize("code", [4401, 4403, 4404, 4409])
async def test_a_channel_that_is_closed_for_good_ends_the_agent(
    tester: Running, scheduler: FakeScheduler, code: int
) -> None:
    await scheduler.until(lambda: scheduler.channel, "channel")
    assert scheduler.channel is not None
    await scheduler.channel.close(code, "über und aus")
    with pytest.raises(BaseExceptionGroup) as ended:
        await tester.life
    found = ended.value
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, CPAError)
    assert found.status == code - 4000
    assert "über und aus" in str(found)


async def test_a_key_that_is_refused_when_opening_ends_the_agent(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.key = "another"
    await scheduler.cut()
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(tester.life, 20)
    assert ended.group_contains(Unauthorized)


async def test_who_ends_as_the_channel_breaks_ends() -> None:
    """A group of tasks that is cancelled while one of them fails tells only of that, until Python 3.13."""
    broken, opened = asyncio.Event(), asyncio.Event()

    class Breaking(Line):
        async def recv(self) -> str:
            if not self.greeted.is_set():
                return await super().recv()
            await broken.wait()
            raise ConnectionResetError("gone")

    @asynccontextmanager
    async def open(_where: str, _headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
        yield cast("ClientConnection", Breaking())

    channel = Channel(
        *("http://127.0.0.1:1", "key", "eins", "i1", nothing, lambda *_: None), opened=opened.set, open=open
    )
    running = asyncio.create_task(channel.run())
    await opened.wait()
    await asyncio.sleep(0)
    broken.set()
    running.cancel()

    done, _ = await asyncio.wait([running], timeout=5)
    assert done == {running}
    assert running.cancelled()


async def test_a_beat_while_the_broken_channel_is_being_closed_is_not_waited_for() -> None:
    closing = asyncio.Event()

    class Ending(Line):
        async def recv(self) -> str:
            if not self.greeted.is_set():
                return await super().recv()
            raise ConnectionResetError("gone")

    @asynccontextmanager
    async def open(_where: str, _headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
        try:
            yield cast("ClientConnection", Ending())
        finally:
            closing.set()
            await asyncio.Event().wait()

    channel = Channel("http://127.0.0.1:1", "key", "eins", "i1", nothing, lambda *_: None, open=open)
    running = asyncio.create_task(channel.run())
    await asyncio.wait_for(closing.wait(), 5)
    with pytest.raises(Unreachable):
        await asyncio.wait_for(channel.beat(Beat(status=AgentStatus.ONLINE, instance="i1")), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
