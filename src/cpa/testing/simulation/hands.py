"""What agents do here: actions that have effects, fail, do not end, and can be looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar

from cpa.core.classes import EffectClass, FailureClass
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.testing.simulation.claims import SETTLE

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

ACTIONS = {
    EffectClass.IDEMPOTENT: "x.sim.set",
    EffectClass.VERIFIABLE: "x.sim.post",
    EffectClass.UNSAFE: "x.sim.press",
}


class Hands(BaseExecutor):
    """Has effects, one for each attempt that comes so far."""

    actions: ClassVar[tuple[str, ...]] = tuple(ACTIONS.values())

    def __init__(
        self,
        world: World,
        name: str,
        awake: Callable[[], Awaitable[None]],
        deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        """`awake` returns once the process goes on; of a dead one it never does. `deaf`: what never ends does not
        stop either."""
        self._world, self._name, self._awake, self._deaf = world, name, awake, deaf
        self.speed = 1.0
        self._broken = 0.0
        """Until then all attempts fail."""

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        world, chance = self._world, self._world.agent_chance
        if world.strikes("stuck_agents", chance, 0.3):
            await self._stick()
        broken = world.faulty and world.loop.time() < self._broken
        for fault, failure in _FAILURES.items():
            if world.strikes(fault, chance, 0.5) or (broken and fault == "technical"):
                if fault == "technical" and not broken and world.forging.random() < 0.5:
                    self._broken = world.loop.time() + _BROKEN
                return ExecutionResult.failed(failure, fault, "it would not work")
        await self._sleep(chance.uniform(0.01, 3.0) * self.speed)
        world.affect(request, self._name)
        if world.strikes("unknown", chance, 0.5):
            return ExecutionResult.failed(FailureClass.UNKNOWN_OUTCOME, "unknown", "the line went dead")
        await self._sleep(chance.uniform(0.01, 3.0) * self.speed)
        world.succeeded(request, self._name)
        return ExecutionResult(success=True, result={"by": self._name})

    async def verify(self, request: ActionRequest) -> Verification:
        await self._sleep(self._world.agent_chance.uniform(0.01, 1.0))
        if self._world.effects.happened(request):
            return Verification(verdict=Verdict.HAPPENED, evidence="it is there", result={"by": "a look"})
        if request.age >= SETTLE:
            return Verification(verdict=Verdict.ABSENT, evidence="it is not there")
        again = max(SETTLE - request.age, 1.0)
        return Verification(verdict=Verdict.UNKNOWN, evidence="not there yet", look_again=again)

    async def _stick(self) -> None:
        """Never end; in every other process, not even when told to stop, as long as it lives."""
        told = False
        while not told or (self._deaf() and self._world.faulty):
            try:
                await self._sleep(5.0 if told else 100_000)
            except asyncio.CancelledError:
                told = True
                if not self._deaf():
                    raise
        raise asyncio.CancelledError

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._awake()


_FAILURES = {
    "technical": FailureClass.TECHNICAL,
    "environment": FailureClass.ENVIRONMENT,
    "business": FailureClass.BUSINESS,
}
_BROKEN = 20.0
"""Seconds for which everything fails, now and then."""
