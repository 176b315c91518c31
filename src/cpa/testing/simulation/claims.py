"""What the scheduler tells somebody, or lets somebody do, is held against what is durable at that moment.

durable     what was acknowledged (a job, a message, a cancel, an answer) or shown is stored
leases      who is told to stop an attempt does not have it any more; what an agent named and names no more is
            given up; a new process has nothing of the one before it
attempts    what is over is not handed out any more
identity    nobody speaks, beats or registers for another
proof       only who was asked to look is believed, and absence once the settle time is over
approval    what goes out is what was planned, or what people allowed instead
barred      an agent that drains or is in quarantine is given nothing new; in quarantine it has nothing and changes
            nothing; one that is out is nobody, and what it had is given up
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from cpa.agents.messages import is_look
from cpa.core.commands import CancelAttempt, RequestTask
from cpa.core.events import Event, LeaseLost, TaskFailed, TaskSucceeded, TaskVerified, TimerFired
from cpa.core.lam_protocol import BaseMessage
from cpa.ports.agents import Acknowledgement, AgentState, Beat, Named
from cpa.ports.engine import Outcome
from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.journal import Record

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

SETTLE: Final = 60.0
"""Seconds after which an effect that is not there will not come any more."""
KEPT: Final = 60.0
"""Seconds within which what was done is stored, however often a commit fails."""
_TENANT = "default"
_SOON = 1.5
"""Seconds within which what is decided is stored, where the disk does what it should."""
_KNOWN = 10.0
"""Seconds after which a new life of the scheduler knows all attempts."""


def check_acknowledged(world: World, message: BaseMessage, told: Acknowledgement, heard: float) -> None:
    """A message that came at this time was acknowledged to its sender."""
    if (_TENANT, message.sender, str(message.id)) not in world.journal.inbox:
        world.violated(
            Violation("durable", f"{message.type} of {message.sender} is acknowledged, not stored")
        )
    about = message.correlation
    if message.id in world.lies and told.effect in ("task_succeeded", "task_verified"):
        # By now it is the liar's attempt, or its look: nobody can know better.
        world.believed.add((about.job_id, about.task_id))
    look = (about.job_id, about.task_id, about.epoch or 0, message.sender)
    if message.type == "confirm" and told.effect == "task_verified" and look not in world.looks:
        world.violated(Violation("proof", f"{message.sender} is believed, and was not asked to look: {look}"))
    since, state = world.barred.get(message.sender, (heard, AgentState.ACTIVE))
    silenced = state in (AgentState.QUARANTINED, AgentState.REVOKED)
    if silenced and since < heard and told.new and told.effect.startswith("task_"):
        what = f"{message.type} of {message.sender} did {told.effect}, and it is {state.value}"
        world.violated(Violation("barred", what))


def check_sent(world: World, address: str, message: BaseMessage) -> None:
    """A message goes out to an agent."""
    about, now = message.correlation, world.loop.time()
    named = Named(about.job_id, about.task_id, about.epoch or 0)
    asks = message.type in ("request", "assign") and not is_look(message)
    over = now - world.closed.get(named, now) > _soon(world) and "disk" not in world.scenario.faults
    if asks and over and address not in _holders(world.journal.jobs[_TENANT, about.job_id], named):
        world.violated(Violation("attempts", f"{address} is still asked for {named}, which is over"))


def check_request(world: World, record: Record, attempt: Attempt, request: ActionRequest, agent: str) -> None:
    """A task goes out to an agent."""
    run, spec = record.runs[attempt.task], record.spec.tasks[attempt.task]
    wanted = spec.arguments if run.arguments is None else run.arguments
    if dict(request.arguments) != dict(wanted):
        told = f"{attempt} goes out with {request.arguments}, and {wanted} is what was planned or allowed"
        world.violated(Violation("approval", told))
    command, _ = record.outbox[f"request:{attempt.task}:{attempt.epoch}"]
    slow = {"disk", "slow_disk"} & world.scenario.faults
    since, _ = world.barred.get(agent, (float("inf"), None))
    if world.requested(record.head.id, command) > since + (30 if slow else _SOON):
        told = (
            f"{agent} is given {attempt}, {world.loop.time() - since:.1f} s after it was taken out of service"
        )
        world.violated(Violation("barred", told))


def check_stored(world: World, job: str, outcome: Outcome, what: Callable[[Event], bool]) -> None:
    """Something that a person did to a job was taken."""
    record = world.journal.jobs.get((_TENANT, job))
    if outcome.changed and (record is None or not any(what(event) for event, _ in record.events)):
        world.violated(Violation("durable", f"{job}: what a person did is taken, and not stored"))


def check_shown(world: World, job: str, number: int) -> None:
    """Somebody was shown the job as it is after so many events."""
    record = world.journal.jobs.get((_TENANT, job))
    if record is None or record.head.number < number:
        world.violated(Violation("durable", f"{job} is shown with {number} events, which are not all stored"))


def check_beat(
    world: World, life: Life, address: str, beat: Beat, lost: tuple[Named, ...], current: str
) -> None:
    """A beat was taken, and answered with what is to be stopped; `current` is the agent's newest process."""
    if beat.instance != current:
        if set(lost) != set(beat.running):
            world.violated(Violation("leases", f"a beat of {beat.instance} counts, and {current} lives"))
        return
    last, named = world.last_beats.get(address), frozenset(beat.running)
    world.last_beats[address] = (life, beat.instance, named)
    if "disk" in world.scenario.faults:
        return  # what is decided may be lost, or be stored late
    _check_told(world, life, address, named.difference(lost))
    if lost:
        _look_later(world, life, address, lost, "it was told to stop it")
    if last is not None and last[:2] == (life, beat.instance) and (gone := last[2] - named):
        _look_later(world, life, address, gone, "it does not name it any more")


def _check_told(world: World, life: Life, address: str, kept: Collection[Named]) -> None:
    """What an agent has nothing to do with any more it is told to stop, once all is known."""
    now = world.loop.time()
    for named in kept:
        record = world.journal.jobs[_TENANT, named.job]
        ended = now - world.closed.get(named, now)
        if now - life.began > _KNOWN and ended > _soon(world) and address not in _holders(record, named):
            told = f"{address} names {named}, which ended {ended:.0f} s ago, and is not told so"
            world.violated(Violation("leases", told))


def check_absence(record: Record, event: TaskVerified) -> None:
    """Somebody looked for an effect and did not find it. Raises `Violation`."""
    ends = (TaskSucceeded, TaskFailed, LeaseLost)
    times = [
        each.time
        for each, _ in record.events
        if (isinstance(each, ends) and (each.task, each.epoch) == (event.task, event.epoch))
        or (isinstance(each, TimerFired) and each.key.endswith(f":{event.task}:{event.epoch}"))
    ]
    if times and event.time - times[0] < SETTLE * 1000:
        told = f"{event}, {event.time - times[0]} ms after the attempt, and it may still come"
        raise Violation("proof", told)


def check_quarantine(world: World, life: Life, address: str) -> None:
    """An agent was put in quarantine just now."""
    if kept := attempts_of(life, address):
        world.violated(Violation("barred", f"{address} is in quarantine, and has {sorted(map(str, kept))}"))


def check_removed(world: World, life: Life, address: str, had: Collection[Named]) -> None:
    """An agent was revoked or unregistered just now, and had these."""
    world.circuits.forget(address)
    if had and "disk" not in world.scenario.faults:
        _look_later(world, life, address, had, "it is out")


def check_kept(world: World, life: Life | None, request: ActionRequest) -> None:
    """A part of this life of the scheduler has said a while ago that it did this."""
    if world.loop.time() < world.oracles.stood + _KNOWN:
        world.loop.call_later(_KNOWN, check_kept, world, life, request)  # it may not have come to it
        return
    record = world.journal.jobs[request.tenant, request.job]
    index = record.index(request.task)
    if (
        life is not None
        and life is world.life
        and life.up
        and f"request:{index}:{request.epoch}" in record.outbox
    ):
        told = f"{request.job}/{request.task} was done {KEPT:.0f} s ago, and nobody knows"
        world.violated(Violation("durable", told))


def check_restart(world: World, address: str, before: frozenset[Named], after: frozenset[Named]) -> None:
    """A new process of an agent has registered; the attempts it had, and has."""
    world.circuits.forget(address)
    if kept := before & after:
        world.violated(
            Violation("leases", f"a new process of {address} has {sorted(map(str, kept))} of the last one")
        )


def attempts_of(life: Life, address: str) -> frozenset[Named]:
    """What the scheduler takes to be with this agent."""
    agent = life.registry.get(address, _TENANT)
    running = () if agent is None else life.orchestrator.presence.running(agent)
    return frozenset(named for _, named, _ in running)


def impersonated(world: World, liar: str, what: str) -> None:
    """Somebody was taken for another."""
    world.violated(Violation("identity", f"{liar} {what}, and was believed"))


def _look_later(world: World, life: Life, address: str, attempts: Collection[Named], why: str) -> None:
    loop, now = asyncio.get_running_loop(), world.clock.now_ms()
    loop.call_later(_soon(world), _still_its_own, world, life, address, attempts, why, now)


def _soon(world: World) -> float:
    return 10 * _SOON if "slow_disk" in world.scenario.faults else _SOON


def _still_its_own(
    world: World, life: Life, address: str, attempts: Collection[Named], why: str, when: int
) -> None:
    """Since `when` these are not the agent's any more, and what decided that came before."""
    if world.life is not life or not life.up:
        return
    if world.loop.time() < world.oracles.stood + _soon(world):
        world.loop.call_later(_soon(world), _still_its_own, world, life, address, attempts, why, when)
        return  # it may not have come to it
    for named in sorted(attempts, key=str):
        record = world.journal.jobs[_TENANT, named.job]
        stopped = [
            event
            for event, _ in record.events
            if isinstance(event, TaskFailed)
            and event.code == "cancelled"
            and event.time > when
            and (record.spec.tasks[event.task].id, event.epoch) == (named.task, named.epoch)
        ]
        if address in _holders(record, named) or (stopped and world.oracles.clock):
            world.violated(Violation("leases", f"{address} still had {named}, and {why}"))


def _holders(record: Record, named: Named) -> set[str]:
    index = record.index(named.task)
    return {
        command.agent
        for command, _ in record.outbox.values()
        if isinstance(command, RequestTask | CancelAttempt)
        and (command.task, command.epoch) == (index, named.epoch)
    }
