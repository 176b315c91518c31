"""Open jobs whose workflow does not run: somebody terminated it at the server, it failed, or the server forgot it.

The store has all that was published of such a job, so the job goes on from there as the next execution. Nothing is
lost by that: what the old execution decided and did not publish had no effect, and whatever led to it (an answer,
the end of an attempt, a timer) is open in the store and comes again.

Looked for after a start, then now and then, and at once where a fact finds no workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.job import JobState, JobStatus
from cpa.engines.keyed import Keyed
from cpa.engines.temporal.connection import trouble
from cpa.engines.temporal.executions import beginning_of, rest_of, status_of
from cpa.engines.temporal.publisher import Publisher
from cpa.engines.temporal.values import WORKFLOW, JobInput
from cpa.errors import CPAError, NotFound, Unavailable
from cpa.ports.moving import LOST_START, TEMPORAL, Holder, HolderStore, Key

log = structlog.get_logger(__name__)
OFTEN = 60.0
"""Seconds between looks."""
_LOST = "it waits for a time that only its execution knew, and the server forgot that"
_PAGE = 1_000
_AT_ONCE = 20


class Orphans:
    """`run` is the loop. `load` reads a job of the store, `begin` begins its next execution: False where one
    runs."""

    def __init__(
        self,
        client: Client,
        holders: HolderStore,
        load: Callable[[str, str], Awaitable[JobState]],
        publisher: Publisher,
        begin: Callable[[JobInput], Awaitable[bool]],
    ) -> None:
        self._client, self._holders = client, holders
        self._load, self._publisher, self._begin_anew = load, publisher, begin
        self._alone = Keyed[Key]()
        self._noticed = set[Key]()
        self._wake = asyncio.Event()

    def notice(self, key: Key) -> None:
        """A fact found no workflow of this job. Never blocks."""
        self._noticed.add(key)
        self._wake.set()

    async def run(self) -> None:
        now = asyncio.get_running_loop().time
        next_look = now()
        while True:
            self._wake.clear()
            try:
                if now() >= next_look:
                    next_look = now() + OFTEN
                    await self.look()
                while self._noticed:
                    await self._heard(self._noticed.pop())
            except CPAError as error:
                # The server is away, or the store: the next look finds the same.
                log.info("executions_not_compared", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(next_look - now()):
                    await self._wake.wait()

    async def look(self) -> None:
        """Go on with all open jobs that have no execution that runs. `Unavailable` when the server is away."""
        held = await self._holders.held(Holder(TEMPORAL))
        running = await self._running() if held else set[str]()
        found = [key for key in held if key[1] not in running]
        for first in range(0, len(found), _AT_ONCE):
            await asyncio.gather(*map(self.adopt, found[first : first + _AT_ONCE]))

    async def adopt(self, key: Key, *, anew: bool = False) -> None:
        """Go on with this job if it is open and no execution of it runs. With `anew` it is also looked for what is
        to be done where one does. A job that cannot be gone on with is set aside; `Unavailable` as `look`."""
        async with self._alone.of(key):
            try:
                await self._adopt(key, anew)
            except Unavailable:
                raise
            except NotFound:
                # Nothing was ever stored of it, so nothing of it had an effect.
                log.warning("execution_of_no_job", job=key[1])
            except CPAError as error:
                self._publisher.troubled[key] = error
                log.error("job_set_aside", job=key[1], error=str(error))

    async def _heard(self, key: Key) -> None:
        """What was noticed is kept while the server is away. What a fact was about is asked anew: the next
        execution may have begun, and found it said, before the fact was taken back."""
        try:
            await self.adopt(key, anew=True)
        except Unavailable:
            self._noticed.add(key)
            raise

    async def _adopt(self, key: Key, anew: bool) -> None:
        if (await self._load(*key)).head.status.ended:
            return
        status = await status_of(self._client, key[1])
        if status is not WorkflowExecutionStatus.RUNNING:
            # Read once more after that: an execution that ended by itself has stored how.
            job = await self._load(*key)
            if job.head.status.ended:
                return
            anew |= await self._begin(key, job, status)
        if anew:
            await self._publisher.revive(key)

    async def _begin(self, key: Key, job: JobState, status: WorkflowExecutionStatus | None) -> bool:
        """Whether an execution begins now; else another process was quicker."""
        times = (await self._holders.times([key]))[key]
        first = await self._start_of(key[1]) if job.head.status is JobStatus.PENDING else 0
        if not await self._begin_anew(rest_of(job, times, first)):
            return False
        why = "unknown to the server" if status is None else status.name.lower()
        log.warning(
            "execution_gone", job=key[1], execution=why, remedy="none: it goes on from what is stored"
        )
        self._publisher.troubled.pop(key, None)
        return True

    # -- at the server -------------------------------------------------------------------------------------

    async def _running(self) -> set[str]:
        """Ids of the executions that run, as far as the server's lists know; none where it has no lists."""
        query = f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus = 'Running'"
        try:
            return {each.id async for each in self._client.list_workflows(query, page_size=_PAGE)}
        except RPCError as error:
            if error.status is RPCStatusCode.UNIMPLEMENTED:
                return set()
            raise trouble(error, self._client) from error

    async def _start_of(self, job: str) -> int:
        """When a postponed job may start: that stands in the beginning of its last execution, and nowhere else."""
        if (begin := await beginning_of(self._client, job)) is not None:
            return begin.start
        log.error("start_lost", job=job, reason=_LOST, remedy="cancel it and submit it anew")
        return LOST_START
