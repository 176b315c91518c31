"""A process to be killed: takes the same requests in every life, works, and ends once all of them have ended.

    python -m tests.engines.temporal.victim FOLDER ADDRESS JOBS

In FOLDER lie its store, `effects` (a line per effect, as it happens) and `accepted` (a line per receipt).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

from cpa.core.classes import EffectClass
from cpa.core.ids import fraction
from cpa.core.job import JobSpec, TaskSpec
from cpa.errors import Unavailable
from cpa.ports.engine import Engine, Submission
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import Address

TENANT = "default"
PLAN = JobSpec(
    (
        TaskSpec(id="a", action="flow.noop"),
        TaskSpec(id="m", action="mark.line", effect=EffectClass.VERIFIABLE, needs=(0,)),
        TaskSpec(id="n", action="mark.line", effect=EffectClass.VERIFIABLE, needs=(1,)),
        TaskSpec(id="z", action="flow.noop", needs=(2,)),
    )
)


class Lines(BaseExecutor):
    """An effect is a line in a file that outlives us; then it takes a while until we say so."""

    actions: ClassVar[tuple[str, ...]] = ("mark.line",)

    def __init__(self, file: Path) -> None:
        self._file = file

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        append(self._file, f"{request.job} {request.task}")
        await asyncio.sleep(fraction(request.job, request.task) / 2)
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        happened = lines(self._file)[f"{request.job} {request.task}"] > 0
        return Verification(verdict=Verdict.HAPPENED if happened else Verdict.ABSENT)


def append(file: Path, line: str) -> None:
    """Durable on return."""
    with file.open("a") as opened:
        opened.write(line + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def lines(file: Path) -> Counter[str]:
    return Counter(file.read_text().splitlines()) if file.exists() else Counter()


async def lived(folder: Path, address: str, jobs: int) -> None:
    async with temporal_life(Address(address), folder, [Lines(folder / "effects")]) as engine:
        print("ready", flush=True)
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(_request(engine, folder, number))


async def _request(engine: Engine, folder: Path, number: int) -> None:
    wish = Submission(tenant=TENANT, spec=PLAN, sender="anna", dedupe=str(number), body_digest=str(number))
    while True:
        try:
            receipt = await engine.submit(wish)
            break
        except Unavailable:
            await asyncio.sleep(0.5)
    append(folder / "accepted", f"{number} {receipt.job}")
    while not (await engine.wait(TENANT, receipt.job, 30)).status.ended:
        pass


if __name__ == "__main__":
    asyncio.run(lived(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    # Not through the interpreter's end: threads of the client library may still be about.
    os._exit(0)
