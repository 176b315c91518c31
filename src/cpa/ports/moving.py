"""Which engine holds an open job, and what a job takes along when it moves to the other.

An open job belongs to one engine; an ended one to none, and whichever engine runs may open it again. A job on its
way from one engine to the other is stepped by neither. All that is ever on its way is marked so, durably and first:
who is killed in the middle finds it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

LOCAL: Final = "local"
TEMPORAL: Final = "temporal"
Key = tuple[str, str]
"""(tenant, job id)"""
LOST_START: Final = 2**42
"""When a postponed job starts whose time nobody knows any more: in the year 2109. At once would be wrong, somebody
did not want that; so it waits until it is cancelled."""


class Holder(msgspec.Struct, frozen=True, gc=False):
    """Whose an open job is."""

    engine: str
    target: str = ""
    """Where it is on its way to; empty at rest."""


class Times(msgspec.Struct, frozen=True, gc=False):
    """What the store knows of a job besides its rows: absolute times, milliseconds since 1970 UTC."""

    due: dict[str, int] = {}
    """When the timers of its open commands fire, by key."""
    start: int | None = None
    """Of a job in the line: when it may start, 0 is at once; None is not in the line."""


class HolderStore(Protocol):
    """Every change is one transaction, durable on return. Only who alone has the store may change anything."""

    async def holders(self) -> dict[Holder, int]:
        """How many open jobs each has. Quick, also with many jobs."""
        ...

    async def held(self, holder: Holder) -> list[Key]:
        """All open jobs of this holder, in key order. A name that is no UTF-8 is none of a job: it comes with lone
        halves of character pairs (`core.ids.shown`)."""
        ...

    async def times(self, keys: Collection[Key]) -> dict[Key, Times]:
        """Of each of these jobs."""
        ...

    async def mark(self, keys: Sequence[Key], holder: Holder) -> None:
        """These jobs are this holder's from now on."""
        ...

    async def receive(self, starts: Mapping[Key, int | None]) -> None:
        """These jobs are the local engine's, at rest. Those with a time stand in its line, to start then (0: as
        soon as there is room)."""
        ...

    async def release(self, keys: Sequence[Key], engine: str) -> None:
        """These jobs are that engine's, at rest, and in nobody's line."""
        ...
