"""What must hold while agents come and go, and at the end of a run: nothing is lost, nothing is kept for nobody.

timers        what is due fires soon
leases        what a silent agent had is given up within a lease and a few seconds, and nothing else is; within a
              beat more where it said something else since
once          a request that was handed in again and again became one job
liveness      every job that was accepted has ended
slots         no slot is taken, no lease kept, nobody stands in line, nothing waits to be said
effects       what is done was done
replay        the stored events lead to the stored rows again, byte for byte, and prove themselves
store         SQLite has what was committed, where a run has it
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from cpa.core.audit import unseal
from cpa.core.commands import CancelAttempt, RequestTask
from cpa.core.events import (
    PERSONAL,
    AgentChosen,
    AnyEvent,
    Event,
    JobReopened,
    JobStarted,
    JobSubmitted,
    LeaseLost,
)
from cpa.core.job import JobState, TaskStatus
from cpa.core.replay import replay
from cpa.orchestrator.presence import BEATS
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.blame import check_apart
from cpa.testing.simulation.journal import Record
from cpa.testing.simulation.ways import LEASE

if TYPE_CHECKING:
    from cpa.orchestrator.agent_registry import Agent
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

MARGIN = 3.0
"""Seconds beyond a lease within which it must be given up: two promised, one for the look itself."""
LATE = 8.0
"""Seconds within which a timer fires once it is due, or the scheduler is there again."""
_encode = msgspec.json.encode
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(AnyEvent)


def check_leases(world: World) -> None:
    """What nobody named for a lease is given up, where the scheduler was there all the time."""
    life = world.life
    if (
        life is None
        or not life.up
        or life.disk.full
        or life.engine.trouble is not None
        or world.oracles.still
    ):
        return
    now = world.loop.time()
    slack = LEASE + MARGIN + (20.0 if {"slow_disk", "disk"} & world.scenario.faults else 0.0)
    for record in world.journal.jobs.values():
        for command, _ in record.outbox.values():
            if not isinstance(command, RequestTask | CancelAttempt):
                continue
            attempt = (record.head.id, record.spec.tasks[command.task].id, command.epoch)
            since = max(life.began, world.oracles.stood, world.requested(record.head.id, command))
            if command.agent in world.agents:
                since = max(since, world.vital.get(attempt, 0.0))
                if world.heard.get(command.agent, 0.0) > since:
                    since += LEASE / BEATS  # it may fall silent as a whole, up to a beat later
            elif command.agent == life.own:
                continue
            if now - since > slack:
                told = f"{command.key} of {attempt[0]} is open, {command.agent} gave no sign"
                world.violated(Violation("leases", f"{told} for {now - since:.0f} s"))


def check_timers(world: World) -> None:
    """What is due comes soon."""
    life = world.life
    if life is None or not life.up or not world.oracles.clock or "disk" in world.scenario.faults:
        return
    if world.oracles.still:
        return
    now, up = world.clock.now_ms(), (world.loop.time() - max(life.began, world.oracles.stood)) * 1000
    for record in world.journal.jobs.values():
        for command, due in record.outbox.values():
            if due and min(now - due, up) > LATE * 1000:
                told = f"{command.key} of {record.head.id} was due {(now - due) / 1000:.0f} s ago"
                world.violated(Violation("timers", told))


def check_lost(world: World, record: Record, event: LeaseLost) -> None:
    """A lease that was renewed in time is not taken away because of the time, nor one that the last beat named."""
    reasons = ("its agent did not name", "its agent was not heard", "its agent does not name")
    if world.life is None or not event.reason.startswith(reasons):
        return
    if {"disk", "slow_disk"} & world.scenario.faults:
        return  # The lease was lost some time before that is stored.
    attempt = (record.head.id, record.spec.tasks[event.task].id, event.epoch)
    silent = world.loop.time() - world.beats.get(attempt, 0.0)
    chosen = [each for each, _ in record.events if isinstance(each, AgentChosen) and each.task == event.task]
    named = attempt in world.named.get(chosen[-1].agent, ())
    if named and (silent < LEASE - 1 or event.reason.startswith(reasons[2])):
        told = f"{event} of {attempt[0]}: a beat named it {silent:.1f} s ago"
        world.violated(Violation("leases", told))


def check_room(world: World) -> None:
    """No agent is given more than it has slots for, nor several that are much suspected, by what is stored. Raises
    `Violation`."""
    check_apart(world)
    taken = Counter(
        command.agent
        for record in world.journal.jobs.values()
        for command, _ in record.outbox.values()
        if isinstance(command, RequestTask | CancelAttempt) and command.agent in world.agents
    )
    for address, attempts in taken.items():
        if attempts > world.agents[address].slots:
            raise Violation("slots", f"{address} is given {attempts} of {world.agents[address].slots} slots")


def check_books(world: World) -> None:
    """Slots are taken for what runs, and for nothing else."""
    life = world.life
    if life is None or not life.up:
        return
    for agent in life.registry.list("default"):
        running = len(life.orchestrator.presence.running(agent))
        most = agent.slots if agent.record is None else agent.record.slots
        if not running <= agent.busy <= most:
            told = f"{agent.address} has {agent.busy} of {most} slots taken, and {running} leases"
            world.violated(Violation("slots", told))

    for process in world.processes:
        if process.overtaxed:
            world.violated(Violation("slots", f"{process.address} has more attempts than slots"))


def check_end(world: World) -> None:
    """Raises the first `Violation`."""
    for client in world.clients:
        if not client.job:
            raise Violation("liveness", "a job was never accepted")
        if world.status(client.job) is None:
            raise Violation("lost", f"{client.job} was accepted and is not there")
        if world.oracles.clock:  # it may have stood in line when the clock was set back
            _check_start(world.journal.jobs["default", client.job], client.not_before)
    jobs, wanted = len(world.journal.jobs), len(world.clients) + world.oracles.asked
    if jobs != wanted:
        raise Violation("once" if jobs > wanted else "lost", f"{wanted} requests became {jobs} jobs")
    for record in world.journal.jobs.values():
        _check_job(world, record)
    _check_slots(world)
    _check_privacy(world)
    if world.sql is not None and (left := world.sql.line(100)) != world.journal.line(100):
        raise Violation("store", f"{left} stand in the line, and should not")


def _check_start(record: Record, not_before: int) -> None:
    for event, _ in record.events:
        if isinstance(event, JobReopened):
            return  # cancelled before its time, and wanted now
        if isinstance(event, JobStarted) or (isinstance(event, JobSubmitted) and event.start):
            if event.time < not_before:
                raise Violation("timers", f"{record.head.id} starts {not_before - event.time} ms too early")
            return


def _check_job(world: World, record: Record) -> None:
    head = record.head
    if not head.status.ended:
        raise Violation("liveness", f"{head.id} has not ended: {_why(record)}")
    for index, run in record.runs.items():
        spec = record.spec.tasks[index]
        claimed = run.status is TaskStatus.DONE and run.agent in world.agents and run.reason != "confirmed"
        places = [(head.id, spec.id, number) for number in range(head.run + 1)]
        believed = (head.id, spec.id) in world.believed
        if claimed and not believed and not any(world.effects.done.get(place) for place in places):
            raise Violation("effects", f"{head.id}/{spec.id} is done ({run.reason}), and never happened")
    _check_replay(record)
    if world.sql is not None:
        stored = world.sql.load(head.tenant, head.id)
        if (stored.head, stored.tasks) != (head, tuple(record.runs[index] for index in sorted(record.runs))):
            raise Violation("store", f"{head.id}: the rows are not what was committed")
        if len(world.sql.events(head.tenant, head.id, 0, 100_000)) != len(record.events):
            raise Violation("store", f"{head.id}: events are missing")
        if {command.key for command in stored.commands} != set(record.outbox):
            raise Violation("store", f"{head.id}: the outbox is not what is open")


def _check_replay(record: Record) -> None:
    job: JobState | None = None
    bodies = []
    for _, sealed in record.events:
        if hashlib.sha256(sealed.body).digest() != sealed.leaf:
            raise Violation("replay", f"{record.head.id}: a leaf is not that of its event")
    for event, _ in record.events:
        bodies.append(_EVENT.decode(_encode(event)))
    for _, _, after in replay(record.spec, bodies):
        job = after
    if job is None or _encode(job.head) != _encode(record.head):
        raise Violation("replay", f"{record.head.id}: the events lead to another job")
    for index, run in record.runs.items():
        if _encode(job.task(index)) != _encode(run):
            raise Violation("replay", f"{record.head.id}: the events lead to another task {index}")


def _check_privacy(world: World) -> None:
    """Personal fields are not in what the trail hashes, and nobody can guess them from it."""
    salted = [
        (event, sealed)
        for record in world.journal.jobs.values()
        for event, sealed in record.events
        if sealed.private is not None
    ]
    for event, sealed in salted:
        bare = unseal(sealed.body)
        if any(getattr(bare, name) and getattr(event, name) for name in PERSONAL[type(event)]):
            raise Violation("privacy", f"the stored bytes of {event} hold what is personal")
    salts = {msgspec.json.decode(sealed.private)["salt"] for _, sealed in salted if sealed.private}
    if len(salts) < len(salted):
        raise Violation("privacy", f"{len(salted)} events share {len(salts)} salts")


def _check_slots(world: World) -> None:
    life = world.life
    if life is None or not life.up:
        raise Violation("liveness", "the scheduler is down, and nothing is wrong")
    for agent in life.registry.list("default"):
        if agent.busy:
            raise Violation("slots", f"{agent.address} has {agent.busy} slots taken, and nothing runs")
        if life.orchestrator.presence.running(agent):
            raise Violation("slots", f"{agent.address} has leases, and nothing runs")
        if agent.record is not None and life.requests.standing(agent.record):
            raise Violation("slots", f"{agent.address} is still asked for something")
        _check_said(world, life, agent)
    if life.registry.waiting:
        raise Violation("slots", f"{life.registry.waiting} tasks stand in line, and all jobs have ended")


def _check_said(world: World, life: Life, agent: Agent) -> None:
    """On a wire everything that was said has arrived, both ways, and nothing is kept of it."""
    process = world.agents.get(agent.address)
    if life.ledger is None or process is None or process.gone or agent.record is None:
        return
    if kept := life.channels.kept(agent.record):
        raise Violation("lost", f"{kept} messages are kept for {agent.address}, which lives")
    if waiting := life.ledger.open(agent.address):
        raise Violation("lost", f"{agent.address} was never told {[each.type for each in waiting]}")
    if process.unheard:
        raise Violation("lost", f"{process.name} said {process.unheard}, and nobody took it")


def _why(record: Record) -> str:
    runs = {run.index: f"{run.status.value} {run.reason}".strip() for run in record.runs.values()}
    return f"{record.head.status.value}, tasks {runs}, open {sorted(record.outbox)}"
