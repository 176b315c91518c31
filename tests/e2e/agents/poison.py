"""Agents that poison kills, and what starts them again, as a service would."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.scheduler import Scheduler, clean_environment

MEMORY = 300 * 2**20
"""Bytes an agent may take beyond what it has when it begins."""
SCRIPT = """
import asyncio
import os
import resource
import sys

from cpa.agents import Agent

name, room = sys.argv[1], int(sys.argv[2])
# Seconds in which the scheduler has heard that it was agreed to: whom it has not heard in time has refused.
SAID = 1.0
agent = Agent(name, type="DATA", slots=4, grace=1.0)
began = open("began.txt", "a", buffering=1)


@agent.action("x.poison.none", effect="idempotent")
async def none(number: int):
    return {"number": number}


@agent.action("x.poison.exit", effect="idempotent")
async def leave():
    await asyncio.sleep(SAID)
    began.write("exit\\n")
    os._exit(3)


@agent.action("x.poison.memory", effect="idempotent")
def memory():
    began.write("memory\\n")
    taken = []
    while True:
        taken.append(bytearray(2**24))


@agent.action("x.poison.thread", effect="idempotent")
def thread():
    began.write("thread\\n")
    while True:
        pass


@agent.action("x.poison.loop", effect="idempotent")
async def loop():
    await asyncio.sleep(SAID)
    began.write("loop\\n")
    while True:
        pass


@agent.action("x.poison.huge", effect="idempotent")
async def huge(size: int):
    began.write("huge\\n")
    return {"text": "ü" * size}


@agent.action("x.poison.halves", effect="idempotent")
async def halves():
    began.write("halves\\n")
    return {"te\\udc80xt": "half \\ud800 a pair", "raw": b"\\xff\\xfe"}


pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
agent.run()
"""


WITNESS = """
import sys

from cpa.agents import Agent

agent = Agent(sys.argv[1], type="DATA")


@agent.action("x.witness.none", effect="idempotent")
async def none():
    return {}


agent.run()
"""
"""Harms nobody, and is heard: so who falls silent has ended, and is not cut off by a network that is away."""


class Supervisor:
    """Starts an agent again whenever it ends, until `stop`. Made by `supervised`."""

    def __init__(self, scheduler: Scheduler, folder: Path, name: str, text: str) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        script = self.folder / "agent.py"
        script.write_text(text)
        self._command = [sys.executable, str(script), name, str(MEMORY)]
        self._environment = clean_environment(**scheduler.environment)
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.codes: list[int] = []
        """How its processes ended."""
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def began(self, what: str) -> int:
        """How often it was given this."""
        file = self.folder / "began.txt"
        return file.read_text().splitlines().count(what) if file.exists() else 0

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def kill(self) -> None:
        """kill -9; it is started again."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        self._over.set()
        self.kill()
        self._thread.join()

    def _run(self) -> None:
        with (self.folder / "agent.log").open("ab") as errors:
            while True:
                with self._lock:
                    if self._over.is_set():
                        return
                    self._process = subprocess.Popen(
                        self._command, cwd=self.folder, env=self._environment, stdout=errors, stderr=errors
                    )
                self.codes.append(self._process.wait())


@contextmanager
def supervised(scheduler: Scheduler, folder: Path, name: str, text: str = SCRIPT) -> Iterator[Supervisor]:
    supervisor = Supervisor(scheduler, folder, name, text)
    try:
        yield supervisor
    finally:
        supervisor.stop()
