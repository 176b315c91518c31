"""One job as a workflow: the core decides inside, history is the truth.

    signal, update, timer, the activity's result  ->  inbox  ->  decide  ->  steps  ->  activity `publish`

One loop decides, fact after fact. What was decided goes out in batches, one at a time and in order: an activity
writes the steps into the store and has their commands carried out, so every command stands in history before its
effect. There is one timer, for the earliest due command. Where the history grows long the execution goes on as a
new one, with everything that was not decided or not published yet.

Replay runs this code again over the history and must come to the same: no clock but the workflow's, no chance, no
order of sets, nothing imported but the core. An activity's id holds a digest of what was decided, so that a core
that decides otherwise is noticed at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from datetime import timedelta

import msgspec
from msgspec.structs import replace
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from cpa.core.events import (
    AgentChosen,
    CancelRequested,
    Event,
    JobReopened,
    JobStarted,
    JobSubmitted,
    TimerFired,
)
from cpa.core.job import LOGIC, Decision, Graph, JobState
from cpa.core.machine import decide
from cpa.engines.temporal.values import (
    FACTS,
    LEAVE,
    MOST_BYTES,
    PUBLISH,
    STATUS,
    TELL,
    UNCHANGED,
    WORKFLOW,
    Ended,
    Fact,
    JobInput,
    Publication,
    Published,
    Step,
    Told,
    effect_of,
)

MOST_STEPS = 500
"""Steps in one publication."""
MOST_UPDATES = 1_500
"""In one execution; the server takes 2,000."""
PATIENCE = timedelta(seconds=20)
"""How long a publication may take before another worker is asked for it."""
SILENCE = timedelta(seconds=6)
"""After so long without a sign of life of its worker another one is asked at once."""
_START = "start"
"""Key of the timer of a postponed job."""
_NEWEST = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
"""Where an execution follows another it may move to the newest version of the workers."""
_encode = msgspec.json.Encoder().encode


class _Asked:
    """A fact whose outcome somebody may wait for."""

    __slots__ = ("fact", "told")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.told: Told | None = None


@workflow.defn(name=WORKFLOW)
class JobWorkflow:
    @workflow.init
    def __init__(self, begin: JobInput) -> None:
        # Here and not in `run`: signals of the first moment find everything in place.
        self._job = JobState(begin.head, Graph(begin.spec), begin.tasks, begin.commands)
        self._due = dict(begin.due)
        self._start = begin.start
        self._salt = begin.salt
        self._inbox = deque(_Asked(fact) for fact in begin.inbox)
        self._steps = deque(begin.steps)
        self._seen = dict.fromkeys(begin.seen)
        self._new = dict[tuple[str, str], None]()
        self._refused: list[AgentChosen] = []
        self._publishing: asyncio.Task[None] | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0
        self._news = True
        self._leaving = False
        self._updates = 0
        self._published = 0
        self._broken: ActivityError | None = None
        self._shown = begin.shown
        if begin.start:
            self._due[_START] = begin.start

    # -- facts come in -------------------------------------------------------------------------------------

    @workflow.signal(name=FACTS)
    def facts(self, facts: list[Fact]) -> None:
        self._inbox.extend(map(_Asked, facts))

    @workflow.signal(name=LEAVE)
    def leave(self) -> None:
        """Another engine takes the job over: nothing begins here any more, and the execution ends once the store
        has all that was decided."""
        self._leaving = self._news = True

    @workflow.update(name=TELL)
    async def tell(self, facts: list[Fact]) -> list[Told]:
        self._updates += 1
        asked = [_Asked(fact) for fact in facts]
        self._inbox.extend(asked)
        await workflow.wait_condition(lambda: asked[-1].told is not None)
        return [each.told for each in asked if each.told is not None]

    @tell.validator
    def refuse(self, facts: list[Fact]) -> None:
        """What changes nothing leaves no trace in history: it is answered at once."""
        if self._inbox:
            return
        reasons = list[str]()
        for fact in facts:
            decision = self._decision(self._stamped(fact.event), fact)
            if decision.changes is not None:
                return
            reasons.append(decision.reason)
        raise ApplicationError("nothing changes", self._job.head.number, reasons, type=UNCHANGED)

    # -- the loop ------------------------------------------------------------------------------------------

    @workflow.run
    async def run(self, begin: JobInput) -> Ended:
        check_logic(begin)
        while True:
            self._news = False
            if self._broken is not None:
                raise self._broken
            if not self._leaving:
                self._fire()
            while self._inbox:
                self._take(self._inbox.popleft())
            rolling = self._long() and not self._leaving
            if not rolling:
                self._publish()
            if self._publishing is None and workflow.all_handlers_finished():
                if rolling:
                    workflow.continue_as_new(self._rest(), initial_versioning_behavior=_NEWEST)
                head = self._job.head
                if head.status.ended or self._leaving:
                    self._show()
                    return Ended(head.status.value, head.number, self._start)
            if self._publishing is None:
                # While something is being published its end is the next news, and no timer is needed.
                self._set_alarm()
            try:
                await workflow.wait_condition(self._called)
            except asyncio.CancelledError:
                # Somebody cancelled the execution at the server: for the job that is a person's wish.
                event = CancelRequested(time=0, by="temporal", reason="cancelled at the Temporal server")
                self._inbox.append(_Asked(Fact(event, salt=_SALT)))

    def _called(self) -> bool:
        if self._inbox or self._news:
            return True
        idle = self._publishing is None and workflow.all_handlers_finished()
        return idle and (self._job.head.status.ended or self._leaving or self._long())

    def _long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested() or self._updates >= MOST_UPDATES

    def _rest(self) -> JobInput:
        """What is left of this execution."""
        job = self._job
        return JobInput(
            spec=job.spec,
            head=job.head,
            tasks=tuple(job.tasks.values()),
            commands=tuple(job.open.values()),  # type: ignore[arg-type]  # all commands are of the union
            due={key: due for key, due in self._due.items() if key != _START},
            start=self._start,
            steps=tuple(self._steps),
            seen=tuple(self._new),
            shown=self._shown,
            salt=self._salt,
        )

    def _show(self) -> None:
        """Let the server's lists have the status, where they have a place for it."""
        head = self._job.head
        status = head.status.value if head.status.ended or not self._leaving else "moved"
        if self._shown and self._shown != status:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])

    # -- deciding ------------------------------------------------------------------------------------------

    def _take(self, asked: _Asked) -> None:
        fact = asked.fact
        event = self._stamped(fact.event)
        decision = self._decision(event, fact)
        changes = decision.changes
        if changes is None:
            if isinstance(event, AgentChosen):
                self._refused.append(event)
        else:
            self._job.apply(changes, decision.commands)
            for key in changes.closed:
                self._due.pop(key, None)
            for command in decision.commands:
                if command.after:
                    self._due[command.key] = event.time + command.after
            if self._start and changes.head.status.value != "pending":
                self._start = 0
                self._due.pop(_START, None)
                self._show()
            if isinstance(event, JobReopened):
                # No line to stand in: whoever takes up this workflow has room for it.
                self._inbox.appendleft(_Asked(Fact(JobStarted(time=0))))
            if fact.message is not None:
                self._new[fact.message] = None
            stamped = replace(fact, event=event)
            self._steps.append(Step(changes.head.number, stamped, effect_of(decision)))
        asked.told = Told(changes is not None, self._job.head.number, decision.reason)

    def _decision(self, event: Event, fact: Fact) -> Decision:
        if fact.message is not None and (fact.message in self._new or fact.message in self._seen):
            return Decision(reason="duplicate")
        return decide(self._job, event)

    def _stamped(self, event: Event) -> Event:
        return replace(event, time=max(self._now(), self._job.head.time))

    def _now(self) -> int:
        return int(workflow.now().timestamp() * 1000)

    # -- time ----------------------------------------------------------------------------------------------

    def _fire(self) -> None:
        """Commands whose time has come, earliest first."""
        now = self._now()
        ripe = sorted((due, key) for key, due in self._due.items() if due <= now)
        for _, key in ripe:
            del self._due[key]
            event = JobStarted(time=0) if key == _START else TimerFired(time=0, key=key)
            self._inbox.append(_Asked(Fact(event)))

    def _set_alarm(self) -> None:
        """One timer, for the earliest. One that rings too early is set again then: that is cheaper in history than
        to cancel it whenever something else happens."""
        earliest = min(self._due.values(), default=0)
        if not earliest or (self._alarm is not None and self._alarm_at <= earliest):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = earliest
        self._alarm = asyncio.create_task(self._ring(max(earliest - self._now(), 1)))

    async def _ring(self, after: int) -> None:
        await workflow.sleep(timedelta(milliseconds=after))
        self._alarm = None
        self._news = True

    # -- publishing ----------------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self._publishing is None and (self._steps or self._refused):
            self._publishing = asyncio.create_task(self._publish_some())

    async def _publish_some(self) -> None:
        head, batch, size, digest = self._job.head, list[Step](), 0, hashlib.sha256(self._salt.encode())
        while self._steps and len(batch) < MOST_STEPS and size < MOST_BYTES:
            batch.append(step := self._steps.popleft())
            digest.update(step.effect.encode())
            size += len(_encode(step))
        refused, self._refused = self._refused, []
        self._published += 1
        publication = Publication(
            tenant=head.tenant,
            job=head.id,
            spec=self._job.spec if batch and batch[0].number == 1 else None,
            steps=tuple(batch),
            refused=tuple(refused),
        )
        try:
            published: Published = await workflow.execute_activity(
                PUBLISH,
                publication,
                result_type=Published,
                activity_id=f"{self._published}:{digest.hexdigest()[:16]}",
                start_to_close_timeout=PATIENCE,
                heartbeat_timeout=SILENCE,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5)
                ),
            )
        except ActivityError as error:
            # It is tried without end, but for one refusal: this execution began from an old state of the job.
            self._broken = error
        else:
            self._inbox.extend(map(_Asked, published.facts))
        self._publishing, self._news = None, True


def check_logic(begin: JobInput) -> None:
    """Raise where the job needs a newer core: its workflow waits for a worker that has one."""
    submitted = [fact.event.logic for fact in begin.inbox if isinstance(fact.event, JobSubmitted)]
    needed = max(begin.head.logic, *submitted, 0)
    if needed > LOGIC:
        raise RuntimeError(f"this job needs logic {needed}, this program knows up to {LOGIC}")


_SALT = "00" * 16
"""Of words that are always the same, and no secret."""
