"""Effects that outlive every process: lines in a file."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import ClassVar

from cpa.core.classes import EffectClass
from cpa.core.ids import fraction
from cpa.core.job import JobSpec, TaskSpec
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

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
