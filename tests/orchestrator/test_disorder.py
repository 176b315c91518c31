"""Messages that come several times, in any order, late, of an older attempt, of somebody else: the end is that of
the messages in their order."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import BEAT, FarAgent, SchedulerLife, caller, live, word

from cpa.core.events import TaskFailed, TaskSucceeded
from cpa.core.job import TaskStatus
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Forbidden

COURSES = int(os.environ.get("CPA_COURSES", "200"))
LANES = 16
"""Courses at the same time, each with agents of its own."""
TECHNICAL = {"class": "technical", "error": "wackelig", "message": "noch einmal"}


def said(agent: FarAgent, request: BaseMessage, last: str) -> list[BaseMessage]:
    """All that an agent says about an attempt, in order."""
    payload = {"result": {"n": request.correlation.epoch}} if last == "done" else TECHNICAL
    told = [("agree", {}), ("inform", {"progress": 0.3}), ("inform", {"progress": 0.6}), (last, payload)]
    return [word(type, agent.address, request, payload) for type, payload in told]


def test_what_comes_in_disorder_ends_as_what_comes_in_order(tmp_path: Path) -> None:
    seeds = iter(range(COURSES))

    async def lane(scheduler: SchedulerLife, number: int) -> None:
        action = f"x.a{number}.b"
        agent = scheduler.agent(f"eins{number}", action)
        other = scheduler.agent(f"zwei{number}", f"x.c{number}.d")
        for seed in seeds:
            await course(scheduler, agent, other, action, seed)

    async def beat(scheduler: SchedulerLife) -> None:
        """Many failures at once wait for their turn, and agents must live as long."""
        while True:
            await asyncio.sleep(BEAT)
            for agent in scheduler.registry.list(TENANT):
                scheduler.presence.sign(agent)

    async def story(scheduler: SchedulerLife) -> None:
        beating = asyncio.create_task(beat(scheduler))
        async with asyncio.TaskGroup() as group:
            for number in range(LANES):
                group.create_task(lane(scheduler, number))
        beating.cancel()

    live(tmp_path, story)


async def course(scheduler: SchedulerLife, agent: FarAgent, other: FarAgent, action: str, seed: int) -> None:
    """A failed attempt and the next one, which is done; said in disorder, and by somebody else too."""
    random = Random(seed)
    agent.got.clear()
    job = await scheduler.submit(action=action)
    first = await agent.next("request")
    old = said(agent, first, "failure")
    await hear(scheduler, agent, disorder(random, old))
    second = await agent.next("request", after=agent.got.index(first) + 1)
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


def disorder(random: Random, messages: list[BaseMessage]) -> list[BaseMessage]:
    """Each one to five times, shuffled."""
    copies = [each for each in messages for _ in range(random.randint(1, 5))]
    random.shuffle(copies)
    return copies


async def hear(scheduler: SchedulerLife, agent: FarAgent, messages: list[BaseMessage]) -> None:
    for message in messages:
        with suppress(Forbidden):  # it is about what another one has
            await scheduler.handle(message, caller(agent.address))
