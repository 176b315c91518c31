"""Many look for their mail at once: few looks, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from cpa.executors.mail.looks import Looks
from cpa.ports.mail import MailTrouble, ReceivedMail


class Mailbox:
    """Says what it was asked; a look lasts until `go` is set."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.asked: list[list[str]] = []
        self.go = asyncio.Event()
        self.trouble: MailTrouble | None = None

    async def look(self, message_ids: Sequence[str]) -> Mapping[str, ReceivedMail]:
        self.asked.append(list(message_ids))
        seen = {each: mail(each) for each in message_ids if each in self.there}
        await self.go.wait()
        if self.trouble is not None:
            raise self.trouble
        return seen


def mail(message_id: str) -> ReceivedMail:
    return ReceivedMail(
        uid="1", folder="INBOX", message_id=message_id, subject="Größe", sender="", to=(), date=None, text=""
    )


async def asking(looks: Looks, *message_ids: str) -> list[asyncio.Task[ReceivedMail | None]]:
    """Tasks that have asked and wait."""
    tasks = [asyncio.create_task(looks.find(each)) for each in message_ids]
    await asyncio.sleep(0.01)
    return tasks


async def test_who_asks_during_a_look_waits_for_the_next_which_takes_them_all() -> None:
    box = Mailbox("<a>", "<c>")
    looks = Looks(box.look)
    first = await asking(looks, "<a>")
    rest = await asking(looks, "<b>", "<c>", "<b>")
    box.there.add("<b>")
    box.go.set()
    answers = await asyncio.gather(*first, *rest)
    assert box.asked == [["<a>"], ["<b>", "<c>"]]
    assert [answer and answer.message_id for answer in answers] == ["<a>", "<b>", "<c>", "<b>"]


async def test_what_arrives_during_a_look_counts_for_who_asks_after_it_arrived() -> None:
    box = Mailbox()
    looks = Looks(box.look)
    before = await asking(looks, "<a>")
    box.there.add("<a>")
    after = await asking(looks, "<a>")
    box.go.set()
    assert await before[0] is None
    assert await after[0] == mail("<a>")


async def test_trouble_reaches_all_who_asked_and_the_next_look_works() -> None:
    box = Mailbox("<a>")
    box.trouble = MailTrouble("imap_broken", "the connection broke")
    looks = Looks(box.look)
    tasks = await asking(looks, "<a>", "<b>")
    box.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [box.trouble, box.trouble]
    box.trouble = None
    assert await looks.find("<a>") == mail("<a>")


async def test_who_gives_up_waiting_takes_nobody_along() -> None:
    box = Mailbox("<b>", "<c>")
    looks = Looks(box.look)
    first, second = await asking(looks, "<a>", "<b>")
    first.cancel()
    third, fourth = await asking(looks, "<c>", "<d>")
    fourth.cancel()
    await asyncio.sleep(0)
    box.go.set()
    assert (await second, await third) == (mail("<b>"), mail("<c>"))
    assert first.cancelled()
    assert box.asked == [["<a>", "<b>"], ["<c>"]]


async def test_a_look_that_is_broken_off_leaves_nobody_waiting() -> None:
    box = Mailbox()
    before = asyncio.all_tasks()
    looks = Looks(box.look)
    tasks = await asking(looks, "<a>")
    tasks += await asking(looks, "<b>")
    (looking,) = asyncio.all_tasks() - before - set(tasks)
    await looks.close()
    assert looking.done()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2


@pytest.mark.parametrize("number", [1, 3])
async def test_nobody_is_asked_again_once_all_have_their_answer(number: int) -> None:
    box = Mailbox()
    box.go.set()
    looks = Looks(box.look)
    for _ in range(number):
        assert await looks.find("<a>") is None
    assert box.asked == [["<a>"]] * number
