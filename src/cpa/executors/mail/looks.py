"""Looking for sent messages: who asks while a look is under way waits for the next, which answers all.

After a restart everything in doubt is looked for in the same moment. A connection for each would be a login for
each, and mail servers count those (Dovecot lets one user have ten at a time unless told otherwise). A look
answers only those who asked before it began: absence seen earlier would say nothing of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from cpa.ports.mail import ReceivedMail

MOST = 20
"""Messages one look is for, so that a search stays below 4,000 characters and a server that breaks off does so for
few of them."""


class _Asked(NamedTuple):
    message_id: str
    answer: asyncio.Future[ReceivedMail | None]


class Looks:
    """One look at a time; end it with `close`. `look` gives those of the asked-for messages that are there, by
    Message-ID."""

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[Mapping[str, ReceivedMail]]]) -> None:
        self._look = look
        self._asked: list[_Asked] = []
        self._looking: asyncio.Task[None] | None = None

    async def find(self, message_id: str) -> ReceivedMail | None:
        """What the next look sees of this message; raises what that look raised."""
        answer: asyncio.Future[ReceivedMail | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(message_id, answer))
        if self._looking is None:
            self._looking = asyncio.create_task(self._answer_all())
        return await answer

    async def close(self) -> None:
        """Break off a look that is under way; who waits for it is cancelled."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    # -- inside ----------------------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        asked: list[_Asked] = []
        try:
            while self._asked:
                asked, self._asked = self._asked[:MOST], self._asked[MOST:]
                await self._answer([each for each in asked if not each.answer.done()])
        finally:
            self._looking = None
            for each in (*asked, *self._asked):
                each.answer.cancel()  # Those of a look that was broken off; without effect on an answered one.

    async def _answer(self, asked: Sequence[_Asked]) -> None:
        try:
            found = await self._look(list(dict.fromkeys(each.message_id for each in asked))) if asked else {}
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            for each in asked:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each in asked:
            if not each.answer.done():
                each.answer.set_result(found.get(each.message_id))
