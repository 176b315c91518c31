"""The README's first automation, followed word for word: every command, in its order, in one folder.

Blocks marked `terminal=…` go on running in the background, as the page says; the others run one after the
other in one shell that keeps its folder.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.servers.scheduler import clean_environment

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```sh([^\n]*)\n(.*?)```", re.DOTALL)
READY = {"props": "Ctrl-C ends it", "server": "is ready at"}
"""What a terminal shows once one may go on."""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


PORTS = (8700, 8710, 8725, 8743)
"""Those the page works with; whoever else has them now, perhaps the same test elsewhere, is waited for."""


def wait_for_ports() -> None:
    deadline = time.monotonic() + 90
    for port in PORTS:
        while True:
            try:
                socket.create_server(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline, f"port {port} is taken"
                time.sleep(0.2)


def blocks() -> list[tuple[str, str]]:
    """(terminal, commands) of the five-minute section; no terminal is the reader's own."""
    page = (ROOT / "README.md").read_text("utf-8")
    section = page.split("## Your first automation in five minutes")[1].split("\n## ")[0]
    found = [(mark.strip().removeprefix("terminal="), text) for mark, text in BLOCK.findall(section)]
    assert {terminal for terminal, _ in found} == {"", *READY}
    return found


class Terminal:
    """A command that goes on running; ended with Ctrl-C, as a person would."""

    def __init__(self, name: str, commands: str, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder.parent / f"{folder.name}-{name}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                ["bash", "-euc", f"exec {commands.strip()}"],
                cwd=folder,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Where the tests themselves run in the background nobody has a Ctrl-C.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads here
            )
        deadline = time.monotonic() + 60
        while READY[name] not in self.log.read_text("utf-8"):
            assert self.process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < deadline, self.log.read_text("utf-8")
            time.sleep(0.1)

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def test_the_page_holds_word_for_word(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment(PATH=path)
    folder, said = tmp_path, ""
    wait_for_ports()
    with ExitStack() as terminals:
        for terminal, commands in blocks():
            if terminal:
                terminals.callback(Terminal(terminal, commands, folder, environment).close)
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", f"{commands}\npwd > '{tmp_path}/.here'"],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
            folder = Path((tmp_path / ".here").read_text().strip())
            said += done.stdout

    assert said.count("✔ done") >= 2, said
    assert "unproved" not in said
    assert "The customers are: " in said
    assert list((tmp_path / "my-automation" / "invoice").glob("*.pdf"))
    assert list((tmp_path / "my-automation" / "invoice").glob("*-download.jpg"))
    assert "portal.customers" in said
    assert "portal.invoice.mail" in said


def test_the_two_commands_come_first() -> None:
    code = re.search(r"\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text("utf-8"))

    assert code is not None
    assert [line.split("#")[0].strip() for line in code[1].splitlines()] == ["make demo", "make test"]
