"""One life of the scheduler's process: the real engine, orchestrator, directory, messages, on a store that crashes.

What the process knows dies with it; what was committed is in the journal (and in the SQLite store, where the run
has one). A crash stops everything between two instructions: nothing is written, sent or answered after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from cpa.agents.runtime import AgentRuntime
from cpa.audit.log import AuditLog
from cpa.core.intent_router import IntentRouter
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Conflict, CPAError, Unauthorized, Unavailable
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.bids import Bids
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.log import MessageLog
from cpa.orchestrator.messages import Messages
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.planning import Planner
from cpa.orchestrator.requests import Requests
from cpa.ports.addresses import Target
from cpa.ports.delivery import Delivery
from cpa.ports.executor import ActionRequest
from cpa.ports.repository import ActionLeaf, MessageRepository, StoredMessage
from cpa.ports.steps import StepBatch, StepStore
from cpa.ports.transport import Attempt
from cpa.security.auth import FIXED
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.blame import Roll
from cpa.testing.simulation.claims import check_request
from cpa.testing.simulation.doors import Heard, Register, app_of
from cpa.testing.simulation.hands import Hands
from cpa.testing.simulation.ledger import Channels, Ledger
from cpa.testing.simulation.network import SCHEDULER
from cpa.testing.simulation.post import Post
from cpa.testing.simulation.posts import Posts
from cpa.transport.http import HttpDelivery
from cpa.transport.inprocess import InProcessTransport
from cpa.transport.postbox import Postbox

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

P = ParamSpec("P")
T = TypeVar("T")

_PLANNER = Planner(IntentRouter(()))
"""Agents ask for no jobs."""


class Crash(BaseException):
    """The process ends here, and nothing can catch it."""


class Disk:
    """`ports.steps.StepStore` of one life, around what outlives it."""

    def __init__(self, world: World, life: Life, store: StepStore) -> None:
        self._world, self._life, self._store = world, life, store
        self.full = False
        """While true nothing can be written."""

    def commit(self, batch: StepBatch) -> None:
        """As the store; ends the life before or after writing, where chance has it."""
        life, chance = self._life, self._world.crash_chance
        if life.dead:
            # The process ended while the batch was on its way to the disk: it got there or it did not.
            if chance.random() < 0.5:
                self._write(batch)
            raise Crash
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        if self._world.strikes("crashes", chance, 0.1):
            after = chance.random() < 0.5
            if after:
                self._write(batch)
            life.kill()
            raise Crash
        self._write(batch)

    def _write(self, batch: StepBatch) -> None:
        if self._store is not self._world.journal:
            self._store.commit(batch)
        try:
            self._world.journal.commit(batch)
        except Violation as violation:
            self._world.violated(violation)
            raise
        except Conflict as conflict:
            # Only another process could have been faster, and there is none.
            self._world.violated(Violation("batch", f"the store refuses a batch: {conflict}"))
            raise

    def __getattr__(self, name: str) -> Any:
        if self._life.dead:
            raise Crash
        return getattr(self._store, name)


class Life:
    """Build it, then `run` it once; `kill` ends it at once, `stop` in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self.began = asyncio.get_running_loop().time()
        self._ended = asyncio.Event()
        self._stop = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._open = False
        self.disk = Disk(world, self, world.open_store())
        self.registry = AgentRegistry()
        presence = Roll(world, self.registry)
        self.channels = Channels(world.seen)
        delivery, self.ledger = self._delivery()
        self._journal = _Journal(_Log(), self)
        self.requests = Requests(self.registry, presence, delivery, self._journal, world.clock)
        self._join(delivery)
        self._hands: dict[str, AgentRuntime[Attempt]] = {}
        transport = InProcessTransport(self._hands, _Watched(self))
        self.orchestrator = Orchestrator(self.registry, transport, world.clock, presence)
        # Every process has a part of its own: what an earlier one had is lost.
        own = self.own = f"agent://builtin/{world.lives}"
        """The address of its own part."""
        executors = ExecutorRegistry([Hands(world, own, self.awake)])
        answered = self._alive(self.orchestrator.handle_agent_response)
        self._runtime = AgentRuntime[Attempt](executors, answered)
        if "builtin" in world.scenario.faults:
            self._hands[own] = self._runtime
            self.registry.register(Agent(own, frozenset(executors.actions), slots=2))
        self.requests.connect(answered, self._alive(self.orchestrator.refused))
        self.orchestrator.assignments.unsent = self.requests.unsent
        bids = Bids(self.registry, self.orchestrator.assignments, self.requests.discover, world.clock)
        self.orchestrator.bids = bids
        self.directory = AgentDirectory(
            world.agent_store,
            self.registry,
            self.orchestrator,
            _Keys(world),
            AuditLog(_Trail(), world.clock, world.random_bytes),  # type: ignore[arg-type]
            world.clock,
            world.new_agent_id,
            gone=self.requests.gone,
            moved=self.requests.moved if self.ledger is not None else lambda _: None,
        )
        self.engine = LocalEngine(
            self.disk,
            self.orchestrator,
            world.clock,
            world.new_job_id,
            chance=world.random_bytes,
            keep=world.keep,
            max_running=world.max_running,
        )
        assignments = self.orchestrator.assignments
        assignments.report = presence.watched(self._alive(assignments.report))
        self.messages = self._messages(bids)
        self.heard, self.register = Heard(world, self), Register(world, self)
        if self.ledger is not None:
            self.app = app_of(world, self)

    def _delivery(self) -> tuple[Delivery, Ledger | None]:
        """How messages leave; with a ledger where it is a real way."""
        world = self.world
        self._posted = HttpDelivery(
            _Addresses(), callback, open=partial(Postbox, transport=Posts(world, SCHEDULER, self.awake))
        )
        match world.scenario.way:
            case "channel":
                ledger = Ledger(world, self, self.channels)
            case "http":
                ledger = Ledger(world, self, self._posted)
            case _:
                return Post(world, self), None
        return ledger, ledger

    def _join(self, delivery: Delivery) -> None:
        """Who delivers tells the requests what becomes of it."""
        if isinstance(delivery, Post):
            delivery.requests = self.requests
        elif self.ledger is not None:
            self.ledger.receipts = self.requests
            self.channels.connect(self.ledger, self.requests.standing)
            self._posted.connect(self.ledger)

    def _messages(self, bids: Bids) -> Messages:
        parts = (self.registry, self.requests, bids, self.directory, self.world.clock)
        return Messages(self.engine, _PLANNER, self._journal, *parts)

    async def run(self) -> None:
        """Until it is killed or stopped."""
        try:
            await self.directory.load()
            async with self._group, self._journal, self._posted, self.engine, self._runtime:
                self._open = True
                await self._wait()
                self._open = False
                if self.dead:
                    raise Crash
                with suppress(Unavailable):  # the disk may be full
                    await self.engine.drain(5)
        except* Crash:
            self.dead = True
        finally:
            self._open = False
            self.dead = True
            self._ended.set()

    def kill(self) -> None:
        """Nothing happens in this process after this call."""
        self.dead = True
        self._open = False
        self._stop.set()

    def stop(self) -> None:
        """As SIGTERM."""
        self._stop.set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this inside the process."""
        if not self._open or self.dead:
            work.close()
            return
        self._group.create_task(self._quietly(work), context=self.world.network.context(SCHEDULER))

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Have this done inside the process, for a door whose own tasks outlive it; `Unavailable` when it ends."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        down = Unavailable("the scheduler is down", remedy="ask again")

        async def serve() -> None:
            try:
                result = await work
            except Exception as error:
                if done.done():
                    raise
                done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        if not self.up:
            work.close()
            raise down
        self.start(serve())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            either: list[asyncio.Future[Any]] = [done, ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise down
            return done.result()
        finally:
            ended.cancel()
            done.cancel()

    def _alive(self, call: Callable[P, None]) -> Callable[P, None]:
        """The loop's timers outlive a process that was killed: what they call does not."""

        def guarded(*arguments: P.args, **named: P.kwargs) -> None:
            if not self.dead:
                call(*arguments, **named)

        return guarded

    @property
    def up(self) -> bool:
        """Whether it takes calls."""
        return self._open and not self.dead

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """What the work of a dead process raises is nobody's."""
        running = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not running.done():
                running.cancel()
        if running.done() and not running.cancelled():
            error = running.exception()
            if error is not None and not self.dead and not isinstance(error, CPAError | Crash):
                raise error

    async def awake(self) -> None:
        """Of a dead process nothing goes on."""
        if self.dead:
            await asyncio.Event().wait()

    async def _wait(self) -> None:
        await self._stop.wait()


class _Watched:
    """The transport, with an oracle before it: nothing goes out that is not durable."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def send(
        self, agent: str, attempt: Attempt, request: ActionRequest, *, won: bool = False, again: bool = False
    ) -> None:
        world = self._life.world
        if self._life.dead:
            return
        record = world.journal.jobs.get((attempt.tenant, attempt.job))
        key = f"request:{attempt.task}:{attempt.epoch}"
        if record is None or key not in record.outbox:
            world.violated(Violation("durable", f"{attempt} goes out, and its request is not stored"))
        else:
            check_request(world, record, attempt, request, agent)
        world.trace("request", attempt.job, request.task, attempt.epoch, agent)
        world.sent.setdefault(attempt, asyncio.get_running_loop().time())
        self._life.requests.send(agent, attempt, request, won=won, again=again)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        if not self._life.dead:
            self._life.world.looks.add((attempt.job, request.task, attempt.epoch, agent))
            self._life.requests.verify(agent, attempt, request)

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        if not self._life.dead:
            self._life.requests.cancel(agent, attempt, task)

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        if not self._life.dead:
            self._life.requests.over(agent, attempt, answered=answered)

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None:
        if not self._life.dead:
            self._life.requests.job_ended(tenant, job, run, agents)


class _Keys:
    """`orchestrator.directory.AgentKeys`: every agent has its own key already."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def tenant(self, token: str, name: str) -> str:
        raise Unavailable("nobody enrols here", remedy="come with a key")

    async def enrol(self, token: str, name: str, secret: str = "", agent: str = "") -> str:
        raise Unavailable("nobody enrols here", remedy="come with a key")

    async def enrolled(self, token: str, name: str, secret: str) -> tuple[str, str] | None:
        return None

    async def make(self, tenant: str, address: str, agent: str, secret: str = "") -> tuple[str, str]:
        return "", ""

    async def revoke(self, tenant: str, address: str) -> None:
        self._world.agents[address].revoked = True

    async def check(self, tenant: str, key: str) -> None:
        if key != FIXED.key and not any(
            each.caller.key == key and not each.revoked for each in self._world.processes
        ):
            raise Unauthorized("this API key is not accepted", field="X-API-Key", remedy="check it")

    def callback(self, tenant: str, agent: str) -> str:
        return callback(tenant, agent)


def callback(tenant: str, agent: str) -> str:
    """What the scheduler shows at an agent's endpoint."""
    return f"callback of {tenant}/{agent}"


class _Addresses:
    """`ports.addresses.OutboundAddresses`: endpoints are addresses here, and all may be reached."""

    async def resolve(self, url: str) -> Target:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return Target(scheme="http", host=parts.hostname, port=parts.port, addresses=(parts.hostname,))

    def check_literal(self, url: str) -> None: ...


class _Trail:
    """Where the audit log of the directory goes."""

    async def append(self, leaf: ActionLeaf) -> int:
        return 0


class _Journal(MessageLog):
    """The log of a process that can be killed."""

    def __init__(self, repository: MessageRepository, life: Life) -> None:
        super().__init__(repository)
        self._life = life

    def note(self, tenant: str, message: StoredMessage) -> None:
        if not self._life.dead:
            super().note(tenant, message)


class _Log:
    """`ports.repository.MessageRepository` that keeps nothing."""

    async def append(self, tenant: str, *messages: StoredMessage) -> None: ...

    async def list(
        self, tenant: str, *, conversation: str = "", job: str = "", after: int = 0, limit: int = 100
    ) -> tuple[StoredMessage, ...]:
        return ()
