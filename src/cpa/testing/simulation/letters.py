"""A person who asks for a job and cancels jobs by message, and takes them up again; then the message comes again.

What a message says happens once: the same `request` makes no other job when its own has ended, and the same
`cancel` stops no run that was opened after it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cpa.agents.client import SchedulerClient
from cpa.core.classes import EffectClass
from cpa.core.job import JobHead
from cpa.core.lam_protocol import BaseMessage, MessageFactory
from cpa.errors import CPAError
from cpa.orchestrator.wording import SCHEDULER
from cpa.ports.keys import Caller, Scope
from cpa.testing.simulation.agents import TENANT
from cpa.testing.simulation.hands import ACTIONS
from cpa.testing.simulation.posts import Posts
from cpa.testing.simulation.ways import URL

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

WRITER: Final = Caller(tenant=TENANT, key="key_Erna", name="Erna", scopes=frozenset((Scope.SUBMIT,)))
_WANTED: Final = {"action": ACTIONS[EffectClass.IDEMPOTENT], "arguments": {"n": 0}, "effect": "idempotent"}
_PATIENCE: Final = 120
"""Seconds within which a cancelled job ends and is taken up again, or is left alone."""


class Writer:
    """A person who cancels jobs by message, and takes them up again."""

    def __init__(self, world: World) -> None:
        self._world, self._chance = world, world.scenario.stream("echoes")
        self._speaker = MessageFactory("agent://user/Erna", world.new_message_id, world.clock.now_ms)
        posts = Posts(world, WRITER.name, _awake)
        self._client = SchedulerClient(URL, WRITER.key, transport=posts)
        self._written = 0

    async def run(self) -> None:
        if self._chance.random() < 0.5:
            await self._ask()
        while self._world.faulty:
            await asyncio.sleep(self._chance.expovariate(1 / 15))
            jobs = [each.head.id for each in self._world.journal.jobs.values() if not each.head.status.ended]
            if jobs and self._world.faulty:
                await self._cancel(self._chance.choice(jobs))

    async def _ask(self) -> None:
        world = self._world
        message = self._speaker.make("request", SCHEDULER, _WANTED)
        world.oracles.asked += 1
        await self._insist(message)
        job, _, _ = world.journal.inbox[TENANT, message.sender, str(message.id)]
        for _ in range(_PATIENCE):
            await asyncio.sleep(1)
            if self._head(job).status.ended or not world.faulty:
                break
        if self._head(job).status.ended:
            world.seen["requests_of_ended_jobs"] += 1
        world.trace("echo", WRITER.name, message.type, job)
        await self._insist(message)

    async def _cancel(self, job: str) -> None:
        world, run = self._world, self._head(job).run
        about = {"conversationId": job, "jobId": job}
        self._written += 1
        told = {"reason": f"no. {self._written}"}
        message = self._speaker.make("cancel", SCHEDULER, told, correlation=about)
        await self._insist(message)
        for _ in range(_PATIENCE):
            await asyncio.sleep(1)
            if self._head(job).run > run or not world.faulty:
                break
            if self._head(job).status.ended:
                await self._take_up(job)
        await asyncio.sleep(self._chance.uniform(0, 5))
        if self._head(job).run > run and not self._head(job).status.ended:
            world.seen["echoes"] += 1
            world.seen["cancels_of_runs_before"] += 1
        world.trace("echo", WRITER.name, message.type, job)
        await self._insist(message)

    async def _take_up(self, job: str) -> None:
        """Once; it may fail."""
        try:
            await self._world.inside(lambda life: life.engine.retry(TENANT, job, by=WRITER.name))
        except CPAError as error:
            self._world.trace("refused", job, error.code)

    async def _insist(self, message: BaseMessage) -> None:
        """Until it is taken."""
        while True:
            try:
                await self._hand_in(message)
            except CPAError as error:
                if not (error.retryable or error.status >= 500):
                    self._world.trace("refused", message.type, error.status, error.code)
                    return
                await asyncio.sleep(1)
            else:
                return

    async def _hand_in(self, message: BaseMessage) -> None:
        if self._world.scenario.wire != "direct":
            await self._client.hand_in(message)
            return

        async def taken(scheduler: Life) -> None:
            await scheduler.heard.handle(message, WRITER)

        await self._world.ask(WRITER.name, taken)

    def _head(self, job: str) -> JobHead:
        return self._world.journal.jobs[TENANT, job].head


async def _awake() -> None:
    """People do not stand still."""
