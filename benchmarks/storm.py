"""Fifty thousand timers due in one second: while `cpa serve` runs, and while it was dead (kill -9).

    uv run python benchmarks/storm.py [--timers 50000] [--rounds 3] [--json]

Each timer is the end of a question that nobody answered; in which order they are due has nothing to do with the
order of their jobs, and no job is in memory. How late each fired is the time of its event less the time it was due,
as another connection reads both; while the server was dead, less the time it was ready.

    p50, p99 ms   how late they fired
    durable ms    from the last one due (or the server ready) until all of them are stored
    CPU us        of the server, per timer

No figure is printed, and the exit code is 1, unless each timer fired once, none early, and no command is left.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

from engine import TENANT, Figure, Served, _cpu, machine, report, require
from pysqlite3 import dbapi2 as sqlite

from cpa.bootstrap import open_engine
from cpa.core.job import JobSpec, TaskSpec
from cpa.ports.engine import Submission
from cpa.settings import Settings

BULK = 1_000
DOWN = 2.0
"""Seconds that the last timer is overdue when a dead server comes back."""
PATIENCE = 600.0


def now() -> int:
    return time.time_ns() // 1_000_000


async def fill(folder: Path, timers: int, second: int) -> None:
    """Jobs that each wait for an answer until some millisecond of the second that begins then."""
    async with open_engine(Settings(data=folder)) as scheduler:
        for start in range(0, timers, BULK):
            expires = [
                second + number * 997 % 1_000 - now() for number in range(start, min(start + BULK, timers))
            ]
            tasks = [
                TaskSpec(id="t", action="flow.noop", approval=True, approvals=1, approval_expires=each)
                for each in expires
            ]
            await scheduler.engine.submit_many([Submission(tenant=TENANT, spec=JobSpec((t,))) for t in tasks])
    require(now() < second, "the store was not filled in time; give it more --lead")


def storm(timers: int, lead: float, *, dead: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as name:
        second = now() + int(lead * 1000)
        data = Path(name) / "data"
        asyncio.run(fill(data, timers, second))
        store = sqlite.connect(f"{(data / 'cpa.db').as_uri()}?mode=ro", uri=True)
        due = dict(store.execute("SELECT job, due FROM outbox WHERE due > 0").fetchall())
        require(len(due) == timers, f"{len(due)} timers in the store")
        served, since = Served(data), 0
        try:
            if dead:
                served.process.kill()
                served.process.wait()
                until(second + 1_000 + int(DOWN * 1000))
                served, since = Served(data), now()
            require(dead or now() < second, "the server was not ready in time; give it more --lead")
            cpu = _cpu(served.process.pid)
            until(second)
            stored = drained(store)
            cpu = _cpu(served.process.pid) - cpu
        finally:
            served.stop()
        late = lateness(store, due, since)
        store.close()
    return {
        "p50 ms": late[timers // 2],
        "p99 ms": late[timers * 99 // 100],
        "durable ms": stored - (since or second + 1_000),
        "CPU us": cpu * 1e6 / timers,
    }


def until(moment: int) -> None:
    time.sleep(max(moment - now(), 0) / 1000)


def drained(store: sqlite.Connection) -> int:
    """When no timer was left."""
    deadline = time.monotonic() + PATIENCE
    while store.execute("SELECT 1 FROM outbox WHERE due > 0 LIMIT 1").fetchone():
        require(time.monotonic() < deadline, "timers are left")
        time.sleep(0.1)
    return now()


def lateness(store: sqlite.Connection, due: dict[str, int], since: int) -> list[int]:
    fired = store.execute("SELECT job, time FROM events WHERE type = 'timer_fired'").fetchall()
    require(Counter(job for job, _ in fired) == Counter(due.keys()), "not each timer fired once")
    require(all(time >= due[job] for job, time in fired), "a timer fired early")
    return sorted(time - max(due[job], since) for job, time in fired)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--timers", type=int, default=50_000)
    parser.add_argument(
        "--lead", type=float, default=60, help="seconds to fill the store and start the server"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    about = machine() | {"timers": arguments.timers}
    live, restart = Figure("live"), Figure("restart")
    for _ in range(arguments.rounds):
        live.add(**storm(arguments.timers, arguments.lead, dead=False))
        restart.add(**storm(arguments.timers, arguments.lead, dead=True))
    report(about, (live, restart), as_json=arguments.json)


if __name__ == "__main__":
    main()
