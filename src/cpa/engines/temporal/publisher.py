"""The activity `publish`: a job's steps into the store, then what they command to the orchestrator.

What is written is keyed by job and event number, so a publication may come any number of times and counts once.
This process keeps a copy of each job it published lately; it decides each step again, and must come to what the
workflow came to. Commands are carried out only after their steps stand in the store. What is answered at once goes
back with the activity's result, everything else through the gateway.

A publication that comes again, after a crash or because its result was lost, finds the store ahead. What stands
there counts: where it is something else than the steps, it goes back to the workflow instead. Then all that is open
is looked at: an answer given before is given again, an attempt whose agent is gone is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from cpa.core.audit import seal
from cpa.core.commands import CancelAttempt, Command, DispatchTask, RequestTask, VerifyTask
from cpa.core.events import (
    AgentChosen,
    AnyEvent,
    DispatchDeferred,
    Event,
    JobSubmitted,
    LeaseLost,
    TaskVerified,
)
from cpa.core.job import Changes, JobState
from cpa.core.machine import decide
from cpa.engines.graphs import Graphs
from cpa.engines.keyed import Keyed
from cpa.engines.temporal.copies import Copies, Copy, Key, Read
from cpa.engines.temporal.values import (
    MOST_BYTES,
    PUBLISH,
    STALE,
    Fact,
    Publication,
    Published,
    Step,
    content_of,
    effect_of,
    size_of,
)
from cpa.engines.temporal.writer import GroupWriter
from cpa.errors import CPAError, InternalError, Unavailable
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import JobRows, StepBatch, StepStore

log = structlog.get_logger(__name__)
_WORK = (DispatchTask, RequestTask, CancelAttempt, VerifyTask)
"""What somebody has to do; the rest only waits."""
BEAT = timedelta(seconds=1.5)
"""Between the signs of life of a publication that takes long; see `workflow.SILENCE`."""
_MOST_MISSED = 5_000
"""Events given back at once."""


@dataclass(slots=True)
class _Batch:
    """One publication on its way into the store."""

    rows: JobRows
    part: StepBatch
    commands: list[Command] = field(default_factory=list)
    closed: list[tuple[Event, tuple[str, ...]]] = field(default_factory=list)
    unchosen: list[AgentChosen] = field(default_factory=list)
    rested: bool = False
    """Nothing of it runs any more."""


@dataclass(slots=True)
class _Basket:
    """What goes back with the result of a publication."""

    facts: list[Fact] = field(default_factory=list)
    size: int = 0


class Publisher:
    def __init__(
        self,
        store: StepStore,
        writer: GroupWriter,
        orchestrator: Orchestrator,
        read: Read,
        committed: Callable[[StepBatch], None],
        sealed: Callable[[Event, int], Fact],
        send: Callable[[Key, Fact], None],
        *,
        keep: int = 2_000,
    ) -> None:
        """`committed` is told what is durable now; `sealed` makes facts of events, with
        the number of the job's last that is known here; `send` takes those that nobody
        waits for."""
        self._store, self._writer, self._orchestrator = store, writer, orchestrator
        self._read, self._committed, self._sealed, self._send = read, committed, sealed, send
        self._graphs = Graphs()
        self._copies = Copies(store, read, self._graphs, keep)
        self._alone = Keyed[Key]()
        self._baskets: dict[Key, _Basket] = {}
        self._at_work: set[asyncio.Task[Published]] = set()
        self.troubled: dict[Key, CPAError] = {}
        """Jobs that could not be gone on with when that was tried last, most because their steps could not be
        stored, and why."""

    # -- publishing ----------------------------------------------------------------------------------------

    @activity.defn(name=PUBLISH)
    async def publish(self, publication: Publication) -> Published:
        # Who waited may give up, but never in the middle: what is stored is also followed.
        work = asyncio.create_task(self._tried(publication))
        self._at_work.add(work)
        work.add_done_callback(self._worked)
        with _Beating():
            return await asyncio.shield(work)

    def _worked(self, work: asyncio.Task[Published]) -> None:
        self._at_work.discard(work)
        if not work.cancelled():
            work.exception()

    async def idle(self) -> None:
        """Return when nothing is being published any more."""
        while self._at_work:
            await asyncio.wait(self._at_work)

    async def _tried(self, publication: Publication) -> Published:
        key = (publication.tenant, publication.job)
        async with self._alone.of(key):
            return await self._published(key, publication)

    async def _published(self, key: Key, publication: Publication) -> Published:
        try:
            published = await self._publish(key, publication)
        except BaseException as error:
            if (copy := self._copies.get(key)) is not None:
                copy.ahead = True
            if activity.info().attempt > 1 or key in self.troubled:
                # The first try may only have been surprised by a store that is ahead.
                self.troubled[key] = _why(publication.job, error)
            log.warning("not_published", job=publication.job, error=str(error))
            raise
        self.troubled.pop(key, None)
        return published

    async def _publish(self, key: Key, publication: Publication) -> Published:
        copy = await self._copies.of(publication, self._alone)
        ahead = copy.job.head.number > publication.after
        missed = await self._missed(key, copy.job.head.number, publication) if ahead else ()
        if missed:
            publication = Publication(tenant=key[0], job=key[1], after=publication.after)
        batch = self._decided(copy.job, publication)
        if batch.rows.events:
            await self._keep_new(batch.part)
            await self._writer.store(batch.part)
            self._committed(batch.part)
        basket = self._baskets[key] = _Basket()
        try:
            for choice in (*publication.refused, *batch.unchosen):
                self.unchosen(key, choice)
            self._follow(copy, batch)
            if ahead:
                self._revive(copy)
            # Who is quick answers within this turn of the loop.
            await asyncio.sleep(0)
        finally:
            del self._baskets[key]
        return Published(tuple(basket.facts), missed)

    async def _missed(self, key: Key, number: int, publication: Publication) -> tuple[AnyEvent, ...]:
        """What the store has beyond what the workflow knows; nothing when that is how the publication begins."""
        after, steps = publication.after, publication.steps
        stored = await self._read(self._store.events, *key, after, min(number - after, _MOST_MISSED))
        known = [seal(step.fact.event, bytes.fromhex(step.fact.salt)).body for step in steps[: len(stored)]]
        if known == [each.body for each in stored]:
            return ()
        if not after and content_of(stored[0].event) != content_of(steps[0].fact.event):
            raise ApplicationError(f"there is another job {key[1]}", type=STALE, non_retryable=True)
        missed, size = list[AnyEvent](), 0
        for each in stored:
            missed.append(each.event)
            size += len(content_of(each.event))
            if size > MOST_BYTES:
                break
        return tuple(missed)

    def _decided(self, job: JobState, publication: Publication) -> _Batch:
        """Work the steps into the copy that the store does not have."""
        key, before = (publication.tenant, publication.job), job.head
        rows = JobRows(before, job.spec, before.status if before.number else None)
        batch = _Batch(rows, StepBatch())
        for step in publication.steps:
            if step.number <= job.head.number:
                continue
            event = step.fact.event
            decision = decide(job, event)
            if decision.changes is None or effect_of(decision) != step.effect:
                raise InternalError(
                    f"event {step.number} of job {key[1]} leads to something else here than in its workflow",
                    remedy="run workers of one version only",
                )
            job.apply(decision.changes, decision.commands)
            rows.record(
                event, seal(event, bytes.fromhex(step.fact.salt)), decision.changes, decision.commands
            )
            self._note(batch, key, step, decision.changes, decision.commands)
        if rows.events:
            batch.part.jobs[key] = rows
            batch.rested = bool(before.busy) and not job.head.busy
        return batch

    def _note(
        self, batch: _Batch, key: Key, step: Step, changes: Changes, commands: tuple[Command, ...]
    ) -> None:
        fact, event = step.fact, step.fact.event
        batch.commands += commands
        if changes.closed:
            batch.closed.append((event, changes.closed))
        if isinstance(event, AgentChosen) and not isinstance(commands[0], RequestTask):
            # It is not to be done like that: people are asked anew.
            batch.unchosen.append(event)
        if isinstance(event, JobSubmitted):
            _, spec, digest = self._graphs.of(batch.rows.spec)
            batch.part.specs.append((*key, digest, spec))
        if fact.message is not None:
            batch.part.inbox.append((key[0], *fact.message, key[1], fact.digest, event.time))
        if fact.nonce is not None:
            batch.part.nonces.append((key[0], fact.nonce.key, fact.nonce.value, fact.nonce.expires))

    async def _keep_new(self, part: StepBatch) -> None:
        """What is remembered of messages already stays as it is: it must not keep a job from being stored."""
        accepted, spent = self._store.accepted, self._store.spent
        part.inbox = [row for row in part.inbox if await self._read(accepted, *row[:3]) is None]
        part.nonces = [row for row in part.nonces if not await self._read(spent, *row[:3])]

    # -- carrying out --------------------------------------------------------------------------------------

    def _follow(self, copy: Copy, batch: _Batch) -> None:
        """What follows from steps that are durable now."""
        job = copy.job
        for event, keys in batch.closed:
            for key in keys:
                copy.begun.discard(key)
                copy.said.pop(key, None)
            self._orchestrator.closed(job, event, keys)
        for command in batch.commands:
            if command.key in job.open:
                self._perform(copy, command)
            elif isinstance(command, RequestTask):
                self._orchestrator.unsent(job, command)
        if job.head.status.ended:
            if batch.rows.events:
                self._orchestrator.job_ended(job)
        elif batch.rested:
            self._orchestrator.job_idle(job.head.tenant, job.head.id)

    def _perform(self, copy: Copy, command: Command) -> None:
        job, key = copy.job, (copy.job.head.tenant, copy.job.head.id)
        if isinstance(command, _WORK):
            copy.begun.add(command.key)
        if isinstance(command, DispatchTask):
            choice = self._orchestrator.choose(job, command)
            if choice is not None:
                self.report(*key, choice)
        elif isinstance(command, RequestTask | CancelAttempt) and not self._orchestrator.known(
            key[0], command.agent
        ):
            reason = "the process was restarted"
            lost = LeaseLost(time=0, task=command.task, epoch=command.epoch, reason=reason)
            self.report(*key, lost)
        else:
            self._orchestrator.perform(job, command)

    def _revive(self, copy: Copy) -> None:
        """Whatever is open, and nobody here works on: it was begun by another process, or never."""
        key = (copy.job.head.tenant, copy.job.head.id)
        for command in list(copy.job.open.values()):
            if (said := copy.said.get(command.key)) is not None:
                self._hand_in(key, said)
            elif command.key not in copy.begun and isinstance(command, _WORK):
                if isinstance(command, RequestTask | CancelAttempt):
                    self._orchestrator.resume(copy.job, command)
                self._perform(copy, command)

    async def revive(self, key: Key) -> None:
        """After a start: go on with a job of which something is open in the store."""
        async with self._alone.of(key):
            self._revive(await self._copies.stored(key))

    def report(self, tenant: str, job: str, event: Event) -> None:
        """Take what a part of this process found. Never blocks."""
        key = (tenant, job)
        copy = self._copies.get(key)
        fact = self._sealed(event, 0 if copy is None else copy.job.head.number)
        if copy is not None:
            copy.said.update((about, fact) for about in _commands(fact.event) if about in copy.job.open)
        self._hand_in(key, fact)

    def unchosen(self, key: Key, choice: AgentChosen) -> None:
        """This choice changed nothing: its slot is free, and who goes on with the job asks anew. Not where the job
        heard it twice, and the agent is at work."""
        if (copy := self._copies.get(key)) is not None:
            for kind in ("request", "cancel"):
                given = copy.job.open.get(f"{kind}:{choice.task}:{choice.epoch}")
                if isinstance(given, RequestTask | CancelAttempt) and given.agent == choice.agent:
                    return
            for about in _commands(choice):
                copy.said.pop(about, None)
                copy.begun.discard(about)
        self._orchestrator.withdrawn(*key, choice)

    def _hand_in(self, key: Key, fact: Fact) -> None:
        basket = self._baskets.get(key)
        if basket is None or basket.size > MOST_BYTES:
            self._send(key, fact)
        else:
            basket.facts.append(fact)
            basket.size += size_of(fact)


class _Beating:
    """Tells the server now and then that a publication is being worked on; of a local one it needs no telling."""

    __slots__ = ("_timer",)

    def __enter__(self) -> None:
        self._timer = None if activity.info().is_local else self._later()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        activity.heartbeat()
        self._timer = self._later()

    def _later(self) -> asyncio.TimerHandle | None:
        return asyncio.get_running_loop().call_later(BEAT.total_seconds(), self._beat)


def _why(job: str, error: BaseException) -> CPAError:
    """As people are told; words of errors that nobody foresaw may be somebody's."""
    if isinstance(error, Unavailable):
        return error
    reason = error.message if isinstance(error, CPAError) else type(error).__name__
    return Unavailable(
        f"a step of job {job} cannot be published here: {reason}",
        field="job",
        value=job,
        remedy="the log says more; it is tried again until it can be. Where somebody else wrote to its workflow, "
        f"`temporal workflow terminate --namespace {activity.info().namespace} --workflow-id {job}`: "
        "within a minute the job goes on from the store",
    )


def _commands(event: Event) -> tuple[str, ...]:
    """Keys of the command that an event answers; one of them."""
    place = f"{getattr(event, 'task', -1)}:{getattr(event, 'epoch', -1)}"
    if isinstance(event, AgentChosen | DispatchDeferred):
        return (f"dispatch:{place}",)
    if isinstance(event, TaskVerified):
        return (f"verify:{place}",)
    return (f"request:{place}", f"cancel:{place}")
