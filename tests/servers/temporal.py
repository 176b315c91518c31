"""A real Temporal server for tests: the one that came with the locked packages, on a free port.

The command line's development server keeps a file, so that it can be killed and started again; the test server made
with Maven keeps nothing. Both have the namespace `default`.

CPA_TEST_TEMPORAL=127.0.0.1:7233 names a server that runs, for the tests that share one: one on PostgreSQL, say. It
needs that namespace, and the dynamic values below. Tests that kill a server, or want it otherwise, start theirs.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers.ports import answers, free_port, wait_until

TEST_VERSION = "1.38.0"
"""As in scripts/setup-temporal.sh."""
TUNING = ("history.transferProcessorMaxPollRPS=1000", "matching.useNewMatcher=true")
"""Without these the development server lets every hop wait 50 ms."""
ROOM = ("matching.maxDeployments=100000",)
"""Every test has a task queue of its own, and with it a deployment of workers."""
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL")
PATIENCE = 60.0


def _test_server() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(caches) / "cpa" / f"temporal-test-server-{TEST_VERSION}" / "temporal-test-server"


def skipping() -> Path:
    """The server that can skip time; what it was told is gone with its end. AssertionError as for `program`."""
    found = _test_server()
    there = os.access(found, os.X_OK) and shutil.which("java")
    assert there, "there is no Temporal server that can skip time: install Java and Maven, run `make setup`"
    return found


def program() -> Path:
    """The server to use. AssertionError saying how to get one when there is none."""
    ours = Path(sysconfig.get_path("scripts")) / "temporal"
    named, elsewhere = os.environ.get("TEMPORAL_BIN"), shutil.which("temporal") or ours
    places = [Path(named)] if named else [ours, Path(elsewhere), _test_server()]
    found = next((place for place in places if os.access(place, os.X_OK)), None)
    assert found is not None, "there is no Temporal server: run `make setup`, or name one in TEMPORAL_BIN"
    return found


@dataclass(frozen=True)
class Address:
    """Where a server is that somebody else started."""

    address: str


class TemporalServer:
    """`start` and `kill` as often as wanted: address and file stay. `stop` at the end."""

    def __init__(self, folder: Path, *settings: str, use: Path | None = None) -> None:
        """`settings`: more of the server's dynamic values, as `name=value`. `use`: another one than `program`."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.program = use or program()
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def lasting(self) -> bool:
        """Whether what it was told survives its end."""
        return not self.program.name.endswith("test-server")

    def start(self) -> None:
        with (self._folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        wait_until(self._up, f"{self.program} answers", seconds=PATIENCE)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill

    def _up(self) -> bool:
        assert self._process is not None
        log = self._folder / "temporal.log"
        assert self._process.poll() is None, log.read_text(errors="replace")[-2000:]
        return answers(self.port) and (not self.lasting or self._healthy())

    def _healthy(self) -> bool:
        """It listens a moment before it is ready to be asked."""
        command = [str(self.program), "operator", "cluster", "health", "--address", self.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return "SERVING" in done.stdout.split()

    def _command(self) -> list[str]:
        if not self.lasting:
            return [str(self.program), str(self.port)]
        command = [str(self.program), "server", "start-dev", "--headless", "--port", str(self.port)]
        command += ["--ip", "127.0.0.1", "--log-level", "error"]
        command += ["--db-filename", str(self._folder / "temporal.db")]
        for pragma in PRAGMAS:
            command += ["--sqlite-pragma", pragma]
        for value in (*TUNING, *ROOM, *self._settings):
            command += ["--dynamic-config-value", value]
        return command


class _Elsewhere(TemporalServer):
    """One that runs, and goes on when the tests have ended."""

    def __init__(self, address: str) -> None:
        self.address, self.program = address, Path(address)
        self.port = int(address.rpartition(":")[2])

    def start(self) -> None:
        wait_until(lambda: answers(self.port), f"the Temporal server {self.address} answers")

    def kill(self) -> None:
        """It is not ours."""

    stop = kill


def common(folder: Path) -> TemporalServer:
    """One that many tests use, not started yet."""
    named = os.environ.get("CPA_TEST_TEMPORAL", "")
    return _Elsewhere(named) if named else TemporalServer(folder)


@cache
def shared() -> TemporalServer:
    """One for the whole run, ended with it."""
    folder = Path(tempfile.mkdtemp(prefix="cpa-test-temporal-"))
    server = common(folder)
    server.start()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    return server
