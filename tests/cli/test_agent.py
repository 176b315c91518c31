"""`cpa agent`: what it is told, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.agents.scheduler import ADMIN, KEY, FakeScheduler, scheduling
from tests.servers.agent import PATIENCE, started
from tests.servers.scheduler import clean_environment

RECHNER = """
from nachbar import summe
from cpa.agents import Agent

agent = Agent("rechner", type="DATA", slots=2)

@agent.action("x.rechner.add", effect="idempotent")
async def add(a: float, b: float) -> dict[str, float]:
    return {"sum": summe(a, b)}

if __name__ == "__main__":
    agent.run()
"""


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "nachbar.py").write_text("def summe(a, b):\n    return a + b\n")
    (tmp_path / "rechner.py").write_text(RECHNER)
    return tmp_path / "rechner.py"


async def ended(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Its exit code, and the one line it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cpa", "agent", *arguments),
        cwd=folder,
        env=clean_environment(**environment),
        stderr=subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    said = errors.decode()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("cpa: ")]
    assert len(lines) == 1, said
    return process.returncode or 0, lines[0]


async def test_a_kind_registers_with_what_it_can_do_and_leaves_in_order(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    more = ("--name", "büro-http", "--tag", "büro", "--slots", "3")
    async with started(tmp_path, "http", *more, CPA_URL=scheduler.url, CPA_API_KEY=ADMIN) as agent:
        assert agent.line == "ready: agent://data/büro-http via channel, http.request"
        [said] = scheduler.registrations
        assert (said["name"], said["type"], said["slots"]) == ("büro-http", "DATA", 3)
        assert said["capabilities"] == ["http.request", "büro"]
        kept = tmp_path / "büro-http-agent" / "agent.json"
        assert json.loads(kept.read_text())["key"] == KEY
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        assert await agent.end(signal.SIGTERM) == 0
    assert scheduler.beats[-1]["status"] == "offline"


@pytest.mark.parametrize("prepared", [False, True])
async def test_no_repository_takes_in_the_folder_of_an_agent(
    prepared: bool, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    if prepared:  # what it must not say to anybody lies there before its first start
        (tmp_path / "http-agent" / "secrets").mkdir(parents=True)
        (tmp_path / "http-agent" / "secrets" / "portal").write_text("geheim")
    async with started(tmp_path, "http", "--name", "http", "--url", scheduler.url, "--key", ADMIN):
        assert (tmp_path / "http-agent" / "agent.json").exists()

    status = ["git", "status", "--porcelain", "--untracked-files=all", "http-agent"]
    assert subprocess.run(status, cwd=tmp_path, check=True, capture_output=True).stdout == b""


async def test_a_folder_that_holds_more_than_the_agent_is_left_to_its_owner(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "notizen.txt").write_text("meine")
    async with started(tmp_path, "http", "--url", scheduler.url, "--key", ADMIN, "--data", "."):
        assert (tmp_path / "agent.json").exists()
        assert not (tmp_path / ".gitignore").exists()


async def test_it_comes_back_with_its_own_key_alone(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with started(tmp_path, "http", "--url", scheduler.url, "--token", "token"):
        pass
    async with started(tmp_path, "http", "--url", scheduler.url):
        assert len(scheduler.registrations) == 2


async def test_a_file_of_ones_own_is_an_agent(scheduler: FakeScheduler, tmp_path: Path, script: Path) -> None:
    more = ("--url", scheduler.url, "--key", ADMIN, "--name", "rechner-2")
    async with started(tmp_path, "http", script.name, *more) as agent:
        assert agent.line == "ready: agent://data/rechner-2 via channel, http.request, x.rechner.add"
        await scheduler.push(
            scheduler.request("x.rechner.add", arguments={"a": 2, "b": 3}, effect="idempotent")
        )
        await scheduler.until(lambda: "done" in scheduler.types(), "done", seconds=PATIENCE)
        assert scheduler.of_type("done")[0].to_dict()["payload"]["result"] == {"sum": 5.0}
        assert await agent.end(signal.SIGTERM) == 0
    assert (tmp_path / "rechner-2-agent" / "outbox.db").exists()
    assert agent.events() == ["channel_open", "task_begun", "task_done", "leaving"]


@pytest.mark.parametrize("intents", ["intents: {", None])
async def test_intents_are_no_matter_of_an_agent(
    scheduler: FakeScheduler, tmp_path: Path, script: Path, intents: str | None
) -> None:
    (tmp_path / "cpa.yaml").write_text(
        "version: 1\nintents: [intents.yaml]\nfiles: [.]\nshipped_intents: false\n"
    )
    if intents is not None:
        (tmp_path / "intents.yaml").write_text(intents)
    async with started(
        tmp_path, "files", script.name, "--url", scheduler.url, "--key", ADMIN, "--workspace", "."
    ) as agent:
        assert agent.line.startswith("ready: agent://data/rechner via channel, file.")


async def test_what_is_wrong_in_the_workspace_of_an_agent_is_said(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "cpa.yaml").write_text("version: 1\nfils: [.]\n")
    code, line = await ended(tmp_path, "http", "--url", scheduler.url, "--key", ADMIN)
    assert (code, line) == (2, "cpa: cpa.yaml:2: fils: unknown key 'fils' (Did you mean files?)")


async def test_it_can_be_called_instead(scheduler: FakeScheduler, tmp_path: Path) -> None:
    more = ("--url", scheduler.url, "--key", ADMIN, "--listen", "127.0.0.1:0")
    async with started(tmp_path, "http", *more):
        assert scheduler.registrations[0]["endpoint"].startswith("http://127.0.0.1:")
        assert scheduler.channels == 0


async def test_two_processes_of_one_agent_exclude_each_other(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    same = ("http", "--url", scheduler.url, "--key", ADMIN, "--data", "daten")
    async with started(tmp_path, *same):
        code, line = await ended(tmp_path, *same)
    assert code == 1
    assert "another process uses daten" in line


async def test_who_shows_nothing_learns_of_tokens(scheduler: FakeScheduler, tmp_path: Path) -> None:
    code, line = await ended(tmp_path, "http", "--url", scheduler.url)
    assert code == 4
    assert "does not know this agent" in line
    assert "cpa agents token" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fax",), "there is no agent 'fax' (say web"),
        (("show", "lager"), "did you mean `cpa agents show lager`?"),
        (("web", "a.py", "b.py"), "one file at a time"),
        (("fehlt.py",), "there is no file fehlt.py"),
        (("kaputt.py",), "kaputt.py fails in line 2: ZeroDivisionError"),
        (("unlesbar.py",), "unlesbar.py fails in line 1: SyntaxError"),
        (("leer.py",), "leer.py makes 0 agents"),
        (("mail",), "CPA_SMTP_URL"),
        (("files",), "CPA_FILES"),
        (("http", "--url", "ftp://anderswo"), "no address of a scheduler"),
        (("http", "--listen", "8710"), "is no address"),
    ],
)
async def test_what_cannot_work_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "kaputt.py").write_text("zahl = 0\nzahl = 1 / zahl\n")
    (tmp_path / "unlesbar.py").write_text("def (:\n")
    (tmp_path / "leer.py").write_text("")
    code, line = await ended(tmp_path, *arguments)
    assert code in (2, 3)
    assert said in line
