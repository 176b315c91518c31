"""Virtual time: an event loop on which waiting costs nothing and every run takes the same course.

Nothing here sleeps. When no callback is ready, the clock jumps to the next timer; when there is no timer either,
nothing could ever happen again, and the loop says so instead of hanging. Work given to a thread is done at once,
in place, so that a run has one order only, and a failure shows itself again from the same start. Real sockets,
processes and threads do not belong on this loop.

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias

START = 1_700_000_000_000
"""Milliseconds since 1970 UTC at which every run begins."""


_Call: TypeAlias = "tuple[float, asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]"
"""When it is over, who waits for it, and the work."""


PARTY: ContextVar[str] = ContextVar("party", default="")
"""Whose work this is, where one party can stand still while the others go on. What a party begins is its own."""

_ASK = 64
"""Turns of the loop between two looks for signals."""


class Stalled(RuntimeError):
    """Somebody waits, and nothing is left that could wake them."""


class Threaded(RuntimeError):
    """A thread did some of the work: when it is done is not the loop's to say, and no run is like another."""


class _Jumps(selectors.SelectSelector):
    """Never waits: tells the loop's clock to jump instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.strange = ""
        """The thread that took part, if one did."""
        self._turn = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turn += 1
        if self.strange:
            strange, self.strange = self.strange, ""  # once: the loop is still needed to end what runs
            raise Threaded(f"{strange} gave work to the loop")
        # Only signals can come from outside; asking the system for them each time costs as much as all else here.
        ready = super().select(0) if timeout is None or self._turn % _ASK == 0 else []
        if not ready and timeout is None:
            raise Stalled("nobody can go on: no callback is ready and no timer is set")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class _Turn:
    """A callback of a party that can stand still."""

    __slots__ = ("args", "callback", "context", "handle", "loop", "party")
    handle: asyncio.Handle

    def __init__(
        self,
        loop: VirtualLoop,
        party: str,
        context: Context,
        callback: Callable[..., object],
        args: tuple[Any, ...],
    ) -> None:
        self.loop, self.party, self.context = loop, party, context
        self.callback, self.args = callback, args

    def __call__(self) -> None:
        # It may have been cancelled while it was missed: whoever did so has the first handle.
        if not self.handle.cancelled() and not self.loop._misses(self):
            self.callback(*self.args)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps and whose executors work in place.

    `latency` draws how many virtual seconds a call to an executor takes; calls to the same executor keep their
    order. By default they take no time.
    """

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        self._jumps = _Jumps()
        self._latency = latency
        self._lines: dict[Executor | None, deque[_Call]] = {}
        self._thread = threading.get_ident()
        self._suspended = ""
        self._missed: list[_Turn] = []
        super().__init__(self._jumps)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumps.now

    def stand_still(self, seconds: float) -> None:
        """Time goes on, and nothing runs: what was due meanwhile is late."""
        self._jumps.now += seconds

    def suspend(self, party: str) -> None:
        """Nothing of this party runs until `resume`: what becomes due meanwhile is late, and what it is told lies
        unread. One party at a time."""
        self._suspended = party

    def resume(self) -> None:
        """Whoever stood still goes on, with what was due first."""
        self._suspended, missed = "", self._missed
        self._missed = []
        for turn in missed:
            super().call_soon(turn, context=turn.context)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As any loop."""
        turn = self._turn(callback, args, context)
        if turn is None:
            return super().call_soon(callback, *args, context=context)
        turn.handle = super().call_soon(turn, context=turn.context)
        return turn.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As any loop."""
        turn = self._turn(callback, args, context)
        if turn is None:
            return super().call_at(when, callback, *args, context=context)
        handle = super().call_at(when, turn, context=turn.context)
        turn.handle = handle
        return handle

    def _turn(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> _Turn | None:
        """None for what is nobody's in particular: it never stands still."""
        party = PARTY.get() if context is None else context.get(PARTY)
        return _Turn(self, party, context or copy_context(), callback, args) if party else None

    def _misses(self, turn: _Turn) -> bool:
        missed = turn.party == self._suspended
        if missed:
            self._missed.append(turn)
        return missed

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As any loop; from a thread it ends the run with `Threaded`."""
        if threading.get_ident() != self._thread:
            self._jumps.strange = threading.current_thread().name
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do the work in the loop's next turn, or after its latency; what it raises reaches who awaits it."""
        future: asyncio.Future[Any] = self.create_future()
        line = self._lines.setdefault(executor, deque())
        end = max(self.time() + self._latency(), line[-1][0] if line else 0.0)
        line.append((end, future, func, args))
        # Timers of the same moment come in any order: each does whatever is first in line.
        if end > self.time():
            self.call_at(end, _work, line)
        else:
            self.call_soon(_work, line)
        return future


class VirtualClock:
    """`ports.clock.Clock` of a virtual loop, `skew` milliseconds ahead of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, skew: int = 0) -> None:
        self._loop = loop
        self.skew = skew

    def now_ms(self) -> int:
        # Rounded: what was scheduled for a whole millisecond must not be seen a hair before it.
        return START + round(self._loop.time() * 1000) + self.skew

    def monotonic(self) -> float:
        return self._loop.time()


def _work(line: deque[_Call]) -> None:
    _, future, func, args = line.popleft()
    try:
        result = func(*args)
    except BaseException as error:  # noqa: BLE001
        # As a thread's: a crash of the simulated process is told to who waits, it does not end the loop.
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
