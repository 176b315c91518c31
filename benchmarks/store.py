"""A large store beside a small one: the process stays small, and nothing it does grows with what is stored.

    uv run python benchmarks/store.py [--full | --store FILE | --ended N --waiting N] [--rounds 3] [--json]

Both stores are served by `cpa serve` in turn. Measured: seconds until it answers (start of Python included), its
peak memory, and the time of each kind of request over HTTP: submit a job and wait for its end, list the newest
jobs, list those of one status, read a job, explain a job. In process, as the line is no HTTP matter: how many jobs
a second are claimed from the line and worked, which is where jobs stand that found no room.

The small store is not quite empty: it holds 2,500 ended jobs, so that every page asked for is full in both.
By default the large store has 100,000 ended and 10,000 waiting jobs, `--full` gives it 1,000,000 and 100,000
(2.5 GiB). `--store` takes one that `fill.py` made; jobs are added to it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
from engine import TENANT, Figure, Served, chain, machine, memory, report, require
from fill import fill
from pysqlite3 import dbapi2 as sqlite

from cpa.agents.loop import run
from cpa.bootstrap import open_engine, tune
from cpa.core.job import JobStatus
from cpa.ports.engine import Submission
from cpa.settings import Settings

REQUESTS = 200
LINED = 5_000
SMALL = 2_500
"""One in fifty of them failed: a page."""
SEED = 7


def some_jobs(store: Path, count: int) -> list[str]:
    """Ids from all over the store, drawn by its events; waiting jobs stand at the end, so half is drawn there."""
    connection = sqlite.connect(f"{store.as_uri()}?mode=ro", uri=True)
    last = connection.execute("SELECT max(seq) FROM events").fetchone()[0]
    chance = random.Random(SEED)
    waiting = connection.execute("SELECT count(*) FROM queue").fetchone()[0]
    first = [chance.randint(1, last) for _ in range(count // 2)]
    late = [chance.randint(max(1, last - waiting), last) for _ in range(count // 2)]
    query = "SELECT job FROM events WHERE seq = ?"
    found = [connection.execute(query, (number,)).fetchone()[0] for number in first + late]
    connection.close()
    chance.shuffle(found)
    return found


def requests(client: httpx2.Client, jobs: list[str]) -> dict[str, Callable[[], Any]]:
    """Kinds of request by name; each returns the answer it got."""
    ids = cycle(jobs)
    plan = {"task_graph": [{"action": "flow.noop"}]}

    def work() -> Any:
        job = client.post("/jobs", json=plan).json()["job_id"]
        answer = client.get(f"/jobs/{job}", params={"wait": 30})
        require(answer.json()["status"] == "done", f"job {job} is {answer.json()['status']}")
        return answer

    return {
        "submit to done": work,
        "list newest": lambda: client.get("/jobs", params={"limit": 50}),
        "list failed": lambda: client.get("/jobs", params={"limit": 50, "status": "failed"}),
        "list done": lambda: client.get("/jobs", params={"limit": 50, "status": "done"}),
        "read": lambda: client.get(f"/jobs/{next(ids)}"),
        "explain": lambda: client.get(f"/jobs/{next(ids)}/explain"),
    }


def serve(folder: Path, jobs: list[str], figure: Figure) -> None:
    """One round: start, ask, and look at the memory."""
    served = Served(folder)
    try:
        with httpx2.Client(base_url=served.url, headers={"X-API-Key": served.key}) as client:
            kinds = requests(client, jobs)
            for _ in range(20):
                require(kinds["submit to done"]().status_code == 200, "the scheduler does not answer")
            figure.add(**{f"{name} p50 ms": _median(ask) for name, ask in kinds.items()})
        peak = memory(str(served.process.pid), "VmHWM")
    finally:
        served.stop()
    figure.add(**{"ready s": served.seconds, "peak RSS MiB": peak})


def _median(ask: Callable[[], Any]) -> float:
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        answer = ask()
        times.append((time.perf_counter() - began) * 1000)
        require(answer.status_code == 200, f"{answer.request.url} says {answer.status_code}")
    return statistics.median(times)


async def claim(folder: Path) -> float:
    """Jobs a second from the line: all but the first few hundred find no room and stand there."""
    async with open_engine(Settings(data=folder, max_running=500)) as scheduler:
        tune()
        engine = scheduler.engine
        before = (await engine.list(TENANT, status=JobStatus.DONE, limit=1)).total
        began = time.perf_counter()
        await engine.submit_many([Submission(tenant=TENANT, spec=chain(1)) for _ in range(LINED)])
        while (await engine.list(TENANT, status=JobStatus.DONE, limit=1)).total < before + LINED:
            require(time.perf_counter() - began < 300, "the line does not move")
            await asyncio.sleep(0.005)
        return LINED / (time.perf_counter() - began)


@contextmanager
def stores(arguments: argparse.Namespace) -> Iterator[dict[str, Path]]:
    """Folders with a small and a large store."""
    with tempfile.TemporaryDirectory(prefix="cpa-bench-", dir=arguments.folder) as place:
        folders = {name: Path(place) / name for name in ("small", "large")}
        for folder in folders.values():
            folder.mkdir()
        fill(folders["small"] / "cpa.db", SMALL, 0)
        large = folders["large"] / "cpa.db"
        if arguments.store is None:
            fill(large, arguments.ended, arguments.waiting)
        else:
            os.link(arguments.store, large)
            # Whoever served it before kept the key; the next server makes a new one.
            _run_sql(large, "DELETE FROM api_keys")
        yield folders
        # A write-ahead log belongs to the name it was written under: leave none behind.
        _run_sql(large, "PRAGMA wal_checkpoint(TRUNCATE)")


def _run_sql(store: Path, statement: str) -> None:
    connection = sqlite.connect(str(store), isolation_level=None)
    connection.execute(statement).fetchall()
    connection.close()


def measure(arguments: argparse.Namespace) -> list[Figure]:
    with stores(arguments) as folders:
        figures = {name: Figure(name) for name in folders}
        jobs = {name: some_jobs(folder / "cpa.db", REQUESTS) for name, folder in folders.items()}
        for _ in range(arguments.rounds):
            for name, folder in folders.items():
                serve(folder, jobs[name], figures[name])
            for name, folder in folders.items():
                figures[name].add(**{"claimed jobs/s": run(claim(folder))})
        for name, folder in folders.items():
            figures[name].add(**{"store MiB": (folder / "cpa.db").stat().st_size / 2**20})
    return list(figures.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ended", type=int, default=100_000)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--full", action="store_true", help="1,000,000 ended and 100,000 waiting jobs")
    parser.add_argument("--store", type=Path, help="a store made by fill.py, on the same disk as --folder")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.full:
        arguments.ended, arguments.waiting = 1_000_000, 100_000
    about, figures = machine(), measure(arguments)
    report(about, figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
