"""A whole scheduler in virtual time, with agents outside it that work, fall silent, die and come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cpa.bootstrap.system import Chance, job_ids
from cpa.core.classes import FailureClass
from cpa.core.events import Event, TaskFailed, TaskSucceeded
from cpa.core.job import JobSpec, TaskSpec
from cpa.engines.local.engine import LocalEngine
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.agents import AgentRecord, Beat, Named
from cpa.ports.engine import Submission
from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from cpa.testing.virtual import VirtualClock, VirtualLoop

TENANT = "default"
BEAT = 5.0
LEASE = 15.0


@dataclass(eq=False)
class Worker:
    """An agent's process. It outlives schedulers."""

    name: str
    seconds: float = 1.0
    """How long an attempt takes."""
    slots: int = 2
    deaf: bool = False
    """Takes attempts, and does nothing with them."""
    alive: bool = True
    fails: Callable[[Attempt], FailureClass | None] = lambda _: None
    running: dict[Attempt, tuple[ActionRequest, asyncio.Task[None] | None]] = field(default_factory=dict)
    got: list[tuple[float, Attempt]] = field(default_factory=list)
    cancelled: list[Attempt] = field(default_factory=list)
    told_lost: list[Named] = field(default_factory=list)
    early: Counter[Attempt] = field(default_factory=Counter)

    @property
    def record(self) -> AgentRecord:
        return AgentRecord(
            tenant=TENANT,
            id=f"ag_{self.name}",
            name=self.name,
            type="DATA",
            address=f"agent://data/{self.name}",
            actions=("x.a.b",),
            slots=self.slots,
        )

    def view(self) -> Agent:
        """As a scheduler that has not heard of it yet sees it."""
        record = self.record
        actions = frozenset(record.actions)
        return Agent(record.address, actions, slots=self.slots, tenant=TENANT, record=record, online=False)


class Fleet:
    """`ports.transport.Transport` to workers, and what they send back."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = {worker.record.address: worker for worker in workers}
        self.engine: LocalEngine | None = None
        self.orchestrator: Orchestrator | None = None
        self.registry = AgentRegistry()
        self.group = asyncio.TaskGroup()

    def send(self, agent: str, attempt: Attempt, request: ActionRequest, **how: bool) -> None:
        worker = self.workers[agent]
        if not worker.alive or attempt in worker.running:
            worker.early[attempt] += 1
            return
        worker.got.append((asyncio.get_running_loop().time(), attempt))
        work = None if worker.deaf else self.group.create_task(self._work(worker, attempt))
        worker.running[attempt] = (request, work)
        assert self.orchestrator is not None
        self.orchestrator.presence.taken(attempt)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        raise AssertionError("nothing here is verified")

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        self.workers[agent].cancelled.append(attempt)

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        if not answered:
            self.workers[agent].cancelled.append(attempt)

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None: ...

    async def _work(self, worker: Worker, attempt: Attempt) -> None:
        await asyncio.sleep(worker.seconds)
        while not worker.alive or self.engine is None:
            await asyncio.sleep(1)
        await self.answer(worker, attempt)

    async def answer(self, worker: Worker, attempt: Attempt) -> str:
        """What the worker says at last; returns why it changed nothing, or nothing."""
        failure = worker.fails(attempt)
        event: Event = TaskSucceeded(
            time=0, task=attempt.task, epoch=attempt.epoch, result={"by": worker.name}
        )
        if failure is not None:
            event = TaskFailed(time=0, task=attempt.task, epoch=attempt.epoch, failure=failure, code="kaputt")
        assert self.engine is not None
        outcome = await self.engine.send(
            TENANT, attempt.job, event, message=(worker.name, f"{attempt.job}:{attempt.task}:{attempt.epoch}")
        )
        worker.running.pop(attempt, None)
        return outcome.reason

    async def beats(self, worker: Worker) -> None:
        """Beat as long as the story goes on."""
        while True:
            if worker.alive and self.orchestrator is not None:
                agent = self.registry.get(worker.record.address, TENANT)
                if agent is not None:
                    named = tuple(
                        Named(attempt.job, request.task, attempt.epoch)
                        for attempt, (request, _) in worker.running.items()
                    )
                    worker.told_lost += self.orchestrator.presence.beat(agent, Beat(running=named))
            await asyncio.sleep(BEAT)

    @asynccontextmanager
    async def scheduler(
        self, folder: Path, stored: Callable[[Database], SqlSteps] = SqlSteps
    ) -> AsyncIterator[LocalEngine]:
        """One life of the scheduler on the store in `folder`, as `stored` makes it."""
        clock = VirtualClock(asyncio.get_running_loop())
        database = Database.open(folder / "cpa.db")
        steps = stored(database)
        try:
            self.registry = AgentRegistry()
            for worker in self.workers.values():
                self.registry.register(worker.view())
            self.orchestrator = Orchestrator(self.registry, self, clock)
            engine = LocalEngine(steps, self.orchestrator, clock, job_ids(Chance()), keep=10_000)
            async with engine:
                self.engine = engine
                yield engine
                self.engine = self.orchestrator = None
        finally:
            steps.close()
            database.close()


def live(story: Callable[[Fleet], Awaitable[None]], *workers: Worker, latency: float = 0.0) -> None:
    """Run a story in virtual time, with all workers beating; each call to the disk takes `latency` seconds."""

    async def whole() -> None:
        fleet = Fleet(*workers)
        async with fleet.group:
            beats = [fleet.group.create_task(fleet.beats(worker)) for worker in workers]
            await story(fleet)
            works = [work for worker in workers for _, work in worker.running.values()]
            for task in beats + [work for work in works if work is not None]:
                task.cancel()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(lambda: latency)) as runner:
        runner.run(whole())


def job(tasks: int = 1, *, timeout: int = 60_000, **more: object) -> Submission:
    """A job of independent tasks."""
    specs = [TaskSpec(id=f"t{n}", action="x.a.b", timeout=timeout, **more) for n in range(tasks)]  # type: ignore[arg-type]
    return Submission(tenant=TENANT, spec=JobSpec(tuple(specs)))
