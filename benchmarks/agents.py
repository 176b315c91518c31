"""One job of many parallel tasks, done by agents in processes of their own: over channels, and over HTTP.

    uv run python benchmarks/agents.py [--agents 10] [--tasks 1000] [--rounds 3] [--json]

`cpa serve --no-builtin` and the agents share the machine. Each agent has ten slots, and at most as many tasks run
at the same time as there are slots. The action adds two numbers: what is measured is the way there and back,
durable on both sides (the scheduler's store, each agent's outbox).

    tasks/s       from the submission to the last end
    p50, p99 ms   from the choice of an agent until its word that it began, both as the scheduler stamps them

No figure is printed, and the exit code is 1, unless the job is done, every sum is right, every task ended once, and
every agent did some.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
from engine import Figure, Served, machine, report, require

SLOTS = 10
PATIENCE = 600
AGENT = """
from cpa.agents import Agent

agent = Agent("adder")

@agent.action("x.bench.add", effect="idempotent")
async def add(a: float, b: float) -> dict[str, float]:
    return {"sum": a + b}
"""


@contextmanager
def agent(served: Served, folder: Path, name: str, listens: bool) -> Iterator[None]:
    home = folder / name
    home.mkdir()
    script = home / "adder.py"
    script.write_text(AGENT)
    more = ["--listen", "127.0.0.1:0"] if listens else []
    options = ["--name", name, "--slots", str(SLOTS), "--url", served.url, "--key", served.key, *more]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CPA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cpa", "agent", str(script), *options],
        cwd=home,
        env=environment | {"CPA_LOG_LEVEL": "WARNING"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            require(process.stdout.readline().startswith("ready"), f"the agent {name} does not start")
            yield
        finally:
            process.terminate()
            process.wait(30)


def fan_out(agents: int, tasks: int, *, listens: bool) -> dict[str, float]:
    settings = {"CPA_MAX_PARALLEL": str(agents * SLOTS), "CPA_ALLOW_PRIVATE": '["127.0.0.1"]'}
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder, ExitStack() as stack:
        served = Served(Path(folder) / "data", "--no-builtin", **settings)
        stack.callback(served.stop)
        for number in range(agents):
            stack.enter_context(agent(served, Path(folder), f"agent-{number}", listens))
        headers = {"X-API-Key": served.key}
        client = httpx2.Client(base_url=served.url, headers=headers, timeout=60, trust_env=False)
        with client:
            graph = [
                {
                    "id": f"t{n}",
                    "action": "x.bench.add",
                    "arguments": {"a": n, "b": 1},
                    "effect": "idempotent",
                }
                for n in range(tasks)
            ]
            began = time.perf_counter()
            answer = client.post("/jobs", json={"description": "fan-out", "task_graph": graph})
            require(answer.status_code == 201, answer.text)
            job = answer.json()["job_id"]
            status = "running"
            while status in ("pending", "running") and time.perf_counter() - began < PATIENCE:
                status = client.get(f"/jobs/{job}", params={"wait": 30}).json()["status"]
            seconds = time.perf_counter() - began
            require(status == "done", f"the job is {status}")
            latencies = checked(client, job, tasks, agents)
    return {
        "tasks/s": tasks / seconds,
        "p50 ms": latencies[len(latencies) // 2],
        "p99 ms": latencies[int(len(latencies) * 0.99)],
    }


def checked(client: httpx2.Client, job: str, tasks: int, agents: int) -> list[float]:
    """Milliseconds from choice to beginning, in order; `SystemExit` when anything is not as it should be."""
    ended: Counter[str] = Counter()
    chosen: dict[str, tuple[datetime, str]] = {}
    latencies: list[float] = []
    for event in history(client, job):
        moment = datetime.fromisoformat(event["time"])
        if event["type"] == "agent_chosen":
            chosen[event["task"]] = (moment, event["agent"])
        elif event["type"] == "task_started":
            latencies.append((moment - chosen[event["task"]][0]).total_seconds() * 1000)
        elif event["type"] == "task_succeeded":
            ended[event["task"]] += 1
    require(set(ended.values()) == {1} and len(ended) == tasks, "a task did not end once")
    used = {agent for _, agent in chosen.values()}
    require(len(used) == agents, f"{len(used)} of {agents} agents did the work")
    found = client.get(f"/jobs/{job}").json()["tasks"]
    wrong = [task["id"] for task in found if task["result"] != {"sum": int(task["id"][1:]) + 1}]
    require(not wrong, f"wrong sums: {wrong[:5]}")
    require(bool(latencies), "no agent said that it began")
    return sorted(latencies)


def history(client: httpx2.Client, job: str) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        page = client.get(f"/jobs/{job}/events", params={"after": after, "limit": 1000}).json()
        yield from page["events"]
        if not page["events"]:
            return
        after = page["events"][-1]["seq"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    about = machine() | {"agents": arguments.agents, "tasks": arguments.tasks}
    channel, http = Figure("channel"), Figure("http")
    for _ in range(arguments.rounds):
        channel.add(**fan_out(arguments.agents, arguments.tasks, listens=False))
        http.add(**fan_out(arguments.agents, arguments.tasks, listens=True))
    report(about, (channel, http), as_json=arguments.json)


if __name__ == "__main__":
    main()
