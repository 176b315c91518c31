"""Steps jobs and commits the steps in groups: the only writer of the local engine.

A step is decided and applied at once, in memory, and joins the batch that is being filled; while one batch is
written (in a thread, fsync included) the next one fills. Nothing is acknowledged or performed before the batch
of its step is durable. If a commit fails, all jobs of that batch and of the one being filled are dropped from
memory, because their later steps rest on the lost ones; those who wait are told; facts that came from agents
are kept and given again; what was open is performed again from the stored state. If the store cannot take the
batch for another reason, its jobs are written one by one, and those it refuses are set aside.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Any

import structlog
from msgspec.structs import force_setattr

from cpa.core.audit import Sealed, seal
from cpa.core.commands import Command, DispatchTask, RequestTask
from cpa.core.events import PERSONAL, AgentChosen, Event, JobSubmitted
from cpa.core.job import LOGIC, Decision, JobHead, JobState
from cpa.core.machine import decide
from cpa.core.storing import UNSTORABLE, doubtful, storable
from cpa.engines.graphs import Graphs
from cpa.engines.inbox import KEEP_NONCES
from cpa.engines.local.aside import Aside
from cpa.engines.local.group import Group, Key
from cpa.engines.local.writer import RETRY_COMMIT, Writer
from cpa.errors import CPAError, InternalError
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.clock import Clock
from cpa.ports.engine import Submission
from cpa.ports.nonces import Nonce
from cpa.ports.steps import JobRows, StepBatch, StepStore, Unreadable

_log = structlog.get_logger(__name__)
_RECENT = 500
_SALT = 16
"""Bytes of fresh chance that salt the digests of one event's personal fields."""
_SMALL = 100
"""Tasks of a job that is worth remembering."""
_NOTHING = Group()
"""Nothing is being written."""
GLANCE = 10.0
"""Seconds after which who waits for a time looks at the clock again."""


class Stepper:
    """Owns the jobs in memory. All methods but `run` are synchronous and belong to the loop's thread."""

    def __init__(
        self,
        store: StepStore,
        orchestrator: Orchestrator,
        clock: Clock,
        chance: Callable[[int], bytes],
        *,
        keep: int = 5_000,
    ) -> None:
        self.store = store
        self.clock = clock
        self.jobs: dict[Key, JobState] = {}
        self.recent: OrderedDict[Key, JobState] = OrderedDict()
        """Jobs that ended a while ago, durably: those who submitted them will ask."""
        self._busy = set[Key]()
        self.aside = Aside()
        self.starting = True
        """Whether new attempts may begin; off while draining."""
        self.trouble: CPAError | None = None
        """Why the last commit failed; None when it did not."""
        self._troubled = 0.0
        self.on_commit: Callable[[StepBatch], None] = _nobody
        self.on_timer: Callable[[int], None] = _nobody
        self.on_lost: Callable[[list[Key], list[tuple[str, str, Event]]], None] = _nobody_lost
        self.on_rest: Callable[[], None] = _at_rest
        self._orchestrator = orchestrator
        self._keep = keep
        self._group = Group()
        self._writing = _NOTHING
        self._chance = chance
        self._dirty = asyncio.Event()
        self._graphs = Graphs()
        self._eager: deque[tuple[JobState, DispatchTask]] = deque()

    # -- stepping ------------------------------------------------------------------------------------------

    def now(self) -> int:
        return self.clock.now_ms()

    def step(self, job: JobState, event: Event, *, fact: bool = False) -> Decision:
        """Work one event into a job; its time becomes the clock's. The decision is in memory, not yet durable.

        `fact` marks what an agent said: it is given again should the commit fail. A job that cannot be stepped is
        set aside, which changes nothing and is the reason.
        """
        key = (job.head.tenant, job.head.id)
        try:
            self.aside.check(key)
            decision = self._step(job, event, fact=fact)
            if self._eager:
                self._choose()
        except Unreadable:
            self._orchestrator.withdrawn(*key, event)
            return Decision(reason="set_aside")
        return decision

    def dispatch(self, job: JobState, command: DispatchTask) -> None:
        """Look for an agent for a dispatch that is open already."""
        self._eager.append((job, command))
        self._choose()

    def _choose(self) -> None:
        while self._eager:
            waiting, command = self._eager.popleft()
            if command.key in waiting.open and self.starting:
                choice = self._orchestrator.choose(waiting, command)
                if choice is not None:
                    self._step(waiting, choice)

    def _step(self, job: JobState, event: Event, *, fact: bool = False) -> Decision:
        before, now = job.head, self.clock.now_ms()
        # The event is ours alone until it is stored: stamping it in place saves a copy.
        force_setattr(event, "time", now if now > before.time else before.time)
        # Sealed before anything is decided: what cannot be stored must not change the job in memory.
        event, sealed = self._seal(event)
        try:
            decision = decide(job, event)
            changes = decision.changes
            if changes is not None:
                job.apply(changes, decision.commands)
        except Exception as error:
            raise self.set_aside(job, error) from error
        if changes is None:
            if type(event) is AgentChosen:
                self._orchestrator.withdrawn(before.tenant, before.id, event)
            return decision
        head = changes.head
        group, key = self._group, (head.tenant, head.id)
        rows = group.batch.jobs.get(key)
        if rows is None:
            rows = JobRows(head, job.graph.spec, before.status if before.number else None)
            group.batch.jobs[key] = rows
            group.touched[key] = job
        rows.record(event, sealed, changes, decision.commands)
        for command in decision.commands:
            if type(command) is DispatchTask:
                self._eager.append((job, command))
            else:
                group.commands.append((job, command))
            if command.after:
                group.expect(event.time + command.after)
        if fact and type(event) is not AgentChosen:
            # Should the commit fail, a choice is withdrawn, and asked for again by its dispatch.
            group.facts.append((head.tenant, head.id, event))
        if (before.busy == 0) != (head.busy == 0):
            if head.busy:
                self._busy.add(key)
            else:
                self._rests(key)
                if not head.status.ended:
                    self._orchestrator.job_idle(*key)
        self._dirty.set()
        if type(event) is AgentChosen:
            if type(decision.commands[0]) is not RequestTask:
                # It is not to be done like that: people are asked anew.
                self._orchestrator.withdrawn(before.tenant, before.id, event)
        elif changes.closed and (not fact or self._orchestrator.ending):
            # What a part of this process did has given its slot back itself.
            group.closed.append((job, event, changes.closed))
        return decision

    def _seal(self, event: Event) -> tuple[Event, Sealed]:
        """The event as it can be stored, and its stored form. Raises as `storable`."""
        salt = self._chance(_SALT) if type(event) in PERSONAL else b""
        try:
            sealed = seal(event, salt)
            if not doubtful(sealed):
                return event, sealed
        except UNSTORABLE:
            pass  # it is mended, or replaced
        event = storable(event)
        return event, seal(event, salt)

    def set_aside(self, job: JobState, error: BaseException) -> Unreadable:
        """Nothing more is done with a job that is in memory; what to raise."""
        key = (job.head.tenant, job.head.id)
        self.recent.pop(key, None)
        if self.jobs.get(key) is job:
            del self.jobs[key]
            self._rests(key)
        return self.aside.put(key, error)

    @property
    def busy(self) -> int:
        """How many jobs there are of which something runs."""
        return len(self._busy)

    def _rests(self, key: Key) -> None:
        self._busy.discard(key)
        self.on_rest()

    def check(self) -> None:
        """Raise why the store does not write; once in a while somebody gets through, to find out anew."""
        if self.trouble is not None and self.clock.monotonic() - self._troubled < RETRY_COMMIT:
            raise self.trouble

    def submit(self, submission: Submission, *, start: bool) -> JobState:
        """A new job: its first event, and with `start` its second; else a place in the line."""
        graph, spec, digest = self._graphs.of(submission.spec)
        now = self.clock.now_ms()
        key = (submission.tenant, submission.job)
        job = JobState(JobHead(*key, now), graph)
        self.jobs[key] = job
        batch = self._group.batch
        batch.specs.append((*key, digest, spec))
        if submission.dedupe:
            digest_of_body = submission.body_digest
            self.accept(
                submission.tenant, submission.sender, submission.dedupe, submission.job, digest_of_body
            )
        if submission.nonce is not None:
            self.spend(submission.tenant, submission.nonce)
        event = JobSubmitted(
            time=now,
            tenant=submission.tenant,
            job=submission.job,
            spec=digest,
            tasks=len(submission.spec.tasks),
            priority=submission.priority,
            due=submission.due,
            start=start,
            logic=LOGIC,
            by=submission.by,
        )
        if self.step(job, event).changes is None:
            # No job came of it: nothing of it may stay.
            self._group.drop(key, InternalError("the job could not be begun"))
        elif not start:
            self.enqueue(job, submission.not_before)
        return job

    def accept(self, tenant: str, sender: str, message: str, job: str, digest: str = "") -> None:
        """Remember a message from outside; the caller sees to it that its key is new."""
        self._group.batch.inbox.append((tenant, sender, message, job, digest, self.now()))
        self._dirty.set()

    def spend(self, tenant: str, nonce: Nonce) -> None:
        """Remember the nonce of a signed message; the caller sees to it that it is new."""
        batch = self._group.batch
        batch.nonces.append((tenant, nonce.key, nonce.value, nonce.expires))
        batch.expired = self.now() - KEEP_NONCES
        self._dirty.set()

    def adopt(self, job: JobState) -> JobState:
        """Take a job loaded from the store; one that is already in memory wins."""
        key = (job.head.tenant, job.head.id)
        known = self.jobs.get(key)
        if known is not None:
            return known
        if not job.head.status.ended:
            self.jobs[key] = job
            if job.head.busy:
                self._busy.add(key)
        return job

    def adopt_changed(self, job: JobState) -> None:
        """Take a job back into memory that had ended and was stepped on, until that is durable."""
        key = (job.head.tenant, job.head.id)
        self.recent.pop(key, None)
        self.jobs[key] = job

    def enqueue(self, job: JobState, not_before: int = 0) -> None:
        head = job.head
        self._group.batch.queue[head.tenant, head.id] = (head.priority, not_before, head.time)
        self._dirty.set()

    def dequeue(self, job: JobState) -> None:
        self._group.batch.queue[job.head.tenant, job.head.id] = None

    def ripen(self) -> None:
        """Postponed jobs whose time has come become ready to start."""
        self._group.batch.ripe = self.now()
        self._dirty.set()

    def pending(self, key: Key) -> bool:
        """Whether steps of the job are not durable yet."""
        return key in self._group.touched or key in self._writing.touched

    def promise(self, future: asyncio.Future[Any], value: Any, keys: Collection[Key] = ()) -> None:
        """Resolve the future with the value once everything stepped so far is durable; `keys` are the jobs whose
        steps it rests on."""
        self._group.promised.append((future, value, keys))
        self._dirty.set()

    # -- committing ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit group after group until cancelled; what is pending then is still committed."""
        await Writer(self.store, self).run()

    async def filled(self) -> None:
        """Return once there is something to commit."""
        await self._dirty.wait()

    def take(self) -> Group:
        """What is to be committed next."""
        self._dirty.clear()
        self._writing, self._group = self._group, Group()
        return self._writing

    def refused(self, group: Group, key: Key, error: BaseException) -> None:
        """No store takes these steps: the job is set aside, as it was before them."""
        rows, job = group.batch.jobs[key], group.touched[key]
        reason = self.set_aside(job, error) if rows.before is not None else InternalError(str(error))
        self.jobs.pop(key, None)
        self._rests(key)
        for event in group.drop(key, reason) + self._group.drop(key, reason):
            self._orchestrator.withdrawn(*key, event)

    def settle(self, group: Group, error: BaseException | None) -> None:
        """The group is durable, or with an error nothing of it is."""
        self._writing = _NOTHING
        if error is None:
            self.trouble = None
            self._durable(group)
        elif isinstance(error, CPAError):
            self._lost(group, error)
        elif isinstance(error, Exception):
            self._lost(group, InternalError(f"the store refused the steps: {error}"))
        else:
            raise error

    def _durable(self, group: Group) -> None:
        for future, value, _ in group.promised:
            if not future.done():
                future.set_result(value)
        for job, event, keys in group.closed:
            # Only now: a slot must not go to somebody else for an answer that is lost.
            self._orchestrator.closed(job, event, keys)
        for job, command in group.commands:
            if command.key in job.open:
                if self.starting and (error := self._performed(job, command)):
                    self.set_aside(job, error)
            elif type(command) is RequestTask:
                self._orchestrator.unsent(job, command)
        if group.earliest:
            self.on_timer(group.earliest)
        for key, job in group.touched.items():
            # Performing a command may have stepped the job on: it may go once its last step is durable.
            durable = group.batch.jobs[key].head
            if durable.status.ended and durable is job.head and self.jobs.get(key) is job:
                del self.jobs[key]
                self._remember(key, job)
                self._orchestrator.job_ended(job)
        if len(self.jobs) > self._keep:
            self._evict()
        self.on_commit(group.batch)

    def _performed(self, job: JobState, command: Command) -> Exception | None:
        """Have it performed; what went wrong with that."""
        try:
            self._orchestrator.perform(job, command)
        except Exception as error:  # noqa: BLE001 - returned
            return error
        return None

    def _remember(self, key: Key, job: JobState) -> None:
        if len(job.tasks) <= _SMALL:
            self.recent[key] = job
            if len(self.recent) > _RECENT:
                self.recent.popitem(last=False)

    def _lost(self, group: Group, error: CPAError) -> None:
        later, self._group = self._group, Group()
        self._eager.clear()
        if error.retryable:
            self.trouble, self._troubled = error, self.clock.monotonic()
        _log.error("commit_failed", error=str(error), steps=group.batch.events + later.batch.events)
        touched = {**group.touched, **later.touched}
        for key, job in touched.items():
            if self.jobs.get(key) is job:
                del self.jobs[key]
                self._busy.discard(key)
        for future, _, _ in group.promised + later.promised:
            if not future.done():
                future.set_exception(error)
        for lost in (group.batch.jobs, later.batch.jobs):
            for (tenant, name), rows in lost.items():
                for event, _ in rows.events:
                    if type(event) is AgentChosen:
                        self._orchestrator.withdrawn(tenant, name, event)
        self.on_lost(list(touched), group.facts + later.facts)

    def _evict(self) -> None:
        """Forget jobs that only wait; they are loaded again when something happens to them."""
        idle = [
            key
            for key, job in self.jobs.items()
            if not job.head.busy and not job.head.unsettled and key not in self._group.touched
        ]
        for key in idle[: len(self.jobs) - self._keep]:
            del self.jobs[key]


def _nobody(_: Any) -> None: ...


def _at_rest() -> None: ...


def _nobody_lost(_: Any, __: Any) -> None: ...
