"""What must hold, whatever goes wrong; looked at with every commit.

The rules are written a second time, from the promises and not from the code: `schedules.knowledge` reads nothing
but the stored events, and what the world saw. A rule that does not hold ends the run with a `Violation`.

    contiguous    event numbers without gap, times that never go back
    invariants    `core.invariants` hold for the stored rows; the outbox is what is outstanding
    proof         as `knowledge` has it; whoever held an attempt must really have said that it had done it
    timers        a command is due when it says so
    cancel        what one message cancels, it cancels once

and what `schedules.knowledge` and `schedules.conduct` list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cpa.core.commands import Command
from cpa.core.events import CancelRequested, TaskSucceeded
from cpa.core.invariants import violations
from cpa.core.job import Graph, JobState
from cpa.orchestrator.presence import BEATS
from cpa.ports.steps import JobRows
from cpa.testing.schedules.conduct import Conduct
from cpa.testing.schedules.knowledge import Knowledge, Violation
from cpa.testing.simulation.journal import Record
from cpa.testing.simulation.ways import LEASE


@dataclass(eq=False)
class Oracles:
    """Reads the steps of all jobs."""

    clock: bool = True
    """The wall clock does not jump: timers can be told to be early."""
    stood: float = 0.0
    """When the scheduler went on after it stood still last: what was due meanwhile is late."""
    still: bool = False
    """It stands still, and agents go on."""
    excused: float = 0.0
    """Until then nobody's silence tells anything: the scheduler stood still for longer than a beat."""
    asked: int = 0
    """Jobs that were asked for by message."""
    said: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    """By (job, task, epoch): who said that it did the task."""
    _cancels: set[tuple[str, str]] = field(default_factory=set)
    """(job, reason) of cancels that give one: no two give the same."""
    _known: dict[str, tuple[Knowledge, Conduct, Graph]] = field(default_factory=dict)

    def went_on(self, now: float, seconds: float) -> None:
        """The scheduler does, after it stood still for so long."""
        self.stood = now
        if seconds > LEASE / BEATS:
            self.excused = now + LEASE

    def step(self, before: dict[str, tuple[Command, int]], record: Record, rows: JobRows) -> None:
        """One job's part of a commit."""
        head, job = record.head, record.head.id
        if head.number != len(record.events):
            raise Violation("contiguous", f"{job} has {len(record.events)} events, its last is {head.number}")
        knowledge, conduct, graph = self._of(record)
        time = record.events[-len(rows.events) - 1][0].time if len(rows.events) < head.number else 0
        for event, _ in rows.events:
            if event.time < time:
                raise Violation("contiguous", f"{job}: time went back with {event}")
            time = event.time
            knowledge.event(before, event)
            if isinstance(event, CancelRequested) and event.reason:
                if (job, event.reason) in self._cancels:
                    raise Violation("cancel", f"{job} is cancelled twice by one message: {event.reason}")
                self._cancels.add((job, event.reason))
        for run in rows.runs.values():
            knowledge.run(run)
        self._due(job, rows)
        events = [event for event, _ in rows.events]
        closed = [command for key, (command, _) in before.items() if key not in record.outbox]
        for oracle, told in conduct.step(closed, events, head, rows.runs.values(), record.outbox):
            raise Violation(oracle, f"{job}: {told}")
        commands = [command for command, _ in record.outbox.values()]
        broken = violations(JobState(head, graph, record.runs.values(), commands))
        if broken:
            raise Violation("invariants", f"{job}: {', '.join(broken)}")

    def _due(self, job: str, rows: JobRows) -> None:
        times = {event.time for event, _ in rows.events}
        for key, entry in rows.outbox.items():
            if entry is not None and (entry[1] - entry[0].after not in times if entry[0].after else entry[1]):
                told = f"{job}: {key} is due at {entry[1]}, {entry[0].after} ms after nothing"
                raise Violation("timers", told)

    def _of(self, record: Record) -> tuple[Knowledge, Conduct, Graph]:
        job = record.head.id
        if job not in self._known:

            def said(agent: str, event: TaskSucceeded) -> bool:
                return agent in self.said.get((job, event.task, event.epoch), ())

            knowledge = Knowledge(job, record.spec, clock=self.clock, said=said)
            self._known[job] = knowledge, Conduct(record.spec), Graph(record.spec)
        return self._known[job]
