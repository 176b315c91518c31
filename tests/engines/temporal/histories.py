"""Histories of workflows as a server keeps them: `python -m tests.engines.temporal.histories` adds those that are
missing, on the server `make setup` brought. What is committed is never written again: what began under this code
must go on under every later one."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from cpa.core.classes import EffectClass
from cpa.core.events import JobReopened, LeaseLost, QuestionAnswered, TaskSucceeded
from cpa.core.job import JobSpec, RetryPolicy, TaskSpec, TaskStatus
from cpa.engines.temporal.converter import converter
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.executions import start
from cpa.engines.temporal.values import Fact, JobInput
from cpa.engines.temporal.workflow import JobWorkflow
from cpa.ports.engine import Engine
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from tests.contracts.engine import (
    ASKS,
    MARKS,
    TENANT,
    Outside,
    answered,
    asking,
    ended,
    fails,
    submitted,
    until,
)

FOLDER = Path(__file__).resolve().parents[2] / "histories" / "temporal"
Story = Callable[[Engine], Awaitable[str]]


class Endless(BaseExecutor):
    """Is at work until it is stopped."""

    actions: ClassVar[tuple[str, ...]] = ("work.endless",)

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        await asyncio.Event().wait()
        return ExecutionResult(success=True)

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


async def chain(engine: Engine) -> str:
    tasks = tuple(TaskSpec(id=f"t{n}", action="flow.noop", needs=(n - 1,) if n else ()) for n in range(3))
    job = await submitted(engine, JobSpec(tasks))
    await ended(engine, job)
    return job


async def fan(engine: Engine) -> str:
    tasks = [TaskSpec(id=f"t{n}", action="flow.noop") for n in range(40)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(40)))
    job = await submitted(engine, JobSpec((*tasks, join), max_parallel=7))
    await ended(engine, job)
    return job


async def person(engine: Engine) -> str:
    """A stale answer in between, then two people."""
    task = TaskSpec(id="a", action="flow.noop", approval=True, approvals=2)
    job = await submitted(engine, JobSpec((task,)))
    await asking(engine, job)
    await engine.send(TENANT, job, TaskSucceeded(time=0, task=0, epoch=9))
    await answered(engine, job, "jörg")
    await answered(engine, job, "anna", note="größer")
    await ended(engine, job)
    return job


async def proved(engine: Engine) -> str:
    job = await submitted(engine, MARKS)
    await ended(engine, job)
    return job


async def tried_again(engine: Engine) -> str:
    job = await submitted(engine, fails(2, tries=3))
    await ended(engine, job)
    return job


async def second_run(engine: Engine) -> str:
    job = await submitted(engine, fails(1))
    await ended(engine, job)
    await engine.retry(TENANT, job, by="anna")
    await ended(engine, job)
    return job


async def cancelled(engine: Engine) -> str:
    job = await submitted(engine, ASKS)
    await asking(engine, job)
    await engine.cancel(TENANT, job, by="anna", reason="Irrtum")
    await ended(engine, job)
    return job


async def expired(engine: Engine) -> str:
    task = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=200)
    job = await submitted(engine, JobSpec((task,)))
    await ended(engine, job)
    return job


async def behind(engine: Engine) -> str:
    """An execution that knows less than the store, and is told again what it led to already."""
    assert isinstance(engine, TemporalEngine)
    job = await submitted(engine, ASKS)
    asked = await asking(engine, job)
    old = await engine.query(TENANT, job)
    await answered(engine, job, "anna", note="größer")
    await ended(engine, job)
    await engine.client.get_workflow_handle(job).result()
    said = QuestionAnswered(
        time=0, task=0, epoch=asked.epoch, digest=asked.digest, yes=True, by="anna", note="größer"
    )
    again = JobInput(
        spec=old.spec,
        head=old.head,
        tasks=old.tasks,
        commands=(asked,),
        inbox=(Fact(said, "00" * 16), Fact(TaskSucceeded(time=0, task=0, epoch=9), since=5)),
    )
    await start(engine.client, engine._queue, again, again=True)
    return job


async def agents_lost(engine: Engine) -> str:
    """Agents end over a task, the first with four others."""
    task = TaskSpec(
        id="a", action="work.endless", effect=EffectClass.IDEMPOTENT, retry=RetryPolicy(max_losses=2)
    )
    job = await submitted(engine, JobSpec((task,)))
    for epoch, among in ((1, 5), (2, 1), (3, 1)):

        async def begun(epoch: int = epoch) -> bool:
            run = (await engine.query(TENANT, job)).tasks[0]
            return (run.epoch, run.status) == (epoch, TaskStatus.ASSIGNED)

        await until(begun)
        lost = LeaseLost(time=0, task=0, epoch=epoch, reason="its agent was restarted", among=among)
        await engine.send(TENANT, job, lost)
    error = (await ended(engine, job)).tasks[0].error
    assert error is not None
    assert error.code == "agents_lost"
    return job


async def corrected(engine: Engine) -> str:
    """Who corrects what was turned down is not who allows it."""
    task = TaskSpec(id="a", action="flow.noop", arguments={"value": 1}, approval=True, approvals=1)
    job = await submitted(engine, JobSpec((task,), requester="jörg"))
    await answered(engine, job, "anna", yes=False)
    await ended(engine, job)
    fixed = JobReopened(time=0, by="uwe", fixes={"0": {"value": 2}})
    await engine.reopen(TENANT, job, fixed)
    assert (await answered(engine, job, "uwe")).reason == "own_request"
    await answered(engine, job, "anna")
    await ended(engine, job)
    return job


STORIES: tuple[Story, ...] = (
    *(chain, fan, person, proved, tried_again, second_run, cancelled, expired, behind),
    *(agents_lost, corrected),
)


async def replayed(paths: list[Path]) -> None:
    """Run today's workflow over these. Raises where it comes to something else."""
    replayer = Replayer(
        workflows=[JobWorkflow], data_converter=converter(), workflow_runner=UnsandboxedWorkflowRunner()
    )
    for path in paths:
        await replayer.replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))


async def told(engine: TemporalEngine, story: Story) -> str:
    """The history of this story, as JSON."""
    job = await story(engine)
    handle = engine.client.get_workflow_handle(job)
    await handle.result()
    history = (await handle.fetch_history()).to_json()
    # Who made it is nobody's business: process and machine are in names of workers and of their queues.
    return re.sub(r'"[0-9]+@[^"]*"', '"worker"', history)


async def write() -> None:
    from tests.engines.temporal.world import temporal_life
    from tests.servers.temporal import TemporalServer

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = TemporalServer(Path(folder))
        server.start()
        try:
            others = [*Outside().executors(), Endless()]
            async with temporal_life(server, Path(folder), others) as engine:
                for story in STORIES:
                    path = FOLDER / f"{story.__name__}.json"
                    if not path.exists():
                        path.write_text(await told(engine, story))
                        print(path.name, path.stat().st_size)
        finally:
            server.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["replay"]:
        asyncio.run(replayed(sorted(FOLDER.glob("*.json"))))
        print("all came to the same")
    else:
        asyncio.run(write())
