"""What goes wrong by itself: processes that end, networks that are cut, disks that are full, clocks that jump."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from cpa.errors import CPAError, NotFound
from cpa.ports.agents import AgentState
from cpa.ports.keys import Caller, Scope
from cpa.security.auth import FIXED
from cpa.testing.simulation.agents import TENANT, Process
from cpa.testing.simulation.claims import attempts_of, check_quarantine, check_removed
from cpa.testing.simulation.letters import Writer
from cpa.testing.simulation.network import SCHEDULER
from cpa.testing.virtual import VirtualLoop

if TYPE_CHECKING:
    from cpa.testing.simulation.scheduler import Life
    from cpa.testing.simulation.world import World


OPERATOR = Caller(tenant=TENANT, key=FIXED.key, name="Ida", scopes=frozenset((Scope.ADMIN,)))
"""Who looks after the agents."""
_STILL = (0.5, 4, 6, 11, 12.5, 14, 20, 60)
"""Seconds for which the scheduler, or everything, stands still."""
_MOST_SKEW = 600_000
"""Milliseconds: a clock that is set back makes timers late by as much."""


class Troubles:
    """`works` run beside everything else until `heal`; each only where its fault exists."""

    def __init__(self, world: World) -> None:
        self._world = world
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop, self._well = loop, asyncio.Event()
        self._chance = world.scenario.stream("troubles")
        self._foremost = world.clock.skew
        """What the clock was ahead at most."""
        self._handled: set[str] = set()
        """Agents that an operator is at."""
        for process in world.processes:
            if "slow_agents" in world.scenario.faults and self._chance.random() < 0.5:
                process.hands.speed = self._chance.choice((3.0, 30.0))

    def works(self) -> Iterator[Coroutine[Any, Any, None]]:
        faults = self._world.scenario.faults
        everything = {
            "crashes": self._crashes,
            "restarts": self._restarts,
            "disk": self._disk,
            "clock": self._clock,
            "deaths": self._deaths,
            "lost_agents": self._lost_agents,
            "pauses": self._pauses,
            "mute": self._mute,
            "partitions": self._partitions,
            "operators": self._operators,
            "removals": self._removals,
            "standstills": self._standstills,
            "stoppages": self._stoppages,
            "echoes": self._echoes,
        }
        yield from (work() for fault, work in everything.items() if fault in faults)

    @property
    def set_back(self) -> float:
        """Seconds that the clock lies behind what it has shown. A time of day that was named before (a timer's, an
        agent's for its proposal) comes later by as much: too early would be worse than late."""
        return (self._foremost - self._world.clock.skew) / 1000

    def heal(self) -> None:
        """All is well from now on, but for what never comes back."""
        world = self._world
        world.network.calm()
        self._well.set()
        for process in world.processes:
            process.go_on()
            process.revive()
            process.mute(0)
            process.hands.speed = 1.0
        if world.life is not None:
            world.life.disk.full = False
        world.trace("healed")

    async def _crashes(self) -> None:
        while await self._wait("crashes", 40):
            if self._world.life is not None and not self._world.life.dead:
                self._world.trace("crash")
                self._world.life.kill()

    async def _restarts(self) -> None:
        while await self._wait("restarts", 60):
            if self._world.life is not None and not self._world.life.dead:
                self._world.trace("stop")
                self._world.life.stop()

    async def _disk(self) -> None:
        while await self._wait("disk", 40):
            life = self._world.life
            if life is not None:
                life.disk.full = True
                await asyncio.sleep(self._chance.random() * 10)
                life.disk.full = False

    async def _clock(self) -> None:
        while await self._wait("clock", 30):
            jump = self._chance.choice((-600_000, -20_000, -500, 500, 20_000, 600_000))
            skew = self._world.clock.skew + jump
            self._world.clock.skew = min(max(skew, -_MOST_SKEW), _MOST_SKEW)
            self._foremost = max(self._foremost, self._world.clock.skew)
            self._world.trace("clock jumps", jump)

    async def _deaths(self) -> None:
        while await self._wait("deaths", 30):
            process = self._chance.choice(self._world.processes)
            self._world.trace("dies", process.name)
            process.kill()
            await asyncio.sleep(self._chance.choice((0.1, 3, 30)))
            process.revive()

    async def _lost_agents(self) -> None:
        while await self._wait("lost_agents", 60):
            left = [process for process in self._world.processes if not process.gone]
            if len(left) < 2:
                return
            process = self._chance.choice(left)
            self._world.trace("dies for ever", process.name)
            process.gone = True
            process.kill()

    async def _pauses(self) -> None:
        while await self._wait("pauses", 30):
            process = self._chance.choice(self._world.processes)
            self._world.trace("pauses", process.name)
            process.pause()
            await asyncio.sleep(self._chance.choice((2, 17, 40, 120)))
            process.go_on()
            self._world.trace("goes on", process.name)

    async def _mute(self) -> None:
        while await self._wait("mute", 30):
            process = self._chance.choice(self._world.processes)
            seconds = self._chance.choice((7, 16, 30))
            self._world.trace("is mute", process.name, seconds)
            process.mute(seconds)

    async def _partitions(self) -> None:
        network = self._world.network
        while await self._wait("partitions", 30):
            name = self._chance.choice(self._world.processes).name
            ways = [(name, SCHEDULER), (SCHEDULER, name)]
            ways = self._chance.choice((ways, ways[:1], ways[1:]))
            self._world.trace("cut", *ways)
            for way in ways:
                network.cut(*way)
            await asyncio.sleep(self._chance.choice((3, 12, 30, 90)))
            for way in ways:
                network.mend(*way)

    async def _operators(self) -> None:
        while await self._wait("operators", 40):
            process = self._chance.choice(self._world.processes)
            state = self._chance.choice((AgentState.DRAINING, AgentState.QUARANTINED))
            seconds = self._chance.choice((3, 20, 90))
            if process.id and process.address not in self._handled:
                self._handled.add(process.address)
                await self._change(process, state)
                self._world.barred[process.address] = self._world.loop.time(), state
                await asyncio.sleep(seconds)
                del self._world.barred[process.address]
                await self._change(process, AgentState.ACTIVE)
                self._handled.remove(process.address)

    async def _change(self, process: Process, state: AgentState) -> None:
        """Until it is done."""

        async def change(life: Life) -> None:
            await life.directory.change(OPERATOR, process.id, state)
            if state is AgentState.QUARANTINED:
                check_quarantine(self._world, life, process.address)

        while True:
            try:
                await self._world.inside(change)
            except CPAError:
                await asyncio.sleep(1)
            else:
                self._world.trace("is", state.value, process.name)
                return

    async def _removals(self) -> None:
        chance = self._world.scenario.stream("removals")
        while await self._wait("removals", 40, chance):
            process, revoked = chance.choice(self._world.processes), chance.random() < 0.5
            last, gone = chance.choice((1, 10, 40)), chance.choice((0.1, 5, 30))
            if not process.id or process.address in self._handled:
                continue
            self._handled.add(process.address)
            await self._remove(process, revoked=revoked)
            # It works on with a dead key, until it learns of it or its lease is over; then somebody sees to it.
            await asyncio.sleep(last)
            process.kill()
            await asyncio.sleep(gone)
            process.renew()  # by now it may have been started again with its old key
            del self._world.barred[process.address]
            process.revive()
            self._handled.remove(process.address)

    async def _standstills(self) -> None:
        chance = self._world.scenario.stream("standstills")
        while await self._wait("standstills", 40, chance):
            seconds = chance.choice(_STILL)
            self._world.trace("stands still", seconds)
            self._loop.stand_still(seconds)
            self._world.oracles.went_on(self._loop.time(), seconds)

    async def _stoppages(self) -> None:
        chance, oracles = self._world.scenario.stream("stoppages"), self._world.oracles
        while await self._wait("stoppages", 40, chance):
            began, seconds = self._loop.time(), chance.choice(_STILL)
            self._world.trace("the scheduler stands still", seconds)
            oracles.still = True
            self._loop.suspend(SCHEDULER)
            try:
                async with asyncio.timeout(seconds):
                    await self._well.wait()
            except TimeoutError:
                pass
            finally:
                self._loop.resume()
            oracles.still = False
            oracles.went_on(self._loop.time(), self._loop.time() - began)
            self._world.trace("the scheduler goes on")

    async def _echoes(self) -> None:
        await Writer(self._world).run()

    async def _remove(self, process: Process, *, revoked: bool) -> None:
        """Until it is done."""
        world, address = self._world, process.address
        world.trace("is revoked" if revoked else "is unregistered", process.name)

        async def remove(life: Life) -> None:
            had = attempts_of(life, address)
            if revoked:
                await life.directory.change(OPERATOR, process.id, AgentState.REVOKED)
            else:
                await life.directory.remove(OPERATOR, process.id)
            check_removed(world, life, address, had)

        while True:
            try:
                await world.inside(remove)
            except NotFound:
                break  # it was done, and the scheduler ended before it could say so
            except CPAError:
                await asyncio.sleep(1)
            else:
                break
        world.barred[address] = world.loop.time(), AgentState.REVOKED

    async def _wait(self, fault: str, mean: float, chance: random.Random | None = None) -> bool:
        """Until it strikes; False when there are no faults any more."""
        await asyncio.sleep((chance or self._chance).expovariate(1 / mean))
        if self._world.faulty:
            self._world.seen[fault] += 1
        return self._world.faulty
