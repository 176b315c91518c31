"""A scheduler without doors, in virtual time: real core, store, requests and channels; agents are played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.api.fakes import small_planner
from tests.orchestrator.fleet import TENANT, record

from cpa.artifacts.folder import FolderArtifacts
from cpa.bootstrap.system import Chance, job_ids
from cpa.core.classes import EffectClass
from cpa.core.job import JobSpec, TaskRun, TaskSpec
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.core.views import rfc3339
from cpa.engines.local.engine import LocalEngine
from cpa.errors import CPAError
from cpa.orchestrator.agent import Agent
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.bids import Bids
from cpa.orchestrator.log import MessageLog
from cpa.orchestrator.messages import Messages
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.presence import Presence
from cpa.orchestrator.requests import Requests
from cpa.ports.agents import Acknowledgement, AgentRecord, AgentState, Beat, Named
from cpa.ports.engine import Submission
from cpa.ports.keys import Caller, Scope
from cpa.ports.repository import StoredMessage
from cpa.repository.database import Database
from cpa.repository.messages import SqlMessageRepository
from cpa.repository.steps import SqlSteps
from cpa.testing.virtual import VirtualClock, VirtualLoop
from cpa.transport.channel import ChannelDelivery, Connection
from cpa.transport.inprocess import InProcessTransport

BEAT = 5.0


class FarAgent:
    """An agent at the other end of a channel, that takes what it is given and says what the test says."""

    def __init__(self, scheduler: SchedulerLife, view: Agent) -> None:
        assert view.record is not None
        self.scheduler, self.view, self.record = scheduler, view, view.record
        self.address = view.record.address
        self.got: list[BaseMessage] = []
        self.silent = False
        """Takes nothing."""
        self._connection: Connection | None = None

    def connect(self) -> None:
        self._connection = self.scheduler.channels.open(self.record, "", 0)
        self.scheduler.group.create_task(self._take(self._connection))

    def disconnect(self) -> None:
        if self._connection is not None:
            self.scheduler.channels.close(self.record, self._connection)
            self._connection = None

    async def _take(self, connection: Connection) -> None:
        while self._connection is connection:
            for number, message in await connection.following():
                if self._connection is connection and not self.silent:
                    self.got.append(message)
                    connection.acknowledge(number)

    def beat(self, *running: BaseMessage) -> tuple[Named, ...]:
        """Say that it lives, and has these."""
        named = tuple(
            Named(m.correlation.job_id, m.correlation.task_id, m.correlation.epoch or 0) for m in running
        )
        return self.scheduler.presence.beat(self.view, Beat(running=named))

    async def next(self, *types: str, after: int = 0) -> BaseMessage:
        """The message of such a type that came after that many."""
        async with asyncio.timeout(3600):
            while True:
                found = [message for message in self.got[after:] if message.type in types]
                if found:
                    return found[0]
                await asyncio.sleep(0.01)

    async def say(
        self, type: str, about: BaseMessage | None, payload: dict[str, Any] | None = None, **more: Any
    ) -> Acknowledgement:
        """A word of this agent's, about what it was asked; `more` goes into the envelope."""
        return await self.scheduler.handle(
            word(type, self.address, about, payload, **more), caller(self.address)
        )


def word(
    type: str, sender: str, about: BaseMessage | None, payload: dict[str, Any] | None = None, **more: Any
) -> BaseMessage:
    document: dict[str, Any] = {
        "id": str(uuid4()),
        "ts": rfc3339(1_700_000_000_000),
        "type": type,
        "sender": sender,
        "to": "agent://scheduler/cpa",
        "payload": payload or {},
    }
    if about is not None:
        asked = about.correlation
        document["correlation"] = {
            "conversationId": asked.conversation_id,
            "inReplyTo": str(about.id),
            "jobId": asked.job_id,
            "taskId": asked.task_id,
            "epoch": asked.epoch,
        } | more.pop("correlation", {})
    return parse(document | more)


def caller(name: str, *scopes: Scope, tenant: str = TENANT) -> Caller:
    return Caller(tenant=tenant, key="key_1", name=name, scopes=frozenset(scopes or (Scope.AGENT,)))


class Offers:
    """Keeps what agents offered."""

    def __init__(self) -> None:
        self.said: list[tuple[str, tuple[str, ...]]] = []
        self.trouble: CPAError | None = None
        """What every offer is refused with."""

    async def offer(self, caller: Caller, offered: tuple[str, ...]) -> AgentRecord:
        if self.trouble is not None:
            raise self.trouble
        self.said.append((caller.name, offered))
        return record()


class SchedulerLife:
    """One life of a scheduler on the store in a folder."""

    def __init__(self, database: Database, group: asyncio.TaskGroup, journal: MessageLog) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.group, self.database, self.journal = group, database, journal
        self.registry = AgentRegistry()
        self.presence = Presence(self.registry, self.clock, BEAT)
        self.channels = ChannelDelivery()
        self.requests = Requests(self.registry, self.presence, self.channels, journal, self.clock)
        self.channels.connect(self.requests, self.requests.standing)
        transport = InProcessTransport({}, self.requests)
        self.orchestrator = Orchestrator(self.registry, transport, self.clock, self.presence)
        self.requests.connect(self.orchestrator.handle_agent_response, self.orchestrator.refused)
        self.orchestrator.assignments.unsent = self.requests.unsent
        self.bids = self.orchestrator.bids = Bids(
            self.registry, self.orchestrator.assignments, self.requests.discover, self.clock
        )
        self.offers, self.planner = Offers(), small_planner()
        self.artifacts = FolderArtifacts(Path(database.path).parent / "artifacts", 1_000_000)

    def start(self, steps: SqlSteps) -> LocalEngine:
        self.engine = LocalEngine(steps, self.orchestrator, self.clock, job_ids(Chance()))
        self.messages = Messages(
            *(self.engine, self.planner, self.journal, self.registry, self.requests),
            *(self.bids, self.offers, self.clock, self.artifacts),
        )
        return self.engine

    def agent(self, name: str, *actions: str, online: bool = True, slots: int = 2) -> FarAgent:
        """One that is registered, and has just been heard of."""
        known = record(name, *actions, slots=slots)
        view = Agent(
            known.address, frozenset(known.actions), slots=slots, tenant=TENANT, record=known, online=online
        )
        self.registry.register(view)
        if online:
            self.presence.sign(view)
        far = FarAgent(self, view)
        far.connect()
        return far

    def quarantine(self, agent: FarAgent) -> None:
        assert agent.view.record is not None
        kept = agent.view.record
        values = {name: getattr(kept, name) for name in kept.__struct_fields__}
        agent.view.record = AgentRecord(**values | {"state": AgentState.QUARANTINED})

    async def handle(self, message: BaseMessage, by: Caller) -> Acknowledgement:
        return await self.messages.handle(message, by)

    async def submit(
        self, effect: EffectClass = EffectClass.IDEMPOTENT, *, tasks: int = 1, **more: Any
    ) -> str:
        """A job of such tasks of `x.a.b`; its id."""
        given = {"action": "x.a.b", "arguments": {"n": 1}, "timeout": 60_000, "effect": effect} | more
        specs = tuple(TaskSpec(id=f"t{number}", **given) for number in range(tasks))
        return (await self.engine.submit(Submission(tenant=TENANT, spec=JobSpec(specs)))).job

    async def task(self, job: str) -> TaskRun:
        """How its first task stands."""
        return (await self.engine.query(TENANT, job)).tasks[0]

    async def logged(self, job: str) -> tuple[StoredMessage, ...]:
        return await SqlMessageRepository(self.database).list(TENANT, job=job)


@asynccontextmanager
async def life(
    folder: Path,
    *prepare: Callable[[SchedulerLife], Any],
    stored: Callable[[Database], SqlSteps] = SqlSteps,
) -> AsyncIterator[SchedulerLife]:
    """A life of the scheduler; `prepare` before its engine starts."""
    database = Database.open(folder / "cpa.db")
    steps = stored(database)
    try:
        async with asyncio.TaskGroup() as group, MessageLog(SqlMessageRepository(database)) as journal:
            running = SchedulerLife(database, group, journal)
            for each in prepare:
                each(running)
            async with running.start(steps):
                yield running
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if task.get_coro().__qualname__ == "FarAgent._take":  # type: ignore[union-attr]
                    task.cancel()
    finally:
        steps.close()
        database.close()


def live(
    folder: Path,
    story: Callable[[SchedulerLife], Awaitable[None]],
    stored: Callable[[Database], SqlSteps] = SqlSteps,
) -> None:
    """Run a story in virtual time, in one life of a scheduler, on the store that `stored` makes."""

    async def whole() -> None:
        async with life(folder, stored=stored) as scheduler:
            await story(scheduler)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())
