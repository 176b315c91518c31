"""A workflow task that is done again, after what it led to is stored and carried out: the store's word counts.

The server has a task done again when a worker ends, is too slow, or answers while new facts arrive. Here the
workflow itself breaks, at every publication of some job, once its result is there and before history has it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.job import JobSpec, JobStatus, Snapshot, TaskSpec, TaskStatus
from cpa.engines.temporal import reading
from cpa.engines.temporal.decider import Decider
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.values import Published
from cpa.errors import Unavailable
from cpa.ports.steps import StepBatch
from cpa.repository.steps import SqlSteps
from tests.contracts.engine import MARKS, TENANT, Outside, answered, ended, fails, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

CHAIN = JobSpec(
    tuple(TaskSpec(id=f"t{n}", action="flow.noop", needs=(n - 1,) if n else ()) for n in range(3))
)
WIDE = JobSpec(
    (
        *(TaskSpec(id=f"t{n}", action="flow.noop") for n in range(20)),
        TaskSpec(id="join", action="mark.unsafe", needs=tuple(range(20))),
    ),
    max_parallel=6,
)
ASKED = JobSpec(
    (
        TaskSpec(id="a", action="mark.unsafe", approval=True, approvals=2),
        TaskSpec(id="b", action="flow.noop", needs=(0,)),
    )
)


class Torn:
    """Breaks each job's workflow once, at the publication of the number given with it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at: dict[str, int] = {}
        self.broken: set[str] = set()
        self.missed = Counter[str]()
        """How often the store was ahead."""
        self._count = Counter[str]()
        whole, torn = Decider.came_back, self

        def came_back(decider: Decider, published: Published) -> None:
            torn.look(decider.job.head.id, published)
            whole(decider, published)

        patch.setattr(Decider, "came_back", came_back)

    def look(self, job: str, published: Published) -> None:
        self._count[job] += 1
        self.missed[job] += bool(published.missed)
        if self._count[job] == self.at.get(job) and job not in self.broken:
            self.broken.add(job)
            raise RuntimeError("as if the worker had ended here")


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> Torn:
    return Torn(monkeypatch)


async def whole(engine: TemporalEngine, done: Snapshot) -> None:
    """The job is done, and its events are there once each."""
    assert done.head.status is JobStatus.DONE
    assert {run.status for run in done.tasks} == {TaskStatus.DONE}
    stored = await engine.events(TENANT, done.head.id)
    assert [each.number for each in stored] == list(range(1, done.head.number + 1))
    assert done.commands == ()


@pytest.mark.parametrize(
    ("spec", "places"),
    [(CHAIN, 7), (WIDE, 10), (MARKS, 4), (fails(2, tries=3), 9)],
    ids=["chain", "wide", "proved", "tried again"],
)
async def test_a_task_done_again_goes_by_what_is_stored(
    temporal: TemporalServer, tmp_path: Path, torn: Torn, spec: JobSpec, places: int
) -> None:
    outside = Outside()
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        jobs = [f"{tmp_path.name}-{place}" for place in range(1, places + 1)]
        torn.at = {job: place for place, job in enumerate(jobs, 1)}
        for job in jobs:
            await submitted(engine, spec, job=job)
        for job in jobs:
            done = await ended(engine, job)
            await whole(engine, done)
            assert {run.epoch for run in done.tasks if run.index != 1} == {1}

    assert len(torn.broken) >= places // 2
    assert len(torn.missed) >= len(torn.broken)
    effects = {job: count for (job, _), count in outside.effects.items()}
    assert set(effects.values()) <= {3 if spec.tasks[0].id == "first" else 1}


async def test_what_people_said_counts_once(temporal: TemporalServer, tmp_path: Path, torn: Torn) -> None:
    outside = Outside()
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        jobs = [f"{tmp_path.name}-{place}" for place in range(1, 8)]
        torn.at = {job: place for place, job in enumerate(jobs, 1)}
        for job in jobs:
            await submitted(engine, ASKED, job=job)

        async def said(job: str) -> None:
            assert (await answered(engine, job, "jörg")).changed
            assert (await answered(engine, job, "anna")).changed

        await asyncio.gather(*map(said, jobs))
        for job in jobs:
            await whole(engine, await ended(engine, job))

    assert len(torn.broken) >= 4
    assert outside.effects == {(job, "a"): 1 for job in jobs}


async def test_a_second_run_is_opened_once(temporal: TemporalServer, tmp_path: Path, torn: Torn) -> None:
    outside = Outside()
    async with temporal_life(temporal, tmp_path, outside.executors()) as engine:
        jobs = [f"{tmp_path.name}-{place}" for place in range(1, 5)]
        for job in jobs:
            await submitted(engine, fails(1), job=job)
        for job in jobs:
            await ended(engine, job)
        torn._count.clear()
        torn.at = {job: place for place, job in enumerate(jobs, 1)}
        for job in jobs:
            assert (await engine.retry(TENANT, job, by="anna")).changed
        for job in jobs:
            done = await ended(engine, job)
            await whole(engine, done)
            assert done.head.run == 1

    assert len(torn.broken) == 4


async def test_a_store_that_takes_nothing_is_waited_for(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries on the spot the server has it tried, which fills no history."""
    commit, refused, full = SqlSteps.commit, Counter[str](), True

    def refusing(self: SqlSteps, batch: StepBatch) -> None:
        if full:
            refused.update(name for _, name in batch.jobs)
            raise Unavailable("the disk is full", remedy="free some space")
        commit(self, batch)

    monkeypatch.setattr(SqlSteps, "commit", refusing)
    async with temporal_life(temporal, tmp_path) as engine:
        accepted = asyncio.create_task(submitted(engine, CHAIN))
        await until(lambda: refused.total() >= 6)
        assert engine.aside == 1
        full = False
        job = await accepted
        done = await ended(engine, job)
        await whole(engine, done)
        await engine.client.get_workflow_handle(job).result()
        described = await engine.client.get_workflow_handle(job).describe()
        assert engine.aside == 0

    assert described.history_length < 25


async def test_who_submits_is_told_what_keeps_the_store_from_taking_it(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of other jobs."""
    commit, full = SqlSteps.commit, set[str]()

    def refusing(self: SqlSteps, batch: StepBatch) -> None:
        if any(rows.head.priority == 7 for rows in batch.jobs.values()) and full:
            raise Unavailable("the disk is full", remedy="free some space")
        commit(self, batch)

    monkeypatch.setattr(SqlSteps, "commit", refusing)
    monkeypatch.setattr(reading, "STILLNESS", 2.0)
    async with temporal_life(temporal, tmp_path) as engine:
        full.add("yes")
        others = asyncio.create_task(_one_after_the_other(engine))
        with pytest.raises(Unavailable, match="the disk is full") as caught:
            await submitted(engine, CHAIN, priority=7)
        others.cancel()
        assert "free some space" in str(caught.value.remedy)
        full.clear()
        job = str(caught.value.value)

        async def stored() -> bool:
            return any(head.id == job for head, _, _ in (await engine.list(TENANT, limit=1_000)).jobs)

        await until(stored)
        assert (await ended(engine, job)).head.status is JobStatus.DONE


async def _one_after_the_other(engine: TemporalEngine) -> None:
    while True:
        await submitted(engine, CHAIN)
