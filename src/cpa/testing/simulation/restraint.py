"""When an agent must not act: held against what it was told, and what it said itself.

It has no effect after its lease was over, after it was told to stop, after it said that it did not or would not
begin; none that must not be twice before the scheduler has stored that it was agreed to; and once it heard of a
newer attempt of a task it agrees to no older one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.events import TaskStarted
from cpa.core.lam_payloads import FailurePayload, Payload
from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import Named
from cpa.ports.executor import ActionRequest
from cpa.testing.schedules.knowledge import Violation

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

_NEVER = "it was stopped before it began"


class Restraint:
    """Of one agent, process after process."""

    def __init__(self, world: World, address: str) -> None:
        self._world, self._address = world, address
        self.until = 0.0
        """On the loop's clock: when its lease is over, by the last beat that was answered."""
        self._ended: dict[Named, str] = {}
        """Attempts it must not go on with, and why."""
        self._stopped: set[Named] = set()
        """Attempts it was told to stop, or has forgotten."""
        self._agreed: set[Named] = set()
        self._left: frozenset[str] = frozenset()
        self._newest: dict[tuple[str, str], int] = {}
        """By job and task: the newest epoch this process has agreed to or refused."""

    def born(self, answers: Collection[str]) -> None:
        """A new process, to which the last one has left these answers, by id. It does not know what was refused,
        and need not: what must not be done twice it begins only once it was heard."""
        self._ended, self._newest, self._left = {}, {}, frozenset(answers)

    def end(self, named: Named, why: str) -> None:
        """Nothing of this attempt may happen any more."""
        self._ended.setdefault(named, why)

    def stop(self, named: Named) -> None:
        """It is about to be told to stop this attempt, or to forget it."""
        self._stopped.add(named)

    def says(self, message: BaseMessage, *, earlier: bool) -> None:
        """It says this for the first time; `earlier`: a process before this one had the attempt."""
        about = message.correlation
        named = Named(about.job_id, about.task_id, about.epoch or 0)
        task = (about.job_id, about.task_id)
        if earlier and str(message.id) not in self._left:
            self._inherits(named, message)
        if message.type == "refuse":
            self.end(named, "it refused")
        elif isinstance(message.payload, FailurePayload) and message.payload.message == _NEVER:
            self.end(named, "it said that it never began")
        elif message.type == "agree":
            if named not in self._agreed and self._newest.get(task, 0) > named.epoch:
                told = f"{self._address} agrees to {named}, and knows of attempt {self._newest[task]}"
                self._world.violated(Violation("restraint", told))
            self._agreed.add(named)
        else:
            return
        self._newest[task] = max(named.epoch, self._newest.get(task, 0))

    def check_stopped(self, message: BaseMessage, named: Named) -> None:
        """A process that lives says this: what it stopped half way it was told to stop."""
        if _was_stopped(message.payload) and named not in self._stopped:
            told = f"{self._address} has stopped {named}, and nobody told it to"
            self._world.violated(Violation("restraint", told))

    def _inherits(self, named: Named, message: BaseMessage) -> None:
        """What died with a process has an unknown outcome, and begins anew only where twice is once."""
        payload = message.payload
        knows = (
            isinstance(payload, FailurePayload) and payload.failure_class is not FailureClass.UNKNOWN_OUTCOME
        )
        record = self._world.journal.jobs["default", named.job]
        effect = next(task.effect for task in record.spec.tasks if task.id == named.task)
        if effect is not EffectClass.IDEMPOTENT and (knows or message.type == "agree"):
            told = f"{self._address} says {message.type} of {named}, which an earlier process began"
            self._world.violated(Violation("restraint", told))

    def acts(self, request: ActionRequest) -> None:
        """It has an effect now."""
        now, named = self._world.loop.time(), Named(request.job, request.task, request.epoch)
        if named in self._ended:
            self._broken(named, self._ended[named])
        if request.effect is EffectClass.IDEMPOTENT:
            return
        if now > self.until:
            self._broken(named, f"its lease is over since {now - self.until:.0f} s")
        record = self._world.journal.jobs[request.tenant, request.job]
        index = record.index(request.task)
        started = (
            isinstance(event, TaskStarted) and (event.task, event.epoch) == (index, request.epoch)
            for event, _ in record.events
        )
        if not any(started):
            self._broken(named, "nobody had heard that it agreed")

    def _broken(self, named: Named, why: str) -> None:
        told = f"{self._address} has the effect of {named}, and {why}"
        self._world.violated(Violation("restraint", told))


def _was_stopped(payload: Payload) -> bool:
    """Whether this says that the attempt was stopped while it ran."""
    if not isinstance(payload, FailurePayload):
        return False
    return payload.failure_class is FailureClass.UNKNOWN_OUTCOME and payload.error == "cancelled"
