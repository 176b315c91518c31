"""What every way to an agent must keep. A test module subclasses `DeliveryContract`, and gives `line`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

from tests.orchestrator.fleet import record

from cpa.core.ids import derived_id
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.errors import CPAError
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Delivery


def message(number: int, conversation: str = "c", *, type: str = "request", size: int = 0) -> BaseMessage:
    """The same message for the same number."""
    payloads: dict[str, Any] = {
        "request": {"action": "x.a.b", "arguments": {"n": number, "text": "x" * size}},
        "cancel": {},
    }
    return parse(
        {
            "id": str(derived_id(number, conversation)),
            "ts": "2026-11-24T08:30:00Z",
            "type": type,
            "sender": "agent://scheduler/cpa",
            "to": ["agent://web/eins"],
            "payload": payloads[type],
            "correlation": {"conversationId": conversation, "jobId": "j", "taskId": "t", "epoch": 1},
        }
    )


class Told:
    """`ports.delivery.Receipts` that keeps everything."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, UUID]] = []
        """(what, agent's name, message)"""
        self.refusals: list[tuple[UUID, CPAError, bool]] = []
        self.troubles: list[tuple[str, str]] = []

    def left(self, agent: AgentRecord, message: BaseMessage) -> None:
        self.all.append(("left", agent.name, message.id))

    def taken(self, agent: AgentRecord, message: BaseMessage) -> None:
        self.all.append(("taken", agent.name, message.id))

    def refused(self, agent: AgentRecord, message: BaseMessage, why: CPAError, *, certain: bool) -> None:
        self.all.append(("refused", agent.name, message.id))
        self.refusals.append((message.id, why, certain))

    def troubled(self, agent: AgentRecord, trouble: str) -> None:
        self.troubles.append((agent.name, trouble))

    def of(self, what: str, agent: str = "eins") -> list[UUID]:
        return [id for kind, name, id in self.all if (kind, name) == (what, agent)]


class Line(Protocol):
    """A delivery, and the far ends of it."""

    delivery: Delivery
    told: Told

    def agent(self, name: str) -> AgentRecord:
        """One that is away."""
        ...

    async def appear(self, agent: AgentRecord) -> None:
        """From now on it takes what comes."""
        ...

    async def vanish(self, agent: AgentRecord) -> None: ...

    def got(self, agent: AgentRecord) -> list[BaseMessage]:
        """What it took, in its order."""
        ...


async def until(condition: Callable[[], Any], what: str) -> None:
    """Poll until it holds."""
    try:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen") from None


class DeliveryContract:
    async def test_messages_arrive_in_order_and_are_told_of(self, line: Line) -> None:
        agent = line.agent("eins")
        await line.appear(agent)
        sent = [message(number) for number in range(20)]
        for each in sent:
            line.delivery.deliver(agent, each)
        await until(lambda: len(line.told.of("taken")) == 20, "the delivery")
        assert line.got(agent) == sent
        assert line.told.of("taken") == [each.id for each in sent]
        for each in sent:
            kinds = [kind for kind, _, id in line.told.all if id == each.id]
            assert kinds[0] == "left"
            assert kinds[-1] == "taken"
        assert line.told.refusals == []

    async def test_the_order_within_a_conversation_is_kept_among_many(self, line: Line) -> None:
        agent = line.agent("eins")
        sent = [message(number, f"c{number % 7}") for number in range(70)]
        for each in sent:
            line.delivery.deliver(agent, each)
        await line.appear(agent)
        await until(lambda: len(line.told.of("taken")) == 70, "the delivery")
        for conversation in range(7):
            mine = [each for each in sent if each.correlation.conversation_id == f"c{conversation}"]
            assert [each for each in line.got(agent) if each in mine] == mine
            assert [id for id in line.told.of("taken") if id in {each.id for each in mine}] == [
                each.id for each in mine
            ]

    async def test_the_same_while_it_is_on_its_way_is_the_same(self, line: Line) -> None:
        agent = line.agent("eins")
        for _ in range(3):
            line.delivery.deliver(agent, message(1))
        await line.appear(agent)
        line.delivery.deliver(agent, message(2))
        await until(lambda: len(line.told.of("taken")) == 2, "the delivery")
        assert line.got(agent) == [message(1), message(2)]

    async def test_what_an_agent_does_not_take_waits_for_it(self, line: Line) -> None:
        agent = line.agent("eins")
        line.delivery.deliver(agent, message(1))
        await asyncio.sleep(0.2)
        assert line.told.of("taken") == []
        await line.appear(agent)
        await until(lambda: line.told.of("taken") == [message(1).id], "the delivery")
        await line.vanish(agent)
        line.delivery.deliver(agent, message(2))
        await asyncio.sleep(0.1)
        await line.appear(agent)
        await until(lambda: len(line.told.of("taken")) == 2, "the second delivery")
        assert line.got(agent) == [message(1), message(2)]

    async def test_a_dropped_conversation_is_not_delivered_any_more(self, line: Line) -> None:
        agent = line.agent("eins")
        for number in range(4):
            line.delivery.deliver(agent, message(number, "even" if number % 2 == 0 else "odd"))
        line.delivery.drop(agent, "even")
        line.delivery.drop(agent, "unknown")
        await line.appear(agent)
        await until(lambda: len(line.told.of("taken")) == 2, "the delivery")
        assert line.got(agent) == [message(1, "odd"), message(3, "odd")]

    async def test_what_was_dropped_may_be_delivered_anew(self, line: Line) -> None:
        agent = line.agent("eins")
        line.delivery.deliver(agent, message(1))
        line.delivery.drop(agent, "c")
        line.delivery.deliver(agent, message(1))
        await line.appear(agent)
        await until(lambda: line.told.of("taken") == [message(1).id], "the delivery")

    async def test_an_agent_that_is_gone_gets_nothing_and_may_come_back(self, line: Line) -> None:
        agent = line.agent("eins")
        line.delivery.deliver(agent, message(1))
        line.delivery.forget(agent)
        line.delivery.forget(agent)
        line.delivery.drop(agent, "c")
        await line.appear(agent)
        line.delivery.deliver(agent, message(2))
        await until(lambda: line.told.of("taken") == [message(2).id], "the delivery")
        assert line.got(agent) == [message(2)]

    async def test_nobody_waits_for_another(self, line: Line) -> None:
        away, there = line.agent("eins"), line.agent("zwei")
        await line.appear(there)
        for number in range(5):
            line.delivery.deliver(away, message(number))
            line.delivery.deliver(there, message(number))
        await until(lambda: len(line.told.of("taken", "zwei")) == 5, "the delivery")
        assert line.told.of("taken", "eins") == []

    async def test_a_large_message_arrives(self, line: Line) -> None:
        agent = line.agent("eins")
        await line.appear(agent)
        large = message(1, size=900_000)
        line.delivery.deliver(agent, large)
        await until(lambda: line.told.of("taken") == [large.id], "the delivery")
        assert line.got(agent) == [large]


def listed(name: str, endpoint: str = "") -> AgentRecord:
    return record(name, endpoint=endpoint)
