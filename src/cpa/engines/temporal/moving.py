"""The engine on Temporal as `engines.moving.FarEngine`: jobs come to it as executions, and leave it again.

To begin is to start an execution from what is stored; nobody works on the task queue then, so it stands still until
a scheduler does. To leave is a signal: the workflow has the store take what it decided, and ends. Its result is the
answer, and it outlives whoever asked. While jobs leave somebody has to work on the queue: a worker whose
publications store, and carry nothing out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from msgspec.structs import replace
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetStickyTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from cpa.core.commands import CancelAttempt, Command, DispatchTask, RequestTask
from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.engines.moving import Left
from cpa.engines.temporal.connection import ONE_CALL, trouble
from cpa.engines.temporal.executions import beginning_of, check_gone, first_values, rest_of, start, status_of
from cpa.engines.temporal.hindrances import Hindrances
from cpa.engines.temporal.publisher import Publisher
from cpa.engines.temporal.reading import Reading
from cpa.engines.temporal.values import LEAVE, Ended, Fact, JobInput
from cpa.engines.temporal.versions import Versions, build_of
from cpa.engines.temporal.visibility import Lists
from cpa.engines.temporal.worker import worker_of
from cpa.engines.temporal.writer import GroupWriter
from cpa.errors import Conflict, CPAError
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.moving import TEMPORAL, Key, Times
from cpa.ports.steps import StepStore
from cpa.transport.inprocess import InProcessTransport

LETTING_GO: Final = 60.0
"""Seconds in which no job left after which the others are given up."""


class TemporalSide:
    """`queue` and `build` are the engine's; `store`, of the engine too, takes what jobs that leave publish."""

    name: str = TEMPORAL

    def __init__(
        self, client: Client, queue: str, store: StepStore, clock: Clock, *, build: str = ""
    ) -> None:
        self._client, self._queue, self._store, self._clock = client, queue, store, clock
        self._versions = Versions(client, queue, build_of(build), alone=True)
        self._lists = Lists(client)
        self._hindrances = Hindrances()
        self._learning: asyncio.Task[None] | None = None
        self._moved_at = 0.0
        """When the last job left, on the loop's clock."""

    async def check(self, job: JobState, times: Times, *, inward: bool) -> None:
        name = job.head.id
        if not inward:
            await self._read(name)
        elif await status_of(self._client, name) is WorkflowExecutionStatus.RUNNING:
            raise _taken(name)

    async def begin(self, job: JobState, times: Times) -> None:
        head = job.head
        # A moment that has passed: an execution starts what may start, and 0 is not postponed.
        begin = rest_of(job, times, 0 if times.start is None else max(times.start, 1))
        await self._learnt()
        if await start(self._client, self._queue, self._lists.marked(begin), again=True):
            return
        first = await beginning_of(self._client, head.id)
        # Our own earlier try drew another salt, and may have been shown.
        if first is None or replace(first, shown="", salt=begin.salt) != begin:
            raise _taken(head.id)

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        try:
            deployment = await self._versions.config()
        except RPCError as error:
            raise trouble(error, self._client) from error
        reading, writer = Reading(self._store), GroupWriter(self._store)
        still = Still(AgentRegistry(), InProcessTransport({}), self._clock)
        publisher = Publisher(self._store, writer, still, reading.read, reading.committed, _fact, _nobody)
        loops = [asyncio.create_task(writer.run()), asyncio.create_task(self._versions.run())]
        try:
            async with worker_of(self._client, self._queue, publisher, deployment, self._hindrances):
                self._moved_at = asyncio.get_running_loop().time()
                yield
        finally:
            await publisher.idle()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            reading.close()

    async def leave(self, key: Key) -> Left:
        handle = self._client.get_workflow_handle(key[1], result_type=Ended)
        try:
            await self._forget_worker(key[1])
            await handle.signal(LEAVE, rpc_timeout=ONE_CALL)
        except RPCError as error:
            check_gone(self._client, error)
        result = asyncio.create_task(handle.result())
        try:
            await self._patiently(result, key)
            ended: Ended = result.result()
            return Left(ended.number, ended.start)
        except WorkflowFailureError:
            # It was ended by others. What it was to do next nobody knows but the store, and its beginning.
            begin = await beginning_of(self._client, key[1])
            return Left(None, begin.start) if begin is not None else Left()
        except RPCError as error:
            check_gone(self._client, error)
            return Left()
        finally:
            result.cancel()

    # -- inside --------------------------------------------------------------------------------------------

    async def _read(self, job: str) -> None:
        """Raise where a worker of ours could not read what the job's execution began with."""
        values = await first_values(self._client, job)
        try:
            await self._client.data_converter.decode(values, [JobInput] * len(values))
        except CPAError as error:
            raise _stays(job, error) from error

    async def _learnt(self) -> None:
        """Know whether the server's lists have room for what jobs are found by."""
        if self._learning is None:
            self._learning = asyncio.create_task(self._lists.run())
        await asyncio.wait([self._learning], timeout=LETTING_GO)

    async def _patiently(self, result: asyncio.Task[Ended], key: Key) -> None:
        """Until the execution has ended, as long as any of them does."""
        now = asyncio.get_running_loop().time
        while not (await asyncio.wait([result], timeout=1.0))[0]:
            if (why := self._hindrances.why(key[1])) is not None:
                raise _stays(key[1], why)
            if now() - self._moved_at > LETTING_GO:
                raise Conflict(
                    f"the workflow of job {key[1]} does not let go of it",
                    field="job",
                    value=key[1],
                    remedy="move it with the version and the task queue that it began with; or end it there with "
                    f"`temporal workflow terminate --workflow-id {key[1]}`: it goes on from what is stored",
                )
        self._moved_at = now()

    async def _forget_worker(self, job: str) -> None:
        """Else the server waits ten seconds for the one that worked on it last."""
        execution = WorkflowExecution(workflow_id=job)
        request = ResetStickyTaskQueueRequest(namespace=self._client.namespace, execution=execution)
        await self._client.workflow_service.reset_sticky_task_queue(request, timeout=ONE_CALL)


def _stays(job: str, why: CPAError) -> Conflict:
    return Conflict(f"job {job} stays on Temporal: {why.message}", field="job", value=job, remedy=why.remedy)


def _taken(job: str) -> Conflict:
    return Conflict(
        f"a workflow of the id of job {job} runs on the Temporal server, and is not this job as it is stored",
        field="job",
        value=job,
        remedy=f"look at it; if nobody needs it: temporal workflow terminate --workflow-id {job}",
    )


class Still(Orchestrator):
    """Carries nothing out and tells nobody: who begins next finds in the store what is open."""

    def choose(self, job: JobState, command: DispatchTask) -> Event | None:
        return None

    def perform(self, job: JobState, command: Command) -> None: ...

    def resume(self, job: JobState, command: RequestTask | CancelAttempt) -> None: ...

    def unsent(self, job: JobState, command: RequestTask) -> None: ...

    def known(self, tenant: str, agent: str) -> bool:
        """All attempts are with their agents, as far as anybody here can say."""
        return True

    def closed(self, job: JobState, event: Event, keys: Iterable[str]) -> None: ...

    def withdrawn(self, tenant: str, job: str, event: Event) -> None: ...

    def job_idle(self, tenant: str, job: str) -> None: ...

    def job_ended(self, job: JobState) -> None: ...


def _fact(event: Event, since: int) -> Fact:
    return Fact(event, since=since)  # type: ignore[arg-type]  # all events are of the union


def _nobody(key: Key, fact: Fact) -> None: ...
