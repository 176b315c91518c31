"""How many connections to a mail server are open at a time: as many as it turns out to have room for.

A server with less room than we have slots turns one connection away at once, while the others are busy. The slot
that was free would then take everybody who waits, one after the other, to be turned away as well. So such a slot
rests for a while, unless it is the last: that one finds out when there is room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cpa.ports.mail import MailTrouble

REST = 60.0
"""Seconds."""


class Room:
    """Slots for connections that hand messages over."""

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(most)
        self._awake = most

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One of them, when it is free. `MailTrouble` that says `not_ready` lets it rest."""
        await self._slots.acquire()
        rests = False
        try:
            yield
        except MailTrouble as trouble:
            rests = trouble.not_ready and self._awake > 1
            raise
        finally:
            if rests:
                self._awake -= 1
                asyncio.get_running_loop().call_later(REST, self._rested)
            else:
                self._slots.release()

    def _rested(self) -> None:
        self._awake += 1
        self._slots.release()
