"""What poison costs the others: healthy jobs on agents in processes of their own, with and without a share of jobs
that harm whoever does them.

    uv run python benchmarks/poison.py [--jobs 1000] [--share 1] [--agents 4] [--slots 4] [--seconds 2]
                                       [--kinds exit,loop,memory,huge,halves] [--beat 5] [--rounds 3] [--json]

A healthy job is one task of so many seconds. With `--share` percent of them one of these goes along, in turn:

    exit      ends the process of its agent, with all that has
    loop      never gives back the event loop: its agent ends itself two leases later
    memory    takes memory until there is no more (RLIMIT_AS)
    huge      gives ten megabytes
    halves    gives what is no text

Agents that ended are started again at once, as a service would. Both kinds of rounds follow each other.

    jobs/s    healthy jobs, from the first submission until the last of them is done
    ends      of agents over the poison that ends them, per job
    ratio     jobs/s with poison, of those without, in the same round

No figure is printed, and the exit code is 1, unless each healthy job is done and its task succeeded once, and each
job of poison failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from engine import Figure, Served, machine, report, require
from pysqlite3 import dbapi2 as sqlite

PATIENCE = 3600.0
KINDS = ("exit", "loop", "memory", "huge", "halves")
AGENT = """
import asyncio
import os
import resource
import sys

from cpa.agents import Agent

agent = Agent(sys.argv[1], type="DATA", slots=int(sys.argv[2]), grace=1.0)


@agent.action("x.bench.work", effect="idempotent")
async def work(seconds: float):
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@agent.action("x.bench.exit", effect="idempotent")
async def leave():
    await asyncio.sleep(0.5)
    os._exit(3)


@agent.action("x.bench.loop", effect="idempotent")
async def loop():
    await asyncio.sleep(0.5)
    while True:
        pass


@agent.action("x.bench.memory", effect="idempotent")
def memory():
    taken = []
    while True:
        taken.append(bytearray(2**24))


@agent.action("x.bench.huge", effect="idempotent")
async def huge():
    return {"text": "x" * 10_000_000}


@agent.action("x.bench.halves", effect="idempotent")
async def halves():
    return {"te\\udc80xt": "half \\ud800 a pair"}


pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300 * 2**20,) * 2)
agent.run()
"""


@contextmanager
def supervised(served: Served, folder: Path, name: str, slots: int) -> Iterator[None]:
    """An agent that is started again whenever it ends."""
    home = folder / name
    home.mkdir()
    (home / "agent.py").write_text(AGENT)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CPA_")}
    environment |= {"CPA_URL": served.url, "CPA_API_KEY": served.key, "CPA_LOG_LEVEL": "ERROR"}
    again = 'while :; do "$0" agent.py "$1" "$2" >>agent.log 2>&1; done'
    process = subprocess.Popen(
        ["/bin/sh", "-c", again, sys.executable, name, str(slots)],
        cwd=home,
        env=environment,
        process_group=0,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def round_(arguments: argparse.Namespace, share: float) -> dict[str, float]:
    """One round; what it gave, once it is seen to be right."""
    settings = {"CPA_HEARTBEAT_SECONDS": str(arguments.beat), "CPA_SHUTDOWN_SECONDS": "1"}
    kinds = arguments.kinds.split(",")
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder, ExitStack() as stack:
        data = Path(folder) / "data"
        served = Served(data, "--no-builtin", **settings)
        stack.callback(served.stop)
        for number in range(arguments.agents):
            stack.enter_context(supervised(served, Path(folder), f"agent-{number}", arguments.slots))
        headers = {"X-API-Key": served.key}
        with httpx2.Client(base_url=served.url, headers=headers, timeout=60, trust_env=False) as client:
            wait(lambda: online(client) == arguments.agents, "the agents do not start")
            jobs, poison = submit(client, arguments, share, kinds)
        return checked(data / "cpa.db", jobs, poison)


def submit(
    client: httpx2.Client, arguments: argparse.Namespace, share: float, kinds: list[str]
) -> tuple[set[str], dict[str, str]]:
    """All jobs, the poison evenly among them: the healthy ones, and of what kind each other is."""
    healthy: set[str] = set()
    poison: dict[str, str] = {}
    for number in range(arguments.jobs):
        if int((number + 1) * share / 100) > int(number * share / 100):
            kind = kinds[len(poison) % len(kinds)]
            poison[post(client, f"x.bench.{kind}", {})] = kind
        healthy.add(post(client, "x.bench.work", {"seconds": arguments.seconds}))
    return healthy, poison


def post(client: httpx2.Client, action: str, inputs: dict[str, Any]) -> str:
    task = {"id": "t", "action": action, "arguments": inputs, "effect": "idempotent", "timeout": 300}
    answer = client.post("/jobs", json={"task_graph": [task]})
    require(answer.status_code == 201, answer.text)
    name: str = answer.json()["job_id"]
    return name


def online(client: httpx2.Client) -> int:
    found = client.get("/agents").json()["agents"]
    return sum(agent["type"] == "DATA" and agent["status"] == "online" for agent in found)


def wait(condition: Any, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        require(time.monotonic() < until, what)
        time.sleep(0.2)


def checked(file: Path, healthy: set[str], poison: dict[str, str]) -> dict[str, float]:
    with closing(sqlite.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=60)) as store:

        def open_jobs() -> int:
            query = "SELECT count(*) FROM jobs WHERE status IN ('pending', 'running')"
            found: int = store.execute(query).fetchone()[0]
            return found

        wait(lambda: not open_jobs(), "the jobs do not end")
        ends = dict(store.execute("SELECT id, status FROM jobs").fetchall())
        require(all(ends[job] == "done" for job in healthy), "a healthy job is not done")
        require(all(ends[job] == "failed" for job in poison), "a job of poison did not fail")
        rows = store.execute("SELECT job, type, time, body FROM events").fetchall()
    done = [(job, when) for job, kind, when, _ in rows if kind == "task_succeeded"]
    require(len(done) == len(healthy) and {job for job, _ in done} == healthy, "a task did not end once")
    began = min(when for _, kind, when, _ in rows if kind == "job_submitted")
    deadly = [job for job, kind in poison.items() if kind in ("exit", "loop")]
    lost = [(job, json.loads(body).get("among", 0)) for job, kind, _, body in rows if kind == "lease_lost"]
    found = {"jobs/s": len(healthy) / (max(when for _, when in done) - began) * 1000}
    if deadly:
        found["ends"] = sum(job in deadly and among > 0 for job, among in lost) / len(deadly)
        found["attempts of others lost"] = sum(job in healthy for job, _ in lost)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--share", type=float, default=1.0, help="percent")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--beat", type=float, default=5.0, help="seconds")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    require(set(arguments.kinds.split(",")) <= set(KINDS), f"--kinds: of {', '.join(KINDS)}")
    about = machine() | {name: value for name, value in vars(arguments).items() if name != "json"}
    without, with_, both = Figure("without"), Figure("with"), Figure("ratio")
    for _ in range(arguments.rounds):
        clean, poisoned = round_(arguments, 0.0), round_(arguments, arguments.share)
        without.add(**clean)
        with_.add(**poisoned)
        both.add(ratio=poisoned["jobs/s"] / clean["jobs/s"])
    report(about, (without, with_, both), as_json=arguments.json)


if __name__ == "__main__":
    main()
