"""After a start, and after a commit that failed: perform again what is open.

Walks outbox rows by index and loads a job only to step it. An attempt given to a part of this process in an earlier
life is a lost lease: its outcome is unknown, and the core decides by the task's effect class. One given to an agent
that is a process of its own is with that agent still: it is asked for again, by the same name. All attempts come
first: only then it is known how many slots are free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from cpa.core.commands import CancelAttempt, Command, DispatchTask, RequestTask, VerifyTask
from cpa.core.events import Event, LeaseLost, TaskFailed, TaskRefused, TaskSucceeded
from cpa.core.job import JobState
from cpa.engines.local.group import Key
from cpa.engines.local.jobs import Jobs
from cpa.engines.local.loops import Spawn
from cpa.engines.local.stepper import Stepper
from cpa.engines.local.writer import RETRY_COMMIT
from cpa.errors import NotFound
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import Unreadable
from cpa.ports.transport import Attempt

Fact = tuple[str, str, Event]
"""Tenant, job, and what a part of this process found."""

_ATTEMPTS: Final = (RequestTask, CancelAttempt)
"""What an agent has."""
PERFORMED: Final = (*_ATTEMPTS, DispatchTask, VerifyTask)
"""What somebody does; questions and timers wait by themselves."""
_PAGE = 200


class Recovery:
    def __init__(
        self,
        jobs: Jobs,
        stepper: Stepper,
        orchestrator: Orchestrator,
        spawn: Spawn,
        rouse: Callable[[], None],
    ) -> None:
        """`rouse` has line and timers look again."""
        self._jobs = jobs
        self._stepper = stepper
        self._orchestrator = orchestrator
        self._spawn, self._rouse = spawn, rouse
        self._after: dict[tuple[type[Command], ...], Key] = {}
        """How far the walk for these kinds has come: it is begun anew where the store could not be read."""
        self._told: set[Attempt] = set()
        """Attempts of which the end is known and not stored yet."""

    async def run(self) -> None:
        """Go through all jobs that had something open when the process began."""
        await self._walk(_ATTEMPTS)
        self._orchestrator.recovered()
        await self._walk((DispatchTask, VerifyTask))

    async def _walk(self, kinds: tuple[type[Command], ...]) -> None:
        tags = tuple(str(kind.__struct_config__.tag) for kind in kinds)
        look = self._stepper.store.open_jobs
        while page := await self._jobs.read(look, tags, self._after.get(kinds, ("", "")), _PAGE):
            await self._jobs.bring(page)
            for tenant, name in page:
                # Also what is in memory by now: somebody may have asked for it before its turn came.
                job = await self._jobs.found(tenant, name)
                if job is not None:
                    self.revive(job, kinds)
            self._after[kinds] = page[-1]
            await self._jobs.flush()

    def revive(self, job: JobState, kinds: tuple[type[Command], ...] = PERFORMED) -> None:
        """Perform again what is open of these kinds; attempts whose agent is gone are lost."""
        for command in list(job.open.values()):
            if command.key not in job.open or not isinstance(command, kinds):
                continue
            if isinstance(command, RequestTask) and _attempt(job, command) in self._told:
                # Asked for once more, it could begin what is about to be stored as never begun.
                continue
            if isinstance(command, RequestTask | CancelAttempt):
                if self._orchestrator.known(job.head.tenant, command.agent):
                    self._orchestrator.resume(job, command)
                else:
                    reason = "the process was restarted"
                    event = LeaseLost(time=0, task=command.task, epoch=command.epoch, reason=reason)
                    self._stepper.step(job, event)
            elif isinstance(command, DispatchTask):
                self._stepper.dispatch(job, command)
            else:
                self._orchestrator.perform(job, command)

    def lost(self, keys: list[Key], facts: list[Fact]) -> None:
        """A commit failed: these jobs are as the store has them; what agents said is given again."""
        self._told.update(filter(None, map(_about, facts)))
        self._spawn(self._again(keys, facts))

    async def _again(self, keys: list[Key], facts: list[Fact]) -> None:
        await asyncio.sleep(RETRY_COMMIT)
        for key in keys:
            try:
                job = await self._jobs.patiently(*key)
            except (NotFound, Unreadable):
                continue  # it was never accepted, or is set aside
            if self._stepper.starting:  # else the process stops, and the next one finds what is open
                self.revive(job)
        for fact in facts:
            await self._jobs.fact(*fact)
            self._told -= {_about(fact)}
        self._rouse()


def _attempt(job: JobState, command: RequestTask) -> Attempt:
    return Attempt(job.head.tenant, job.head.id, command.task, command.epoch)


def _about(fact: Fact) -> Attempt | None:
    """The attempt that ended with this."""
    tenant, job, event = fact
    if isinstance(event, TaskSucceeded | TaskFailed | TaskRefused | LeaseLost):
        return Attempt(tenant, job, event.task, event.epoch)
    return None
