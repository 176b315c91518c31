"""An agent in a process of its own, written as the guide says, and a folder by which a test sees and holds it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.ports import wait_until
from tests.servers.scheduler import READY, Scheduler, clean_environment

SCRIPT = """
import asyncio
import sys
import time
from pathlib import Path

from cpa.agents import Agent, checkpoint
from cpa.ports.executor import ActionRequest, Verdict, Verification

name, listen, world = sys.argv[1], sys.argv[2], Path(sys.argv[3])
agent = Agent(name, type="DATA", slots=4, listen=listen, grace=1.0)


def note(what, number):
    with (world / "log.txt").open("a") as log:
        log.write(f"{what} {number} {name}\\n")


async def work(number):
    note("begun", number)
    while (world / f"hold-{number}-{name}").exists():
        await asyncio.sleep(0.02)
    note("done", number)
    return {"number": number, "by": name}


async def seen(request: ActionRequest) -> Verification:
    log = (world / "log.txt").read_text()
    there = f"begun {request.arguments['number']} " in log
    return Verification(verdict=Verdict.HAPPENED if there else Verdict.ABSENT, evidence="the log tells")


@agent.action("x.calculator.add", effect="idempotent")
async def add(a: float, b: float) -> dict[str, float]:
    return {"sum": a + b}


@agent.action("x.world.count", effect="idempotent")
async def count(number: int):
    return await work(number)


@agent.action("x.world.book", effect="unsafe")
async def book(number: int):
    return await work(number)


@agent.action("x.world.send", effect="verifiable", verify=seen)
async def send(number: int):
    return await work(number)


async def posted(request: ActionRequest) -> Verification:
    there = f"done {request.arguments['number']} " in (world / "log.txt").read_text()
    return Verification(verdict=Verdict.HAPPENED if there else Verdict.ABSENT, evidence="the log tells")


@agent.action("x.world.post", effect="verifiable", verify=posted)
def post(number: int):
    note("begun", number)
    while (world / f"hold-{number}-{name}").exists():
        time.sleep(0.02)
    try:
        checkpoint()
    except asyncio.CancelledError:
        note("stopped", number)
        raise
    note("done", number)
    return {"number": number, "by": name}


agent.run()
"""


@dataclass(eq=False)
class World:
    """What agents leave in a folder, and what holds them."""

    folder: Path
    held: list[Path] = field(default_factory=list)

    def hold(self, number: int, agent: str) -> None:
        """This agent does not get done with what has this number."""
        path = self.folder / f"hold-{number}-{agent}"
        path.touch()
        self.held.append(path)

    def release(self) -> None:
        for path in self.held:
            path.unlink(missing_ok=True)

    def log(self) -> list[str]:
        """Lines of (what, number, agent)."""
        file = self.folder / "log.txt"
        return file.read_text().splitlines() if file.exists() else []

    def wait(self, line: str, *, seconds: float = 20.0) -> None:
        wait_until(lambda: line in self.log(), f"{line!r}", seconds=seconds)


@dataclass(eq=False)
class AgentProcess:
    name: str
    process: subprocess.Popen[str]
    line: str
    """What it printed when it was ready."""

    @property
    def address(self) -> str:
        return f"agent://data/{self.name}"

    def kill(self) -> None:
        """kill -9"""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def agent_process(
    scheduler: Scheduler, world: World, name: str, *, listens: bool = False
) -> Iterator[AgentProcess]:
    """One that has registered, by the admin's key, and is heard. Killed at the end, if it still runs."""
    script = world.folder / "agent.py"
    script.write_text(SCRIPT)
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    listen = "127.0.0.1:0" if listens else ""
    command = [sys.executable, str(script), name, listen, str(world.folder)]
    environment = clean_environment(**scheduler.environment)
    with (folder / "agent.log").open("a") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            watchdog = threading.Timer(READY, process.kill)
            watchdog.start()
            try:
                line = process.stdout.readline().strip()
            finally:
                watchdog.cancel()
            assert line.startswith("ready:"), (folder / "agent.log").read_text()[-4000:]
            yield AgentProcess(name, process, line)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
