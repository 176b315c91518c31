"""The fence: nothing goes on that may have been given to somebody else meanwhile.

An attempt is the agent's as long as the scheduler renews its lease, and the scheduler does so with each beat
that names it. So an agent knows by itself until when it is safe: a lease after it *sent* the last beat that was
answered. A process that was stopped, or cut off, for longer than that must not simply go on where it was: the
next thing it did could be the second mail. Attempts behind a fence therefore look at the clock each time they
wake from waiting, and stand still once the time is over, until a beat was answered: then they go on, or are
told that they are lost.

Between the look and the step that follows lie microseconds in which a process can still be stopped. What must
not happen even then needs a target that refuses a second try, or an effect that can be looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


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
