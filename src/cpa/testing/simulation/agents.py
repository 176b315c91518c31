"""An agent's process: the real conversations, runtime and fence, with hands that are good, slow or clumsy.

It outlives schedulers, and dies and comes back by itself. What its outbox holds survives; all else goes. A pause
(SIGSTOP, a laptop that sleeps) holds everything it does until it goes on, and what was sent to it meanwhile is
there then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from cpa.agents.beats import answered, beat_of
from cpa.agents.client import lost_in
from cpa.agents.conversation import Conversations
from cpa.agents.messages import Speaker
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.core.signatures import encoded
from cpa.errors import Conflict, CPAError, Forbidden, Unauthorized
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import Named, Readiness, named_in
from cpa.ports.executor import ActionRequest
from cpa.ports.keys import Caller, Scope
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.echoes import Echoes
from cpa.testing.simulation.hands import Hands
from cpa.testing.simulation.lies import invented, pretend
from cpa.testing.simulation.memory import Memory, Row
from cpa.testing.simulation.proposals import Proposals
from cpa.testing.simulation.restraint import Restraint
from cpa.testing.simulation.ways import LEASE, RESEND, Direct, Way, way_of

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

T = TypeVar("T")

TENANT = "default"
BEAT = LEASE / 3


class Process:
    """One agent: process after process under one name."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self.world, self.name, self.slots = world, name, slots
        self.address = f"agent://data/{name}"
        self.heard: set[str] = set()
        """Ids of the messages it took in, over all processes."""
        self.unheard: dict[str, str] = {}
        """By id: the types of what this process said and that was not acknowledged yet."""
        self.signing_key = encoded(world.scenario.stream(f"key of {name}").randbytes(32))
        self.key_id = ""
        self.app: Callable[..., Awaitable[None]] | None = None
        """What answers at its endpoint."""
        self._hearing: set[str] = set()
        """Ids of what came to this process."""
        self._early = asyncio.Event()
        """A beat is wanted now."""
        self.restraint = Restraint(world, self.address)
        self.alive = True
        self.gone = False
        """It does not come back."""
        self.hands = Hands(world, self.address, self.awake, lambda: self.alive and self._lives % 2 == 0)
        self._going = asyncio.Event()
        self._going.set()
        self._rows: dict[str, Row] = {}
        self._proposals = Proposals(world, self)
        self.echoes = Echoes(world, self)
        self._outbox = Memory(self._rows, "")
        self._lives = 0
        self.caller = self._caller(f"key_{name}")
        """Its key."""
        self.revoked = False
        """Its key is dead."""
        self.conversations: Conversations | None = None
        """Of the process that lives."""
        self._way: Way = Direct(world, self)
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._mute_until = 0.0
        self.id = ""

    # -- coming and going ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Process after process, until cancelled."""
        while True:
            if self.alive:
                self._task = asyncio.ensure_future(self._process())
                try:
                    await asyncio.wait([self._task])
                finally:
                    self._task.cancel()
                if not self._task.cancelled() and self._task.exception() is not None:
                    raise self._task.exception()  # type: ignore[misc]
            await asyncio.sleep(0.5)

    def kill(self) -> None:
        """As kill -9."""
        self.alive = False
        self.app = None
        self._outbox.closed = True
        self.conversations = None
        if self._task is not None:
            self._task.cancel()

    def revive(self) -> None:
        if not self.gone:
            self.alive = True

    def renew(self) -> None:
        """It ends, and its next process has a new key, of an agent that nobody knows yet."""
        self.kill()
        self.caller = self._caller(f"key_{self.name}_{self._lives}")
        self.key_id = self.id = ""
        self.revoked = False

    def check_key(self, key: str) -> None:
        """Raises `Unauthorized` unless it is its key, and lives."""
        if self.revoked or key != self.caller.key:
            raise Unauthorized("this API key was revoked", field="X-API-Key", remedy="ask for a new one")

    def _caller(self, key: str) -> Caller:
        return Caller(tenant=TENANT, key=key, name=self.address, scopes=frozenset((Scope.AGENT,)))

    def lives(self, life: int) -> bool:
        """Whether it is this process of the agent that lives."""
        return self.alive and self._lives == life

    @property
    def number(self) -> int:
        """Of its last process."""
        return self._lives

    @property
    def life(self) -> str:
        """The instance of its last process."""
        return f"{self.name}-{self._lives}"

    @property
    def endpoint(self) -> str:
        """Where its last process is called; empty where it opens a channel, or is on no wire."""
        if self.world.scenario.way != "http":
            return ""
        return f"http://10.0.0.{self.name[1:]}:{8000 + self._lives}"

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this inside the process."""
        if self._group is None or not self.alive:
            work.close()
        else:
            self._group.create_task(work)

    @property
    def overtaxed(self) -> bool:
        """Whether it has more attempts than slots."""
        return self.conversations is not None and self.conversations.busy > self.slots

    def pause(self) -> None:
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    async def awake(self) -> None:
        """Stand still while the process does."""
        await self._going.wait()

    # -- one process ---------------------------------------------------------------------------------------

    async def _process(self) -> None:
        world = self.world
        self._lives += 1
        life = self.life
        wired = world.scenario.wire != "direct"
        self._outbox = Memory(self._rows, life, slow=wired)
        self._way = way_of(world, self, self._lives)
        self.unheard, self._hearing = {}, set()
        self.restraint.born([row.answer_id for row in self._rows.values()])
        try:
            for answer in await self._outbox.undelivered():
                message = parse(answer)
                await self._insist(message)
                await self._outbox.delivered(str(message.id))
            await self._register(life)
            conversations = Conversations(
                Speaker(self.address, self.new_id, world.clock.now_ms),
                self._outbox,
                ExecutorRegistry([self.hands]),
                world.clock,
                life=life,
                slots=self.slots,
                refuses=self._refuses,
            )
            conversations.connect(self)
            async with asyncio.TaskGroup() as self._group, conversations:
                self.conversations = conversations
                async with self._way.open(conversations), conversations.runtime:
                    await self._work(conversations, life)
        except* asyncio.CancelledError:
            raise asyncio.CancelledError from None
        finally:
            self.conversations = None

    async def _work(self, conversations: Conversations, life: str) -> None:
        if self._group is not None:
            self._group.create_task(self._misbehave(conversations))
        while True:
            await self.awake()
            if asyncio.get_running_loop().time() < self._mute_until:
                await asyncio.sleep(1)
                continue
            await self._rest(await self._beat(conversations, life))

    async def _rest(self, seconds: float) -> None:
        """Until the next beat."""
        if self.world.scenario.wire == "direct":
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._early.wait()
        except TimeoutError:
            return

    def beat_now(self) -> None:
        self._early.set()

    async def _beat(self, conversations: Conversations, life: str) -> float:
        """Seconds until the next one."""
        self._early.clear()
        sent = self.world.clock.monotonic()
        try:
            answer = await self._way.beat(beat_of(conversations, life, Readiness()))
        except CPAError as error:
            self._check_final(error)
            return 1.0
        await self.awake()
        self.restraint.until = sent + LEASE
        for each in lost_in(answer):
            self.restraint.stop(each)
        pause = answered(conversations, answer, sent, interval=BEAT, lease=LEASE)
        for each in lost_in(answer):
            self.restraint.end(each, "it was told to stop")
        return pause

    async def _misbehave(self, conversations: Conversations) -> None:
        """Now and then an attempt is forgotten (no answer, no name in a beat), or a lie is told."""
        world, chance = self.world, self.world.agent_chance
        while world.faulty and {"forgetful", "liars"} & world.scenario.faults:
            await asyncio.sleep(5)
            await self.awake()
            if conversations.running and world.strikes("forgetful", chance, 0.3):
                forgotten = chance.choice(conversations.running)
                self.restraint.stop(forgotten)
                conversations.lost((forgotten,))
            if world.strikes("liars", chance):
                if self._group is not None:
                    self._group.create_task(pretend(world, self))
                lie = invented(world, self.address, self.new_id())
                if lie is not None:
                    world.trace("lies", self.name, lie.type, lie.correlation.job_id, lie.correlation.epoch)
                    world.lies.add(lie.id)
                    with suppress(CPAError):
                        await self._hand_in(lie)

    async def _register(self, life: str) -> None:
        wanted = Registration(
            name=self.name,
            type="DATA",
            capabilities=Hands.actions,
            slots=self.slots,
            instance=life,
            incarnation=self._lives,
        )

        while True:
            try:
                self.id = await self._way.register(wanted)
                return
            except CPAError as error:
                self._check_final(error)
                await asyncio.sleep(1)
                await self.awake()

    def mute(self, seconds: float) -> None:
        """Work without beating."""
        self._mute_until = asyncio.get_running_loop().time() + seconds

    # -- messages ------------------------------------------------------------------------------------------

    def hear(self, message: BaseMessage, acknowledge: Callable[[], None]) -> None:
        """A message of the scheduler arrived."""
        self.echoes.arrived(message, lambda: self.hear(message, acknowledge))
        if self.conversations is not None and self._group is not None:
            self._group.create_task(self._hear(self.conversations, message, acknowledge))

    async def _hear(
        self, conversations: Conversations, message: BaseMessage, acknowledge: Callable[[], None]
    ) -> None:
        await self.take(message, conversations.hear)
        acknowledge()

    async def take_in(self, message: BaseMessage) -> None:
        """A message of the scheduler came by the channel."""
        self.echoes.arrived(message, lambda: self.start(self.take_in(message)))
        if self.conversations is not None:
            await self.take(message, self.conversations.hear)

    async def take(self, message: BaseMessage, take: Callable[[BaseMessage], Awaitable[T]]) -> T | None:
        """Take this message in, or say what it would rather do."""
        await self.awake()
        id, ledger = str(message.id), self.world.life.ledger if self.world.life is not None else None
        if ledger is not None and id not in self._hearing:
            ledger.heard(self.address, message, self._hearing.__contains__)
        self._hearing.add(id)
        if message.type == "cancel":
            self.restraint.stop(named_in(message))
        taken = None
        rather = self._proposals.instead_of(message, (row.named for row in self._rows.values()))
        try:
            if rather is None:
                taken = await take(message)
            else:
                self.say(rather)
        finally:
            if message.type == "cancel":
                self.restraint.end(named_in(message), "it was cancelled")
        self.heard.add(id)
        return taken

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        """`agents.line.Line`."""
        self.world.spoken(self, message)
        named = Named(message.correlation.job_id, message.correlation.task_id, message.correlation.epoch or 0)
        life = self._outbox.life
        earlier = any(row.named == named and row.life != life for row in list(self._rows.values()))
        self.restraint.says(message, earlier=earlier)
        if self._group is None or not self.alive:
            return
        self.restraint.check_stopped(message, named)
        if lasting:
            self.unheard[str(message.id)] = message.type
        self._way.say(message, lasting=lasting)

    def acknowledged(self, id: str, effect: str, problem: Mapping[str, Any] | None) -> None:
        """`agents.line`: the scheduler has this message on a wire, or it is given up."""
        type = self.unheard.pop(id, "")
        if problem is None and (TENANT, self.address, id) not in self.world.journal.inbox:
            self.world.violated(Violation("durable", f"{self.name} may forget {type} {id}: it is not stored"))
        passing = problem is not None and (problem["retryable"] or problem["status"] >= 500)
        if type and passing:
            self.world.violated(Violation("lost", f"{self.name} gives up its {type}: {problem}"))
        if type and problem is not None:
            self._check_final(CPAError.of_problem(problem["status"], dict(problem)))
        if self.conversations is not None:
            self.conversations.acknowledged(id, effect, problem)

    def sent_away(self, error: CPAError) -> None:
        """The scheduler ends the channel for good: the program ends, and somebody starts it again."""
        self._check_final(error)
        self.kill()
        self.world.loop.call_later(1.0, self.revive)

    def _check_final(self, error: CPAError) -> None:
        """No trouble on the way may look as if the agent were not wanted."""
        world = self.world
        if error.status >= 500 and not error.retryable:
            world.violated(Violation("lost", f"{self.name} takes trouble for a no: {error!r}"))
        if self.revoked:
            return
        final = isinstance(error, Unauthorized | Forbidden | Conflict)
        # After a jump of the clock a signature is of another moment.
        if final and world.scenario.wire != "direct" and world.oracles.clock:
            world.violated(Violation("identity", f"{self.name} is sent away: {error!r}"))

    async def _insist(self, message: BaseMessage) -> None:
        while True:
            try:
                await self._hand_in(message)
                return
            except CPAError as error:
                if not error.retryable:
                    self._check_final(error)
                    return
                await asyncio.sleep(RESEND)
                await self.awake()

    async def _hand_in(self, message: BaseMessage) -> str:
        return await self._way.hand_in(message)

    # -- inside --------------------------------------------------------------------------------------------

    def _refuses(self, request: ActionRequest) -> str:
        return "no display" if self.world.strikes("refusals", self.world.agent_chance, 0.5) else ""

    def new_id(self) -> UUID:
        return UUID(bytes=self.world.random_bytes(16), version=4)
