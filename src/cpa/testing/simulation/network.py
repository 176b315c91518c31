"""The network between the scheduler and its agents: it delays, loses, repeats, reorders and cuts.

A message is a call that is made later, once, several times or never. Whoever needs more than that asks again
(`call`), as programs do on real networks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import TypeVar

from cpa.errors import CPAError, Unavailable
from cpa.testing.simulation.scenario import Scenario
from cpa.testing.virtual import PARTY

T = TypeVar("T")

SCHEDULER = "scheduler"
"""The scheduler's name on the network; agents have their own."""
PATIENCE = 10.0
"""Seconds a caller waits for an answer."""


class Network:
    """Names are parties; `calm` makes it a good network from then on."""

    def __init__(self, scenario: Scenario, seen: Counter[str]) -> None:
        self._faults = scenario.faults
        self._strength = scenario.strength
        self._stoppages = "stoppages" in scenario.faults
        self._chance = scenario.stream("network")
        self._seen = seen
        self._cut: set[tuple[str, str]] = set()

    def calm(self) -> None:
        """No more faults. What is on its way still arrives, in its own time."""
        self._faults = frozenset()
        self._cut.clear()

    def context(self, party: str = "") -> Context:
        """What is done in it is this party's, whoever begins it: the scheduler's waits while that stands still."""
        context = copy_context()
        if self._stoppages:
            context.run(PARTY.set, SCHEDULER if party == SCHEDULER else "")
        return context

    def cut(self, source: str, target: str) -> None:
        """Nothing arrives in this direction any more."""
        self._cut.add((source, target))

    def mend(self, source: str, target: str) -> None:
        self._cut.discard((source, target))

    def open(self, source: str, target: str) -> bool:
        """Whether anything gets onto its way in this direction."""
        return (source, target) not in self._cut

    def send(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        """`arrive` is called when the message does."""
        copies = 1
        if self._strikes("duplicates"):
            copies = self._chance.randint(2, 5)
        for _ in range(copies):
            if self._strikes("loss"):
                continue
            loop, context = asyncio.get_running_loop(), self.context(target)
            loop.call_later(self.delay(), self._arrive, source, target, arrive, context=context)

    def delay(self) -> float:
        """Seconds that something is under way."""
        delay = self._chance.uniform(0.001, 0.02)
        if "slow_network" in self._faults:
            delay += self._chance.random() * 2
        if self._strikes("reordering", 0.3):
            delay += self._chance.choice((1, 10, 40, 100)) * self._chance.random()
        return delay

    def breaks(self) -> str:
        """Whether a connection breaks `before` the next frame arrives, or right `after` it."""
        if not self._strikes("loss", 0.2):
            return ""
        self._seen["broken_channels"] += 1
        return self._chance.choice(("before", "after"))

    def hides(self) -> bool:
        """Whether an end of a connection that broke does not learn of it."""
        hidden = self._strikes("loss")
        if hidden:
            self._seen["half_open_channels"] += 1
        return hidden

    def upset(self) -> str:
        """What happens to a request and its answer besides: `502` by somebody in between or a `reset`, `before` it
        came through or `after`."""
        if not self._strikes("loss", 0.5):
            return ""
        found = self._chance.choice(("502 before", "502 after", "reset before", "reset after"))
        self._seen[f"http_{found.replace(' ', '_')}"] += 1
        return found

    async def call(
        self, source: str, target: str, work: Callable[[], Awaitable[T] | None], start: Callable[..., None]
    ) -> T:
        """Have `work` done by the target and learn what came of it; it may be done several times. `work` gives
        None where nobody is there; `start` runs a coroutine at the target. Raises what the work raised, and
        `Unavailable` when nothing comes back."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def told(result: T | CPAError) -> None:
            if not answer.done():
                if isinstance(result, CPAError):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

        async def serve(working: Awaitable[T]) -> None:
            result: T | CPAError
            try:
                result = await working
            except CPAError as error:
                result = error
            self.send(target, source, lambda: told(result))

        def arrive() -> None:
            working = work()
            if working is not None:
                start(serve(working))

        self.send(source, target, arrive)
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            raise Unavailable("no answer came in time", remedy="ask again") from None

    def _strikes(self, fault: str, share: float = 1.0) -> bool:
        if fault in self._faults and self._chance.random() < self._strength * share:
            self._seen[fault] += 1
            return True
        return False

    def _arrive(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        if (source, target) in self._cut:
            self._seen["cut"] += 1
        else:
            arrive()
