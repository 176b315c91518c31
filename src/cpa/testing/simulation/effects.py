"""What agents did to the world outside. Nobody but the oracles, the verifiers and people who look may ask here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cpa.core.classes import EffectClass
from cpa.ports.executor import ActionRequest
from cpa.testing.schedules.knowledge import Violation

Place = tuple[str, str, int]
"""(job, task, run)"""


@dataclass(eq=False)
class Effects:
    """By job, task and run."""

    done: dict[Place, list[tuple[str, int]]] = field(default_factory=dict)
    """Who did it, and in which epoch."""
    denied: set[tuple[str, str, int]] = field(default_factory=set)
    """(job, task, epoch) of which a person said that it had not happened, or that somebody looked for in vain."""
    count: Counter[EffectClass] = field(default_factory=Counter)

    def add(self, request: ActionRequest, agent: str) -> None:
        """It happens now. A second time is a violation where it must not be."""
        place = (request.job, request.task, request.run)
        before = self.done.setdefault(place, [])
        self.count[request.effect] += 1
        before.append((agent, request.epoch))
        if (request.job, request.task, request.epoch) in self.denied:
            told = f"{request.job}/{request.task} by {before[-1]}, and it is certain that it did not happen"
            raise Violation("effects", told)
        if request.effect is EffectClass.IDEMPOTENT or len(before) == 1:
            return
        others = [each for each in before[:-1] if (request.job, request.task, each[1]) not in self.denied]
        if others:
            told = (
                f"{request.job}/{request.task}, {request.effect}: by {others[0]}, and again by {before[-1]}"
            )
            raise Violation("effects", told)

    def happened(self, request: ActionRequest) -> bool:
        return bool(self.done.get((request.job, request.task, request.run)))
