"""Ends an agent whose event loop stands still.

A coroutine that never waits (a loop without end, a long computation) holds up everything: beats, other attempts,
SIGTERM. After a lease without a beat the scheduler has given every attempt of such an agent to others, so nothing
is lost with its process, and whoever runs it as a service has it started anew. A process that was stopped and goes
on (SIGSTOP, a machine that slept) is not meant: what counts is how often the watching thread had its turn and the
loop had not.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

log = structlog.stdlib.get_logger(__name__)

EXIT: Final = 70
"""EX_SOFTWARE: services restart it, as after any failure."""
_TURNS: Final = 10
_AT_LEAST: Final = 10.0
"""Seconds an agent may stand still, even where leases are shorter."""
_REMEDY: Final = "an action written with async def must not block: await, or write it with def"


def _end() -> None:
    sys.stderr.flush()
    os._exit(EXIT)


def stillness(lease: float) -> float:
    """Seconds after which an agent with such leases ends itself."""
    return max(lease, _AT_LEAST)


@contextmanager
def watched(seconds: float, end: Callable[[], None] = _end) -> Iterator[None]:
    """While the block runs: once the running loop stood still for so long, log where it stands, and call `end` in
    another thread."""
    loop, over = asyncio.get_running_loop(), threading.Event()
    looped = threading.get_ident()

    def watch() -> None:
        turned, missed = threading.Event(), 0
        turned.set()
        while not over.wait(seconds / _TURNS):
            if turned.is_set():
                turned.clear()
                missed = 0
                loop.call_soon_threadsafe(turned.set)
                continue
            missed += 1
            if missed == _TURNS:
                log.critical("agent_stands_still", seconds=seconds, where=_where(looped), remedy=_REMEDY)
                end()

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _where(thread: int) -> str:
    """The line that another thread is at."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
