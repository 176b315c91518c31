"""An agent's way to the scheduler, of one process: over the bare network, by the real channel, or by real HTTP.

All of them register, beat and hand in messages; what is said is said until it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import httpx2
import msgspec

from cpa.agents.channel import Channel
from cpa.agents.client import SchedulerClient, beat_patience
from cpa.agents.conversation import Conversations
from cpa.agents.line import Line
from cpa.agents.listener import Door
from cpa.agents.posting import Posting
from cpa.agents.signing import Signer
from cpa.agents.work import Refused, Taken
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, first_error
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import Beat, named_in
from cpa.testing.simulation.posts import Posts
from cpa.testing.simulation.sockets import Dialler

if TYPE_CHECKING:
    from cpa.testing.simulation.agents import Process
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World

RESEND = 2.0
"""Seconds after which an answer that was not acknowledged is said again."""
LEASE = 15.0
"""Seconds, as the scheduler says when an agent registers."""
URL = "http://scheduler"


class Way(Protocol):
    """`open` before anything is said or beaten."""

    def say(self, message: BaseMessage, *, lasting: bool) -> None:
        """Never blocks."""
        ...

    def open(self, conversations: Conversations) -> AbstractAsyncContextManager[None]:
        """From now on the scheduler is heard."""
        ...

    async def register(self, wanted: Registration) -> str:
        """The agent's id."""
        ...

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        """The answer."""
        ...

    async def hand_in(self, message: BaseMessage) -> str:
        """Once; the effect."""
        ...


class Direct:
    """Values over the network, and nothing real in between."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self._conversations: Conversations | None = None

    @asynccontextmanager
    async def open(self, conversations: Conversations) -> AsyncIterator[None]:
        self._conversations = conversations
        yield

    def say(self, message: BaseMessage, *, lasting: bool) -> None:
        self._process.start(self._say(message, lasting=lasting))

    async def register(self, wanted: Registration) -> str:
        async def taken(scheduler: Life) -> str:
            return (await scheduler.register.register(wanted, self._process.caller)).agent.id

        return await self._world.ask(self._process.name, taken)

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        process = self._process

        async def taken(scheduler: Life) -> Mapping[str, Any]:
            answer = await scheduler.register.heartbeat(process.caller, process.id, beat)
            return {"lost": msgspec.to_builtins(answer.lost)}

        return await self._world.ask(process.name, taken)

    async def hand_in(self, message: BaseMessage) -> str:
        async def taken(scheduler: Life) -> str:
            return (await scheduler.heard.handle(message, self._process.caller)).effect

        return await self._world.ask(self._process.name, taken)

    async def _say(self, message: BaseMessage, *, lasting: bool) -> None:
        effect, problem = "", None
        while True:
            await self._process.awake()
            try:
                effect = await self.hand_in(message)
                break
            except CPAError as error:
                if not error.retryable:
                    problem = {"title": str(error)}
                    break
                if not lasting:
                    return
                await asyncio.sleep(RESEND)
        if self._process.conversations is not None:
            self._process.conversations.acknowledged(str(message.id), effect, problem)


class Wired:
    """The real client, signing where the run has it, and the real channel or endpoint."""

    def __init__(self, world: World, process: Process, life: int) -> None:
        """`life`: which process of the agent this is."""
        self._world, self._process, self._life = world, process, life
        self._posts = Posts(world, process.name, self._awake)
        self._client = SchedulerClient(URL, process.caller.key, transport=self._posts)
        if world.scenario.signed:
            self._client.signer = Signer(process.signing_key, world.clock, self._nonce)
            self._client.signer.key = process.key_id
        self._callback = ""
        self._line: Line | None = None
        self._channel: Channel | None = None

    async def register(self, wanted: Registration) -> str:
        process, signer = self._process, self._client.signer
        said = msgspec.to_builtins(wanted) | {"endpoint": process.endpoint}
        if signer is not None:
            said["public_key"] = signer.public
        answer = await self._client.register(said)
        process.key_id = str(answer["key_id"])
        if signer is not None:
            signer.key = process.key_id
        self._callback = str(answer["callback_key"])
        return str(answer["agent_id"])

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        if self._channel is not None:
            return await self._channel.beat(beat)
        return await self._client.beat(self._process.id, beat)

    async def hand_in(self, message: BaseMessage) -> str:
        return str((await self._client.hand_in(message)).get("effect", ""))

    def say(self, message: BaseMessage, *, lasting: bool) -> None:
        assert self._line is not None
        self._line.say(message, lasting=lasting)

    @asynccontextmanager
    async def open(self, conversations: Conversations) -> AsyncIterator[None]:
        process = self._process
        if not process.endpoint:
            channel = self._line = self._channel = self._channelled()
            process.start(self._keep(channel))
            yield
            return
        door = Door(dict)
        taking = cast("Conversations", _Taking(process, conversations))
        door.open(taking, self._callback)
        patience = beat_patience(LEASE)
        async with Posting(self._client, process.id, process.acknowledged, patience=patience) as self._line:
            process.app = door.app()
            try:
                yield
            finally:
                process.app = None

    def _channelled(self) -> Channel:
        process = self._process
        return Channel(
            URL,
            process.caller.key,
            process.id,
            process.life,
            process.take_in,
            process.acknowledged,
            opened=process.beat_now,
            patience=beat_patience(LEASE),
            signer=self._client.signer,
            open=Dialler(self._world, process, self._life).open,
        )

    async def _keep(self, channel: Channel) -> None:
        try:
            await channel.run()
        except* CPAError as group:
            error = first_error(group)
            assert isinstance(error, CPAError)
            self._process.sent_away(error)

    async def _awake(self) -> None:
        """Of a dead process nothing leaves any more."""
        await self._process.awake()
        if not self._process.lives(self._life):
            raise httpx2.ConnectError("the process is dead")

    def _nonce(self) -> str:
        return self._world.random_bytes(16).hex()


class _Taking:
    """What `agents.listener` uses of the conversations."""

    def __init__(self, process: Process, conversations: Conversations) -> None:
        self._process, self._conversations = process, conversations

    async def take(self, message: BaseMessage) -> Taken | None:
        try:
            return await self._process.take(message, self._conversations.take)
        except Refused:
            self._process.restraint.end(named_in(message), "it refused")
            raise

    def stop(self, id: str) -> bool:
        return self._conversations.stop(id)


def way_of(world: World, process: Process, life: int) -> Way:
    return Direct(world, process) if world.scenario.wire == "direct" else Wired(world, process, life)
