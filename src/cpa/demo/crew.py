"""The demo's agents: three processes with folders and passwords of their own, as on three machines."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cpa.demo.stage import Stage
from cpa.errors import Unavailable

STARTING: Final = 60.0
"""Seconds an agent may take to be heard, on a busy machine."""
_ENDING: Final = 10.0
CALCULATOR: Final = '''"""An agent of one's own, as docs/EXECUTOR_GUIDE.md has it."""

import asyncio

from cpa.agents import Agent

agent = Agent("calculator", type="DATA")


@agent.action("x.calculator.add", effect="idempotent")
async def add(a: float, b: float) -> dict[str, float]:
    await asyncio.sleep(2)  # Long enough to be stopped in the middle.
    return {"sum": a + b}


if __name__ == "__main__":
    agent.run()
'''


class Member:
    """One agent. `start` it again after a `kill`: it comes back as the same one, by what lies in its folder."""

    def __init__(self, stage: Stage, name: str, what: str, *, needs: str = "") -> None:
        """`what` is said to `cpa agent`; `needs` names the secret it gets."""
        self.name = name
        self._stage, self._what = stage, what
        self._home = stage.props.folder / "agents" / name
        self._process: asyncio.subprocess.Process | None = None
        (self._home / "secrets").mkdir(parents=True, exist_ok=True, mode=0o700)
        if needs:
            shutil.copy2(stage.props.data / "secrets" / needs, self._home / "secrets" / needs)

    @property
    def process(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Returns once it is registered and heard. `Unavailable` when it is not, or ends."""
        with (self._home / "agent.log").open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cpa", "agent", self._what, "--name", self.name, "--data", "."),
                *("--workspace", str(self._stage.props.workspace.absolute())),
                cwd=self._home,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the demo, which ends its agents in order.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(STARTING):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"ready"):
            raise Unavailable(
                f"the agent {self.name} does not start",
                field="agent",
                remedy=f"see {self._home / 'agent.log'}",
            )

    async def kill(self) -> None:
        """kill -9"""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def stand_still(self) -> None:
        os.kill(self.process, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process, signal.SIGCONT)

    async def end(self) -> None:
        """In order if it can, else at once."""
        if self._process is None or self._process.returncode is not None:
            return
        self.go_on()
        self._process.terminate()
        try:
            async with asyncio.timeout(_ENDING):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _environment(self) -> dict[str, str]:
        """Nothing that is meant for somebody's real work."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {"CPA_URL": self._stage.api, "CPA_API_KEY": self._stage.key}


@asynccontextmanager
async def open_crew(stage: Stage) -> AsyncIterator[tuple[Member, Member, Member]]:
    """Browser, postman and calculator, registered and heard."""
    script = (stage.props.folder / "calculator.py").absolute()
    script.write_text(CALCULATOR, "utf-8")
    browser = Member(stage, "browser", "web", needs="portal_password")
    postman = Member(stage, "postman", "mail", needs="mail_password")
    calculator = Member(stage, "calculator", str(script))
    crew = (browser, postman, calculator)
    try:
        async with asyncio.TaskGroup() as group:
            for member in crew:
                group.create_task(member.start())
        yield crew
    finally:
        await asyncio.gather(*(member.end() for member in crew))


def check_signals() -> None:
    """`Unavailable` where processes cannot be stopped and continued."""
    if not hasattr(signal, "SIGSTOP"):
        raise Unavailable(
            "this system cannot stop a process and continue it",
            remedy="play `cpa demo --agents` on Linux or macOS; `cpa demo` works here",
        )
