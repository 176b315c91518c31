"""An agent's process: the real conversations, runtime and fence, with hands that are good, slow or clumsy.

It outlives schedulers, and dies and comes back by itself. What its outbox holds survives; all else goes. A pause
(SIGSTOP, a laptop that sleeps) holds everything it does until it goes on, and what was sent to it meanwhile is
there then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cpa.agents.client import lost_in
from cpa.agents.conversation import Conversations
from cpa.agents.messages import Speaker
from cpa.agents.outbox import Entry, Kept, Outbox
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.errors import CPAError
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import Acknowledgement, AgentStatus, Beat, Named, named_in
from cpa.ports.executor import ActionRequest
from cpa.ports.keys import Caller, Scope
from cpa.testing.simulation.claims import (
    attempts_of,
    check_acknowledged,
    check_beat,
    check_restart,
    impersonated,
)
from cpa.testing.simulation.hands import Hands
from cpa.testing.simulation.lies import invented, pretend
from cpa.testing.simulation.proposals import Proposals
from cpa.testing.simulation.restraint import Restraint

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

TENANT = "default"
BEAT, LEASE = 5.0, 15.0
"""Seconds, as the scheduler says when an agent registers."""
RESEND = 2.0
"""Seconds after which an answer that was not acknowledged is said again."""


@dataclass(slots=True)
class _Row:
    life: str
    named: Named
    answer_id: str = ""
    answer: bytes | None = None
    delivered: bool = False

    @property
    def kept(self) -> Kept:
        return Kept(life=self.life, answer=self.answer, delivered=self.delivered)


class Memory(Outbox):
    """The outbox of one process; the rows, by request, outlive it."""

    def __init__(self, rows: dict[str, _Row], life: str) -> None:
        self._rows, self.life = rows, life
        self.closed = False
        """The process is dead: nothing is written any more."""

    async def take(self, entry: Entry) -> Kept | None:
        known = self._rows.get(entry.message)
        if known is not None:
            return known.kept
        if not self.closed:
            self._rows[entry.message] = _Row(self.life, entry.named)
        return None

    async def find(self, named: Named) -> Kept | None:
        return next((row.kept for row in self._rows.values() if row.named == named), None)

    async def answer(self, message: str, answer_id: str, answer: bytes) -> None:
        row = self._rows[message]
        if row.answer is None and not self.closed:
            row.answer_id, row.answer = answer_id, answer

    async def delivered(self, answer_id: str) -> None:
        for row in self._rows.values():
            if row.answer_id == answer_id and not self.closed:
                row.delivered = True

    async def undelivered(self) -> list[bytes]:
        return [row.answer for row in self._rows.values() if row.answer is not None and not row.delivered]


class Process:
    """One agent: process after process under one name."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self.world, self.name, self.slots = world, name, slots
        self.address = f"agent://data/{name}"
        self.restraint = Restraint(world, self.address)
        self.alive = True
        self.gone = False
        """It does not come back."""
        self.hands = Hands(world, self.address, self.awake, lambda: self.alive and self._lives % 2 == 0)
        self._going = asyncio.Event()
        self._going.set()
        self._rows: dict[str, _Row] = {}
        self._proposals = Proposals(world, self)
        self._outbox = Memory(self._rows, "")
        self._lives = 0
        self.caller = Caller(
            tenant=TENANT, key=f"key_{name}", name=self.address, scopes=frozenset((Scope.AGENT,))
        )
        """Its key."""
        self._conversations: Conversations | None = None
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
        self._outbox.closed = True
        self._conversations = None
        if self._task is not None:
            self._task.cancel()

    def revive(self) -> None:
        if not self.gone:
            self.alive = True

    @property
    def overtaxed(self) -> bool:
        """Whether it has more attempts than slots."""
        return self._conversations is not None and self._conversations.busy > self.slots

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
        life = f"{self.name}-{self._lives}"
        self._outbox = Memory(self._rows, life)
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
            async with asyncio.TaskGroup() as self._group, conversations, conversations.runtime:
                self._conversations = conversations
                await self._work(conversations, life)
        except* asyncio.CancelledError:
            raise asyncio.CancelledError from None
        finally:
            self._conversations = None

    async def _work(self, conversations: Conversations, life: str) -> None:
        if self._group is not None:
            self._group.create_task(self._misbehave(conversations))
        while True:
            await self.awake()
            if asyncio.get_running_loop().time() < self._mute_until:
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(await self._beat(conversations, life))

    async def _beat(self, conversations: Conversations, life: str) -> float:
        """As `agents.session` does it; seconds until the next one."""
        world, clock = self.world, self.world.clock
        sent = clock.monotonic()
        beat = Beat(
            status=AgentStatus.ONLINE,
            load=conversations.busy / self.slots,
            free=max(self.slots - conversations.busy, 0),
            running=conversations.running,
            instance=life,
        )

        async def taken(scheduler: Life) -> Mapping[str, Any]:
            heard = world.loop.time()  # it renews at once; the answer may wait for the disk
            known = await world.agent_store.get(TENANT, self.id)
            answer = await scheduler.directory.heartbeat(self.caller, self.id, beat)
            current = life if known is None else known.instance
            check_beat(world, scheduler, self.address, beat, answer.lost, current)
            named = frozenset((one.job, one.task, one.epoch) for one in beat.running)
            world.vital.update(dict.fromkeys(named, heard))
            world.beats.update(dict.fromkeys(named, heard))
            if current == life:
                world.named[self.address] = named
            lost = [{"job": one.job, "task": one.task, "epoch": one.epoch} for one in answer.lost]
            return {"lost": lost}

        try:
            answer = await world.ask(self.name, taken)
        except CPAError:
            return 1.0
        await self.awake()
        conversations.lost(lost := lost_in(answer))
        for each in lost:
            self.restraint.end(each, "it was told to stop")
        self.restraint.until = sent + LEASE
        conversations.fence.renewed(sent + LEASE)
        return 0.0 if conversations.fence.closed else BEAT

    async def _misbehave(self, conversations: Conversations) -> None:
        """Now and then an attempt is forgotten (no answer, no name in a beat), or a lie is told."""
        world, chance = self.world, self.world.agent_chance
        while world.faulty and {"forgetful", "liars"} & world.scenario.faults:
            await asyncio.sleep(5)
            await self.awake()
            if conversations.running and world.strikes("forgetful", chance, 0.3):
                conversations.lost((chance.choice(conversations.running),))
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

        async def taken(scheduler: Life) -> str:
            before = attempts_of(scheduler, self.address)
            known = await self.world.agent_store.find(TENANT, self.name)
            told = (await scheduler.directory.register(wanted, self.caller)).agent
            if known is not None and known.incarnation > wanted.incarnation:
                impersonated(self.world, wanted.instance, "registers after it died")
            if known is None or known.instance != told.instance:
                check_restart(self.world, self.address, before, attempts_of(scheduler, self.address))
            return told.id

        while True:
            try:
                self.id = await self.world.ask(self.name, taken)
                return
            except CPAError:
                await asyncio.sleep(1)
                await self.awake()

    def mute(self, seconds: float) -> None:
        """Work without beating."""
        self._mute_until = asyncio.get_running_loop().time() + seconds

    # -- messages ------------------------------------------------------------------------------------------

    def hear(self, message: BaseMessage, acknowledge: Callable[[], None]) -> None:
        """A message of the scheduler arrived."""
        if self._conversations is not None and self._group is not None:
            self._group.create_task(self._hear(self._conversations, message, acknowledge))

    async def _hear(
        self, conversations: Conversations, message: BaseMessage, acknowledge: Callable[[], None]
    ) -> None:
        await self.awake()
        rather = self._proposals.instead_of(message, (row.named for row in self._rows.values()))
        if rather is None:
            await conversations.hear(message)
        else:
            self.say(rather)
        if message.type == "cancel":
            self.restraint.end(named_in(message), "it was cancelled")
        acknowledge()

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        """`agents.line.Line`."""
        self.world.spoken(self, message)
        named = Named(message.correlation.job_id, message.correlation.task_id, message.correlation.epoch or 0)
        life = self._outbox.life
        earlier = any(row.named == named and row.life != life for row in list(self._rows.values()))
        self.restraint.says(message, earlier=earlier)
        if self._group is not None and self.alive:
            self._group.create_task(self._say(message, lasting=lasting))

    async def _say(self, message: BaseMessage, *, lasting: bool) -> None:
        effect, problem = "", None
        while True:
            await self.awake()
            try:
                effect = (await self._hand_in(message)).effect
                break
            except CPAError as error:
                if not error.retryable:
                    problem = {"title": str(error)}
                    break
                if not lasting:
                    return
                await asyncio.sleep(RESEND)
        if self._conversations is not None:
            self._conversations.acknowledged(str(message.id), effect, problem)

    async def _insist(self, message: BaseMessage) -> None:
        while True:
            try:
                await self._hand_in(message)
                return
            except CPAError as error:
                if not error.retryable:
                    return
                await asyncio.sleep(RESEND)
                await self.awake()

    async def _hand_in(self, message: BaseMessage) -> Acknowledgement:
        async def taken(scheduler: Life) -> Acknowledgement:
            heard = self.world.loop.time()
            told = await scheduler.messages.handle(message, self.caller)
            check_acknowledged(self.world, message, told, heard)
            about = message.correlation
            self.world.vital[about.job_id, about.task_id, about.epoch or 0] = self.world.loop.time()
            self.world.trace("say", self.name, message.type, message.correlation.epoch, told.effect)
            return told

        return await self.world.ask(self.name, taken)

    # -- inside --------------------------------------------------------------------------------------------

    def _refuses(self, request: ActionRequest) -> str:
        return "no display" if self.world.strikes("refusals", self.world.agent_chance, 0.5) else ""

    def new_id(self) -> UUID:
        return UUID(bytes=self.world.random_bytes(16), version=4)
