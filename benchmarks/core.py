"""What one event costs the pure core, and whether that grows with the job.

A job of N tasks (10,000) and as many jobs of ten tasks as make the same number of events are worked off in turns,
round by round, from the submission to the end: as a chain (each task needs the one before), and as a fork and join
(one task, then all but two in parallel, then one that needs them all).

    µs/event      decide and apply, without encoding; median of the rounds, and their span
    bytes/event   the stored form: the event, its changes and its commands

The ratio large/small may be at most 1.5 for either, else the exit code is 1.

    uv run python benchmarks/core.py [--rounds 7] [--tasks 10000] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from cpa.core.commands import Command, DispatchTask, RequestTask
from cpa.core.events import AgentChosen, Event, JobSubmitted, TaskStarted, TaskSucceeded
from cpa.core.job import JobSpec, JobState, JobStatus, TaskSpec
from cpa.core.machine import decide
from cpa.core.replay import opened

SMALL = 10
LIMIT = 1.5
NOW = 1_700_000_000_000
_encode = msgspec.json.Encoder().encode


def chain(tasks: int) -> JobSpec:
    return JobSpec(tuple(_task(index, (index - 1,) if index else ()) for index in range(tasks)))


def fork(tasks: int) -> JobSpec:
    middle = [_task(index, (0,)) for index in range(1, tasks - 1)]
    return JobSpec((_task(0, ()), *middle, _task(tasks - 1, tuple(range(1, tasks - 1)))))


def _task(index: int, needs: tuple[int, ...]) -> TaskSpec:
    return TaskSpec(id=f"task-{index:05}", action="flow.noop", needs=needs)


SHAPES: dict[str, Callable[[int], JobSpec]] = {"chain": chain, "fork/join": fork}


def submitted(spec: JobSpec) -> JobSubmitted:
    tasks = len(spec.tasks)
    return JobSubmitted(time=NOW, tenant="default", job="job-1", spec="", tasks=tasks, start=True)


def answers(command: Command) -> list[Event]:
    """What a willing agent makes of a command."""
    if isinstance(command, DispatchTask):
        return [AgentChosen(time=NOW, task=command.task, epoch=command.epoch, agent="agent-1")]
    if isinstance(command, RequestTask):
        return [
            TaskStarted(time=NOW, task=command.task, epoch=command.epoch),
            TaskSucceeded(time=NOW, task=command.task, epoch=command.epoch, result={"value": "Grüße"}),
        ]
    return []


def history(spec: JobSpec) -> tuple[list[Event], int]:
    """All events of the job from its submission to its end, and the bytes they leave in the store."""
    job, size = opened("default", "job-1", spec, NOW), 0
    waiting: deque[Event] = deque((submitted(spec),))
    told: list[Event] = []
    while waiting:
        event = waiting.popleft()
        decision = decide(job, event)
        if decision.changes is None:
            raise SystemExit(f"{event} changed nothing: {decision.reason}")
        job.apply(decision.changes, decision.commands)
        told.append(event)
        size += len(_encode(event)) + len(_encode(decision.changes)) + len(_encode(decision.commands))
        for command in decision.commands:
            waiting.extend(answers(command))
    _require_done(job)
    return told, size


def timed(spec: JobSpec, events: list[Event], jobs: int) -> float:
    """Microseconds per event while this many such jobs are worked off one after the other."""
    fresh = [opened("default", "job-1", spec, NOW) for _ in range(jobs)]
    gc.collect()
    began = time.perf_counter()
    for job in fresh:
        for event in events:
            decision = decide(job, event)
            job.apply(decision.changes, decision.commands)  # type: ignore[arg-type]
    took = time.perf_counter() - began
    for job in fresh:
        _require_done(job)
    return took / (jobs * len(events)) * 1e6


def _require_done(job: JobState) -> None:
    if job.head.status is not JobStatus.DONE or job.open:
        raise SystemExit(
            f"the job is {job.head.status} with {len(job.open)} open commands: nothing was measured"
        )


@dataclass
class Figures:
    """Of one shape and size."""

    spec: JobSpec
    jobs: int
    events: list[Event]
    bytes: float
    times: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, spec: JobSpec, jobs: int) -> Figures:
        events, size = history(spec)
        return cls(spec, jobs, events, size / len(events))

    def round(self) -> None:
        self.times.append(timed(self.spec, self.events, self.jobs))

    @property
    def microseconds(self) -> float:
        return statistics.median(self.times)

    def shown(self) -> dict[str, float]:
        return {
            "µs/event": round(self.microseconds, 2),
            "least": round(min(self.times), 2),
            "most": round(max(self.times), 2),
            "bytes/event": round(self.bytes, 1),
        }


def measure(shape: Callable[[int], JobSpec], tasks: int, rounds: int) -> dict[str, object]:
    """Both sizes of one shape, in turns; the first round of each only warms up."""
    large = Figures.of(shape(tasks), 1)
    small = Figures.of(shape(SMALL), max(tasks // SMALL, 1))
    for _ in range(rounds + 1):
        small.round()
        large.round()
    for figures in (small, large):
        del figures.times[0]
    ratio = {
        "time": round(statistics.median(b / a for a, b in zip(small.times, large.times, strict=True)), 2),
        "bytes": round(large.bytes / small.bytes, 2),
    }
    return {f"{SMALL} tasks": small.shown(), f"{tasks} tasks": large.shown(), "ratio": ratio}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1 or options.tasks < 3:
        parser.error("at least one round and three tasks")
    found = {name: measure(shape, options.tasks, options.rounds) for name, shape in SHAPES.items()}
    worst = max(value for shape in found.values() for value in shape["ratio"].values())  # type: ignore[attr-defined]
    machine = {
        "python": platform.python_version(),
        "msgspec": msgspec.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "rounds": options.rounds,
    }
    if options.json:
        print(json.dumps({"machine": machine, "shapes": found, "worst ratio": worst}, ensure_ascii=False))
    else:
        _show(machine, found, worst)
    return 0 if worst <= LIMIT else 1


def _show(machine: dict[str, object], found: dict[str, dict[str, object]], worst: float) -> None:
    print("  ".join(f"{name} {value}" for name, value in machine.items()))
    for name, rows in found.items():
        print(f"\n{name}")
        for row, figures in rows.items():
            assert isinstance(figures, dict)
            print(f"  {row:>12}  " + "  ".join(f"{label} {value:>7}" for label, value in figures.items()))
    print(f"\nworst ratio {worst} (at most {LIMIT}): {'good' if worst <= LIMIT else 'TOO MUCH'}")


if __name__ == "__main__":
    sys.exit(main())
