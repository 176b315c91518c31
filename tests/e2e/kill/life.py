"""Lives of `cpa serve`: a program of its own, or one forked from a process that has loaded everything already.

A forked life is a process like the other and does the same; it only begins in a tenth of the time. Where starts are
measured, and where programs that the scheduler started are looked for by their environment, it takes the first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

LOADED = (
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.lifespan.on",
    "yaml",
    "cpa.cli.commands",
    "cpa.cli.upkeep",
    "cpa.bootstrap",
    "cpa.engines.temporal.engine",
    "cpa.executors.files.executor",
    "cpa.executors.flow",
    "cpa.executors.http.executor",
    "cpa.executors.mail.executor",
    "cpa.executors.web.executor",
)


class Life(Protocol):
    """A process that runs `cpa`."""

    pid: int

    def said(self) -> str:
        """Its first line; empty when it ends without one."""

    def ended(self) -> int | None:
        """Its exit code; None while it lives."""

    def wait(self, seconds: float) -> int | None:
        """As `ended`, after at most so long."""

    def send(self, number: signal.Signals) -> None: ...


class Program:
    """A Python of its own."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cpa", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        assert self._process.stdout is not None
        with self._process.stdout:
            return self._process.stdout.readline()

    def ended(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


class Fork:
    """A fork of one that has loaded everything."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
        self._out = log.with_suffix(f".{time.monotonic_ns()}.out")
        self._process = _context().Process(
            target=_live, args=(arguments, folder, environment, self._out, log), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def said(self) -> str:
        while True:
            last = self.ended() is not None
            line = self._out.read_text() if self._out.exists() else ""
            if line.endswith("\n") or last:
                return line
            time.sleep(0.01)

    def ended(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self.ended()

    def send(self, number: signal.Signals) -> None:
        if self.ended() is None:
            os.kill(self.pid, number)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED, __name__])
    return context


def _live(arguments: list[str], folder: Path, environment: dict[str, str], out: Path, log: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, stream in ((out, 1), (log, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    from cpa.cli import main

    sys.argv = ["cpa", *arguments]
    main()
