"""The engine for more than one machine: `ports.engine.Engine` on a Temporal server.

    submit        starts the job's workflow; its id is the job's
    send, cancel  an update of that workflow, answered with what the core made of it
    retry         the next execution under the same id, from the state the last one left
    reading       from the store, which the workflows' publications fill

What a caller is told is in the store by then, so that who asks next finds it. This process also works: it takes
workflow tasks and publications from the task queue, and carries out what they command.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from cpa.core.audit import MIN_SALT
from cpa.core.events import AgentChosen, CancelRequested, Event, JobReopened
from cpa.core.ids import derived_id, shown
from cpa.core.job import JobStatus
from cpa.core.machine import decide
from cpa.core.reopening import WENT_ON, with_pages
from cpa.engines.inbox import KEEP_NONCES, Inbox, check_number, repeated
from cpa.engines.keyed import Keyed
from cpa.engines.reopening import check_whole, not_reopened
from cpa.engines.temporal import recovery
from cpa.engines.temporal.connection import LAST_BREATH, check, trouble
from cpa.engines.temporal.executions import first_of, older_store, start, start_of
from cpa.engines.temporal.gateway import Gateway, Key
from cpa.engines.temporal.hindrances import Hindrances
from cpa.engines.temporal.orphans import Orphans
from cpa.engines.temporal.publisher import Publisher
from cpa.engines.temporal.reading import Reading
from cpa.engines.temporal.values import Fact, JobInput, Told, content_of, sealed
from cpa.engines.temporal.versions import Versions, build_of
from cpa.engines.temporal.visibility import Lists
from cpa.engines.temporal.waking import Waking
from cpa.engines.temporal.worker import worker_of
from cpa.engines.temporal.writer import GroupWriter
from cpa.errors import Conflict, CPAError, InternalError, Unavailable
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.engine import LiveUpdate, Outcome, Receipt, Submission
from cpa.ports.moving import TEMPORAL, Holder, HolderStore
from cpa.ports.nonces import Nonce
from cpa.ports.steps import StepBatch, StepStore
from cpa.ports.transport import Attempt

LOOK = 5.0
"""Seconds between looks at whether the server is there."""
_STARTS = 100
"""Starts under way at the same time."""
_TRIES = 5
"""How often a job is looked at anew that ended or was opened just then."""


class TemporalEngine(Reading):
    """Use as `async with TemporalEngine(...) as engine`. Leaving it stops working here; jobs go on elsewhere, or
    with the next process. Store and connection belong to the caller.

    `new_id` draws job ids, `chance` random bytes for the salts of personal fields. All workers of one `queue` share
    one store; `alone` says that there is no other one now. `build` as the setting `temporal_build`.
    """

    def __init__(
        self,
        client: Client,
        queue: str,
        store: StepStore,
        holders: HolderStore,
        orchestrator: Orchestrator,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        chance: Callable[[int], bytes] = os.urandom,
        build: str = "",
        alone: bool = True,
    ) -> None:
        super().__init__(store)
        self.client, self._queue = client, queue
        self._orchestrator, self._clock, self._new_id, self._chance = orchestrator, clock, new_id, chance
        self._inbox = Inbox(store, self.read)
        self._opening = Keyed[Key]()
        self._hindrances = Hindrances()
        self._group = asyncio.TaskGroup()
        self._writer = GroupWriter(store)
        self._gateway = Gateway(client, self._group, new_id, self._lost, self._hindrances)
        self._publisher = Publisher(
            store,
            self._writer,
            orchestrator,
            self.read,
            self.committed,
            self._sealed,
            self._gateway.send,
        )
        self._gateway.unstored = self._publisher.troubled
        self._draining = False
        self._silent: CPAError | None = None
        self._worker: Worker | None = None
        self._starts = asyncio.Semaphore(_STARTS)
        self.lists = Lists(client)
        self._alone = alone
        self._orphans = Orphans(client, holders, self.load, self._publisher, self._begin_anew)
        self._holders, self._waking = holders, Waking(client, self._hindrances)
        self.versions = Versions(client, queue, build_of(build), alone=alone)
        orchestrator.connect(self._publisher.report, self._progress)

    async def __aenter__(self) -> TemporalEngine:
        held = await self._holders.held(Holder(TEMPORAL)) if self._alone else []
        worker = worker_of(self.client, self._queue, self._publisher, await self._config(), self._hindrances)
        self._orchestrator.recovering()
        await self._group.__aenter__()
        self._loops = [
            self._group.create_task(self._writer.run()),
            self._group.create_task(self._orchestrator.run()),
            self._group.create_task(self._look()),
            self._group.create_task(self.lists.run()),
        ]
        await worker.__aenter__()
        self._worker = worker
        self._loops.append(self._group.create_task(self.versions.run()))
        self._loops.append(
            self._group.create_task(self._waking.run([job for _, job in held if shown(job) == job]))
        )
        if self._alone:
            revived = recovery.run(self.read, self.store, self._publisher, self._orchestrator)
            self._loops.append(self._group.create_task(revived))
            self._loops.append(self._group.create_task(self._orphans.run()))
        else:
            # What is open is the others', who are at it.
            self._orchestrator.recovered()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        self.watchers.close()
        await self._stop_working()
        await self._gateway.flush(LOOK)
        self._gateway.close()
        for loop in self._loops:
            loop.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self.close()
            await asyncio.sleep(LAST_BREATH)

    async def _config(self) -> WorkerDeploymentConfig | None:
        try:
            return await self.versions.config()
        except RPCError as error:
            raise trouble(error, self.client) from error

    async def _stop_working(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.shutdown()
        await self._publisher.idle()

    # -- port: changing ------------------------------------------------------------------------------------

    @property
    def trouble(self) -> CPAError | None:
        return self._gateway.trouble or self._silent or self.versions.trouble

    @property
    def aside(self) -> int:
        hindered = {job for _, job in self._publisher.troubled} | self._hindrances.jobs
        return len(hindered) + self.versions.waiting

    def hindrance(self, tenant: str, job: str) -> CPAError | None:
        # Where new jobs go is no matter of this one.
        own = self._hindrances.why(job) or self._publisher.troubled.get((tenant, job))
        return own or self._gateway.trouble or self._silent

    async def start_of(self, tenant: str, job: str) -> int:
        """See `ports.engine`. Only the execution knows it, and is not asked while the server is away."""
        waits = (await self.load(tenant, job)).head.status is JobStatus.PENDING
        return await start_of(self.client, job) if waits and self.trouble is None else 0

    async def submit(self, submission: Submission) -> Receipt:
        """See `ports.engine`."""
        if self._draining:
            raise Unavailable("the scheduler is stopping", remedy="submit again after the restart")
        tenant, dedupe = submission.tenant, submission.dedupe
        async with self._inbox.unused(tenant, submission.nonce):
            if not dedupe:
                return await self._start(submission, submission.job or self._new_id())
            async with self._inbox.once(tenant, submission.sender, dedupe) as known:
                if known is not None:
                    await self._remember(tenant, "", None, submission.nonce)
                    return repeated(dedupe, submission.body_digest, *known)
                # The same key leads to the same id: a start that was accepted is known again, whatever the
                # store has heard of it.
                job = submission.job or str(derived_id(tenant, submission.sender, dedupe, "job"))
                return await self._start(submission, job)

    async def recall(self, tenant: str, sender: str, dedupe: str, body_digest: str) -> Receipt | None:
        known = await self.read(self.store.accepted, tenant, sender, dedupe)
        return None if known is None else repeated(dedupe, body_digest, *known)

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Receipt]:
        check_number(submissions)
        return await asyncio.gather(*map(self.submit, submissions))

    async def send(
        self,
        tenant: str,
        job: str,
        event: Event | None,
        *,
        message: tuple[str, str] | None = None,
        nonce: Nonce | None = None,
    ) -> Outcome:
        async with self._inbox.unused(tenant, nonce):
            if message is None:
                return await self._send(tenant, job, event, None, nonce)
            async with self._inbox.once(tenant, *message) as known:
                if known is None:
                    return await self._send(tenant, job, event, message, nonce)
                head = (await self.load(tenant, job)).head
                await self._remember(tenant, job, None, nonce)
                return Outcome(False, head.number, "duplicate")

    async def remember(
        self,
        tenant: str,
        *,
        message: tuple[str, str] | None = None,
        job: str = "",
        nonce: Nonce | None = None,
        first: Callable[[], Awaitable[object]] | None = None,
    ) -> bool:
        async with self._inbox.unused(tenant, nonce):
            if message is None:
                await self._remember(tenant, "", None, nonce)
                return True
            async with self._inbox.once(tenant, *message) as known:
                if known is None and first is not None:
                    await first()
                await self._remember(tenant, job, message if known is None else None, nonce)
                return known is None

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome:
        return await self.send(tenant, job, CancelRequested(time=0, by=by, reason=reason))

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        return await self.reopen(tenant, job, JobReopened(time=0, by=by))

    async def reopen(self, tenant: str, job: str, event: JobReopened, *, run: int | None = None) -> Outcome:
        state = await self.load(tenant, job)
        if state.head.status.ended:
            check_whole(state, (await self.read(self.store.events, tenant, job, 0, 1))[0].event)
        fact = msgspec.structs.replace(self._sealed(with_pages(state, event)), run=run)
        told = await self._told((tenant, job), fact)
        if not told.changed:
            raise not_reopened(await self.load(tenant, job), told.reason, event, run)
        return Outcome(True, told.number)

    async def drain(self, timeout: float) -> None:
        self._draining = True
        await self._stop_working()
        await self._orchestrator.idle(timeout)
        await self._gateway.flush(timeout)

    # -- starting ------------------------------------------------------------------------------------------

    async def _start(self, submission: Submission, job: str) -> Receipt:
        key = (submission.tenant, job)
        begin = first_of(submission, job, self._clock.now_ms(), self._chance(MIN_SALT))
        ours = not (submission.job or submission.dedupe)
        if not await self._begin(begin, submission.priority, again=False, ours=ours):
            return await self._began(submission, key)
        head = await self.stored(key, 1)
        return Receipt(job, head.created, head.status)

    async def _began(self, submission: Submission, key: Key) -> Receipt:
        """A job of this id is there: by the same key, whose first answer was lost."""
        if submission.dedupe:
            await self.stored(key, 1)
            known = await self.read(
                self.store.accepted, submission.tenant, submission.sender, submission.dedupe
            )
            if known is not None:
                return repeated(submission.dedupe, submission.body_digest, *known)
        raise Conflict("there is a job of this id", field="job", value=key[1], remedy="use a new id")

    async def _begin(self, begin: JobInput, priority: int, *, again: bool, ours: bool = False) -> bool:
        """As `executions.start`."""
        async with self._starts:
            way = (self.client, self._queue, self.lists.marked(begin))
            begun = await start(*way, again=again, ours=ours, eager=True, priority=priority)
        if begun:
            # Whatever hindered the execution before.
            self._hindrances.forget(begin.head.id)
        return begun

    async def _begin_anew(self, begin: JobInput) -> bool:
        return await self._begin(begin, begin.head.priority, again=True)

    # -- telling -------------------------------------------------------------------------------------------

    async def _send(
        self,
        tenant: str,
        job: str,
        event: Event | None,
        message: tuple[str, str] | None,
        nonce: Nonce | None,
    ) -> Outcome:
        if event is None:
            told = Told(False, (await self.load(tenant, job)).head.number)
        else:
            fact = msgspec.structs.replace(self._sealed(event), message=message, nonce=nonce)
            told = await self._told((tenant, job), fact)
        if not told.changed:
            await self._remember(tenant, job, None if told.reason == "duplicate" else message, nonce)
        return Outcome(told.changed, told.number, told.reason)

    async def _told(self, key: Key, fact: Fact) -> Told:
        """Give a fact to a job, running or ended; what it changed is in the store by then."""
        for _ in range(_TRIES):
            state = await self.load(*key)
            fact = msgspec.structs.replace(fact, since=state.head.number)
            if state.head.status.ended:
                told = await self._after_the_end(key, fact)
            else:
                told = await self._gateway.tell(key, fact)
            if told is None:
                await self._orphans.adopt(key)
                await asyncio.sleep(0.05)
                continue
            if told.changed:
                await self.stored(key, told.number)
            elif told.number > (await self.load(*key)).head.number:
                raise older_store(self.client, key[1])
            return told
        raise InternalError(
            f"job {key[1]} has no workflow that runs",
            field="job",
            value=key[1],
            remedy="look at the Temporal server: was its workflow terminated, or does it lack a worker?",
        )

    async def _after_the_end(self, key: Key, fact: Fact) -> Told | None:
        """What an ended job makes of the fact; where that is something, in an execution of its own. None when
        somebody opened it just then."""
        async with self._opening.of(key):
            state = await self.load(*key)
            if not state.head.status.ended:
                return None
            if fact.late(state.head):
                return Told(False, state.head.number, WENT_ON)
            decision = decide(state, msgspec.structs.replace(fact.event, time=state.head.time))
            if decision.changes is None:
                return Told(False, state.head.number, decision.reason)
            tasks, salt = tuple(state.tasks.values()), self._chance(MIN_SALT).hex()
            begin = JobInput(spec=state.spec, head=state.head, tasks=tasks, inbox=(fact,), salt=salt)
            if not await self._begin_anew(begin):
                # The last execution has not quite ended, or another process opened the next one.
                return await self._gateway.tell(key, fact)
            number = state.head.number + 1
            await self.stored(key, number)
            [first] = await self.read(self.store.events, *key, state.head.number, 1)
            # Else somebody else opened it between our looking and our asking.
            return Told(True, number) if content_of(first.event) == content_of(fact.event) else None

    async def _remember(
        self, tenant: str, job: str, message: tuple[str, str] | None, nonce: Nonce | None
    ) -> None:
        """Durable on return; for what no step of a job carries."""
        batch, now = StepBatch(), self._clock.now_ms()
        if message is not None:
            batch.inbox.append((tenant, *message, job, "", now))
        if nonce is not None:
            batch.nonces.append((tenant, nonce.key, nonce.value, nonce.expires))
            batch.expired = now - KEEP_NONCES
        if not batch.empty:
            await self._writer.store(batch)

    def _sealed(self, event: Event, since: int = 0) -> Fact:
        return sealed(event, self._chance, since)

    def _lost(self, key: Key, fact: Fact, gone: bool) -> None:
        """A fact no workflow took up; with `gone` as none runs: the job has ended, or lost it."""
        if isinstance(fact.event, AgentChosen):
            self._publisher.unchosen(key, fact.event)
        if gone:
            self._orphans.notice(key)

    # -- beside it -----------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Know whether the server is there also while nobody calls it."""
        while True:
            try:
                await check(self.client)
                self._silent = None
            except CPAError as error:
                self._silent = error
            await asyncio.sleep(LOOK)

    def _progress(self, attempt: Attempt, task: str, share: float, message: str) -> None:
        self.show(attempt.tenant, attempt.job, LiveUpdate(attempt.job, task, attempt.epoch, share, message))
