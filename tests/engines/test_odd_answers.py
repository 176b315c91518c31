"""One odd answer ends its own task, never the server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.ports.engine import Submission
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verification
from tests.engines.world import life

TENANT = "default"
FINE = JobSpec((TaskSpec(id="a", action="flow.noop", arguments={"value": 1}),))
ODD = JobSpec((TaskSpec(id="a", action="odd.answer"),))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Odd(BaseExecutor):
    actions: ClassVar[tuple[str, ...]] = ("odd.answer",)

    def __init__(self, result: Any) -> None:
        self.result = result

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        return ExecutionResult(success=True, result=self.result)

    async def verify(self, request: ActionRequest) -> Verification:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"a\udc00": "\ud800"}, ""),
        ({"a": float("inf")}, "result_invalid"),
        ({"a": 10**30}, "result_invalid"),
        ({"a": nested(2000)}, "result_invalid"),
        ({"a": "x" * 2**20}, "result_invalid"),
    ],
    ids=["surrogates", "infinite", "integer", "depth", "size"],
)
async def test_an_odd_answer_ends_its_task_and_nothing_else(tmp_path: Path, result: Any, code: str) -> None:
    async with life(tmp_path, Counter(), others=[Odd(result)]) as (engine, _, _):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=ODD))).job
        assert (await engine.wait(TENANT, odd, 10)).status is (JobStatus.FAILED if code else JobStatus.DONE)
        fine = (await engine.submit(Submission(tenant=TENANT, spec=FINE))).job
        assert (await engine.wait(TENANT, fine, 10)).status is JobStatus.DONE
        in_memory = (await engine.query(TENANT, odd)).tasks
        error = in_memory[0].error
        assert (error.code if error else "") == code
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await engine.query(TENANT, odd)).tasks == in_memory, "the store says the same"


async def test_results_of_results_end_where_they_are_too_deep(tmp_path: Path) -> None:
    first = TaskSpec(id="t0", action="flow.noop", arguments={"value": 1})
    later = [
        TaskSpec(
            id=f"t{n}",
            action="flow.noop",
            arguments={"value": f"{{{{ tasks.t{n - 1}.result }}}}"},
            needs=(n - 1,),
            references=(n - 1,),
        )
        for n in range(1, 200)
    ]
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=JobSpec((first, *later))))).job
        assert (await engine.wait(TENANT, job, 20)).status is JobStatus.FAILED
