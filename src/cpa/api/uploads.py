"""How much each agent has sent of late: one that runs wild must not use up what its tenant may keep, or the disk.

Counted in memory, by the hour: a restart forgets it, which costs nothing but one more day's worth at most.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from cpa.errors import QuotaExceeded
from cpa.ports.keys import Caller, Scope

HOUR: Final = 3_600_000
HOURS: Final = 24
LEAST: Final = 1024
"""Bytes a message counts for at least: so much what is kept of a short one takes."""


class Uploads:
    """Of all agents. `now` is in milliseconds; `what` they send is said to who sent too much of it."""

    def __init__(self, most: int, now: Callable[[], int], what: str = "artifacts") -> None:
        self._most, self._now, self._what = most, now, what
        self._sent: dict[tuple[str, str], deque[list[int]]] = defaultdict(deque)
        """By tenant and name: [hour, bytes], oldest first."""

    def take(self, caller: Caller, size: int) -> None:
        """The caller sends so many bytes. Raises `QuotaExceeded` for an agent that sent too much; then they do not
        count."""
        self.check(caller, size)
        self.count(caller, size)

    def count(self, caller: Caller, size: int) -> None:
        """So many bytes of the caller are kept, once there was room for them."""
        if _counts(caller):
            hours, hour = self._of(caller), self._now() // HOUR
            if not hours or hours[-1][0] != hour:
                hours.append([hour, 0])
            hours[-1][1] += size

    def check(self, caller: Caller, size: int) -> None:
        """As `take`, of what is announced: nothing is counted."""
        if not _counts(caller):
            return
        sent = sum(bytes for _, bytes in self._of(caller))
        if sent + size > self._most:
            raise QuotaExceeded(
                f"{caller.name} may send {self._most} bytes of {self._what} in {HOURS} hours, and has sent {sent}",
                field="content",
                value=f"{size} bytes or more",
                remedy="look at what it sends; raise CPA_MAX_AGENT_BYTES, or let it try again in some hours",
            )

    async def counted(self, caller: Caller, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The content, refused where it becomes too much."""
        async for chunk in content:
            self.take(caller, len(chunk))
            yield chunk

    def _of(self, caller: Caller) -> deque[list[int]]:
        hours = self._sent[caller.tenant, caller.name]
        while hours and hours[0][0] <= self._now() // HOUR - HOURS:
            hours.popleft()
        return hours


def _counts(caller: Caller) -> bool:
    return Scope.AGENT in caller.scopes and Scope.ADMIN not in caller.scopes
