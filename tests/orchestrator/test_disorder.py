"""Messages that come several times, in any order, late, of an older attempt, of somebody else: the end is that of
the messages in their order."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import FarAgent, SchedulerLife, caller, live, word

from cpa.core.events import TaskFailed, TaskSucceeded
from cpa.core.job import TaskStatus
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Forbidden

COURSES = 30
TECHNICAL = {"class": "technical", "error": "wackelig", "message": "noch einmal"}


def said(agent: FarAgent, request: BaseMessage, last: str) -> list[BaseMessage]:
    """All that an agent says about an attempt, in order."""
    payload = {"result": {"n": request.correlation.epoch}} if last == "done" else TECHNICAL
    told = [("agree", {}), ("inform", {"progress": 0.3}), ("inform", {"progress": 0.6}), (last, payload)]
    return [word(type, agent.address, request, payload) for type, payload in told]


def test_what_comes_in_disorder_ends_as_what_comes_in_order(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, other = scheduler.agent("eins"), scheduler.agent("zwei", "x.c.d")
        for seed in range(COURSES):
            random = Random(seed)
            heard = len(agent.got)
            job = await scheduler.submit()
            first = await agent.next("request", after=heard)
            old = said(agent, first, "failure")
            await hear(scheduler, agent, disorder(random, old))
            heard = agent.got.index(first) + 1
            second = await agent.next("request", after=heard)
            epoch = second.correlation.epoch or 0
            assert second.correlation.job_id == job
            assert epoch > 1
            new = said(agent, second, "done")
            forged = [word("done", other.address, second, {"result": {"n": 666}})]
            await hear(scheduler, other, forged)
            await hear(scheduler, agent, disorder(random, [*new, *old]))
            await hear(scheduler, other, forged)

            run = await scheduler.task(job)
            assert (run.status, run.result, run.epoch) == (TaskStatus.DONE, {"n": epoch}, epoch), seed
            ends = [
                type(each.event)
                for each in await scheduler.engine.events(TENANT, job)
                if isinstance(each.event, TaskSucceeded | TaskFailed)
            ]
            assert ends == [TaskFailed, TaskSucceeded], seed

    live(tmp_path, story)


def disorder(random: Random, messages: list[BaseMessage]) -> list[BaseMessage]:
    """Each one to five times, shuffled."""
    copies = [each for each in messages for _ in range(random.randint(1, 5))]
    random.shuffle(copies)
    return copies


async def hear(scheduler: SchedulerLife, agent: FarAgent, messages: list[BaseMessage]) -> None:
    for message in messages:
        with suppress(Forbidden):  # it is about what another one has
            await scheduler.handle(message, caller(agent.address))
