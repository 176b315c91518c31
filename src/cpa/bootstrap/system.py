"""What the shell gets from the system: time, chance, and ids made of both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


class SystemClock:
    """`ports.clock.Clock` of this machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Chance:
    """Random bytes of the system, fetched in large pieces: asking for each few costs more than a step."""

    def __init__(self) -> None:
        self._drawn = b""
        self._used = 0

    def __call__(self, size: int) -> bytes:
        """`size` bytes that nobody was given before; at most some hundred."""
        if self._used + size > len(self._drawn):
            self._drawn, self._used = os.urandom(4096), 0
        self._used += size
        return self._drawn[self._used - size : self._used]


def job_ids(chance: Callable[[int], bytes]) -> Callable[[], str]:
    """Draws UUIDs of version 7 (RFC 9562): 48 bits of milliseconds, then chance; ids made later sort later."""

    def draw() -> str:
        drawn = int.from_bytes(chance(10), "big")
        # 48 bits of time, version 7, 12 bits of chance, variant 2, 62 bits of chance.
        moment, few, many = time.time_ns() // 1_000_000, drawn >> 68, drawn & 0x3FFFFFFFFFFFFFFF
        text = f"{moment:012x}7{few:03x}{many | 0x8000000000000000:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return draw
