"""Waiting answers and open streams end when the server stops, instead of keeping it from stopping."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Shutdown:
    """Knows everything that waits on behalf of a client, and wakes it when the end begins."""

    def __init__(self) -> None:
        self.begun = False
        self.waiting: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Interrupt every wait, now and from now on. Calling it again changes nothing."""
        self.begun = True
        for waiting in self.waiting:
            if not waiting.expired():
                waiting.reschedule(0)

    def patience(self, seconds: float | None) -> Patience:
        """`async with`: what is inside is cut short after `seconds` (None: never) or when the end begins,
        without an exception."""
        return Patience(self, seconds)


class Patience:
    """One wait that does not outlive its time or the server."""

    __slots__ = ("_ending", "_seconds", "_timeout")

    def __init__(self, ending: Shutdown, seconds: float | None) -> None:
        self._ending, self._seconds = ending, seconds

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(0 if self._ending.begun else self._seconds)
        await self._timeout.__aenter__()
        self._ending.waiting.add(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._ending.waiting.discard(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            return True
        return False
