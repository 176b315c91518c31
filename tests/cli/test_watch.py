"""Following a job: what is shown of it on a terminal and elsewhere, and none of it twice."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.servers.agent import started
from tests.servers.scheduler import Scheduler, clean_environment, cpa, serving

from cpa.cli import jobs
from cpa.cli.client import Client
from cpa.cli.watch import Watch, follow

PATIENCE = 60.0
HANDS = """
import asyncio
from pathlib import Path
from cpa.agents import ActionRequest, Agent

agent = Agent("hände", type="DATA")

@agent.action("x.hands.count", effect="idempotent")
async def count(request: ActionRequest, until: str) -> dict[str, int]:
    await request.progress(0.5, "Seite größtenteils gelesen")
    while not Path(until).exists():
        await asyncio.sleep(0.05)
    return {"pages": 2}

if __name__ == "__main__":
    agent.run()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
async def hands(server: Scheduler, tmp_path: Path) -> AsyncIterator[None]:
    """An agent that counts pages until a file is there."""
    (tmp_path / "hands.py").write_text(HANDS)
    async with started(tmp_path, "hands.py", **server.environment):
        yield


class Screen:
    """A terminal on which a command runs."""

    def __init__(self, server: Scheduler, *arguments: str, errors: Any = subprocess.STDOUT) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cpa", *arguments],
            cwd=server.data.parent,
            env=clean_environment(TERM="xterm", NO_COLOR="1", **server.environment),
            stdout=theirs,
            stderr=errors,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._raw = b""

    @property
    def text(self) -> str:
        """All that was ever shown."""
        with suppress(BlockingIOError, OSError):  # Nothing new, or nobody writes to it any more.
            while piece := os.read(self._ours, 65_536):
                self._raw += piece
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._raw.decode()).replace("\r", "")

    async def until(self, text: str, *, times: int = 1) -> str:
        """All that was shown once `text` was, so many times."""
        patience = time.monotonic() + PATIENCE
        while (shown := self.text).count(text) < times:
            assert time.monotonic() < patience, f"no {text!r} in\n{shown}"
            assert self.process.poll() is None or self.text.count(text) >= times, shown
            await asyncio.sleep(0.05)
        return shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def screen(server: Scheduler, *arguments: str, errors: Any = subprocess.STDOUT) -> Iterator[Screen]:
    shown = Screen(server, *arguments, errors=errors)
    try:
        yield shown
    finally:
        shown.close()


def plan(server: Scheduler, *tasks: dict[str, Any]) -> str:
    """A file with this plan."""
    file = server.data.parent / "plan.json"
    file.write_text(json.dumps({"tasks": tasks}))
    return file.name


def counting(until: Path) -> dict[str, Any]:
    return {
        "id": "zählen",
        "action": "x.hands.count",
        "arguments": {"until": str(until)},
        "effect": "idempotent",
    }


NOBODY = {"id": "warten", "action": "x.niemand.da", "effect": "idempotent"}


def test_a_log_holds_what_came_of_a_task_and_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    told = [("agent_chosen", "Task a given to agent x."), ("task_succeeded", "Task a done.")]
    with Watch(live=False) as watch:
        for seq, (event, summary) in enumerate(told):
            watch.event({"event": event, "seq": seq, "time": "2026-11-24T08:30:00.000Z", "summary": summary})
        for share in (0.5, 0.5, 0.75):
            watch.progress("b", share, "Seite")
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]

    assert [line.split("  ")[-1].strip() for line in shown] == [
        "Task a done.",
        "b: 50% Seite",
        "b: 75% Seite",
    ]


async def test_progress_is_shown_on_a_terminal_and_by_whoever_looks_later(
    server: Scheduler, hands: None, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    with screen(server, "submit", "--graph", plan(server, counting(done)), "--watch") as shown:
        await shown.until("50% Seite größtenteils gelesen")
        looked = await asyncio.to_thread(cpa, server, "job", "last")
        detail = json.loads((await asyncio.to_thread(cpa, server, "job", "last", "--json")).stdout)
        done.touch()
        await shown.until("zählen.pages: 2")

    assert "50% Seite größtenteils gelesen" in looked.stdout
    assert detail["tasks"][0]["progress"] == {"share": 0.5, "message": "Seite größtenteils gelesen"}
    ended = await asyncio.to_thread(cpa, server, "job", "last", "--json")
    assert json.loads(ended.stdout)["tasks"][0]["progress"] is None


async def test_a_task_says_why_it_waits_as_long_as_it_waits(server: Scheduler) -> None:
    with screen(server, "submit", "--graph", plan(server, NOBODY), "--watch") as shown:
        await shown.until("No agent does x.niemand.da", times=2)
        job = json.loads(cpa(server, "jobs", "--limit", "1", "--json").stdout)["jobs"][0]["id"]
        # It was told once, and stands in line since: no event says so any more.
        while json.loads(cpa(server, "job", job, "--json").stdout)["tasks"][0]["status"] != "ready":
            await asyncio.sleep(0.2)
        seen = shown.text.count("No agent does")
        picture = (await shown.until("No agent does", times=seen + 2)).splitlines()
        assert cpa(server, "cancel", job).returncode == 0
        await shown.until("cancelled")

    assert "No agent does x.niemand.da" in next(line for line in reversed(picture) if "warten" in line)
    assert shown.text.count("Start an agent that offers it") == 1


class Looking(Client):
    """Cancels the job at the second look at why it waits; notes how long the server was to wait with an answer."""

    def __init__(self, server: Scheduler) -> None:
        super().__init__(server.url, server.key)
        self.looks, self.waits = 0, list[float]()

    def get(self, path: str, *, patience: float = 0.0, **params: Any) -> Any:
        self.waits += [params["wait"]] if "wait" in params else []
        answer = super().get(path, patience=patience, **params)
        if path.endswith("/explain"):
            self.looks += 1
            if self.looks == 2:
                self.delete(path.removesuffix("/explain"))
        return answer


@pytest.mark.parametrize(
    ("wait", "waits"),
    [(partial(jobs._await, as_json=False), [2, 2, 4]), (follow, [])],
    ids=["--wait", "--watch"],
)
def test_whoever_waits_is_told_once_that_nobody_takes_it(
    server: Scheduler,
    wait: Callable[[Client, str], str],
    waits: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Looking(server) as api:
        job = api.post("/jobs", {"task_graph": [NOBODY]})["job_id"]
        assert wait(api, job) == "cancelled"

    told = "cpa: warten: No agent does x.niemand.da. Start an agent that offers it; the task goes"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cpa: ")]
    assert line.startswith(told)
    assert (api.looks, api.waits) == (2, waits)
