"""Circuit breakers, once more and simpler: who failed again and again gets nothing for a while, then one attempt.

After five technical failures or unknown outcomes in a row, none of them long after the one before, an agent is left
alone for two seconds at least; then it gets one attempt in two seconds until one ends well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cpa.core.classes import FailureClass
from cpa.core.events import AgentChosen, Event, TaskFailed, TaskSucceeded, TimerFired
from cpa.testing.schedules.knowledge import Violation

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life

IN_A_ROW: Final = 5
PAUSE: Final = 2.0
APART: Final = 50.0
"""Seconds between two failures, up to which they surely are in a row."""
_NO_FAULT: Final = (FailureClass.BUSINESS, FailureClass.POLICY)
"""An answer all the same."""
_OWN: Final = "agent://builtin/"
"""The part of the scheduler has no circuit: nobody could take its place."""
_MARGIN: Final = 0.3
"""Seconds that may lie between a choice and its commit."""


@dataclass(eq=False)
class _Circuit:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0
    """While it is open: when the next attempt may begin."""


@dataclass(eq=False)
class Circuits:
    """Of one life of the scheduler at a time: breakers are forgotten with it, and what ends of an attempt that an
    earlier life chose may count or not."""

    _life: Life | None = None
    _circuits: dict[str, _Circuit] = field(default_factory=dict)

    _holders: dict[tuple[str, str], str] = field(default_factory=dict)
    """By job and task's place: who was chosen last."""
    _chosen_here: set[tuple[str, str]] = field(default_factory=set)
    """Those chosen in this life."""

    def event(self, life: Life | None, now: float, job: str, event: Event) -> None:
        """An event of a job is stored. Raises `Violation`."""
        if life is not self._life:
            self._life, self._circuits, self._chosen_here = life, {}, set()
        if isinstance(event, AgentChosen):
            self._holders[job, str(event.task)] = event.agent
            self._chosen_here.add((job, str(event.task)))
            self._chosen(now, event.agent)
        elif isinstance(event, TimerFired):
            kind, _, rest = event.key.partition(":")
            if kind in ("request", "cancel"):
                self._failed(now, (job, rest.partition(":")[0]))
        elif isinstance(event, TaskSucceeded | TaskFailed):
            agent = self._holders[job, str(event.task)]
            if isinstance(event, TaskSucceeded) or event.failure in _NO_FAULT or event.code == "cancelled":
                self._circuits.pop(agent, None)
            elif event.failure is not FailureClass.ENVIRONMENT:
                self._failed(now, (job, str(event.task)))

    def forget(self, agent: str) -> None:
        """It is another process now."""
        self._circuits.pop(agent, None)

    def _chosen(self, now: float, agent: str) -> None:
        circuit = self._circuits.get(agent)
        if circuit is None or not circuit.until or agent.startswith(_OWN):
            return
        # What counts is what is stored: a choice in the same commit as the last failure was made before.
        if circuit.last < now < circuit.until - _MARGIN:
            told = f"{agent} failed {circuit.failures} times in a row, and gets the next attempt at once"
            raise Violation("breakers", told)
        circuit.until = now + PAUSE

    def _failed(self, now: float, attempt: tuple[str, str]) -> None:
        if attempt not in self._chosen_here:
            return
        circuit = self._circuits.setdefault(self._holders[attempt], _Circuit())
        if now - circuit.last > APART and not circuit.until:
            circuit.failures = 0
        circuit.failures, circuit.last = circuit.failures + 1, now
        if circuit.failures >= IN_A_ROW and not circuit.until:
            circuit.until = now + PAUSE
