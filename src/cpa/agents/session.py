"""The life of one agent's process: register, beat, work, leave.

    start     say what an earlier process could not get rid of, as its word still counts, then register:
              whoever registers with a new instance loses what the old one had
    beat      every few seconds, and at once when the channel opens; the answer says what was taken away
    SIGTERM   take nothing new, let what runs end for a while, stop the rest, say goodbye
    SIGTERM again   stop at once

A scheduler that cannot be reached is asked again and again; one that says no ends the agent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

import structlog
from msgspec.structs import replace

from cpa.agents.beats import answered, beat_of
from cpa.agents.channel import Channel
from cpa.agents.client import SchedulerClient, beat_patience, longer
from cpa.agents.conversation import Conversations
from cpa.agents.identity import Identity, keep, known, machine
from cpa.agents.line import Line
from cpa.agents.listener import Door, bound_to, listening, url_of
from cpa.agents.messages import Speaker
from cpa.agents.outbox import Outbox
from cpa.agents.posting import Posting
from cpa.agents.signing import Signer, draw
from cpa.agents.watchdog import stillness, watched
from cpa.core.lam_protocol import parse
from cpa.errors import CPAError, Unauthorized, first_error
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import AgentState, AgentStatus, Beat, Readiness
from cpa.ports.clock import Clock
from cpa.ports.executor import ActionRequest

log = structlog.stdlib.get_logger(__name__)

FAREWELL: Final = 5.0
"""Seconds within which what was stopped should have been told."""
_SOON: Final = 1.0
"""Seconds after which a beat that did not arrive is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Who the agent is, and where its scheduler."""

    name: str
    type: str
    url: str
    key: str = ""
    """For the first registration: an admin's key, or one made for this agent."""
    token: str = ""
    """Instead of a key: an enrolment token."""
    data: Path
    """Folder of identity and outbox."""
    slots: int = 1
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    sign: bool = False
    """Sign what is sent. An agent that signs goes on doing so, and one whose scheduler wants it begins."""
    listen: str = ""
    """HOST:PORT to be called at; empty opens a channel instead."""
    endpoint: str = ""
    """The URL by which the scheduler reaches what listens, where that is another one."""
    grace: float = 20.0
    """Seconds that running attempts may go on after SIGTERM."""


class _Way(Line, Protocol):
    patience: float

    async def beat(self, beat: Beat) -> Mapping[str, Any]: ...


class Session:
    """One process of an agent. `run` once; `stop` from a signal."""

    def __init__(
        self,
        options: Options,
        executors: ExecutorRegistry,
        clock: Clock,
        *,
        readiness: Callable[[], Readiness] = Readiness,
        refuses: Callable[[ActionRequest], str] = lambda _: "",
        ready: Callable[[str], None] = lambda _: None,
    ) -> None:
        """The executors stay the caller's. `readiness` is asked at each beat; `ready` gets one line when the agent
        is registered and heard."""
        self.life = secrets.token_hex(16)
        """Its instance, a secret: by it the answer to a registration that got lost is given again."""
        self._options = options
        self._executors = executors
        self._clock = clock
        self._readiness = readiness
        self._refuses = refuses
        self._ready = ready
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._interval = self._lease = 0.0
        self._conversations: Conversations | None = None
        self._signing_key = ""
        self._turned_away = False
        """It was refused before it ever was registered."""
        self._withheld: tuple[str, ...] = ()
        """What it offers and was not enrolled for."""

    def stop(self) -> None:
        """Leave in order; called again: at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`, or until the scheduler says no: that is raised as its `CPAError`, perhaps in a group."""
        options = self._options
        outbox = await Outbox.open(options.data / "outbox.db", self.life, self._clock)
        try:
            door = Door(self._health, options.endpoint)
            async with SchedulerClient(options.url) as client, self._listening(door) as endpoint:
                said = await self._register(client, outbox, endpoint)
                if said is None:
                    return
                with watched(stillness(float(said["lease"]))):
                    await self._work(client, outbox, door, said, endpoint)
        finally:
            await (outbox.discard() if self._turned_away else outbox.close())

    @asynccontextmanager
    async def _listening(self, door: Door) -> AsyncIterator[str]:
        """The endpoint by which the agent is called; empty when it opens a channel."""
        if not self._options.listen:
            yield ""
            return
        bound = bound_to(self._options.listen)
        async with listening(door.app(), bound):
            yield self._options.endpoint or url_of(bound)

    # -- registering ---------------------------------------------------------------------------------------

    async def _register(
        self, client: SchedulerClient, outbox: Outbox, endpoint: str
    ) -> Mapping[str, Any] | None:
        """What the registration was answered with; None when the agent was stopped before."""
        options, identity = self._options, known(self._options.data)
        client.key = identity.key if identity else options.key
        if options.sign or (identity is not None and identity.signing_key):
            identity = self._begin_signing(client, identity)
        said: dict[str, Any] = {
            "name": options.name,
            "type": options.type,
            "capabilities": [*self._executors.actions, *options.tags],
            "endpoint": endpoint,
            "metadata": machine() | dict(options.metadata),
            "slots": options.slots,
            "instance": self.life,
            "incarnation": outbox.incarnation,
        }
        pause = 0.0
        while not self._stopping.is_set():
            try:
                if identity is not None:
                    await _hand_in(client, outbox)
                if client.signer is not None:
                    said["public_key"] = client.signer.public
                answer = await client.register(said, token=options.token)
            except CPAError as error:
                if error.field == "public_key" and client.signer is None:
                    identity = self._begin_signing(client, identity)
                    continue
                if not error.retryable:
                    self._turned_away = identity is None
                    raise _explained(error, identity, options) from error
                log.warning("scheduler_unreachable", error=str(error))
                pause = longer(pause)
                await _wait(self._stopping, pause)
                continue
            self._registered(client, identity, answer)
            return answer
        return None

    def _begin_signing(self, client: SchedulerClient, identity: Identity | None) -> Identity | None:
        """From now on what this client sends is signed. The key is durable before the scheduler learns of it: it
        would take nothing unsigned any more."""
        self._signing_key = (identity.signing_key if identity else "") or draw()
        client.signer = Signer(self._signing_key, self._clock)
        if identity is not None:
            client.signer.key = identity.key_id
            if not identity.signing_key:
                identity = replace(identity, signing_key=self._signing_key)
                keep(self._options.data, identity)
        return identity

    def _registered(
        self, client: SchedulerClient, identity: Identity | None, answer: Mapping[str, Any]
    ) -> None:
        """Keep what the scheduler said about who we are."""
        client.key = answer.get("key") or client.key
        key_id = str(answer.get("key_id") or "")
        if client.signer is not None:
            client.signer.key = key_id
        made = Identity(
            id=answer["agent_id"],
            address=answer["address"],
            key=client.key,
            url=client.url,
            signing_key=self._signing_key,
            key_id=key_id,
        )
        if made != identity:
            keep(self._options.data, made)
        self._withheld = tuple(answer.get("withheld") or ())
        if self._withheld:
            log.warning("actions_withheld", actions=self._withheld, remedy="start with a token for its name")

    # -- working -------------------------------------------------------------------------------------------

    async def _work(
        self, client: SchedulerClient, outbox: Outbox, door: Door, said: Mapping[str, Any], endpoint: str
    ) -> None:
        agent, address = said["agent_id"], said["address"]
        self._interval, self._lease = float(said["heartbeat_interval"]), float(said["lease"])
        conversations = Conversations(
            Speaker(address, uuid4, self._clock.now_ms),
            outbox,
            self._executors,
            self._clock,
            life=self.life,
            slots=self._options.slots,
            refuses=self._refuses,
        )
        self._conversations = conversations
        left = await outbox.undelivered()
        posting = Posting(client, agent, conversations.acknowledged, doubted=self._beat_now.set)
        async with conversations, posting:
            channel = self._channel(client, agent, conversations)
            way: _Way = posting if endpoint else channel
            conversations.connect(way)
            conversations.restore(left)
            if endpoint:
                door.open(conversations, str(said.get("callback_key") or ""))
            async with asyncio.TaskGroup() as group, conversations.runtime:
                works = [
                    group.create_task(
                        self._beats(way, conversations, f"{address} via {endpoint or 'channel'}")
                    )
                ]
                if not endpoint:
                    works.append(group.create_task(self._keep_open(channel)))
                await self._stopping.wait()
                await self._leave(way, conversations)
                for work in works:
                    work.cancel()

    def _channel(self, client: SchedulerClient, agent: str, conversations: Conversations) -> Channel:
        return Channel(
            client.url,
            client.key,
            agent,
            self.life,
            conversations.hear,
            conversations.acknowledged,
            opened=self._beat_now.set,
            signer=client.signer,
        )

    async def _keep_open(self, channel: Channel) -> None:
        try:
            await channel.run()
        except* CPAError as group:
            error = first_error(group)
            assert isinstance(error, CPAError)
            raise _explained(error, known(self._options.data), self._options) from error

    def _does(self, state: str) -> str:
        """What it may do, and what hinders it, for who started it."""
        told = (
            ", ".join(each for each in self._executors.actions if each not in self._withheld) or "no action"
        )
        if self._withheld:
            told += f" (not {', '.join(self._withheld)}: for that it was not enrolled)"
        return f"{told}; it is {state}" if state not in ("", AgentState.ACTIVE) else told

    async def _beats(self, way: _Way, conversations: Conversations, who: str) -> None:
        """Beat for ever. What a beat's answer does not take away is ours for a lease from when it was sent."""
        heard = False
        while True:
            self._beat_now.clear()
            sent, way.patience = self._clock.monotonic(), beat_patience(self._lease)
            try:
                answer = await way.beat(beat_of(conversations, self.life, self._readiness()))
            except CPAError as error:
                if not error.retryable:
                    raise _explained(error, known(self._options.data), self._options) from error
                pause = min(self._interval, _SOON)
                log.log(logging.INFO if heard else logging.DEBUG, "beat_not_heard", error=str(error))
            else:
                # Of the scheduler that answered: a new life of it may have been told other times.
                self._interval = float(answer.get("heartbeat_interval") or self._interval)
                self._lease = float(answer.get("lease") or self._lease)
                pause = answered(conversations, answer, sent, interval=self._interval, lease=self._lease)
                if not heard:
                    heard = True
                    self._ready(f"{who}, {self._does(str(answer.get('state') or ''))}")
            await _wait(self._beat_now, pause)

    async def _leave(self, way: _Way, conversations: Conversations) -> None:
        log.info("leaving", running=conversations.busy)
        conversations.draining = True
        self._beat_now.set()
        quiet = asyncio.create_task(conversations.quiet(self._options.grace))
        at_once = asyncio.create_task(self._at_once.wait())
        try:
            await asyncio.wait([quiet, at_once], return_when=asyncio.FIRST_COMPLETED)
        finally:
            quiet.cancel()
            at_once.cancel()
        conversations.stop_all()
        await conversations.quiet(FAREWELL)
        try:
            await way.beat(Beat(status=AgentStatus.OFFLINE, free=0, instance=self.life))
        except CPAError as error:
            log.info("left_without_goodbye", error=str(error))

    def _health(self) -> Mapping[str, Any]:
        """How the agent stands, for `GET /health`."""
        found = self._conversations
        told: dict[str, Any] = {"name": self._options.name, "type": self._options.type}
        if found is None:
            return told | {"status": "starting"}
        status = "draining" if found.draining else "healthy"
        return told | {"status": status, "slots": found.slots, "busy": found.busy}


async def _hand_in(client: SchedulerClient, outbox: Outbox) -> None:
    """Say what an earlier process could not, as long as its word counts."""
    for answer in await outbox.undelivered():
        try:
            await client.hand_in(answer)
        except CPAError as error:
            if error.retryable or isinstance(error, Unauthorized):
                raise
            log.error("message_refused", error=str(error))
        await outbox.delivered(str(parse(answer).id))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _explained(error: CPAError, identity: Identity | None, options: Options) -> CPAError:
    """What an agent can do about it when it is not known (any more)."""
    if not isinstance(error, Unauthorized):
        return error
    if identity is not None:
        error.field = None  # Its key is its own: no setting of whoever started it is wrong.
        error.remedy = (
            f"the agent {identity.address} was revoked or removed; remove {options.data} to register it anew"
        )
    elif not (options.key or options.token):
        error.message = f"{options.url} does not know this agent yet"
        error.field = "token"
        error.remedy = "start it with a token: `cpa agents token` at the server prints one"
    return error


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop` while the block runs."""
    loop = asyncio.get_running_loop()
    ending = (signal.SIGTERM, signal.SIGINT)
    if sys.platform == "win32":
        before = {each: signal.signal(each, lambda *_: loop.call_soon_threadsafe(stop)) for each in ending}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        return
    for each in ending:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in ending:
            loop.remove_signal_handler(each)
