"""What a durable job costs: the local engine under `cpa serve`'s own wiring, every commit fsynced.

    W1  N jobs, each a chain a -> b -> c of no-op tasks, one submit call per job, at most 1,000 open at once
    W2  one job of 1,000 independent no-op tasks and a join
    W3  one one-task job at a time, submit -> done; in process, and over the HTTP API (POST, then GET ?wait) on a
        connection kept open
    W4  idle for a while: CPU and memory of `cpa serve`
    W5  N one-task jobs submitted in bulk, until the last completion is stored

After each workload another connection opens the store and checks it: every job done, an event per transition with
numbers from 1 without gap, a leaf per event that is the SHA-256 of its bytes, an empty outbox and an empty line. If
that does not hold, no figure is printed and the exit code is 1.

Before each round the same work is done by `sketch.py`, the least such an engine could be: beside every figure
stands what the machine gave at that moment. CPU is that of all threads, the clients' part of the loop included.

    uv run python benchmarks/engine.py [w1 w2 w3 w4 w5] [--rounds 3] [--jobs N] [--json]

With `--engine temporal` W1 to W3 run on a Temporal server, started for this run (as the tests find one) or named by
`--server`. There the yardstick is the plain Temporal way (`plain.py`) on the same server: no store, no audit.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from pysqlite3 import dbapi2 as sqlite

from cpa.agents.loop import run
from cpa.bootstrap import open_engine, tune
from cpa.core.job import JobHead, JobSpec, JobStatus, TaskSpec
from cpa.ports.engine import Engine, Submission
from cpa.settings import Settings

TENANT = "default"
OPEN = 1000
"""Clients of W1: each submits a job, waits for its end, and goes on with the next."""


def chain(length: int) -> JobSpec:
    tasks = [
        TaskSpec(id=f"t{index}", action="flow.noop", needs=(index - 1,) if index else ())
        for index in range(length)
    ]
    return JobSpec(tuple(tasks))


def fan(width: int) -> JobSpec:
    tasks = [TaskSpec(id=f"t{index}", action="flow.noop") for index in range(width)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(width)))
    return JobSpec((*tasks, join), max_parallel=width)


@dataclass
class Figure:
    """One workload's results over the rounds: `unit` to the list of values."""

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        for unit, value in values.items():
            self.values.setdefault(unit, []).append(value)

    def lines(self) -> list[str]:
        return [
            f"{self.name:<10}{unit:<22}{statistics.median(found):>12,.2f}   "
            f"({min(found):,.2f} .. {max(found):,.2f}, {len(found)} rounds)"
            for unit, found in self.values.items()
        ]


def report(about: dict[str, object], figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print what was measured, and on which machine, as every script here does."""
    about = about | {"load after": round(os.getloadavg()[0], 2)}
    if as_json:
        print(json.dumps({"machine": about, "figures": {each.name: each.values for each in figures}}))
        return
    print(" ".join(f"{name}={value}" for name, value in about.items()))
    for figure in figures:
        print("\n".join(figure.lines()))


# -- the independent check -----------------------------------------------------------------------------------


def check(store: Path, jobs: int, tasks: int) -> None:
    """Raise SystemExit unless the store proves that all of it happened, each event once."""
    connection = sqlite.connect(f"{store.as_uri()}?mode=ro", uri=True)
    heads = connection.execute("SELECT id, status, number, head FROM jobs").fetchall()
    require(len(heads) == jobs, f"{len(heads)} jobs instead of {jobs}")
    for job, status, number, head in heads:
        stored = msgspec.json.decode(head, type=JobHead)
        require(status == "done" and stored.status == "done", f"job {job} is {status}")
        require(number == stored.number, f"job {job} says two last numbers")
    numbers: dict[str, int] = {}
    rows = connection.execute("SELECT job, number, body, leaf FROM events ORDER BY job, number")
    for job, number, body, leaf in rows:
        require(number == numbers.get(job, 0) + 1, f"job {job} has a gap before event {number}")
        require(
            hashlib.sha256(body).digest() == leaf, f"job {job} event {number}: the leaf is of other bytes"
        )
        numbers[job] = number
    require(len(numbers) == jobs, "a job has no event")
    kinds = dict(connection.execute("SELECT type, count(*) FROM events GROUP BY type").fetchall())
    # A job that found no room at once has one event more: its start from the line.
    require(kinds.pop("job_started", 0) <= jobs, "a job started twice")
    expected = {"job_submitted": jobs, "agent_chosen": jobs * tasks, "task_succeeded": jobs * tasks}
    require(kinds == expected, f"not one event per transition: {kinds}")
    done = connection.execute("SELECT count(*) FROM task_runs WHERE status = 'done'").fetchone()[0]
    require(done == jobs * tasks, f"{done} task runs done instead of {jobs * tasks}")
    for table in ("outbox", "queue"):
        left = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        require(left == 0, f"{left} rows left in the {table}")
    connection.close()


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"no figure: {otherwise}")


# -- workloads -----------------------------------------------------------------------------------------------


async def run_to_end(engine: Engine, spec: JobSpec) -> None:
    receipt = await engine.submit(Submission(tenant=TENANT, spec=spec))
    head = await engine.wait(TENANT, receipt.job, 120)
    require(head.status == "done", f"job {receipt.job} is {head.status}")


async def w1(engine: Engine, jobs: int) -> dict[str, float]:
    spec, numbers = chain(3), iter(range(jobs))

    async def client() -> None:
        for _ in numbers:
            await run_to_end(engine, spec)

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(OPEN):
            group.create_task(client())
    seconds = time.perf_counter() - began
    return {
        "jobs/s": jobs / seconds,
        "tasks/s": 3 * jobs / seconds,
        "CPU us/job": (time.process_time() - cpu) * 1e6 / jobs,
    }


async def w2(engine: Engine, jobs: int) -> dict[str, float]:
    spec, times = fan(1000), []
    for _ in range(jobs):
        began = time.perf_counter()
        await run_to_end(engine, spec)
        times.append((time.perf_counter() - began) * 1000)
    return {"ms": statistics.median(times)}


async def w3(engine: Engine, jobs: int) -> dict[str, float]:
    spec, times = chain(1), []
    for _ in range(jobs):
        began = time.perf_counter()
        await run_to_end(engine, spec)
        times.append((time.perf_counter() - began) * 1000)
    return _latency(times)


async def w5(engine: Engine, jobs: int) -> dict[str, float]:
    spec, bulk = chain(1), 1000
    cpu, began = time.process_time(), time.perf_counter()
    for start in range(0, jobs, bulk):
        many = [Submission(tenant=TENANT, spec=spec) for _ in range(min(bulk, jobs - start))]
        receipts = await engine.submit_many(many)
    await engine.wait(TENANT, receipts[-1].job, 120)
    while (await engine.list(TENANT, status=JobStatus.DONE, limit=1)).total < jobs:
        await asyncio.sleep(0.002)
    seconds = time.perf_counter() - began
    return {"jobs/s": jobs / seconds, "CPU us/job": (time.process_time() - cpu) * 1e6 / jobs}


def _latency(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50 ms": ordered[len(ordered) // 2], "p95 ms": ordered[int(len(ordered) * 0.95)]}


_IN_PROCESS: dict[str, tuple[Callable[[Engine, int], Awaitable[dict[str, float]]], int, int]] = {
    "w1": (w1, 5_000, 3),
    "w2": (w2, 5, 1001),
    "w3": (w3, 500, 1),
    "w5": (w5, 20_000, 1),
}
"""The workload, how many jobs by default, how many tasks each has."""


async def in_process(name: str, jobs: int, server: str = "") -> dict[str, float]:
    work, _, tasks = _IN_PROCESS[name]
    # What earlier rounds needed at most is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        on = {"engine": "temporal", "temporal_address": server, "temporal_queue": folder} if server else {}
        async with open_engine(Settings(data=Path(folder), **on)) as scheduler:
            tune()
            found = await work(scheduler.engine, jobs)
            if server:
                page = await scheduler.engine.list(TENANT, limit=1)
                found |= await kept(server, page.jobs[0][0].id)
        check(Path(folder) / "cpa.db", jobs, tasks)
    return found | {"peak RSS MiB": memory("self", "VmHWM")}


async def kept(server: str, job: str) -> dict[str, float]:
    """What the Temporal server keeps of this job."""
    from plain import history

    from cpa.engines.temporal.connection import connect

    return await history(await connect(server, "default"), job)


async def plainly(name: str, jobs: int, server: str) -> dict[str, float]:
    """The same work, the plain Temporal way."""
    from plain import Plain

    from cpa.engines.temporal.connection import connect

    return await Plain(await connect(server, "default"), f"plain-{uuid4()}").run(name, jobs, min(OPEN, jobs))


@contextmanager
def temporal(address: str) -> Iterator[str]:
    """The address of the Temporal server of this run."""
    if address:
        yield address
        return
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.servers.temporal import TemporalServer

    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        server = TemporalServer(Path(folder))
        server.start()
        try:
            yield server.address
        finally:
            server.stop()


def on_temporal(name: str, jobs: int | None, rounds: int, server: str) -> list[Figure]:
    most = {"w1": 200, "w2": 5, "w3": 50}
    if name not in most:
        raise SystemExit(f"{name} is measured on the local engine only")
    figure, plain = Figure(f"{name.upper()}"), Figure(f"{name.upper()} plain")
    for _ in range(rounds):
        plain.add(**run(plainly(name, jobs or most[name], server)))
        figure.add(**run(in_process(name, jobs or most[name], server)))
    return [figure, plain]


def sketched(name: str, jobs: int | None) -> dict[str, float]:
    """The same work by the yardstick, in a process of its own."""
    count = [] if jobs is None else ["--jobs", str(jobs)]
    command = [sys.executable, str(Path(__file__).with_name("sketch.py")), name, "--json", *count]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[
        name
    ]
    return found


# -- over HTTP, and idle -------------------------------------------------------------------------------------


class Served:
    """`cpa serve` as a process of its own; `seconds` is how long it took to be ready."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        began = time.perf_counter()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CPA_")}
        environment |= settings
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cpa", "serve", "--data", str(folder), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.url = next(word for word in self.process.stdout.readline().split() if word.startswith("http"))
        self.seconds = time.perf_counter() - began
        self.url = self.url.rstrip(",")
        self.key = (folder / "admin.key").read_text().strip()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def w3_http(jobs: int) -> dict[str, float]:
    import httpx2

    plan = {"task_graph": [{"action": "flow.noop"}]}
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        served, times = Served(Path(folder)), []
        try:
            with httpx2.Client(base_url=served.url, headers={"X-API-Key": served.key}) as client:
                for _ in range(jobs):
                    began = time.perf_counter()
                    job = client.post("/jobs", json=plan).json()["job_id"]
                    answer = client.get(f"/jobs/{job}", params={"wait": 30}).json()
                    times.append((time.perf_counter() - began) * 1000)
                    require(answer["status"] == "done", f"job {job} is {answer['status']}")
        finally:
            served.stop()
        check(Path(folder) / "cpa.db", jobs, 1)
    return _latency(times)


def w4(seconds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        served = Served(Path(folder))
        try:
            time.sleep(3)
            before = _cpu(served.process.pid)
            time.sleep(seconds)
            share = (_cpu(served.process.pid) - before) / seconds * 100
            resident = memory(str(served.process.pid), "VmRSS")
        finally:
            served.stop()
    return {"% of a core": share, "RSS MiB": resident}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no figure: the kernel tells no memory size")


# -- the machine ---------------------------------------------------------------------------------------------


def commits_per_second(seconds: float = 1.0) -> float:
    """One-row transactions with synchronous=FULL on the same disk: what a commit costs here, now."""
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        connection = sqlite.connect(str(Path(folder) / "probe.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE probe (value INTEGER)")
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            connection.execute("INSERT INTO probe VALUES (1)")
            count += 1
        connection.close()
    return count / seconds


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": sqlite.sqlite_version,
        "commits/s": round(commits_per_second()),
    }


def measure(name: str, jobs: int | None, rounds: int) -> list[Figure]:
    if name == "w4":
        figure = Figure("W4")
        figure.add(**w4(jobs or 30))
        return [figure]
    default = _IN_PROCESS[name][1]
    figure, sketch, over_http = Figure(name.upper()), Figure(f"{name.upper()} sketch"), Figure("W3 HTTP")
    for _ in range(rounds):
        sketch.add(**sketched(name, jobs))
        figure.add(**run(in_process(name, jobs or default)))
        if name == "w3":
            over_http.add(**w3_http(jobs or default))
    return [figure, *([over_http] if over_http.values else []), sketch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--jobs", type=int, help="how many jobs (W4: seconds)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", choices=["local", "temporal"], default="local")
    parser.add_argument("--server", default="", help="host:port of a Temporal server that runs")
    arguments = parser.parse_args()
    about = machine()
    figures: list[Figure] = []
    if arguments.engine == "temporal":
        with temporal(arguments.server) as server:
            for name in arguments.workloads or ["w1", "w2", "w3"]:
                figures += on_temporal(name, arguments.jobs, arguments.rounds, server)
    else:
        for name in arguments.workloads or ["w1", "w2", "w3", "w4", "w5"]:
            figures += measure(name, arguments.jobs, arguments.rounds)
    report(about, figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
