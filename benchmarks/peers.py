"""The same work by other durable engines that need no server, side by side in one run.

    cpa        the local engine under `cpa serve`'s own wiring
    dbos       DBOS: a workflow of steps on SQLite (its file set to WAL, which it does not do itself, to its favour)
    langgraph  LangGraph: a graph of nodes with its SQLite checkpointer, durability="sync"
    sketch     `sketch.py`, the least such an engine could be: a bound, not a product

    W1  jobs of three no-op tasks in a chain, 100 open at once    W3  a one-task job at a time, submit -> done
    W2  one job of 1,000 parallel no-op tasks and a join

Each does it in its own normal durable way: every task's result is stored before what depends on it begins. All of
it is checked afterwards in what the engine stored. Each round of each engine is a process of its own, with a store
of its own; rounds are interleaved, so that all see the same machine. The ratio is that of two rounds that followed
each other, and its spread is over the rounds.

    uv run --frozen --group bench python benchmarks/peers.py [w1 w2 w3] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

Job = Callable[[], Awaitable[None]]
"""Submits one job and returns once its end is durable."""
OPEN, WIDTH = 100, 1000
COUNTS = {
    "w1": {"cpa": 3000, "dbos": 100, "langgraph": 200, "sketch": 5000},
    "w2": {"cpa": 5, "dbos": 1, "langgraph": 3, "sketch": 5},
    "w3": {"cpa": 300, "dbos": 50, "langgraph": 100, "sketch": 300},
}
"""Jobs of a round; fewer where one takes long."""
TASKS = {"w1": 3, "w2": WIDTH + 1, "w3": 1}
PACKAGES = {"cpa": "cpa-scheduler", "dbos": "dbos", "langgraph": "langgraph"}


async def timed(workload: str, jobs: int, job: Job) -> float:
    """W1: jobs a second. W2, W3: median of a job's milliseconds."""
    if workload == "w1":
        numbers = iter(range(jobs))

        async def client() -> None:
            for _ in numbers:
                await job()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(OPEN)))
        return jobs / (time.perf_counter() - began)
    times = []
    for _ in range(jobs):
        began = time.perf_counter()
        await job()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"no figure: {otherwise}")


# -- the engines ---------------------------------------------------------------------------------------------


def cpa(folder: Path, workload: str, jobs: int) -> float:
    import engine

    from cpa.agents.loop import run
    from cpa.bootstrap import open_engine, tune
    from cpa.settings import Settings

    spec = {"w1": engine.chain(3), "w2": engine.fan(WIDTH), "w3": engine.chain(1)}[workload]

    async def work() -> float:
        async with open_engine(Settings(data=folder)) as scheduler:
            tune()
            return await timed(workload, jobs, partial(engine.run_to_end, scheduler.engine, spec))

    figure = run(work())
    engine.check(folder / "cpa.db", jobs, TASKS[workload])
    return figure


def sketch(folder: Path, workload: str, jobs: int) -> float:
    import sketch as other

    needs = {"w1": other.chain(3), "w2": other.fan(WIDTH), "w3": other.chain(1)}[workload]

    async def work() -> float:
        async with other.Sketch(folder / "sketch.db") as engine:

            async def job() -> None:
                await engine.wait(await engine.submit(needs))

            return await timed(workload, jobs, job)

    return asyncio.run(work())


def dbos(folder: Path, workload: str, jobs: int) -> float:
    import sqlite3

    from dbos import DBOS

    store = folder / "dbos.sqlite"
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{store}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    async def noop() -> None:
        return None

    @DBOS.workflow()
    async def chain() -> None:
        for _ in range(TASKS[workload]):
            await noop()

    @DBOS.workflow()
    async def fan() -> None:
        await asyncio.gather(*(noop() for _ in range(WIDTH)))
        await noop()

    async def job() -> None:
        handle: Any = await DBOS.start_workflow_async(fan if workload == "w2" else chain)
        await handle.get_result()

    async def work() -> float:
        DBOS.launch()
        figure = await timed(workload, jobs, job)
        DBOS.destroy()
        return figure

    figure = asyncio.run(work())
    with sqlite3.connect(store) as connection:
        done = connection.execute("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'").fetchone()[
            0
        ]
        steps = connection.execute("SELECT count(*) FROM operation_outputs").fetchone()[0]
    require(done == jobs and steps >= jobs * TASKS[workload], f"dbos stored {done} workflows, {steps} steps")
    return figure


class State(TypedDict):
    done: Annotated[list[int], operator.add]


def langgraph(folder: Path, workload: str, jobs: int) -> float:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.graph import END, START, StateGraph

    async def noop(state: State) -> State:
        return {"done": [1]}

    tasks = [f"t{index}" for index in range(TASKS[workload])]
    graph = StateGraph(State)
    for task in tasks:
        graph.add_node(task, noop)
    if workload == "w2":
        for task in tasks[:-1]:
            graph.add_edge(START, task)
        graph.add_edge(tasks[:-1], tasks[-1])
    else:
        for before, after in zip([START, *tasks], tasks, strict=False):
            graph.add_edge(before, after)
    graph.add_edge(tasks[-1], END)
    started: list[Any] = []

    async def work() -> float:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.sqlite")) as saver:
            app = graph.compile(checkpointer=saver)

            async def job() -> None:
                config: Any = {"configurable": {"thread_id": f"job-{len(started)}"}}
                started.append(config)
                await app.ainvoke({"done": []}, config, durability="sync")

            figure = await timed(workload, jobs, job)
            for config in started:
                stored = await app.aget_state(config)
                require(len(stored.values["done"]) == len(tasks) and not stored.next, "langgraph lost a task")
        return figure

    return asyncio.run(work())


ENGINES: dict[str, Callable[[Path, str, int], float]] = {
    "cpa": cpa,
    "dbos": dbos,
    "langgraph": langgraph,
    "sketch": sketch,
}


# -- side by side --------------------------------------------------------------------------------------------


def one_round(name: str, workload: str) -> None:
    with tempfile.TemporaryDirectory(prefix="cpa-bench-") as folder:
        print(json.dumps(ENGINES[name](Path(folder), workload, COUNTS[workload][name])))


def measure(workload: str, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(rounds):
        for name in ENGINES:
            command = [sys.executable, __file__, workload, "--one", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            found[name].append(json.loads(output.splitlines()[-1]))
    return found


def table(workload: str, found: dict[str, list[float]]) -> str:
    """One line per engine: its figure, and how many times as fast cpa was in the same round."""
    unit = "jobs/s" if workload == "w1" else "ms"
    lines = []
    for name, values in found.items():
        pairs = zip(found["cpa"], values, strict=True)
        ratios = [ours / theirs if workload == "w1" else theirs / ours for ours, theirs in pairs]
        figure = f"{statistics.median(values):>12,.2f} {unit:<7}({min(values):,.2f} .. {max(values):,.2f})"
        ratio = f"{statistics.median(ratios):,.2f} ({min(ratios):,.2f} .. {max(ratios):,.2f})"
        lines.append(
            f"{workload.upper()}  {name:<10}{figure:<48}" + ("" if name == "cpa" else f"cpa: x {ratio}")
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one_round(arguments.one, arguments.workloads[0])
        return
    from engine import machine

    about = machine() | {name: version(package) for name, package in PACKAGES.items()}
    found = {workload: measure(workload, arguments.rounds) for workload in arguments.workloads}
    if arguments.json:
        print(json.dumps({"machine": about, "figures": found}))
        return
    print(" ".join(f"{name}={value}" for name, value in about.items()))
    for workload, values in found.items():
        print(table(workload, values))


if __name__ == "__main__":
    main()
