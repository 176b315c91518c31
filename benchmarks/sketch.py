"""The yardstick: the least a durable job engine must do, in two hundred lines.

A pure step function, an event table and an outbox on SQLite (WAL, synchronous=FULL) with group commit. No API,
agents, leases, timers, policies, tenants, audit or lists: a bound for this machine at this moment, not a product.
`engine.py` runs it between its own rounds, so that a figure can be read beside what the machine gave just then.

    uv run python benchmarks/sketch.py [w1 w2 w3 w5] [--jobs N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite

Needs = tuple[tuple[int, ...], ...]
"""Per task: which tasks it waits for."""


@dataclass(slots=True)
class Job:
    id: int
    needs: Needs
    dependents: list[list[int]]
    waiting: list[int]
    open: int
    ended: asyncio.Future[None]
    number: int = 0


def step(job: Job, event: dict[str, Any]) -> list[int]:
    """Work one event into the job; returns the tasks to start now."""
    job.number += 1
    if event["type"] == "submitted":
        return [task for task, count in enumerate(job.waiting) if not count]
    ready = []
    for task in job.dependents[event["task"]]:
        job.waiting[task] -= 1
        if not job.waiting[task]:
            ready.append(task)
    job.open -= 1
    return ready


@dataclass(slots=True)
class Batch:
    events: list[tuple[int, int, str]] = field(default_factory=list)
    added: list[tuple[int, int]] = field(default_factory=list)
    removed: list[tuple[int, int]] = field(default_factory=list)
    promised: list[asyncio.Future[None]] = field(default_factory=list)
    start: list[tuple[Job, int]] = field(default_factory=list)


class Sketch:
    """Use as `async with Sketch(path) as engine`."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite.connect(str(path), isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE events (job INTEGER, number INTEGER, body TEXT, PRIMARY KEY (job, number)) "
            "WITHOUT ROWID",
            "CREATE TABLE outbox (job INTEGER, task INTEGER, PRIMARY KEY (job, task)) WITHOUT ROWID",
        ):
            self._connection.execute(statement)
        self._writer = ThreadPoolExecutor(1)
        self._batch = Batch()
        self._dirty = asyncio.Event()
        self._last = 0
        self._dependents: dict[int, list[list[int]]] = {}

    async def __aenter__(self) -> Sketch:
        self._loop = asyncio.get_running_loop()
        self._committer = self._loop.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._committer.cancel()
        await asyncio.gather(self._committer, return_exceptions=True)
        self._writer.shutdown()
        self._connection.close()

    async def submit(self, needs: Needs) -> Job:
        """Durable on return."""
        job = self._open(needs)
        durable = self._loop.create_future()
        self._batch.promised.append(durable)
        await durable
        return job

    async def submit_many(self, many: list[Needs]) -> list[Job]:
        jobs = [self._open(needs) for needs in many]
        durable = self._loop.create_future()
        self._batch.promised.append(durable)
        await durable
        return jobs

    async def wait(self, job: Job) -> None:
        """Until its end is durable."""
        await job.ended

    def _open(self, needs: Needs) -> Job:
        self._last += 1
        dependents = self._dependents.get(id(needs))
        if dependents is None:
            dependents = self._dependents[id(needs)] = [[] for _ in needs]
            for task, before in enumerate(needs):
                for need in before:
                    dependents[need].append(task)
        waiting = [len(before) for before in needs]
        job = Job(self._last, needs, dependents, waiting, len(needs), self._loop.create_future())
        self._step(job, {"type": "submitted", "time": time.time_ns() // 1_000_000, "needs": needs})
        return job

    def _step(self, job: Job, event: dict[str, Any]) -> None:
        ready, batch = step(job, event), self._batch
        batch.events.append((job.id, job.number, json.dumps(event)))
        if event["type"] == "done":
            batch.removed.append((job.id, event["task"]))
        for task in ready:
            batch.added.append((job.id, task))
            batch.start.append((job, task))
        if not job.open:
            batch.promised.append(job.ended)
        self._dirty.set()

    async def _run(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            batch, self._batch = self._batch, Batch()
            await self._loop.run_in_executor(self._writer, self._write, batch)
            for future in batch.promised:
                if not future.done():
                    future.set_result(None)
            for job, task in batch.start:
                result = await noop()
                done = {"type": "done", "time": time.time_ns() // 1_000_000, "task": task, "result": result}
                self._step(job, done)

    def _write(self, batch: Batch) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", batch.events)
        connection.executemany("DELETE FROM outbox WHERE job = ? AND task = ?", batch.removed)
        connection.executemany("INSERT INTO outbox VALUES (?, ?)", batch.added)
        connection.execute("COMMIT")


async def noop() -> dict[str, Any]:
    return {}


def chain(length: int) -> Needs:
    return tuple((task - 1,) if task else () for task in range(length))


def fan(width: int) -> Needs:
    return (*(() for _ in range(width)), tuple(range(width)))


# -- the same workloads as engine.py's -----------------------------------------------------------------------


async def w1(engine: Sketch, jobs: int) -> dict[str, float]:
    needs, numbers = chain(3), iter(range(jobs))

    async def client() -> None:
        for _ in numbers:
            await engine.wait(await engine.submit(needs))

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(1000)))
    seconds = time.perf_counter() - began
    return {"jobs/s": jobs / seconds, "CPU us/job": (time.process_time() - cpu) * 1e6 / jobs}


async def w2(engine: Sketch, jobs: int) -> dict[str, float]:
    return {"ms": statistics.median(await _one_by_one(engine, fan(1000), jobs))}


async def w3(engine: Sketch, jobs: int) -> dict[str, float]:
    times = sorted(await _one_by_one(engine, chain(1), jobs))
    return {"p50 ms": times[len(times) // 2], "p95 ms": times[int(len(times) * 0.95)]}


async def w5(engine: Sketch, jobs: int) -> dict[str, float]:
    needs, cpu, began = chain(1), time.process_time(), time.perf_counter()
    submitted: list[Job] = []
    for start in range(0, jobs, 1000):
        submitted += await engine.submit_many([needs] * min(1000, jobs - start))
    for job in submitted:
        await engine.wait(job)
    seconds = time.perf_counter() - began
    return {"jobs/s": jobs / seconds, "CPU us/job": (time.process_time() - cpu) * 1e6 / jobs}


async def _one_by_one(engine: Sketch, needs: Needs, jobs: int) -> list[float]:
    times = []
    for _ in range(jobs):
        began = time.perf_counter()
        await engine.wait(await engine.submit(needs))
        times.append((time.perf_counter() - began) * 1000)
    return times


WORKLOADS: dict[str, tuple[Callable[[Sketch, int], Awaitable[dict[str, float]]], int, int]] = {
    "w1": (w1, 5_000, 3),
    "w2": (w2, 5, 1001),
    "w3": (w3, 500, 1),
    "w5": (w5, 20_000, 1),
}
"""The workload, how many jobs by default, how many tasks each has."""


async def run(name: str, jobs: int | None = None) -> dict[str, float]:
    """One round of a workload on a store of its own; SystemExit unless the store holds every event."""
    work, default, tasks = WORKLOADS[name]
    jobs = jobs or default
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        path = Path(folder) / "sketch.db"
        async with Sketch(path) as engine:
            found = await work(engine, jobs)
        connection = sqlite.connect(str(path))
        events = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        left = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        connection.close()
    if events != jobs * (tasks + 1) or left:
        raise SystemExit(f"no figure: the sketch stored {events} events and left {left} commands")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = {name: asyncio.run(run(name, arguments.jobs)) for name in arguments.workloads}
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, found in figures.items():
        print(name.upper(), " ".join(f"{unit}={value:,.2f}" for unit, value in found.items()))


if __name__ == "__main__":
    main()
