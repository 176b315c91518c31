"""Those who hand in jobs, and those who answer questions: over the same calls as the API makes.

Who hands in a job asks again with the same key until it was accepted. People look at what happened before they
say so, and wait until it can be seen.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from cpa.core.classes import EffectClass
from cpa.core.commands import AskPerson
from cpa.core.events import CancelRequested, Event, JobReopened, QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, RetryPolicy, TaskSpec
from cpa.core.people import ASK
from cpa.errors import CPAError
from cpa.ports.engine import Submission
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.agents import TENANT
from cpa.testing.simulation.claims import SETTLE, check_shown, check_stored
from cpa.testing.simulation.hands import ACTIONS
from cpa.testing.simulation.journal import Record

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

PEOPLE = ("Anna", "Jörg", "Uwe")


def _retry(chance: random.Random) -> RetryPolicy:
    most, delay = chance.randint(1, 4), chance.choice((1, 500))
    return RetryPolicy(max_attempts=most, first_delay=delay, max_losses=most)


def plan(chance: random.Random, tasks: int, faults: frozenset[str]) -> JobSpec:
    """A graph of up to so many tasks."""
    made: list[TaskSpec] = []
    for index in range(chance.randint(1, tasks)):
        effect = chance.choice(list(EffectClass))
        asks, approval = chance.random() < 0.07, chance.random() < 0.15
        made.append(
            TaskSpec(
                id=f"t{index}",
                action=ASK if asks else ACTIONS[effect],
                arguments={"question": "Wie viele?"} if asks else {"n": index},
                needs=tuple(sorted(chance.sample(range(index), min(index, chance.choice((0, 1, 2)))))),
                effect=effect,
                approval=approval and not asks,
                approvals=chance.choice((1, 2)) if approval and not asks else 0,
                timeout=chance.choice((8_000, 30_000, 120_000)),
                bids=chance.choice((0, 0, 0, 500, 3_000)),
                retry=_retry(chance),
            )
        )
    hurry = "deadlines" in faults and chance.random() < 0.5
    return JobSpec(
        tuple(made),
        max_parallel=chance.choice((1, 2, 100)),
        timeout=chance.choice((20_000, 60_000)) if hurry else 0,
        environment_wait=chance.choice((130_000, 3_600_000)),
    )


class Client:
    """Hands in one job."""

    def __init__(self, world: World, number: int) -> None:
        self._world, self._number = world, number
        self.spec = plan(world.people_chance, world.scenario.tasks, world.scenario.faults)
        self.job, self.not_before = "", 0
        """Its id, once it was accepted, and when it may start."""

    async def run(self) -> None:
        world, chance = self._world, self._world.people_chance
        await asyncio.sleep(chance.random() * world.scenario.minutes * 30)
        hurry = "deadlines" in world.scenario.faults and chance.random() < 0.3
        priority = chance.choice((0, 0, 5))
        if chance.random() < (0.8 if world.scenario.seed % 5 == 0 else 0.15):
            self.not_before = world.clock.now_ms() + 10_000
        submission = Submission(
            tenant=TENANT,
            spec=self.spec,
            by="Anna",
            sender="Anna",
            dedupe=f"key-{self._number}",
            body_digest="00",
            priority=priority,
            not_before=self.not_before,
            due=world.clock.now_ms() + chance.choice((5_000, 60_000)) if hurry else 0,
        )
        while not self.job:
            try:
                receipt = await world.inside(lambda life: life.engine.submit(submission))
            except CPAError:
                await asyncio.sleep(1)
                continue
            self.job = receipt.job
            if world.status(self.job) is None:
                world.violated(Violation("durable", f"{self.job} is accepted, and not stored"))
            world.trace("accepted", self.job, len(self.spec.tasks), "tasks")
        if world.strikes("cancels", chance):
            await asyncio.sleep(chance.random() * 20)
            await self._try(cancel=True)
        while "retries" in world.scenario.faults and world.faulty:
            await asyncio.sleep(20)
            if world.status(self.job) is JobStatus.FAILED and world.strikes("retries", chance):
                await self._try(cancel=False)

    async def _try(self, *, cancel: bool) -> None:
        """Once; it may fail."""
        job = self.job
        try:
            if cancel:
                outcome = await self._world.inside(lambda life: life.engine.cancel(TENANT, job, by="Anna"))
                check_stored(self._world, job, outcome, lambda event: isinstance(event, CancelRequested))
            else:
                outcome = await self._world.inside(lambda life: life.engine.retry(TENANT, job, by="Anna"))
                check_stored(self._world, job, outcome, lambda event: isinstance(event, JobReopened))
        except CPAError as error:
            self._world.trace("refused", job, error.code)


class Answers:
    """Everybody who answers questions."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[tuple[str, str], float] = {}
        """By job and key of the question: when it was first seen."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(5)
            for (_, job), record in list(self._world.journal.jobs.items()):
                await self._look(job)
                for command, _ in list(record.outbox.values()):
                    if isinstance(command, AskPerson):
                        await self._answer(job, record, command)

    async def _look(self, job: str) -> None:
        try:
            shown = await self._world.inside(lambda life: life.engine.query(TENANT, job))
        except CPAError:
            return
        check_shown(self._world, job, shown.head.number)

    async def _answer(self, job: str, record: Record, command: AskPerson) -> None:
        world, chance = self._world, self._world.people_chance
        now = asyncio.get_running_loop().time()
        since = self._seen.setdefault((job, command.key), now)
        spec, run = record.spec.tasks[command.task], record.head.run
        doubt = command.question == "doubt"
        if now - since < (SETTLE if doubt else chance.uniform(0, 20)):
            return
        yes = not world.strikes("no", chance)
        if doubt:
            yes = bool(world.effects.done.get((job, spec.id, run)))
        by = chance.choice(command.people or PEOPLE)
        event = QuestionAnswered(
            time=0,
            task=command.task,
            epoch=command.epoch,
            yes=yes,
            by=by,
            digest=command.digest,
            answer={"answer": "drei"} if command.question == "input" else None,
        )
        if doubt and not yes:
            world.effects.denied.add((job, spec.id, command.epoch))
        try:
            outcome = await world.inside(lambda life: life.engine.send(TENANT, job, event))
        except CPAError:
            return
        check_stored(world, job, outcome, lambda stored: _same(stored, event))
        world.trace("answer", by, "yes" if yes else "no", command.question, job, spec.id, outcome.reason)


def _same(stored: Event, said: QuestionAnswered) -> bool:
    """Whether this is that answer."""
    about = (said.task, said.epoch, said.by)
    return isinstance(stored, QuestionAnswered) and (stored.task, stored.epoch, stored.by) == about
