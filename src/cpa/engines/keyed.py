"""One after the other per key: who holds a key is alone with it, other keys are not held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Keyed(Generic[K]):
    def __init__(self) -> None:
        self._held: dict[K, asyncio.Future[None]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._held

    @asynccontextmanager
    async def of(self, key: K) -> AsyncIterator[None]:
        """Wait until nobody holds the key, then hold it."""
        while key in self._held:
            await asyncio.wait([self._held[key]])
        mine = self._held[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._held[key]
            mine.cancel()
