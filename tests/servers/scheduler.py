"""A real `cpa serve`, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import temporal

READY = 90.0
"""Seconds a start may take on a busy machine."""
GRACE = 60.0
TEMPORAL = os.environ.get("CPA_TEST_ENGINE", "local") == "temporal"
"""The one flag: `CPA_TEST_ENGINE=temporal` lets all servers of this run have their jobs on a Temporal server."""


@dataclass(frozen=True)
class Scheduler:
    """A server that answers."""

    url: str
    key: str
    data: Path
    line: str
    """What it printed when it was ready."""
    process: subprocess.Popen[str]
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What points a client at it."""
        return {"CPA_URL": self.url, "CPA_API_KEY": self.key}


def clean_environment(**more: str) -> dict[str, str]:
    """What a program needs of ours, and nothing that would change settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"} | kept | more


def cpa(server: Scheduler, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command to that server, in its workspace."""
    return subprocess.run(
        [sys.executable, "-m", "cpa", *arguments],
        cwd=server.data.parent,
        env=clean_environment(**server.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def engine(data: Path) -> dict[str, str]:
    """Which engine the servers of this run use, as settings."""
    return on_temporal(temporal.shared().address, data) if TEMPORAL else {}


def on_temporal(address: str, data: Path) -> dict[str, str]:
    """The settings of a scheduler with this data folder on this server."""
    return {"CPA_ENGINE": "temporal", "CPA_TEMPORAL_ADDRESS": address, "CPA_TEMPORAL_QUEUE": str(data)}


@contextmanager
def serving(folder: Path, *arguments: str, port: int = 0, **environment: str) -> Iterator[Scheduler]:
    """`cpa serve` in `folder`, with its data in `folder/cpa-data`. Ends it with SIGTERM, and fails if that
    fails."""
    data, log = folder / "cpa-data", folder / "server.log"
    command = [sys.executable, "-m", "cpa", "serve", "--data", str(data), "--port", str(port), *arguments]
    with log.open("a") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(**(engine(data) | environment)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = _first_line(process)
            found = re.search(r"https?://\S+?(?=[\s,]|$)", line)
            if found is None:
                raise AssertionError(f"no ready line but {line!r}; {log}:\n{log.read_text()[-4000:]}")
            key = (data / "admin.key").read_text().strip()
            yield Scheduler(found[0], key, data, line, process, log)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(GRACE) == 0, log.read_text()[-4000:]
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    """What it says first; empty when it says nothing in time or ends."""
    assert process.stdout is not None
    watchdog = threading.Timer(READY, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline().strip()
    finally:
        watchdog.cancel()
