"""A real `cpa agent`, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.scheduler import clean_environment

PATIENCE = 40.0
"""Seconds a start or an end may take on a busy machine."""
LOG = "agent.log"


@dataclass(frozen=True)
class AgentProcess:
    """An agent that has registered and is heard."""

    process: asyncio.subprocess.Process
    folder: Path
    line: str
    """What it printed when it was ready."""

    async def end(self, signal: int) -> int:
        """Its exit code after this signal."""
        self.process.send_signal(signal)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    def events(self) -> list[str]:
        """What it logged so far, in all its lives."""
        return [json.loads(line)["event"] for line in (self.folder / LOG).read_text().splitlines()]


@asynccontextmanager
async def started(folder: Path, *arguments: str, **environment: str) -> AsyncIterator[AgentProcess]:
    """`cpa agent` in this folder, where its log lies too. Killed at the end if it still runs."""
    folder.mkdir(exist_ok=True)
    with (folder / LOG).open("a") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cpa", "agent", *arguments),
            cwd=folder,
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().rstrip("\n")
        assert line, (folder / LOG).read_text()[-4000:]
        yield AgentProcess(process, folder, line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
