"""What an agent says that is not true: about attempts of others, of long ago, and of jobs that never were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from cpa.core.lam_protocol import BaseMessage, MessageFactory
from cpa.orchestrator.wording import SCHEDULER

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

_SAID: dict[str, dict[str, Any]] = {
    "done": {"result": {"by": "a liar"}},
    "failure": {"class": "technical", "error": "lied", "message": "it never worked"},
    "refuse": {"class": "environment", "reason": "busy"},
    "agree": {},
    "inform": {"progress": 0.5},
    "confirm": {"what": "effect", "verdict": "happened", "evidence": "trust me"},
}


def invented(world: World, liar: str, id: UUID) -> BaseMessage | None:
    """Something about an attempt that is not the liar's; None when there is nothing to lie about."""
    chance = world.agent_chance
    tasks = [
        (record, run)
        for record in world.journal.jobs.values()
        for run in record.runs.values()
        if run.epoch and (run.agent != liar or run.epoch > 1)
    ]
    if not tasks:
        return None
    record, run = chance.choice(tasks)
    own = run.agent == liar
    epoch = max(run.epoch - 1, 1) if own else max(run.epoch + chance.choice((-1, 0, 0, 0, 1)), 1)
    correlation = {
        "conversationId": str(id),
        "jobId": record.head.id,
        "taskId": record.spec.tasks[run.index].id,
        "epoch": epoch,
    }
    kind = chance.choice(sorted(_SAID))
    if kind == "done":
        # The liar may be given this very attempt before its lie arrives: then it is the holder's word.
        world.claimed(record.head.id, run.index, epoch, liar)
    factory = MessageFactory(liar, lambda: id, world.clock.now_ms)
    return factory.make(kind, SCHEDULER, _SAID[kind], correlation=correlation)
