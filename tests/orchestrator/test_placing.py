"""Which agent has an attempt is told once that is durable: after a commit that failed another may get it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import SchedulerLife, caller, live, word

from cpa.core.events import AgentChosen
from cpa.core.job import TaskStatus
from cpa.errors import Unavailable
from cpa.ports.steps import StepBatch
from cpa.repository.steps import SqlSteps

FIRST = "agent://web/eins"
PICTURE = {"result": {"n": 1}, "artifacts": ["sha256:" + 64 * "0"]}


class Full(SqlSteps):
    """A disk that has no room for the choice of the first agent."""

    def commit(self, batch: StepBatch) -> None:
        events = [event for rows in batch.jobs.values() for event, _ in rows.events]
        if any(isinstance(event, AgentChosen) and event.agent == FIRST for event in events):
            raise Unavailable("the disk is full", remedy="free some space")
        super().commit(batch)


def test_who_was_chosen_in_vain_does_not_answer_for_who_has_it(tmp_path: Path) -> None:
    """It guesses the attempt the moment it is chosen; its picture is looked for until another has the attempt."""
    looked = asyncio.Event()

    async def story(scheduler: SchedulerLife) -> None:
        first, second = (scheduler.agent(name, online=False) for name in ("eins", "zwei"))
        job = await scheduler.submit()
        await asyncio.sleep(60)  # until it stands in line
        has = scheduler.messages._has

        async def slowly(tenant: str, digest: str) -> bool:
            await looked.wait()
            return await has(tenant, digest)

        scheduler.messages._has = slowly  # type: ignore[method-assign]
        first.beat()
        state = await scheduler.engine.jobs.load(TENANT, job)
        assert (state.task(0).status, state.task(0).agent) == (TaskStatus.ASSIGNED, FIRST)
        about = {"jobId": job, "taskId": "t0", "epoch": state.task(0).epoch}
        guess = word("done", FIRST, None, PICTURE, correlation=about)
        said = asyncio.create_task(scheduler.handle(guess, caller(FIRST)))
        await asyncio.sleep(0.5)
        scheduler.presence.leave(first.view, "it sleeps")
        second.beat()
        request = await second.next("request")
        looked.set()

        told = await said
        run = await scheduler.task(job)
        assert (request.correlation.epoch, first.got) == (about["epoch"], [])
        assert (told.effect, run.status, run.agent) == ("not_expected", TaskStatus.ASSIGNED, second.address)

    live(tmp_path, story, Full)
