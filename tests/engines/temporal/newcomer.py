"""A worker with a newer core beside an older one: takes over new jobs, does some, and stays until its input ends.

    python -m tests.engines.temporal.newcomer FOLDER ADDRESS JOBS

Its core decides otherwise: whoever it has done something for is more urgent from then on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace
from temporalio.service import RPCError

from cpa.core.classes import EffectClass
from cpa.core.events import Event, TaskSucceeded
from cpa.core.job import Decision, JobSpec, JobState, TaskSpec
from cpa.core.machine import decide
from cpa.engines.temporal import decider, publisher
from cpa.engines.temporal.engine import TemporalEngine
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import PATIENCE, TENANT, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import Address

BUILD = "neu"
PLAN = JobSpec(
    (
        TaskSpec(id="a", action="flow.noop"),
        TaskSpec(id="m", action="mark.line", effect=EffectClass.VERIFIABLE, needs=(0,)),
        TaskSpec(id="z", action="flow.noop", needs=(1,)),
    )
)
URGENT = 1


class Lines(BaseExecutor):
    """An effect is a line in a file that outlives us."""

    actions: ClassVar[tuple[str, ...]] = ("mark.line",)

    def __init__(self, file: Path) -> None:
        self._file = file

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        with self._file.open("a") as file:
            file.write(f"{request.job} {request.task}\n")
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        happened = f"{request.job} {request.task}\n" in self._file.read_text()
        return Verification(verdict=Verdict.HAPPENED if happened else Verdict.ABSENT)


def other(job: JobState, event: Event) -> Decision:
    decision = decide(job, event)
    changes: Any = decision.changes
    if isinstance(event, TaskSucceeded) and changes is not None:
        changes = replace(changes, head=replace(changes.head, priority=URGENT))
    return replace(decision, changes=changes)


async def taken_over(engine: TemporalEngine) -> None:
    """As an operator would say it, once our version is known at the server."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await engine.versions.become_current()
                return
            except RPCError:
                await asyncio.sleep(0.2)


async def lived(folder: Path, address: str, jobs: int) -> None:
    others = [Lines(folder / "effects")]
    async with temporal_life(
        Address(address), folder, others, build=BUILD, alone=False, first=False
    ) as engine:
        await until(lambda: engine.versions._settled)
        await taken_over(engine)
        for job in [await submitted(engine, PLAN) for _ in range(jobs)]:
            print("ended", job, (await engine.wait(TENANT, job, PATIENCE)).status.value, flush=True)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    decider.decide = publisher.decide = other  # type: ignore[attr-defined]
    asyncio.run(lived(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    # Not through the interpreter's end: threads of the client library may still be about.
    os._exit(0)
