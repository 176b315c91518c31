"""Executions follow one another while facts come in, cut at moments that chance draws: nothing is lost at a seam.

CPA_STORM_SEED draws other moments.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpa.core.commands import AskPerson
from cpa.core.events import QuestionAnswered, TaskSucceeded
from cpa.core.job import JobSpec, JobStatus, TaskSpec, TaskStatus
from cpa.engines.temporal.engine import TemporalEngine
from cpa.ports.engine import Outcome
from tests.contracts.engine import PATIENCE, TENANT, Outside, ended, submitted
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

SEED = int(os.environ.get("CPA_STORM_SEED", "20261126"))
WIDE = 24


@pytest.fixture
def draw() -> random.Random:
    print(f"\nseed {SEED}")
    return random.Random(SEED)


@pytest.fixture
def server(tmp_path: Path, draw: random.Random) -> Iterator[TemporalServer]:
    """After so few events an execution is to be followed by the next that there are many seams."""
    server = TemporalServer(tmp_path, f"limit.historyCount.suggestContinueAsNew={draw.randrange(12, 20)}")
    assert server.lasting, "this server has no such setting: build the command line, see CONTRIBUTING"
    server.start()
    yield server
    server.stop()


async def answer(engine: TemporalEngine, job: str, asked: AskPerson, draw: random.Random) -> Outcome:
    """A person's yes, sooner or later, twice in one message and once more in another."""
    await asyncio.sleep(3 * draw.random())
    yes = QuestionAnswered(
        time=0, task=asked.task, epoch=asked.epoch, digest=asked.digest, yes=True, by="anna"
    )
    name = f"{asked.task}:{asked.epoch}"
    told = await asyncio.gather(
        engine.send(TENANT, job, yes, message=("anna", name)),
        engine.send(TENANT, job, yes, message=("anna", name)),
        engine.send(TENANT, job, yes, message=("uwe", name)),
    )
    assert [each.changed for each in told].count(True) == 1, told
    return next(each for each in told if each.changed)


async def stale(engine: TemporalEngine, job: str, number: int, draw: random.Random) -> Outcome:
    await asyncio.sleep(3 * draw.random())
    late = TaskSucceeded(time=0, task=number % WIDE, epoch=9)
    return await engine.send(TENANT, job, late, message=("x", str(number)))


async def test_every_fact_counts_once_wherever_the_seams_are(
    server: TemporalServer, tmp_path: Path, draw: random.Random
) -> None:
    """People's answers and agents' results come at any moment, also between one execution and the next."""
    asks = [TaskSpec(id=f"a{n}", action="flow.noop", approval=True) for n in range(WIDE)]
    marks = [TaskSpec(id=f"b{n}", action="flow.noop", needs=(n,)) for n in range(WIDE)]
    join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(WIDE, 2 * WIDE)))
    async with temporal_life(server, tmp_path, Outside().executors()) as engine:
        job = await submitted(engine, JobSpec((*asks, *marks, join)))
        late = [asyncio.create_task(stale(engine, job, n, draw)) for n in range(2 * WIDE)]
        answers = dict[str, asyncio.Task[Outcome]]()
        async with asyncio.timeout(2 * PATIENCE):
            while len(answers) < WIDE:
                for asked in (await engine.query(TENANT, job)).commands:
                    if isinstance(asked, AskPerson) and asked.key not in answers:
                        answers[asked.key] = asyncio.create_task(answer(engine, job, asked, draw))
                await asyncio.sleep(0.05)
            told = await asyncio.gather(*answers.values())
            none = await asyncio.gather(*late)
        done = await ended(engine, job)
        await engine.client.get_workflow_handle(job).result()
        runs = [each async for each in engine.client.list_workflows(f"WorkflowId = '{job}'")]
        stored = await engine.events(TENANT, job)

    print(f"{len(runs)} executions, {done.head.number} events of the job")
    assert len(runs) >= 3, "it went on more than once"
    assert done.head.status is JobStatus.DONE
    assert {run.status for run in done.tasks} == {TaskStatus.DONE}
    assert [each.changed for each in none] == [False] * (2 * WIDE)
    assert len({each.number for each in told}) == WIDE, "each answer is an event of its own"
    assert [each.number for each in stored] == list(range(1, done.head.number + 1))
    assert sum(isinstance(each.event, QuestionAnswered) for each in stored) == WIDE
    assert sum(isinstance(each.event, TaskSucceeded) for each in stored) == 2 * WIDE + 1
