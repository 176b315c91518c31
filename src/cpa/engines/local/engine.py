"""The engine of one process: `ports.engine.Engine` on a `StepStore`.

Everything that changes a job goes through the `Stepper`; this file finds the job (`Jobs`), gives it the event, and
waits until the step is durable where somebody waits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from cpa.core.events import CancelRequested, Event, JobReopened
from cpa.core.job import Decision, JobHead, JobState, JobStatus, Snapshot
from cpa.core.reopening import WENT_ON, with_pages
from cpa.engines.inbox import Inbox, check_number, repeated
from cpa.engines.local.jobs import Jobs
from cpa.engines.local.line import Line
from cpa.engines.local.loops import lasting
from cpa.engines.local.recovery import Recovery
from cpa.engines.local.stepper import Stepper
from cpa.engines.local.timers import Timers
from cpa.engines.reopening import check_whole, not_reopened
from cpa.engines.watchers import Watchers
from cpa.errors import CPAError, Unavailable
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.engine import JobPage, LiveUpdate, Outcome, Place, Receipt, StoredEvent, Submission
from cpa.ports.moving import LOST_START
from cpa.ports.nonces import Nonce
from cpa.ports.steps import StepBatch, StepStore
from cpa.ports.transport import Attempt

T = TypeVar("T")


class LocalEngine:
    """Use as `async with LocalEngine(...) as engine`. Leaving it commits what is pending and stops; attempts
    still running then are found lost at the next start. The store stays open: it belongs to the caller.

    `new_id` draws job ids; they should grow with time, so that new rows stand together. `chance` gives random
    bytes, for the salts of personal fields.
    """

    def __init__(
        self,
        store: StepStore,
        orchestrator: Orchestrator,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        chance: Callable[[int], bytes] = os.urandom,
        max_running: int = 1000,
        keep: int = 5_000,
    ) -> None:
        self._store = store
        self._orchestrator = orchestrator
        self._new_id = new_id
        self._stepper = Stepper(store, orchestrator, clock, chance, keep=keep)
        self.jobs = Jobs(store, self._stepper, orchestrator)
        """Where jobs are found; for reading, whoever changes one goes through the methods here."""
        self._inbox = Inbox(store, self.jobs.read)
        self._watchers = Watchers()
        self._line = Line(self.jobs, self._stepper, max_running, self._spawn)
        self._timers = Timers(self.jobs, self._stepper)
        self._recovery = Recovery(self.jobs, self._stepper, orchestrator, self._spawn, self._rouse)
        self._draining = False
        self._group = asyncio.TaskGroup()
        self._committer: asyncio.Task[None] | None = None
        self._loops: list[asyncio.Task[None]] = []
        orchestrator.connect(self._report, self._progress)
        self._stepper.on_commit = self._committed
        self._stepper.on_timer = self._timers.earlier
        self._stepper.on_lost = self._recovery.lost
        self._stepper.on_rest = self._line.room

    async def __aenter__(self) -> LocalEngine:
        self._orchestrator.recovering()
        await self._line.open()
        await self._group.__aenter__()
        self._committer = self._group.create_task(self._stepper.run())
        self._loops = [
            self._group.create_task(lasting(self._timers.run)),
            self._group.create_task(lasting(self._line.run)),
            self._group.create_task(lasting(self._recovery.run)),
            self._group.create_task(self._orchestrator.run()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        self._stepper.starting = False
        self._watchers.close()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._committer is not None:
            self._committer.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self.jobs.close()

    # -- port: changing ------------------------------------------------------------------------------------

    def hindrance(self, tenant: str, job: str) -> CPAError | None:
        return self._stepper.aside.why((tenant, job))

    async def submit(self, submission: Submission) -> Receipt:
        """See `ports.engine`."""
        if submission.dedupe or submission.nonce is not None:
            return await self._submit_once(submission)
        return await self._received(self._submit(submission), submission.tenant)

    async def recall(self, tenant: str, sender: str, dedupe: str, body_digest: str) -> Receipt | None:
        known = await self.jobs.read(self._store.accepted, tenant, sender, dedupe)
        return None if known is None else repeated(dedupe, body_digest, *known)

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Receipt]:
        check_number(submissions)
        if any(submission.dedupe or submission.nonce for submission in submissions):
            return [await self.submit(submission) for submission in submissions]
        # One promise for all: they enter the same commit.
        receipts = [self._submit(submission) for submission in submissions]
        keys = [(each.tenant, receipt.job) for each, receipt in zip(submissions, receipts, strict=True)]
        return await self.jobs.durable(receipts, keys)

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
                return await self._send(tenant, job, event, nonce=nonce)
            async with self._inbox.once(tenant, *message) as known:
                if known is not None:
                    outcome = Outcome(False, (await self.jobs.load(tenant, job)).head.number, "duplicate")
                    return await self._repeat(outcome, tenant, nonce)
                return await self._send(tenant, job, event, message, nonce)

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
                return await self._repeat(True, tenant, nonce)
            async with self._inbox.once(tenant, *message) as known:
                if known is None:
                    if first is not None:
                        await first()
                    self._stepper.accept(tenant, *message, job)
                    self._spend(tenant, nonce)
                    return await self.jobs.durable(True, [(tenant, job)] if job else ())
                return await self._repeat(False, tenant, nonce)

    async def _repeat(self, answer: T, tenant: str, nonce: Nonce | None) -> T:
        """The answer to what changes nothing: but a signature counts once, whatever it is worth."""
        if nonce is not None:
            self._spend(tenant, nonce)
            await self.jobs.durable(None)
        return answer

    def _spend(self, tenant: str, nonce: Nonce | None) -> None:
        if nonce is not None:
            self._stepper.spend(tenant, nonce)

    async def _send(
        self,
        tenant: str,
        job: str,
        event: Event | None,
        message: tuple[str, str] | None = None,
        nonce: Nonce | None = None,
    ) -> Outcome:
        state = await self.jobs.load(tenant, job)
        pending, ended = state.head.status is JobStatus.PENDING, state.head.status.ended
        decision = Decision() if event is None else self._stepper.step(state, event)
        if ended and decision.changes is not None:
            self._stepper.adopt_changed(state)
        self._stepper.aside.check((tenant, job))
        if pending and state.head.status.ended:
            self._stepper.dequeue(state)
        self._spend(tenant, nonce)
        if message is not None:
            self._stepper.accept(tenant, *message, job)
        elif decision.changes is None and nonce is None:
            return Outcome(False, state.head.number, decision.reason)
        outcome = Outcome(decision.changes is not None, state.head.number, decision.reason)
        return await self.jobs.durable(outcome, [(tenant, job)])

    def show(self, tenant: str, job: str, update: LiveUpdate) -> None:
        self._watchers.live((tenant, job), update)

    def shown(self, tenant: str, job: str) -> Mapping[str, LiveUpdate]:
        return self._watchers.newest((tenant, job))

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome:
        return await self.send(tenant, job, CancelRequested(time=0, by=by, reason=reason))

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        return await self.reopen(tenant, job, JobReopened(time=0, by=by))

    async def reopen(self, tenant: str, job: str, event: JobReopened, *, run: int | None = None) -> Outcome:
        """Open the next run and put it into the line; its browser tasks get their page again."""
        self._stepper.recent.pop((tenant, job), None)
        state = await self.jobs.load(tenant, job)
        if state.head.status.ended:
            check_whole(state, (await self.jobs.read(self._store.events, tenant, job, 0, 1))[0].event)
            # As it is now: meanwhile its end may have been refused by the disk, or somebody have opened it.
            state = await self.jobs.load(tenant, job)
        if run not in (None, state.head.run):
            raise not_reopened(state, WENT_ON, event, run)
        decision = self._stepper.step(state, with_pages(state, event))
        self._stepper.aside.check((tenant, job))
        if decision.changes is None:
            raise not_reopened(state, decision.reason, event)
        self._stepper.adopt_changed(state)
        self._stepper.enqueue(state)
        return await self.jobs.durable(Outcome(True, state.head.number), [(tenant, job)])

    async def drain(self, timeout: float) -> None:
        self._draining = True
        self._stepper.starting = False
        self._line.stop()
        await self._orchestrator.idle(timeout)
        await self.jobs.durable(None)

    # -- port: reading -------------------------------------------------------------------------------------

    async def query(self, tenant: str, job: str) -> Snapshot:
        return await self._settled(tenant, job, JobState.snapshot)

    async def start_of(self, tenant: str, job: str) -> int:
        await self.jobs.load(tenant, job)
        start: int = await self.jobs.read(self._store.start_of, tenant, job)
        return 0 if start == LOST_START else start

    async def place(self, tenant: str, job: str, task: str) -> Place | None:
        return await self._settled(tenant, job, lambda state: Place.of(state, task))

    async def wait(self, tenant: str, job: str, timeout: float) -> JobHead:
        head = (await self.jobs.load(tenant, job)).head
        if head.status.ended and (tenant, job) not in self._stepper.jobs:
            return head
        # In memory a job may have ended a moment before its end is durable: that is waited for.
        if (ended := await self._watchers.end((tenant, job), timeout)) is not None:
            return ended
        return await self._settled(tenant, job, lambda state: state.head)

    async def list(
        self, tenant: str, *, status: JobStatus | None = None, limit: int = 50, offset: int = 0
    ) -> JobPage:
        jobs, total = await self.jobs.read(self._store.page, tenant, status, limit, offset)
        return JobPage(tuple(jobs), total)

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[StoredEvent, ...]:
        await self.jobs.load(tenant, job)
        return await self.jobs.read(self._store.events, tenant, job, after, limit)

    async def follow(
        self, tenant: str, job: str, *, after: int = 0
    ) -> AsyncIterator[StoredEvent | LiveUpdate]:
        with self._watchers.follow((tenant, job)) as follower:
            while True:
                follower.clear()
                state = await self.jobs.load(tenant, job)
                found = await self.jobs.read(self._store.events, tenant, job, after, 1000)
                for stored in found:
                    after = stored.number
                    yield stored
                for update in follower.take():
                    yield update
                if (state.head.status.ended and after >= state.head.number) or self._watchers.closed:
                    return
                if after >= state.head.number or not found:
                    await follower.wait()

    @property
    def trouble(self) -> CPAError | None:
        """Why nothing can be stored just now; None when all is well."""
        return self._stepper.trouble

    @property
    def aside(self) -> int:
        """How many jobs are set aside, because they cannot be gone on with."""
        return len(self._stepper.aside)

    @property
    def loaded(self) -> int:
        """How many jobs that have not ended are in memory."""
        return len(self._stepper.jobs)

    @property
    def busy(self) -> int:
        """How many jobs there are of which something runs."""
        return self._stepper.busy

    # -- inside --------------------------------------------------------------------------------------------

    def _submit(self, submission: Submission) -> Receipt:
        """Step the first event; the receipt is true once that is durable."""
        if self._draining:
            raise Unavailable("the scheduler is stopping", remedy="submit again after the restart")
        self._stepper.check()
        if not submission.job:
            submission = msgspec.structs.replace(submission, job=self._new_id())
        start = self._line.may_start(submission)
        job = self._stepper.submit(submission, start=start)
        self._stepper.aside.check((submission.tenant, submission.job))
        return Receipt(job.head.id, job.head.created, job.head.status)

    async def _submit_once(self, submission: Submission) -> Receipt:
        tenant, nonce = submission.tenant, submission.nonce
        async with self._inbox.unused(tenant, nonce):
            if not submission.dedupe:
                return await self._received(self._submit(submission), tenant)
            async with self._inbox.once(tenant, submission.sender, submission.dedupe) as known:
                if known is not None:
                    receipt = repeated(submission.dedupe, submission.body_digest, *known)
                    return await self._repeat(receipt, tenant, nonce)
                return await self._received(self._submit(submission), tenant)

    async def _received(self, receipt: Receipt, tenant: str) -> Receipt:
        return await self.jobs.durable(receipt, [(tenant, receipt.job)])

    async def _settled(self, tenant: str, job: str, look: Callable[[JobState], T]) -> T:
        """What is to be seen of the job, once that is durable: nobody is shown what a crash could undo."""
        state = await self.jobs.load(tenant, job)
        seen = look(state)
        if not self._stepper.pending((tenant, job)):
            return seen
        try:
            return await self.jobs.durable(seen, [(tenant, job)])
        except CPAError:
            return look(await self.jobs.stored(tenant, job))

    def _committed(self, batch: StepBatch) -> None:
        self._watchers.committed(batch)
        for _, not_before, _ in filter(None, batch.queue.values()):
            self._line.wake(not_before)

    def _rouse(self) -> None:
        """Look at the line and the timers again."""
        self._line.wake()
        self._timers.earlier(1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)

    def _report(self, tenant: str, job: str, event: Event) -> None:
        state = self._stepper.jobs.get((tenant, job))
        if state is not None:
            self._stepper.step(state, event, fact=True)
        elif not self._draining:
            self._spawn(self.jobs.fact(tenant, job, event))

    def _progress(self, attempt: Attempt, task: str, share: float, message: str) -> None:
        self.show(attempt.tenant, attempt.job, LiveUpdate(attempt.job, task, attempt.epoch, share, message))
