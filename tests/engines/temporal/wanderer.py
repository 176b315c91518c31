"""A process to be killed: works on the jobs of a folder on one engine, or moves them to the other.

    python -m tests.engines.temporal.wanderer FOLDER ADDRESS live|move local|temporal

Every life takes the same requests, and ends once all of them have ended. In FOLDER lie the store and `effects`, a
line per effect as it happens.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import ClassVar

from cpa.core.classes import EffectClass
from cpa.core.ids import fraction
from cpa.core.job import JobSpec, TaskSpec
from cpa.ports.engine import Engine
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import TENANT, submission
from tests.engines.temporal.both import Both
from tests.servers.temporal import Address

JOBS = 12
LONG = 5
"""Effects of a job, one after the other."""
PLAN = JobSpec(
    tuple(
        TaskSpec(
            id=f"m{n}",
            action="mark.line",
            effect=EffectClass.VERIFIABLE,
            needs=(n - 1,) if n else (),
        )
        for n in range(LONG)
    )
)


class Lines(BaseExecutor):
    """An effect is a line in a file that outlives us; then it takes a while until we say so."""

    actions: ClassVar[tuple[str, ...]] = ("mark.line",)

    def __init__(self, file: Path) -> None:
        self._file = file

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        with self._file.open("a") as file:
            file.write(f"{request.job} {request.task}\n")
        await asyncio.sleep(fraction(request.job, request.task))
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        happened = f"{request.job} {request.task}\n" in self._file.read_text()
        return Verification(verdict=Verdict.HAPPENED if happened else Verdict.ABSENT)


async def lived(both: Both, engine: str) -> None:
    async with both.life(engine, [Lines(both.folder / "effects")]) as running, asyncio.TaskGroup() as group:
        for number in range(JOBS):
            group.create_task(_request(running, number))
        print("ready", flush=True)


async def _request(engine: Engine, number: int) -> None:
    receipt = await engine.submit(submission(PLAN, sender="anna", dedupe=str(number), body_digest="x"))
    while not (await engine.wait(TENANT, receipt.job, 30)).status.ended:
        pass


async def moved(both: Both, target: str) -> None:
    async with both.mover() as mover:
        print("ready", flush=True)
        report = await mover.move(target)
    assert not report.problems, report.problems


if __name__ == "__main__":
    folder, address, what, engine_name = sys.argv[1:]
    work = lived if what == "live" else moved
    asyncio.run(work(Both(Address(address), Path(folder)), engine_name))
    # Not through the interpreter's end: threads of the client library may still be about.
    os._exit(0)
