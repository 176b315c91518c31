"""An engine in memory: the real core, no store, no timers. `test_fake_engine` holds it to the port's
promises.

With `auto` it also plays the agent: a `flow.noop` succeeds with its arguments as soon as it is asked for.
Other actions wait for facts sent by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from cpa.core import events as facts
from cpa.core.audit import seal
from cpa.core.commands import Command, DispatchTask, RequestTask
from cpa.core.events import Event
from cpa.core.job import LOGIC, JobHead, JobState, JobStatus, Snapshot
from cpa.core.machine import decide
from cpa.core.reopening import WENT_ON
from cpa.core.replay import opened
from cpa.core.views import questions
from cpa.engines.reopening import not_reopened
from cpa.errors import Conflict, CPAError, NotFound, Unavailable
from cpa.ports.engine import JobPage, LiveUpdate, Outcome, Place, Receipt, StoredEvent, Submission
from cpa.ports.nonces import Nonce, replayed

AGENT = "agent://fake/hands"


class _Job:
    def __init__(self, state: JobState) -> None:
        self.state = state
        self.stored: list[StoredEvent] = []
        self.live: list[asyncio.Queue[LiveUpdate | None]] = []


class FakeEngine:
    def __init__(self, *, auto: bool = True) -> None:
        self.auto = auto
        self.time = 1_795_000_000_000
        self.draining = False
        self.staffed = True
        """Whether an agent takes what is dispatched."""
        self.hinders: CPAError | None = None
        """What keeps every job from going on."""
        self.starts = 0
        """When every job is to start."""
        self.watchers = 0
        self.read = 0
        """Events handed out in pages."""
        self._told: dict[tuple[str, str], dict[str, LiveUpdate]] = {}
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._spent: set[tuple[str, str, str]] = set()
        self._remembered: set[tuple[str, str, str]] = set()
        self._accepted: dict[tuple[str, str, str], tuple[Receipt, str]] = {}

    def hindrance(self, tenant: str, job: str) -> CPAError | None:
        return self.hinders

    async def start_of(self, tenant: str, job: str) -> int:
        return self.starts

    async def submit(self, submission: Submission) -> Receipt:
        if self.draining:
            raise Unavailable("draining", remedy="try again later")
        key = (submission.tenant, submission.sender, submission.dedupe)
        if submission.dedupe and key in self._accepted:
            return self._repeated(key, submission.body_digest)
        self.time += 1
        job = _Job(opened(submission.tenant, submission.job or str(uuid4()), submission.spec, self.time))
        head = job.state.head
        self._jobs[head.tenant, head.id] = job
        self._step(
            job,
            facts.JobSubmitted(
                time=self.time,
                tenant=head.tenant,
                job=head.id,
                spec="0" * 64,
                tasks=len(submission.spec.tasks),
                logic=LOGIC,
                priority=submission.priority,
                due=submission.due,
                by=submission.by,
            ),
        )
        receipt = Receipt(head.id, job.state.head.created, JobStatus.PENDING)
        if submission.dedupe:
            self._accepted[key] = (receipt, submission.body_digest)
        if not (submission.not_before or self.starts):
            asyncio.get_running_loop().call_soon(self._step, job, facts.JobStarted(time=self.time))
        return receipt

    def _repeated(self, key: tuple[str, str, str], body_digest: str) -> Receipt:
        receipt, digest = self._accepted[key]
        if digest != body_digest:
            raise Conflict("this key came with another body", field="dedupe", value=key[2])
        return replace(receipt, new=False, status=self._job(key[0], receipt.job).state.head.status)

    async def recall(self, tenant: str, sender: str, dedupe: str, body_digest: str) -> Receipt | None:
        key = (tenant, sender, dedupe)
        return self._repeated(key, body_digest) if key in self._accepted else None

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Receipt]:
        return [await self.submit(submission) for submission in submissions]

    async def send(self, tenant: str, job: str, event: Event) -> Outcome:
        return self._step(self._job(tenant, job), event)

    async def remember(
        self,
        tenant: str,
        *,
        message: tuple[str, str] | None = None,
        job: str = "",
        nonce: Nonce | None = None,
        first: Callable[[], Awaitable[object]] | None = None,
    ) -> bool:
        if nonce is not None and (tenant, nonce.key, nonce.value) in self._spent:
            raise replayed(nonce)
        new = message is None or (tenant, *message) not in self._remembered
        if new and message is not None and first is not None:
            await first()
        if nonce is not None:
            self._spent.add((tenant, nonce.key, nonce.value))
        if message is not None:
            self._remembered.add((tenant, *message))
        return new

    async def query(self, tenant: str, job: str) -> Snapshot:
        return self._job(tenant, job).state.snapshot()

    async def place(self, tenant: str, job: str, task: str) -> Place | None:
        return Place.of(self._job(tenant, job).state, task)

    async def wait(self, tenant: str, job: str, timeout: float) -> JobHead:
        found = self._job(tenant, job)
        if not found.state.head.status.ended:
            try:
                async with asyncio.timeout(timeout):
                    async for _ in self.follow(tenant, job, after=len(found.stored)):
                        pass
            except TimeoutError:
                pass
        return found.state.head

    async def cancel(self, tenant: str, job: str, *, by: str, reason: str = "") -> Outcome:
        return await self.send(tenant, job, facts.CancelRequested(time=0, by=by, reason=reason))

    async def retry(self, tenant: str, job: str, *, by: str) -> Outcome:
        if self._job(tenant, job).state.head.status is not JobStatus.FAILED:
            raise Conflict(
                "only a failed job can be retried", field="job_id", value=job, remedy="wait for its end"
            )
        outcome = await self.send(tenant, job, facts.JobReopened(time=0, by=by))
        if not outcome.changed:
            raise Conflict(
                "its retries are used up", field="job_id", value=job, remedy="see the dead letters"
            )
        return outcome

    async def reopen(
        self, tenant: str, job: str, event: facts.JobReopened, *, run: int | None = None
    ) -> Outcome:
        if run not in (None, self._job(tenant, job).state.head.run):
            raise not_reopened(self._job(tenant, job).state, WENT_ON, event, run)
        outcome = await self.send(tenant, job, event)
        if not outcome.changed:
            raise not_reopened(self._job(tenant, job).state, outcome.reason, event)
        asyncio.get_running_loop().call_soon(
            self._step, self._job(tenant, job), facts.JobStarted(time=self.time)
        )
        return outcome

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage:
        """`DeadLetterQuery`."""
        mine = [job.state for (owner, _), job in self._jobs.items() if owner == tenant]
        dead = [state for state in reversed(mine) if state.snapshot().dead]
        page = [(state.head, state.spec.intent, state.spec.description) for state in dead]
        return JobPage(tuple(page[offset : offset + limit]), len(dead))

    async def list(
        self, tenant: str, *, status: JobStatus | None = None, limit: int = 50, offset: int = 0
    ) -> JobPage:
        mine = [job.state for (owner, _), job in self._jobs.items() if owner == tenant]
        fitting = [state for state in reversed(mine) if status is None or state.head.status is status]
        page = [(state.head, state.spec.intent, state.spec.description) for state in fitting]
        return JobPage(tuple(page[offset : offset + limit]), len(fitting))

    async def events(
        self, tenant: str, job: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[StoredEvent, ...]:
        page = tuple(self._job(tenant, job).stored[after : after + limit])
        self.read += len(page)
        return page

    async def follow(
        self, tenant: str, job: str, *, after: int = 0
    ) -> AsyncIterator[StoredEvent | LiveUpdate]:
        found = self._job(tenant, job)
        news: asyncio.Queue[LiveUpdate | None] = asyncio.Queue()
        found.live.append(news)
        self.watchers += 1
        try:
            while True:
                while after < len(found.stored):
                    after += 1
                    yield found.stored[after - 1]
                if found.state.head.status.ended:
                    return
                update = await news.get()
                if update is not None:
                    yield update
        finally:
            found.live.remove(news)
            self.watchers -= 1

    async def drain(self, timeout: float) -> None:
        self.draining = True

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        """`QuestionQuery`."""
        mine = sorted(job for owner, job in self._jobs if owner == tenant and job > after)
        return tuple([job for job in mine if questions(self._job(tenant, job).state.snapshot())][:limit])

    def stored(self, tenant: str) -> list[StoredEvent]:
        """Everything that happened, in the order of happening."""
        mine = [event for (owner, _), job in self._jobs.items() if owner == tenant for event in job.stored]
        return sorted(mine, key=lambda event: event.event.time)

    def shown(self, tenant: str, job: str) -> Mapping[str, LiveUpdate]:
        return self._told.get((tenant, job), {})

    def progress(self, tenant: str, update: LiveUpdate) -> None:
        """An agent tells how far it is."""
        self._told.setdefault((tenant, update.job), {})[update.task] = update
        for news in self._job(tenant, update.job).live:
            news.put_nowait(update)

    def _job(self, tenant: str, job: str) -> _Job:
        if (tenant, job) not in self._jobs:
            raise NotFound("there is no such job", field="job_id", value=job, remedy="list the jobs")
        return self._jobs[tenant, job]

    def _step(self, job: _Job, event: Event) -> Outcome:
        self.time += 1
        event = replace(event, time=self.time)
        decision = decide(job.state, event)
        if decision.changes is None:
            return Outcome(False, job.state.head.number, decision.reason)
        job.state.apply(decision.changes, decision.commands)
        head = job.state.head
        sealed = seal(event, b"salt of the fake engine")
        job.stored.append(StoredEvent(head.id, head.number, event, sealed.leaf.hex(), sealed.body))
        for news in job.live:
            news.put_nowait(None)
        for command in decision.commands:
            self._perform(job, command)
        return Outcome(True, head.number)

    def _perform(self, job: _Job, command: Command) -> None:
        soon = asyncio.get_running_loop().call_soon
        if isinstance(command, DispatchTask):
            if not self.staffed:
                return
            chosen = facts.AgentChosen(time=0, task=command.task, epoch=command.epoch, agent=AGENT)
            soon(self._step, job, chosen)
        elif isinstance(command, RequestTask) and self.auto:
            task = job.state.spec.tasks[command.task]
            if task.action == "flow.noop":
                result = {"value": msgspec.to_builtins(task.arguments.get("value"))}
                done = facts.TaskSucceeded(time=0, task=command.task, epoch=command.epoch, result=result)
                soon(self._step, job, done)
