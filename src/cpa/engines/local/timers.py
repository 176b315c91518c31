"""Timers are outbox rows with a due time; here is who looks at them, and only when one is due.

Never early: a row fires once the clock has reached its time. An idle engine sleeps until the earliest row, so
waiting costs nothing, and a hundred thousand timers cost no memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cpa.core.events import TimerFired
from cpa.engines.local.stepper import Stepper

if TYPE_CHECKING:
    from cpa.engines.local.engine import LocalEngine

_PAGE = 500
_PAUSE = 200
_LONGEST = 3600.0
"""Seconds after which the clock is looked at even if no timer is near: it may have been set."""


class Timers:
    def __init__(self, engine: LocalEngine, stepper: Stepper) -> None:
        self._engine = engine
        self._stepper = stepper
        self._next = 0
        """When to look next; 0 is not known, look into the store."""
        self._changed = asyncio.Event()

    def earlier(self, due: int) -> None:
        """A timer with this due time is durable now."""
        if self._next == 0 or due < self._next:
            self._next = due
            self._changed.set()

    async def run(self) -> None:
        while True:
            await self._fire()
            await self._sleep()

    async def _fire(self) -> None:
        """Fire all that is due, then learn when the next one is."""
        self._next = 0
        while rows := await self._engine.read(self._stepper.store.due, self._stepper.now(), _PAGE):
            fired = 0
            for row in rows:
                job = await self._engine.load(row.tenant, row.job)
                fired += self._stepper.step(job, TimerFired(time=0, key=row.key)).changes is not None
            await self._engine.flush()
            if not fired or self._engine.trouble:
                # Nothing moved: the rows will be right once what is under way is stored.
                self.earlier(self._stepper.now() + _PAUSE)
                return
        stored = await self._engine.read(self._stepper.store.next_due)
        if stored:
            self.earlier(stored)

    async def _sleep(self) -> None:
        while True:
            self._changed.clear()
            wait = (self._next - self._stepper.now()) / 1000 if self._next else _LONGEST
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(min(wait, _LONGEST)):
                    await self._changed.wait()
            except TimeoutError:
                return
