"""An agent's slot is taken once and given back once, whatever comes twice, too late, or is not stored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cpa.core.commands import DispatchTask
from cpa.core.events import AgentChosen, QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.engines.temporal import codec
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.values import Fact
from cpa.errors import TooLarge, Unavailable
from cpa.ports.steps import StepBatch
from cpa.ports.transport import Attempt
from cpa.repository.steps import SqlSteps
from tests.contracts.engine import ASKS, MARKS, TENANT, Outside, answered, asking, ended, submitted, until
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

MARKS_AND_ASKS = JobSpec((*MARKS.tasks, TaskSpec(id="a", action="flow.noop", approval=True)))


async def chosen(engine: TemporalEngine, job: str) -> AgentChosen:
    """The job's stored choice."""
    events = await engine.events(TENANT, job)
    [choice] = [each.event for each in events if isinstance(each.event, AgentChosen)]
    return choice


async def test_a_choice_that_comes_twice_frees_no_slot(temporal: TemporalServer, tmp_path: Path) -> None:
    """As of a signal whose answer was lost, and which was sent again."""
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(temporal, tmp_path, outside.executors(), slots=1) as engine:
        first = await submitted(engine, MARKS_AND_ASKS)
        await until(lambda: outside.effects[first, "m"])
        second = await submitted(engine, MARKS)

        engine._publisher.report(TENANT, first, await chosen(engine, first))
        # What is sent after it and stored tells that it was taken up.
        assert (await answered(engine, first, "anna")).changed

        assert engine._orchestrator.assignments.has(Attempt(TENANT, first, 0, 1))
        assert not engine._orchestrator.assignments.has(Attempt(TENANT, second, 0, 1))
        outside.gate.set()
        for job in (first, second):
            assert (await ended(engine, job)).head.status is JobStatus.DONE
    assert outside.effects == {(first, "m"): 1, (second, "m"): 1}


async def test_nor_does_one_that_finds_no_workflow(temporal: TemporalServer, tmp_path: Path) -> None:
    outside = Outside()
    outside.gate.clear()
    async with temporal_life(temporal, tmp_path, outside.executors(), slots=1) as engine:
        job = await submitted(engine, MARKS)
        await until(lambda: outside.effects[job, "m"])
        handle = engine.client.get_workflow_handle(job)
        before = (await handle.describe()).run_id
        await handle.terminate("by hand")

        engine._publisher.report(TENANT, job, await chosen(engine, job))

        async def goes_on() -> bool:
            return (await handle.describe()).run_id != before

        await until(goes_on)
        assert engine._orchestrator.assignments.has(Attempt(TENANT, job, 0, 1))
        outside.gate.set()
        assert (await ended(engine, job)).head.status is JobStatus.DONE
    assert outside.effects == {(job, "m"): 1}


async def test_a_choice_refused_with_all_of_its_call_frees_its_slot(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    async with temporal_life(temporal, tmp_path, Outside().executors(), slots=1) as engine:
        asks = await submitted(engine, ASKS)
        await asking(engine, asks)
        state = await engine.load(TENANT, asks)
        late = DispatchTask(key="dispatch:0:9", task=0, epoch=9)
        choice = engine._orchestrator.choose(state, late)
        assert isinstance(choice, AgentChosen)

        nothing = Fact(AgentChosen(time=0, task=0, epoch=8, agent="agent://test/nobody"))
        told = asyncio.create_task(engine._gateway.tell((TENANT, asks), nothing))
        # In one call with it, because its line is not at work yet.
        engine._publisher.report(TENANT, asks, choice)
        outcome = await told

        assert outcome is not None
        assert not outcome.changed
        assert not engine._orchestrator.assignments.has(Attempt(TENANT, asks, 0, 9))
        assert (await ended(engine, await submitted(engine, MARKS))).head.status is JobStatus.DONE


@pytest.mark.parametrize("alone", [False, True], ids=["with what is too large", "by itself"])
async def test_a_choice_the_server_takes_not_frees_its_slot(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Only what is too large is refused; the choice in the same call comes to the job. One that is too large itself
    takes no slot."""
    async with temporal_life(temporal, tmp_path, Outside().executors(), slots=1) as engine:
        asks = await submitted(engine, ASKS)
        asked = await asking(engine, asks)
        state = await engine.load(TENANT, asks)
        choice = engine._orchestrator.choose(state, DispatchTask(key="dispatch:0:9", task=0, epoch=9))
        assert isinstance(choice, AgentChosen)

        monkeypatch.setattr(codec, "MOST", 100 if alone else 2_000)
        large = QuestionAnswered(
            time=0, task=0, epoch=asked.epoch, yes=True, by="anna", note="größer" * 1_000
        )
        told = asyncio.create_task(engine._gateway.tell((TENANT, asks), Fact(large)))
        # In one call with it, because its line is not at work yet.
        engine._publisher.report(TENANT, asks, choice)
        with pytest.raises(TooLarge):
            await told
        await until(lambda: not engine._orchestrator.assignments.has(Attempt(TENANT, asks, 0, 9)))
        assert engine.hindrance(TENANT, asks) is None

        monkeypatch.undo()
        assert (await ended(engine, await submitted(engine, MARKS))).head.status is JobStatus.DONE


async def test_what_is_not_stored_is_not_carried_out(
    temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is taken up again goes by the store, not by what could not be written there."""
    commit, refused, full = SqlSteps.commit, 0, True

    def refusing(self: SqlSteps, batch: StepBatch) -> None:
        nonlocal refused
        events = [event for rows in batch.jobs.values() for event, _ in rows.events]
        if full and any(isinstance(event, AgentChosen) for event in events):
            refused += 1
            raise Unavailable("the disk is full", remedy="free some space")
        commit(self, batch)

    monkeypatch.setattr(SqlSteps, "commit", refusing)
    outside = Outside()
    async with temporal_life(temporal, tmp_path, outside.executors(), slots=1) as engine:
        job = await submitted(engine, MARKS)
        await until(lambda: refused)
        await engine._publisher.revive((TENANT, job))
        before = refused
        await until(lambda: refused > before)
        assert not outside.effects
        full = False
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert {run.epoch for run in done.tasks} == {1}
    assert outside.effects == {(job, "m"): 1}
