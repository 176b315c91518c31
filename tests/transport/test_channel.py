"""Channels that agents open: numbered, resumed, and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contracts.delivery import DeliveryContract, Line, Told, listed, message, until

from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import AgentRecord
from cpa.transport import channel
from cpa.transport.channel import ChannelDelivery, Connection

AGENT = listed("eins")


class Channels:
    """Agents at the far ends of channels, that acknowledge what they are given."""

    def __init__(self) -> None:
        self.delivery, self.told = ChannelDelivery(), Told()
        self.delivery.connect(self.told)
        self._open: dict[str, tuple[Connection, asyncio.Task[None]]] = {}
        self._got: dict[str, list[BaseMessage]] = {}

    def agent(self, name: str) -> AgentRecord:
        return listed(name)

    async def appear(self, agent: AgentRecord) -> None:
        connection = self.delivery.open(agent, "", 0)
        taking = asyncio.create_task(self._take(agent, connection))
        self._open[agent.name] = (connection, taking)

    async def vanish(self, agent: AgentRecord) -> None:
        connection, taking = self._open.pop(agent.name)
        taking.cancel()
        self.delivery.close(agent, connection)

    def got(self, agent: AgentRecord) -> list[BaseMessage]:
        return self._got.get(agent.name, [])

    async def _take(self, agent: AgentRecord, connection: Connection) -> None:
        while True:
            for number, each in await connection.following():
                self._got.setdefault(agent.name, []).append(each)
                connection.acknowledge(number)

    async def close(self) -> None:
        for _, taking in self._open.values():
            taking.cancel()
        await asyncio.gather(*(taking for _, taking in self._open.values()), return_exceptions=True)


class TestChannels(DeliveryContract):
    @pytest.fixture
    async def line(self) -> AsyncIterator[Line]:
        channels = Channels()
        yield channels
        await channels.close()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def delivery(told: Told) -> ChannelDelivery:
    delivery = ChannelDelivery()
    delivery.connect(told)
    return delivery


def ids(found: list[tuple[int, BaseMessage]]) -> list[BaseMessage]:
    return [each for _, each in found]


async def test_a_known_stream_goes_on_after_what_was_taken(delivery: ChannelDelivery, told: Told) -> None:
    for number in range(3):
        delivery.deliver(AGENT, message(number))
    first = delivery.open(AGENT, "", 0)
    found = await first.following()
    assert [number for number, _ in found] == [1, 2, 3]
    delivery.close(AGENT, first)
    second = delivery.open(AGENT, first.stream, 2)
    assert second.stream == first.stream
    assert told.of("taken") == [message(0).id, message(1).id]
    assert await second.following() == [(3, message(2))]


async def test_that_an_agent_has_not_opened_its_channel_is_told_until_it_does(
    delivery: ChannelDelivery, told: Told
) -> None:
    delivery.deliver(AGENT, message(0))
    assert told.troubles == [("eins", "it has not opened its channel")]
    delivery.open(AGENT, "", 0)
    assert told.troubles[-1] == ("eins", "")


async def test_an_unknown_stream_gets_everything_that_stands_numbered_anew(told: Told) -> None:
    delivery = ChannelDelivery()
    standing = [message(1), message(2)]
    delivery.connect(told, lambda _: standing)
    delivery.deliver(AGENT, message(2))
    delivery.deliver(AGENT, message(3))
    opened = delivery.open(AGENT, "of an earlier life", 40)
    assert await opened.following() == [(1, message(1)), (2, message(2)), (3, message(3))]
    known = opened.stream
    again = delivery.open(AGENT, known, 99)
    assert again.stream != known, "a number that was never reached is another life's"


async def test_a_second_channel_takes_the_place_of_the_first(delivery: ChannelDelivery, told: Told) -> None:
    first = delivery.open(AGENT, "", 0)
    second = delivery.open(AGENT, first.stream, 0)
    assert first.closed.is_set()
    delivery.close(AGENT, first)
    assert told.troubles[-1] == ("eins", ""), "the first one's end is not the agent's"
    assert not second.closed.is_set()
    delivery.close(AGENT, second)
    assert told.troubles[-1] == ("eins", "its channel is closed")


async def test_who_was_replaced_acknowledges_nothing_of_the_next_stream(told: Told) -> None:
    delivery = ChannelDelivery()
    delivery.connect(told, lambda _: [message(1)])
    delivery.deliver(AGENT, message(0))
    first = delivery.open(AGENT, "", 0)
    await first.following()
    second = delivery.open(AGENT, "", 0)
    await second.following()
    first.acknowledge(1)
    assert told.of("taken") == []
    second.acknowledge(1)
    assert len(told.of("taken")) == 1


async def test_what_was_not_pushed_cannot_be_acknowledged(delivery: ChannelDelivery, told: Told) -> None:
    delivery.deliver(AGENT, message(1))
    opened = delivery.open(AGENT, "", 0)
    opened.acknowledge(2**53)
    assert told.all == []
    await opened.following()
    opened.acknowledge(2**53)
    assert told.of("taken") == [message(1).id]


async def test_an_agent_that_is_gone_loses_its_channel(delivery: ChannelDelivery) -> None:
    opened = delivery.open(AGENT, "", 0)
    delivery.forget(AGENT)
    assert opened.closed.is_set()


async def test_too_much_for_an_agent_that_takes_nothing_is_refused(
    delivery: ChannelDelivery, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MOST", 2)
    for number in range(3):
        delivery.deliver(AGENT, message(number))
    await until(lambda: told.refusals, "the refusal")
    id, error, certain = told.refusals[0]
    assert (id, error.retryable, certain) == (message(2).id, True, True)


async def test_a_new_stream_keeps_the_order_of_a_conversation() -> None:
    channels = ChannelDelivery()
    call, task, other = message(1, "one"), message(2, "one"), message(3, "two")
    channels.connect(Told(), lambda _: [task])
    for each in (call, task, other):
        channels.deliver(AGENT, each)

    following = await channels.open(AGENT, "", 0).following()

    assert [each.id for _, each in following] == [call.id, task.id, other.id]
