"""The doors of one life of the scheduler: what agents say goes through an oracle, over whatever wire it comes.

`Heard` and `Register` stand where messages, beats and registrations are taken, and hold what is answered against
what is durable; what they do ends with the process, also where the API's own tasks do not. `app` is the real API
over them, for agents on a real wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from cpa.api.app import create_app
from cpa.api.services import ApiServices
from cpa.api.uploads import Uploads
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Unauthorized
from cpa.orchestrator.presence import Answer
from cpa.orchestrator.registration import Registered, Registration
from cpa.ports.agents import Acknowledgement, Beat
from cpa.ports.keys import Caller
from cpa.ports.signatures import SigningKey
from cpa.security.signatures import MessageSignatures, SignedMessages
from cpa.testing.simulation.claims import (
    attempts_of,
    check_acknowledged,
    check_beat,
    check_restart,
    impersonated,
)
from cpa.testing.simulation.letters import WRITER

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World


class Heard:
    """`ports.agents.MessageHandler` of one life."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        return await self._life.within(self._handle(message, caller))

    async def _handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        world, about = self._world, message.correlation
        if caller is not WRITER:
            world.agents[caller.name].check_key(caller.key)
        heard = world.loop.time()
        told = await self._life.messages.handle(message, caller)
        check_acknowledged(world, message, told, heard)
        world.vital[about.job_id, about.task_id, about.epoch or 0] = world.loop.time()
        world.heard[message.sender] = world.loop.time()
        name = message.sender.rpartition("/")[2]
        world.trace("say", name, message.type, about.epoch, told.effect)
        return told


class Register:
    """`orchestrator.directory.AgentDirectory` of one life."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._life.directory, name)

    async def register(self, wanted: Registration, caller: Caller, token: str = "") -> Registered:
        return await self._life.within(self._register(wanted, caller, token))

    async def heartbeat(self, caller: Caller, id: str, beat: Beat) -> Answer:
        return await self._life.within(self._heartbeat(caller, id, beat))

    async def _register(self, wanted: Registration, caller: Caller, token: str) -> Registered:
        world, address = self._world, caller.name
        world.agents[caller.name].check_key(caller.key)
        before = attempts_of(self._life, address)
        known = await world.agent_store.find(caller.tenant, wanted.name)
        done = await self._life.directory.register(wanted, caller, token)
        world.heard[address] = world.loop.time()
        if known is not None and known.incarnation > wanted.incarnation:
            impersonated(world, wanted.instance, "registers after it died")
        if known is None or known.instance != done.agent.instance:
            check_restart(world, address, before, attempts_of(self._life, address))
        return done

    async def _heartbeat(self, caller: Caller, id: str, beat: Beat) -> Answer:
        world = self._world
        world.agents[caller.name].check_key(caller.key)
        heard = world.loop.time()  # it renews at once; the answer may wait for the disk
        known = await world.agent_store.get(caller.tenant, id)
        answer = await self._life.directory.heartbeat(caller, id, beat)
        current = beat.instance if known is None else known.instance
        check_beat(world, self._life, caller.name, beat, answer.lost, current)
        named = frozenset((one.job, one.task, one.epoch) for one in beat.running)
        world.heard[caller.name] = heard
        world.vital.update(dict.fromkeys(named, heard))
        world.beats.update(dict.fromkeys(named, heard))
        if current == beat.instance:
            world.named[caller.name] = named
        return answer


class _Keys:
    """`security.auth.Authenticator`, as far as it is needed: every agent has its own key, and so has who writes."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def identify(self, key: str | None) -> Caller:
        if key == WRITER.key:
            return WRITER
        for process in self._world.processes:
            if process.caller.key == key:
                process.check_key(key)
                return process.caller
        raise Unauthorized("this API key is not accepted", field="X-API-Key", remedy="check it")


def app_of(world: World, life: Life) -> Callable[..., Awaitable[None]]:
    """The real API of one life; what agents do not use of it is not there."""

    def public(tenant: str, address: str) -> SigningKey | None:
        agent = life.registry.get(address, tenant)
        known = None if agent is None else agent.record
        return None if known is None else SigningKey(known.id, known.public_key)

    absent: Any = None
    services = ApiServices(
        engine=life.engine,
        planner=absent,
        messages=life.heard,
        agents=cast("Any", life.register),
        channels=life.channels,
        artifacts=absent,
        uploads=absent,
        said=Uploads(4 * 1024**3, world.clock.now_ms, "messages"),
        audit=absent,
        keys=cast("Any", _Keys(world)),
        clock=world.clock,
        settings=cast("Any", SimpleNamespace(host="", hosts=(), cors_origins=())),
        version="simulated",
        questions=absent,
        dead_letters=absent,
        signatures=MessageSignatures(SignedMessages.OPTIONAL, public, world.clock),
    )
    return create_app(services)
