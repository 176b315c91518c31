"""Starts jobs from the line while there is room. A job that only waits (for a person, a time) takes no room."""

from __future__ import annotations

import asyncio

from cpa.core.events import JobStarted
from cpa.engines.local.group import Key
from cpa.engines.local.jobs import Jobs
from cpa.engines.local.loops import Spawn
from cpa.engines.local.stepper import GLANCE, Stepper
from cpa.ports.engine import Submission

_PAGE = 500


class Line:
    def __init__(self, jobs: Jobs, stepper: Stepper, max_running: int, spawn: Spawn) -> None:
        self._jobs = jobs
        self._stepper = stepper
        self._max_running = max_running
        self._spawn = spawn
        self._someone = True
        """Whether a job may be in the line that could start now."""
        self._later = 0
        """When the next postponed job may start; 0 is none."""
        self._claimed: set[Key] = set()
        """Jobs whose row may still be there, although they were taken, or are set aside."""
        self._passed = False
        """Whether the last look passed over rows of claimed jobs."""
        self._news = asyncio.Event()
        self._stopped = False

    def may_start(self, submission: Submission) -> bool:
        """Whether a new job starts at once: there is room, nobody stands before it, and its time has come."""
        free = self._stepper.busy < self._max_running and not self._someone and self._stepper.starting
        return free and submission.not_before <= self._stepper.now()

    def wake(self, not_before: int = 0) -> None:
        """A job stands in the line now, durably: only then the store shows it. A postponed one is shown once it has
        become ripe, also if its time has passed by now."""
        if not_before:
            self._later = min(self._later, not_before) if self._later else not_before
        else:
            self._someone = True
        self._news.set()

    def stop(self) -> None:
        self._stopped = True

    def room(self) -> None:
        """Some job came to rest."""
        if self._someone:
            self._news.set()

    async def open(self) -> None:
        """Learn who stands in the line before anybody is let in: if nobody does, a new job need not queue."""
        self._someone = bool(await self._jobs.read(self._stepper.store.line, 1))
        self._later = await self._jobs.read(self._stepper.store.next_start)

    async def run(self) -> None:
        while True:
            self._news.clear()
            while self._someone and self._stepper.busy < self._max_running and not self._stopped:
                await self._start_some()
            await self._sleep()

    async def _start_some(self) -> None:
        room = min(self._max_running - self._stepper.busy, _PAGE)
        self._someone = False
        rows = await self._jobs.read(self._stepper.store.line, room + len(self._claimed))
        fresh = [row for row in rows if tuple(row) not in self._claimed]
        self._passed = len(fresh) < len(rows)
        claimed: list[Key] = []
        await self._jobs.bring(fresh[:room])
        for tenant, name in fresh[:room]:
            job = await self._jobs.found(tenant, name)
            self._claimed.add((tenant, name))
            if job is not None:
                claimed.append((tenant, name))
                self._stepper.step(job, JobStarted(time=0))
                if (tenant, name) not in self._stepper.aside:
                    self._stepper.dequeue(job)
        if fresh:
            self._someone = True
            # What was claimed is no row any more once this is durable (or is one again if it could not be).
            self._spawn(self._forget(claimed))
        elif len(rows) == room + len(self._claimed):
            self._someone = True

    async def _forget(self, claimed: list[Key]) -> None:
        await self._jobs.flush()
        self._claimed.difference_update(claimed)
        # Those whose start could not be stored stand in the line again, where nobody saw them until now.
        self._someone |= self._passed
        self._news.set()

    async def _sleep(self) -> None:
        wait = (self._later - self._stepper.now()) / 1000 if self._later else None
        if wait is None or wait > 0:
            try:
                # Not for longer: the clock may be set, or stand still while the machine sleeps.
                async with asyncio.timeout(wait if wait is None else min(wait, GLANCE)):
                    await self._news.wait()
            except TimeoutError:
                pass
        if self._later and self._later <= self._stepper.now():
            self._stepper.ripen()
            await self._jobs.flush()
            self._someone = True
            self._later = await self._jobs.read(self._stepper.store.next_start)
