"""A server with less room than we would take is not run into again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cpa.executors.mail.room import REST, Room
from cpa.ports.mail import MailTrouble
from cpa.testing.virtual import VirtualLoop


class Server:
    """Has room for `most` connections; a second for each mail."""

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0
        self.sent = self.turned_away = 0
        self.room = Room(3)

    async def send(self) -> None:
        try:
            async with self.room.slot():
                if self.open >= self.most:
                    self.turned_away += 1
                    raise MailTrouble("smtp_421", "too many", not_ready=True)
                self.open += 1
                await asyncio.sleep(1)
                self.open -= 1
                self.sent += 1
        except MailTrouble:
            pass


def live(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


def test_who_waits_is_not_led_to_a_door_that_is_shut() -> None:
    async def story() -> None:
        server = Server(2)
        await asyncio.gather(*(server.send() for _ in range(40)))
        assert (server.sent, server.turned_away) == (39, 1)

    live(story)


def test_the_last_slot_goes_on_asking_and_the_others_come_back() -> None:
    async def story() -> None:
        server = Server(0)
        await asyncio.gather(*(server.send() for _ in range(40)))
        assert (server.sent, server.turned_away) == (0, 40)

        server.most = 3
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(server.send() for _ in range(6)))
        assert asyncio.get_running_loop().time() - began == 6  # One after the other.
        await asyncio.sleep(REST)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(server.send() for _ in range(6)))
        assert asyncio.get_running_loop().time() - began == 2

    live(story)


def test_any_other_trouble_costs_no_slot() -> None:
    async def story() -> None:
        room = Room(1)
        for _ in range(3):
            try:
                async with room.slot():
                    raise MailTrouble("smtp_451", "later")
            except MailTrouble:
                pass
        async with asyncio.timeout(1), room.slot():
            pass

    live(story)
