"""Time enters through here, as integer milliseconds since 1970 UTC."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time for events, monotonic time for durations."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds; never goes back."""
        ...
