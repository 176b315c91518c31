"""`cpa serve` that may be killed at any moment: before it is ready, after, or by somebody else."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from tests.e2e.kill.life import Fork, Life, Program
from tests.servers.scheduler import clean_environment

READY = 60.0
"""Seconds a start may take on a busy machine."""
QUICK: dict[type, float] = {Program: 2.0, Fork: 0.6}
"""Seconds that a start takes when nothing else runs."""
_URL = re.compile(r"https?://[^\s,]+")


class Victim:
    """One folder, one life after the other. `starts` holds how long each start took that was let be."""

    def __init__(
        self, folder: Path, environment: dict[str, str], *, kind: type[Program | Fork] = Program
    ) -> None:
        self.data = folder / "cpa-data"
        self.log = folder / "server.log"
        self.starts: list[float] = []
        self._folder, self._kind = folder, kind
        self._mark = f"CPA_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self._environment = clean_environment(**environment, **{name: value})
        self._process: Life | None = None
        self._url = ""
        self._answered = threading.Event()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it answers; empty while it does not."""
        return self._url

    @property
    def key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def start(self) -> None:
        """Begin a life; `wait_ready` tells when it answers."""
        self._answered = threading.Event()
        arguments = ["serve", "--data", str(self.data), "--port", "0", "--workspace", str(self._folder)]
        self._process = self._kind(arguments, self._folder, self._environment, self.log)
        reader = threading.Thread(target=self._listen, args=(self._process, self._answered), daemon=True)
        reader.start()

    def _listen(self, process: Life, answered: threading.Event) -> None:
        found = _URL.search(process.said())
        if found is not None and process is self._process:
            self._url = found[0]
            answered.set()

    def wait_ready(self) -> None:
        """Return once it answers; AssertionError with its log when it does not."""
        begun = time.monotonic()
        while not self._answered.wait(0.01):
            ended = self._process is not None and self._process.ended() is not None
            if ended or time.monotonic() - begun > READY:
                raise AssertionError(f"the server does not start:\n{self.log.read_text()[-6000:]}")
        self.starts.append(time.monotonic() - begun)

    @property
    def slowness(self) -> float:
        """How many times as long as on an idle machine the last start took, at least 1. Lives grow with it: on a
        busy machine nothing gets done in a short one."""
        return max(1.0, self.starts[-1] / QUICK[self._kind]) if self.starts else 1.0

    @property
    def usual(self) -> float:
        """Seconds the next start may take."""
        return QUICK[self._kind] * self.slowness

    def wait_dead(self, seconds: float) -> bool:
        """Whether it dies of itself, or of somebody else, within these seconds."""
        assert self._process is not None
        if self._process.wait(seconds) is None:
            return False
        self._url = ""
        return True

    def kill(self) -> None:
        """SIGKILL, now; returns when it is dead."""
        assert self._process is not None
        self._process.send(signal.SIGKILL)
        self._url = ""
        self._process.wait(60)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send(signal.SIGTERM)
        self._url = ""
        code = self._process.wait(60)
        assert code is not None, "it did not end within 60 s"
        return code

    def relatives(self) -> dict[int, str]:
        """Living processes of this and former lives (browser, driver), with their command lines."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if line:
                        found[int(folder.name)] = line[:200]
        return found

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.ended() is None:
            self.kill()
        for pid in self.relatives():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
