"""docs/EXECUTOR_GUIDE.md: its agents run against a real scheduler, and do its jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.servers.scheduler import clean_environment, serving

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "EXECUTOR_GUIDE.md").read_text("utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", TEXT, re.DOTALL)
NAMED = re.compile(r"# (\w+\.py)\n")
STARTS = re.compile(r"(cpa agent|python) \w+\.py")
PATIENCE = 120.0


@dataclass
class Reader:
    """Somebody who does what the page says, in one folder."""

    folder: Path
    environment: dict[str, str]
    agents: ExitStack
    ready: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def program(self, text: str) -> None:
        if (named := NAMED.match(text)) is not None:
            (self.folder / named[1]).write_text(text)
        else:
            self.run([sys.executable, "-c", text])

    def commands(self, text: str) -> None:
        if STARTS.match(text) is not None:
            self.agents.enter_context(self._started(text.split()))
        elif text.startswith("export "):
            name, _, command = text.removeprefix("export ").strip().partition("=")
            self.environment[name] = self.run(["bash", "-c", f"echo {command}"]).strip()
        else:
            self.said.append(self.run(["bash", "-euo", "pipefail", "-c", text]))

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def _started(self, command: list[str]) -> Iterator[None]:
        with (self.folder / f"{command[-1]}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        with process, process.stdout:
            try:
                self.ready.append(process.stdout.readline().strip())
                yield
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


@pytest.mark.timeout(300)
def test_the_page_works_as_it_stands(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with serving(tmp_path, "--no-builtin", PATH=path) as server, ExitStack() as agents:
        environment = clean_environment(CPA_URL=server.url, PATH=path, PYTHONPATH=".")
        reader = Reader(tmp_path, environment, agents)
        for kind, text in BLOCKS:
            reader.program(text) if kind == "python" else reader.commands(text)
        shown = json.loads(reader.run(["cpa", "agents", "list", "--json"]))

    assert f"`{reader.ready[0]}`" in TEXT
    assert [line.partition(" via ")[0] for line in reader.ready] == [
        "ready: agent://data/rechner",
        "ready: agent://data/lager",
        "ready: agent://data/thermometer",
    ]
    assert [said.count("✔ done") >= 1 for said in reader.said] == [True, True, True]
    assert {each["name"] for each in shown["agents"]} >= {"rechner", "lager", "thermometer"}
    assert json.loads(next((tmp_path / "buchungen").glob("*.json")).read_text()) == {
        "article": "Größe M",
        "count": 3,
    }


def test_the_first_agent_has_twenty_lines_at_most() -> None:
    first = next(text for kind, text in BLOCKS if kind == "python")
    assert len(first.splitlines()) <= 20
