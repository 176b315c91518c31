"""The fence: nothing goes on that may have been given to somebody else meanwhile.

An attempt is the agent's as long as the scheduler renews its lease, and the scheduler does so with each beat
that names it. So an agent knows by itself until when it is safe: a lease after it *sent* the last beat that was
answered. A process that was stopped, or cut off, for longer than that must not simply go on where it was: the
next thing it did could be the second mail. Attempts behind a fence therefore look at the clock each time they
wake from waiting, and stand still once the time is over, until a beat was answered: then they go on, or are
told that they are lost.

A thread cannot be held from outside. It holds itself, at each `checkpoint`, and no earlier.

Between the look and the step that follows lie microseconds in which a process can still be stopped. What must
not happen even then needs a target that refuses a second try, or an effect that can be looked for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
_TURN: Final = 0.1
"""Seconds between two looks of a thread at a closed fence."""


class Fence:
    """Closed until the first `renewed`, and whenever the time it gave is over."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = float("-inf")
        self._renewed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._monotonic() >= self._until

    def renewed(self, until: float) -> None:
        """Everything that was not taken away is ours until then, on the monotonic clock."""
        self._until = until
        self._renewed.set()

    async def passed(self) -> None:
        """Wait until the fence is open."""
        while self.closed:
            self._renewed.clear()
            await self._renewed.wait()


class Fenced(Generic[T]):
    """Awaited instead of a coroutine: runs it, and lets it go on after a wait only while the fence is open.

    `release` lets it run to its end whatever the fence says: what is being stopped may clean up.
    """

    def __init__(self, work: Coroutine[Any, Any, T], fence: Fence) -> None:
        self._work = work
        self._fence = fence
        self._free = False

    def release(self) -> None:
        self._free = True

    def __await__(self) -> Generator[Any, Any, T]:
        """Drives the coroutine by hand, as a task would, so that each step can be held back."""
        thrown: list[BaseException] = []
        """What the coroutine is to be woken with instead."""
        try:
            while True:
                if not self._free and self._fence.closed:
                    try:
                        yield from self._fence.passed().__await__()
                    except asyncio.CancelledError as stopped:
                        thrown.append(stopped)
                try:
                    waited = self._work.throw(thrown.pop()) if thrown else self._work.send(None)
                except StopIteration as end:
                    result: T = end.value
                    return result
                thrown.clear()
                try:
                    yield waited
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's, and raised there
                    thrown.append(error)
        finally:
            self._work.close()


class Passage:
    """One attempt's way past the fence, for what runs in threads; without a fence only until its end."""

    def __init__(self, fence: Fence | None) -> None:
        self.fence = fence
        self._over = threading.Event()
        self._loop = 0
        self._time = time.monotonic
        self._until = float("inf")

    def begin(self, seconds: float) -> None:
        """The attempt begins in this task, and has so much time: from here on `checkpoint` means this one.
        CancelledError when it was ended before."""
        loop = asyncio.get_running_loop()
        self._loop, self._time, self._until = threading.get_ident(), loop.time, loop.time() + seconds
        self.check()
        _PASSAGE.set(self)

    def end(self) -> None:
        """Nobody passes any more."""
        self._over.set()

    def check(self) -> None:
        """See `checkpoint`."""
        while True:
            # In this order: an attempt that is taken away ends before the fence is opened.
            closed = self.fence is not None and self.fence.closed
            # The loop may not have noticed yet that the time is over: it stood still as well.
            if self._over.is_set() or self._time() >= self._until:
                raise asyncio.CancelledError
            if not closed or threading.get_ident() == self._loop:
                return
            self._over.wait(_TURN)


_PASSAGE: ContextVar[Passage | None] = ContextVar("passage", default=None)


def checkpoint() -> None:
    """Call it in an action written with `def`, right before each step that must not happen twice.

    It returns at once while the attempt is surely still this agent's. It waits while that is not known, because the
    process was stopped or cut off for a lease. It raises `asyncio.CancelledError` when the attempt is over: lost to
    another agent, cancelled, or out of time. Let that end the action; what it returned would count for nothing.

    In an `async def`, which is held at each `await`, it does not wait; outside an attempt it does nothing. It knows
    the attempt in the action's own thread and in those of `asyncio.to_thread`; what an action does in a thread that
    it starts itself has to be run in a `contextvars.copy_context()`.
    """
    passage = _PASSAGE.get()
    if passage is not None:
        passage.check()
