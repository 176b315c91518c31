"""Timers are outbox rows with a due time; here is who looks at them, and only when one is due.

Never early: a row fires once the clock has reached its time. An idle engine sleeps until the earliest row, so
waiting costs nothing, and a hundred thousand timers cost no memory.

Many that are due at once are fired job by job in the order in which the store keeps them: by their times they would
be strewn over it, and each commit would write most of its pages anew. They are read and written in portions: while
one is written the next is read and stepped, so no more than two are in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import attrgetter

from cpa.core.events import TimerFired
from cpa.engines.local.jobs import Jobs
from cpa.engines.local.stepper import GLANCE, Stepper
from cpa.ports.steps import DueCommand, Unreadable

_MOST = 50_000
"""Rows that are read at once."""
_ORDERED = 10_240
"""Rows that are put into the order of their jobs: no timer is passed over by more that are due later."""
_PAGE = 1_024
"""Rows that are fired and stored together."""
_PAUSE = 200


class Timers:
    def __init__(self, jobs: Jobs, stepper: Stepper) -> None:
        self._jobs = jobs
        self._stepper = stepper
        self._next = 0
        """When to look next; 0 is not known, look into the store."""
        self._passed = 0
        """Due rows of jobs that are set aside: they stay."""
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
        while True:
            now = self._stepper.now()
            rows = await self._jobs.read(self._stepper.store.due, now, _MOST + self._passed)
            left = [row for row in rows if (row.tenant, row.job) not in self._stepper.aside]
            self._passed = len(rows) - len(left)
            if not left:
                break
            if not await self._fire_all(_in_order(left)):
                # Nothing moved: the rows will be right once what is under way is stored.
                self.earlier(self._stepper.now() + _PAUSE)
                return
        stored = await self._jobs.read(self._stepper.store.next_due, now if self._passed else 0)
        if stored:
            self.earlier(stored)

    async def _fire_all(self, rows: list[DueCommand]) -> bool:
        """Whether anything moved, and all that did is durable."""
        fired, before = 0, None
        for start in range(0, len(rows), _PAGE):
            if self._stepper.trouble:
                break
            fired += await self._fire_some(rows[start : start + _PAGE])
            # Asked for before anybody else has a turn: else it would be told with the next portion.
            flushing = self._jobs.flushing()
            if before is not None:
                await before
            before = flushing
        await (before or self._jobs.flushing())
        return fired > 0 and not self._stepper.trouble

    async def _fire_some(self, rows: Sequence[DueCommand]) -> int:
        """How many moved their job."""
        fired, jobs, step = 0, self._stepper.jobs, self._stepper.step
        await self._jobs.bring((row.tenant, row.job) for row in rows)
        for row in rows:
            job = jobs.get((row.tenant, row.job)) or await self._jobs.found(row.tenant, row.job)
            if job is not None and not row.key.isascii():
                self._stepper.set_aside(job, _odd(row))
            elif job is not None:
                fired += step(job, TimerFired(time=0, key=row.key)).changes is not None
        return fired

    async def _sleep(self) -> None:
        while True:
            self._changed.clear()
            wait = (self._next - self._stepper.now()) / 1000 if self._next else None
            if wait is not None and wait <= 0:
                return
            try:
                # Not for longer: the clock may be set, or stand still while the machine sleeps.
                async with asyncio.timeout(wait if wait is None else min(wait, GLANCE)):
                    await self._changed.wait()
            except TimeoutError:
                continue


def _odd(row: DueCommand) -> Unreadable:
    """Of a row that is no timer of its job: no step of the job would ever take it away."""
    return Unreadable(
        f"job {row.job} has a timer whose name cannot be read",
        field="key",
        value=row.key,
        remedy="restore the store from a backup; the other jobs go on",
    )


def _in_order(rows: Sequence[DueCommand]) -> list[DueCommand]:
    """Rows as they are due, those due at about the same time by their jobs; those of one job keep their order."""
    parts = (rows[start : start + _ORDERED] for start in range(0, len(rows), _ORDERED))
    return [row for part in parts for row in sorted(part, key=attrgetter("tenant", "job"))]
