"""Loops over many jobs outlive a store that cannot be read for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from cpa.errors import CPAError

_log = structlog.get_logger(__name__)
Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Begins work that the engine waits for at its end."""
_PAUSE = 2.0
"""Seconds after which the store is read again."""


async def lasting(work: Callable[[], Awaitable[None]]) -> None:
    """Do it; anew, while the store cannot be read."""
    while True:
        try:
            return await work()
        except CPAError as error:
            _log.error("store_unreadable", error=str(error))
            await asyncio.sleep(_PAUSE)
