"""What the workflow of one job decides, batch after batch, and how it keeps step with the store.

*The store may be ahead.* `publish` is a local activity: it runs where the workflow runs, and its result enters
history with the end of the workflow task, often together with those of the next ones. When a worker ends in
between, the server has the workflow task done again: at another time, perhaps with more facts. What the first try
stored counts then. The publication finds it, stores nothing, and gives it back as `missed`; the workflow takes back
what it decided on its own, applies what the store has, and decides its facts again, without those that stand in the
store already. So the store is the log that is written first, and history catches up. Three rules see to it:

- A try of a workflow task sees at least the facts the one before saw, so whatever led to a step leads to a
  publication again. An update is the exception: until its acceptance stands in history the server may forget it.
  So what follows from one is first published by an activity of the server, which ends the workflow task.
- A fact names the event that its sender had seen in the store (`since`). It is not decided before the workflow has
  come that far; else an answer to a command of a forgotten step would be turned away.
- Nobody hears what became of a fact before that is stored.

Pure, as the core is: time comes with each call.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from cpa.core.commands import Command
from cpa.core.events import AgentChosen, Event, JobReopened, JobStarted, TimerFired
from cpa.core.job import Decision, Graph, JobHead, JobState, TaskRun
from cpa.core.machine import decide
from cpa.core.reopening import WENT_ON
from cpa.engines.temporal.values import (
    MOST_BYTES,
    Fact,
    JobInput,
    Publication,
    Published,
    Step,
    Told,
    content_of,
    effect_of,
)

MOST_STEPS = 1_000
"""Facts decided for one publication."""
_START = "start"
"""Key of the timer of a postponed job."""
_encode = msgspec.json.Encoder().encode


class Asked:
    """A fact whose outcome somebody may wait for."""

    __slots__ = ("fact", "settled", "told")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.told: Told | None = None
        self.settled = False
        """What was told is stored."""


class _Base:
    """A job as it was when a batch was begun."""

    __slots__ = ("commands", "due", "head", "start", "tasks")

    def __init__(self, job: JobState, due: dict[str, int], start: int) -> None:
        self.head: JobHead = job.head
        self.tasks: list[TaskRun] = list(job.tasks.values())
        self.commands: list[Command] = list(job.open.values())
        self.due, self.start = dict(due), start


class Decider:
    """Take facts with `add`; then in turn `fire` and `decide`, hand on the `publication`, and tell with `came_back`
    what became of it. Nothing is decided while a publication is under way."""

    def __init__(self, begin: JobInput) -> None:
        self.job = JobState(begin.head, Graph(begin.spec), begin.tasks, begin.commands)
        self.inbox = deque(Asked(fact) for fact in begin.inbox)
        self.start = begin.start
        """When a postponed job may start; 0 is not postponed."""
        self._due = dict(begin.due)
        if begin.start:
            self._due[_START] = begin.start
        self._stored = begin.head.number
        """The last event known to be in the store; beyond it only what is in `_steps`."""
        self._base: _Base | None = None
        self._taken: list[Asked] = []
        """Facts of the batch, whatever they changed."""
        self._steps: list[Step] = []
        """What changed the job, of those."""
        self._size = 0
        self._refused: list[AgentChosen] = []
        self._seen = dict.fromkeys(begin.seen)
        self._new = dict[tuple[str, str], None]()
        self._salt = begin.salt
        self._digest = hashlib.sha256(begin.salt.encode())

    @property
    def digest(self) -> str:
        """Of all that was decided so far."""
        return self._digest.hexdigest()[:16]

    @property
    def earliest(self) -> int:
        """When the next command is due; 0 is none."""
        return min(self._due.values(), default=0)

    def rest(self) -> JobInput:
        """What the next execution begins with."""
        job = self.job
        return JobInput(
            spec=job.spec,
            head=job.head,
            tasks=tuple(job.tasks.values()),
            commands=tuple(job.open.values()),  # type: ignore[arg-type]  # all commands are of the union
            due={key: due for key, due in self._due.items() if key != _START},
            start=self.start,
            inbox=tuple(asked.fact for asked in self.inbox),
            seen=tuple(self._new),
            salt=self._salt,
        )

    # -- facts ---------------------------------------------------------------------------------------------

    def add(self, facts: Iterable[Fact]) -> list[Asked]:
        asked = list(map(Asked, facts))
        self.inbox.extend(asked)
        return asked

    def fire(self, now: int) -> None:
        """Commands whose time has come become facts, earliest first."""
        ripe = sorted((due, key) for key, due in self._due.items() if due <= now)
        for _, key in ripe:
            del self._due[key]
            event = JobStarted(time=0) if key == _START else TimerFired(time=0, key=key)
            self.inbox.append(Asked(Fact(event)))

    def refusals(self, facts: list[Fact], now: int) -> list[str]:
        """Why each of the facts would change nothing; empty when one might change something."""
        if self.inbox or self._taken or any(fact.since > self._stored for fact in facts):
            return []
        reasons = list[str]()
        for fact in facts:
            decision = self._decision(self._stamped(fact.event, now), fact)
            if decision.changes is not None:
                return []
            reasons.append(decision.reason)
        return reasons

    # -- deciding ------------------------------------------------------------------------------------------

    def decide(self, now: int) -> None:
        """The next batch; none where the next fact presupposes more than is known here."""
        while self.inbox and self.inbox[0].fact.since <= self._stored:
            if self._base is None:
                self._base = _Base(self.job, self._due, self.start)
            self._take(self.inbox.popleft(), now)
            if len(self._taken) >= MOST_STEPS or self._size >= MOST_BYTES:
                if self._steps or self._refused:
                    return
                self._settle()
        if not self._steps and not self._refused:
            self._settle()

    def _take(self, asked: Asked, now: int) -> None:
        fact = asked.fact
        event = self._stamped(fact.event, now)
        decision = self._decision(event, fact)
        changes = decision.changes
        if changes is None:
            if isinstance(event, AgentChosen):
                self._refused.append(event)
        else:
            effect = self._apply(event, decision)
            if fact.message is not None:
                self._new[fact.message] = None
            step = Step(changes.head.number, replace(fact, event=event, since=0), effect)
            self._steps.append(step)
            self._size += len(_encode(step))
        self._taken.append(asked)
        asked.told = Told(changes is not None, self.job.head.number, decision.reason)

    def _apply(self, event: Event, decision: Decision) -> str:
        changes = decision.changes
        assert changes is not None
        self.job.apply(changes, decision.commands)
        for key in changes.closed:
            self._due.pop(key, None)
        for command in decision.commands:
            if command.after:
                self._due[command.key] = event.time + command.after
        if self.start and changes.head.status.value != "pending":
            self.start = 0
            self._due.pop(_START, None)
        if isinstance(event, JobReopened):
            # No line to stand in: whoever takes up this workflow has room for it.
            self.inbox.appendleft(Asked(Fact(JobStarted(time=0))))
        effect = effect_of(decision)
        self._digest.update(effect.encode())
        return effect

    def _decision(self, event: Event, fact: Fact) -> Decision:
        if fact.message is not None and (fact.message in self._new or fact.message in self._seen):
            return Decision(reason="duplicate")
        if fact.late(self.job.head):
            return Decision(reason=WENT_ON)
        return decide(self.job, event)

    def _stamped(self, event: Event, now: int) -> Event:
        return replace(event, time=max(now, self.job.head.time))

    def _settle(self) -> None:
        """All of the batch is stored."""
        self._stored = self.job.head.number
        for asked in self._taken:
            asked.settled = True
        self._clear()

    def _clear(self) -> None:
        self._taken, self._steps, self._refused, self._size, self._base = [], [], [], 0, None

    # -- keeping step --------------------------------------------------------------------------------------

    def publication(self) -> Publication | None:
        """The batch, for the store. Without a batch there may be facts that wait for what the store has and this
        execution does not know."""
        if not (self._steps or self._refused or self.inbox):
            return None
        return Publication(
            tenant=self.job.head.tenant,
            job=self.job.head.id,
            after=self._stored,
            spec=self.job.spec if not self._stored else None,
            steps=tuple(self._steps),
            refused=tuple(self._refused),
        )

    def came_back(self, published: Published) -> None:
        """What became of the publication."""
        if published.missed:
            self._adopt(published.missed)
        else:
            self._settle()
            for asked in self.inbox:
                # Whoever knows of more than the store does will not learn of it here.
                if asked.fact.since > self._stored:
                    asked.fact = replace(asked.fact, since=0)
        self.add(published.facts)

    def _adopt(self, missed: tuple[Event, ...]) -> None:
        """The store has other steps than those of this batch: an earlier try of this workflow task wrote them."""
        base, taken = self._base, self._taken
        if base is not None:
            self.job = JobState(base.head, self.job.graph, base.tasks, base.commands)
            self._due, self.start = base.due, base.start
            for step in self._steps:
                if step.fact.message is not None:
                    self._new.pop(step.fact.message, None)
        self._clear()
        own: dict[bytes, deque[Asked]] = {}
        for asked in taken:
            own.setdefault(content_of(asked.fact.event), deque()).append(asked)
        for event in missed:
            decision = decide(self.job, event)
            if decision.changes is None:
                raise RuntimeError(f"what is stored of this job changes nothing here: {decision.reason}")
            self._apply(event, decision)
            same = own.get(content_of(event))
            if same:
                asked = same.popleft()
                asked.told, asked.settled = Told(True, self.job.head.number), True
                if asked.fact.message is not None:
                    self._new[asked.fact.message] = None
        self._stored = self.job.head.number
        self.inbox.extendleft(reversed([asked for asked in taken if not asked.settled]))
