"""What an agent says that is not true: about attempts of others, of long ago and to come, and in others' names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from cpa.core.lam_protocol import BaseMessage, MessageFactory
from cpa.errors import CPAError
from cpa.orchestrator.registration import Registration
from cpa.orchestrator.wording import SCHEDULER
from cpa.ports.agents import Beat
from cpa.testing.simulation.claims import impersonated

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.scheduler import Life
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
    epoch = max(run.epoch + chance.choice((-1, 1) if own else (-1, 0, 0, 0, 1)), 1)
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


async def pretend(world: World, liar: Process) -> None:
    """Speak, beat and register with the own key as somebody else: nobody may believe it."""
    others = [process for process in world.processes if process is not liar and process.id]
    if not others:
        return
    other = world.forging.choice(others)
    held = [
        (record, run)
        for record in world.journal.jobs.values()
        for run in record.runs.values()
        if run.agent == other.address
    ]
    wanted = Registration(
        name=other.name, type="DATA", capabilities=("x.sim.set",), instance="forged", incarnation=1_000_000
    )

    async def says(life: Life) -> None:
        record, run = world.forging.choice(held)
        correlation = {
            "conversationId": liar.name,
            "jobId": record.head.id,
            "taskId": record.spec.tasks[run.index].id,
            "epoch": run.epoch,
        }
        factory = MessageFactory(other.address, world.new_message_id, world.clock.now_ms)
        kind = world.forging.choice(sorted(_SAID))
        message = factory.make(kind, SCHEDULER, _SAID[kind], correlation=correlation)
        await life.messages.handle(message, liar.caller)
        impersonated(world, liar.name, f"says {kind} as {other.name}")

    async def beats(life: Life) -> None:
        await life.directory.heartbeat(liar.caller, other.id, Beat())
        impersonated(world, liar.name, f"beats as {other.name}")

    async def registers(life: Life) -> None:
        await life.directory.register(wanted, liar.caller)
        impersonated(world, liar.name, f"registers as {other.name}")

    for claim in (says, beats, registers) if held else (beats, registers):
        try:
            await world.ask(liar.name, claim)
        except CPAError:
            continue
