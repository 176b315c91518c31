"""What became of the attempts of this process, counted since its start: for figures, nothing is decided by it."""

from __future__ import annotations

from typing import Final

from cpa.core.events import (
    AgentChosen,
    Event,
    LeaseLost,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskSucceeded,
    TimerFired,
)

STOPPED: Final = "stopped"
"""By us: its job was cancelled, or failed elsewhere."""
_OUTCOMES: Final[dict[type[Event], str]] = {
    TaskSucceeded: "succeeded",
    TaskFailed: "failed",
    TaskRefused: "refused",
    TaskProposed: "proposed",
    LeaseLost: "lost",
    TimerFired: "timed_out",
    AgentChosen: "withdrawn",
}


class Tally:
    """Each attempt counts once when an agent is chosen for it, and once when it ends: so what has begun has ended,
    or an agent has it. One that an agent has over a restart counts by its end alone after it; one that a part of
    the process had that stopped does not count again."""

    __slots__ = ("begun", "ended", "retries")

    def __init__(self) -> None:
        self.begun = 0
        self.retries = 0
        """Those of `begun` whose task had failed before."""
        self.ended = dict.fromkeys((*_OUTCOMES.values(), STOPPED), 0)
        """By outcome."""

    def begin(self, *, retry: bool) -> None:
        self.begun += 1
        self.retries += retry

    def end(self, event: Event) -> None:
        """`event` is what ended the attempt; the choice itself where that was never stored, or came to nothing."""
        self.ended[_OUTCOMES.get(type(event), STOPPED)] += 1
