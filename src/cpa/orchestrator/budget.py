"""The retry budget: second and later tries may be a tenth of the traffic, so that a dependency which comes back is
not kept down by those who tried too early.

Counted per tenant and action over a sliding window. A small floor lets a system with little traffic retry at all.
Not counted are attempts given to another agent because the first one vanished: nothing failed at the target.
"""

from __future__ import annotations

from collections import deque

SHARE = 0.1
FLOOR = 20
"""Retries in a window that are always allowed."""
WINDOW = 30_000
"""Milliseconds."""
_PIECES = 10
_PIECE = WINDOW // _PIECES
_MOST = 10_000


class Traffic:
    """Attempts at one action of one tenant: finished pieces of the window, and the piece that is being filled."""

    __slots__ = ("attempts", "past", "piece", "retries")

    def __init__(self) -> None:
        self.past: deque[tuple[int, int]] = deque(maxlen=_PIECES - 1)
        self.piece = 0
        self.attempts = 0
        self.retries = 0

    def spent(self, now: int, *, retry: bool = False) -> None:
        """One more attempt was given to an agent; `now` is in milliseconds."""
        piece = now // _PIECE
        if piece != self.piece:
            self.move(piece)
        self.attempts += 1
        self.retries += retry

    def move(self, piece: int) -> None:
        """Go on to this piece; a clock that was set back only loses precision."""
        passed = piece - self.piece
        self.past.append((self.attempts, self.retries))
        if not 0 < passed < _PIECES:
            self.past.clear()
        else:
            self.past.extend([(0, 0)] * (passed - 1))
        self.piece, self.attempts, self.retries = piece, 0, 0


class RetryBudget:
    """`allows` before a retry; `of(…).spent` for each attempt that was given to an agent."""

    def __init__(self) -> None:
        self._traffic: dict[tuple[str, str], Traffic] = {}

    def allows(self, tenant: str, action: str, now: int) -> bool:
        """Whether one more retry fits; `now` is in milliseconds."""
        traffic, piece = self.of(tenant, action), now // _PIECE
        if piece != traffic.piece:
            traffic.move(piece)
        attempts = traffic.attempts + sum(past[0] for past in traffic.past)
        retries = traffic.retries + sum(past[1] for past in traffic.past)
        return retries < max(FLOOR, SHARE * attempts)

    def of(self, tenant: str, action: str) -> Traffic:
        """The traffic of one action; the same object every time, as long as there are not too many."""
        key = (tenant, action)
        traffic = self._traffic.get(key)
        if traffic is None:
            if len(self._traffic) >= _MOST:
                self._traffic.clear()
            traffic = self._traffic[key] = Traffic()
        return traffic
