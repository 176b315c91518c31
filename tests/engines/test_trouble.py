"""The store refuses to write for a while: callers are told, nothing is lost or kept busy, and then it goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cpa.core.classes import EffectClass
from cpa.core.events import QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.errors import Unavailable
from cpa.ports.engine import Submission
from tests.engines.world import life

TENANT = "default"
ONE = JobSpec((TaskSpec(id="a", action="flow.noop"),))
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))
MARKS = JobSpec((TaskSpec(id="m", action="mark.verifiable", effect=EffectClass.VERIFIABLE),))


async def eventually(what: Callable[[], Awaitable[object]]) -> object:
    """The answer of `what` once it no longer says `Unavailable`."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        try:
            return await what()
        except Unavailable:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


async def test_callers_are_told_and_it_goes_on_once_there_is_room(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, agents):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        yes = QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna")
        steps.full = True

        with pytest.raises(Unavailable, match="disk is full"):
            await engine.submit(Submission(tenant=TENANT, spec=ONE))
        with pytest.raises(Unavailable, match="disk is full"):
            await engine.send(TENANT, job, yes)
        assert engine.trouble is not None

        steps.full = False
        await eventually(lambda: engine.submit(Submission(tenant=TENANT, spec=ONE)))
        assert (await engine.send(TENANT, job, yes)).changed
        assert (await engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        assert engine.trouble is None
        assert (await engine.list(TENANT)).total == 2, "what was refused is nowhere"
        assert agents.waiting == 0


async def test_what_an_agent_said_meanwhile_is_not_lost(tmp_path: Path) -> None:
    gate, effects = asyncio.Event(), Counter[tuple[str, str]]()
    async with life(tmp_path, effects, gate=gate, slots=1) as (engine, steps, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        while not effects[job, "m"]:
            await asyncio.sleep(0.01)
        steps.full = True
        gate.set()
        while engine.trouble is None:
            await asyncio.sleep(0.01)
        steps.full = False

        assert (await engine.wait(TENANT, job, 15)).status is JobStatus.DONE
        assert effects[job, "m"] == 1
        # The one slot is free again.
        again = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        assert (await engine.wait(TENANT, again, 10)).status is JobStatus.DONE


async def test_who_stood_in_line_for_a_job_that_was_never_stored_keeps_no_slot(tmp_path: Path) -> None:
    gate, effects = asyncio.Event(), Counter[tuple[str, str]]()
    async with life(tmp_path, effects, gate=gate, slots=1) as (engine, steps, agents):
        first = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        while not effects[first, "m"]:
            await asyncio.sleep(0.01)
        steps.full = True
        with pytest.raises(Unavailable):
            await engine.submit(Submission(tenant=TENANT, spec=MARKS))
        assert agents.waiting == 1
        steps.full = False
        gate.set()

        assert (await engine.wait(TENANT, first, 15)).status is JobStatus.DONE
        again = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        assert (await engine.wait(TENANT, again, 10)).status is JobStatus.DONE
        assert [agent.busy for agent in agents.list(TENANT)] == [0]


async def test_a_choice_that_could_not_be_stored_is_made_once_more(tmp_path: Path) -> None:
    gate, effects = asyncio.Event(), Counter[tuple[str, str]]()
    async with life(tmp_path, effects, gate=gate, slots=1) as (engine, steps, agents):
        first = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        second = (await engine.submit(Submission(tenant=TENANT, spec=MARKS))).job
        while not effects[first, "m"]:
            await asyncio.sleep(0.01)
        gate.clear()
        steps.full = True
        gate.set()
        while engine.trouble is None:
            await asyncio.sleep(0.01)
        gate.clear()
        steps.full = False

        while not effects[second, "m"]:
            await asyncio.sleep(0.01)
        assert [agent.busy for agent in agents.list(TENANT)] == [1]
        gate.set()
        assert (await engine.wait(TENANT, second, 15)).status is JobStatus.DONE
        assert [agent.busy for agent in agents.list(TENANT)] == [0]
