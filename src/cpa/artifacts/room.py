"""How much one folder may hold, and how much it does.

What is there is measured once, then counted. When little is left it is measured anew, at most once a minute:
somebody may have made room. What is being written counts from its first byte, so that many at once stay below the
limit together; bytes that are there already count as long as they are written once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cpa.errors import QuotaExceeded

MEASURE_AGAIN: Final = 60.0
"""Seconds between two measurements."""


class Room:
    """Of one tenant's folder. Only `measure` may run in a thread of its own."""

    def __init__(self, folder: Path, most: int, monotonic: Callable[[], float]) -> None:
        self._folder, self._most, self._monotonic = folder, most, monotonic
        self._kept = 0
        self._measured: float | None = None
        self._writing = 0

    @property
    def doubtful(self) -> bool:
        """Whether it should be measured before the next byte is taken."""
        if self._measured is None:
            return True
        full = self._kept + self._writing > 0.9 * self._most
        return full and self._monotonic() - self._measured >= MEASURE_AGAIN

    def measure(self) -> int:
        """Bytes of the files in the folder that are whole. Blocks; give it to `learn`."""
        total = 0
        for place, _, names in os.walk(self._folder):
            if os.path.basename(place) != "incoming":
                for name in names:
                    try:
                        total += os.stat(os.path.join(place, name)).st_size
                    except FileNotFoundError:
                        continue  # it was removed meanwhile, which is why we look
        return total

    def learn(self, kept: int) -> None:
        self._kept, self._measured = kept, self._monotonic()

    def take(self, size: int) -> None:
        """So many bytes more are written. Raises `QuotaExceeded`; then none of them count."""
        taken = self._kept + self._writing
        if taken + size > self._most:
            raise QuotaExceeded(
                f"All artifacts of a tenant may have {self._most} bytes, and have {taken}.",
                field="content",
                value=f"{size} bytes or more",
                remedy="Raise CPA_MAX_TENANT_BYTES, or remove files that nothing needs from the artifacts folder.",
            )
        self._writing += size

    def give(self, size: int, *, kept: bool) -> None:
        """So many bytes are written, and kept or gone."""
        self._writing -= size
        self._kept += size if kept else 0


class Share:
    """What one file takes of a room while it is written. `close` it once, whatever became of it."""

    def __init__(self, room: Room) -> None:
        self._room, self._size = room, 0

    def take(self, size: int) -> None:
        """As `Room.take`."""
        self._room.take(size)
        self._size += size

    def close(self, *, kept: bool) -> None:
        """The file is there, and was not before; or nothing of it stays."""
        self._room.give(self._size, kept=kept)
