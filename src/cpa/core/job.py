"""A job and its parts: what was planned (`JobSpec`), where it stands (`JobHead`, `TaskRun`), and both together.

`JobSpec`, `JobHead` and `TaskRun` are frozen and stored; their bytes are msgspec JSON with defaults left out.
`JobState` is the owner's working copy: the same facts plus what must be *kept* so that an event costs the same
in a job of ten tasks and of ten thousand: how many dependencies each task still waits for, the line of ready
tasks, and the open commands. `JobState.apply` is the only thing that changes it, in O(changes).

The garbage collector does not watch these values: they are JSON-like trees and cannot form a cycle.

Times are integer milliseconds since 1970 UTC, durations integer milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import Command
from cpa.core.conditions import Condition, parse

LOGIC = 4
"""The core's behaviour number: a change that alters an old history's outcome takes the next one.

    1   an effect that an agent claimed and a look did not find is technical, and tried again
    2   it is done, unproved: what was accepted once (a mail by its server) must not be sent again
    3   a task over which one agent after the other ends is given up (`agents_lost`)
    4   who fixed or settled a task does not allow what follows from that, and what people must allow first is not
        skipped or counted as done by who may not allow it (`authors`)
"""
SCHEMA = 1
"""The number of the stored form of heads, task runs and events; older ones are upcast on read."""


class JobStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in ENDED


# Tuples, not sets: members are compared by identity, a hash of one is a call of its own.
ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


class TaskStatus(StrEnum):
    WAITING = "waiting"
    """On dependencies, or the job has not started."""
    READY = "ready"
    """Nothing stands in its way but a free slot and the choice of an agent."""
    ASSIGNED = "assigned"
    """An agent has it, under a lease and an epoch."""
    RUNNING = "running"
    """The agent said it began."""
    HELD = "held"
    """Waits for a time, an agent, an approval or an answer; `reason` says which."""
    IN_DOUBT = "in_doubt"
    """It may have happened: being verified, or a person is asked."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


TERMINAL = (TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED)
SATISFIED = (TaskStatus.DONE, TaskStatus.SKIPPED)


class RetryPolicy(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """How often and how soon a task is tried again after a technical failure."""

    max_attempts: int = 3
    first_delay: int = 1_000
    factor: float = 2.0
    max_delay: int = 60_000
    max_losses: int = 3
    """Agents in a row that may end while they have the task, each with nothing else; then it is given up."""


class TaskSpec(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One checked ToDo, ready to be stepped. `needs` are indices of tasks in the same spec."""

    id: str
    action: str
    arguments: dict[str, Any] = {}
    needs: tuple[int, ...] = ()
    timeout: int = 8_000
    effect: EffectClass = EffectClass.IDEMPOTENT
    retry: RetryPolicy = RetryPolicy()
    when: str = ""
    """A condition over earlier results (`core.conditions`); empty is always true."""
    approval: bool = False
    """A person must say yes, once in each run, before the first dispatch."""
    capability: str = ""
    """A free tag the agent must offer besides the action."""
    tainted: tuple[str, ...] = ()
    """Arguments whose value comes from outside: by a literal, or by a reference to a tainted result."""
    references: tuple[int, ...] = ()
    """Indices of the tasks whose result the arguments use."""
    approvals: int = 0
    """With `approval`: how many people must say yes, to the exact action. 0, as in plans stored before there was a
    number, is one person, bound to nothing."""
    approvers: tuple[str, ...] = ()
    """Who may say so, by the names of their keys; empty: whoever may answer questions."""
    approval_expires: int = 0
    """How long the question stays open; 0 is for ever."""
    bids: int = 0
    """How long bids of agents are waited for before one is chosen; 0 chooses at once. The shell's alone."""


class JobSpec(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the job is to do; stored once, never changed."""

    tasks: tuple[TaskSpec, ...]
    intent: str = ""
    description: str = ""
    """The request in the person's words."""
    context: dict[str, str] = {}
    """user, domain, locale, channel: what the request came with; the tenant is not in it."""
    timeout: int = 0
    """Longest duration of a run from its start; 0 is unlimited."""
    max_parallel: int = 100
    max_retries: int = 3
    """Runs after the first that `retry` may open; then the job is a dead letter."""
    environment_wait: int = 3_600_000
    """How long a task may in sum wait for its environment before that counts as failure."""
    requester: str = ""
    """Name of the key it came with: may not allow its own tasks. Set by the door, never by the client."""
    answer: str = ""
    """What the requester is told at the end; its references to results are filled then (`core.answers`)."""
    locale: str = ""
    """`de` where failures are told in German; else they are told as they were put."""


class TaskError(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why a task run failed or is held, as the executor put it."""

    failure: FailureClass
    code: str
    message: str
    remedy: str = ""


class Proposal(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an agent would rather do, and who said yes to that so far."""

    arguments: dict[str, Any]
    approvals: tuple[str, ...] = ()


class TaskRun(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where one task of the current run stands."""

    index: int
    status: TaskStatus = TaskStatus.WAITING
    epoch: int = 0
    """Number of the newest attempt, counted over all runs; answers of older ones are stale."""
    attempts: int = 0
    """Attempts of this run that count against the retry policy."""
    agent: str = ""
    since: int = 0
    """When this status was reached."""
    line: int = 0
    """Place in the ready line: event number that made it ready, 0 when not in the line."""
    reason: str = ""
    """Why it is held, in doubt or skipped: a word of `core.explain`."""
    waited: int = 0
    """Milliseconds spent waiting for the environment in this run."""
    approved: bool = False
    """A person said yes, in this run."""
    verified: int = 0
    """How often the effect of this epoch was looked for."""
    result: dict[str, Any] | None = None
    error: TaskError | None = None
    approvals: tuple[str, ...] = ()
    """Who said yes, in this run."""
    digest: str = ""
    """Of the action they are asked about, or said yes to."""
    arguments: dict[str, Any] | None = None
    """What replaces the plan's arguments, where a person fixed them or agreed to an agent's proposal; filled like
    those. Kept in later runs."""
    proposed: Proposal | None = None
    """What people are being asked about instead."""
    blame: int = 0
    """For the ends of agents that had it, one after the other, in this run: `retry.BLAME` for each that had nothing
    else, shares of that for others."""
    lost: int = 0
    """Milliseconds of `waited` that are charged for lost leases: nobody waited for them."""
    hands: tuple[str, ...] = ()
    """Who gave the arguments that replace the plan's, or settled it; nobody before logic 4."""


class JobHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The few facts about a job that every event may change."""

    tenant: str
    id: str
    created: int
    status: JobStatus = JobStatus.PENDING
    number: int = 0
    """Number of its last event; events of a job are numbered 1, 2, 3 … without gaps."""
    time: int = 0
    """When its last event was; the next is never earlier."""
    run: int = 0
    """Runs after the first: the retry count."""
    open: int = 0
    """Tasks of this run that are not terminal."""
    busy: int = 0
    """Tasks that hold one of `max_parallel` slots."""
    unsettled: int = 0
    """Tasks without a slot that the end of a run must still wait for (in doubt)."""
    ending: JobStatus | None = None
    """Nothing new starts; the run ends so once nothing is busy or unsettled."""
    cause: str = ""
    """What decided that: `task:<id>`, `cancel`, `timeout`, `deadline`."""
    reason: str = ""
    started: int = 0
    ended: int = 0
    due: int = 0
    """Absolute deadline of the job; 0 is none."""
    priority: int = 0
    """Higher goes first."""
    logic: int = 1
    """The `LOGIC` it was submitted under, and keeps."""
    schema: int = SCHEMA
    discarded: bool = False
    """Failed, and nobody will take it up again: no dead letter any more."""


def is_dead(head: JobHead, spec: JobSpec) -> bool:
    """Whether a job is a dead letter: failed, its retries used up, and not discarded."""
    return head.status is JobStatus.FAILED and head.run >= spec.max_retries and not head.discarded


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What one event changed: the new head, the task runs that moved, the commands that are no longer open."""

    head: JobHead
    tasks: tuple[TaskRun, ...] = ()
    closed: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What follows from an event. With `changes` None nothing does, and `reason` says why."""

    changes: Changes | None = None
    commands: tuple[Command, ...] = ()
    reason: str = ""


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A job at rest, for reading: what `engine.query` returns."""

    head: JobHead
    spec: JobSpec
    tasks: tuple[TaskRun, ...]
    """One per task of the spec, in its order."""
    commands: tuple[Command, ...] = ()
    """Open commands."""

    @property
    def dead(self) -> bool:
        """A failed job whose retries are used up: only the dead-letter inbox reopens it."""
        return is_dead(self.head, self.spec)


class Graph:
    """What follows from a spec alone and is computed once: who depends on whom, and the parsed conditions."""

    __slots__ = ("_places", "conditions", "dependents", "needs", "spec")

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.needs = tuple([len(task.needs) for task in spec.tasks])
        self.dependents: list[list[int]] = [[] for _ in spec.tasks]
        self.conditions: dict[int, Condition] = {}
        self._places: dict[str, int] = {}
        for index, task in enumerate(spec.tasks):
            for need in task.needs:
                self.dependents[need].append(index)
            if task.when:
                self.conditions[index] = parse(task.when)

    def place(self, task: str) -> int | None:
        """Where the task of this id stands in the spec."""
        # Only who speaks of tasks by their ids asks, and then again and again.
        if not self._places:
            self._places = {task.id: index for index, task in enumerate(self.spec.tasks)}
        return self._places.get(task)


class JobState:
    """The owner's copy of one job. Everything but `head`, `tasks` and `open` follows from those and the spec."""

    __slots__ = ("graph", "head", "line", "open", "tasks", "waiting")

    def __init__(
        self, head: JobHead, graph: Graph, tasks: Iterable[TaskRun] = (), commands: Iterable[Command] = ()
    ) -> None:
        """Rebuild from stored parts; `tasks` are those that ever moved. O(tasks)."""
        self.head = head
        self.graph = graph
        self.tasks: dict[int, TaskRun] = {}
        """Only tasks that moved; `task()` knows the others."""
        self.waiting: list[int] = list(graph.needs)
        self.line: deque[int] = deque()
        self.open: dict[str, Command] = {command.key: command for command in commands}
        queued: list[tuple[int, int]] = []
        for run in tasks:
            self.tasks[run.index] = run
            if run.status in SATISFIED:
                self._release(run.index)
            if run.line:
                queued.append((run.line, run.index))
        self.line.extend([index for _, index in sorted(queued)])

    @property
    def spec(self) -> JobSpec:
        return self.graph.spec

    def task(self, index: int) -> TaskRun:
        return self.tasks.get(index) or TaskRun(index)

    def apply(self, changes: Changes, commands: Sequence[Command]) -> None:
        """Take over one decision. After this the state equals one rebuilt from the stored rows."""
        self.head = changes.head
        tasks, line = self.tasks, self.line
        for run in changes.tasks:
            index = run.index
            before = tasks.get(index)
            tasks[index] = run
            if run.line:
                if before is None or not before.line:
                    line.append(index)
            elif before is not None and before.line:
                if line[0] == index:
                    line.popleft()
                else:
                    line.remove(index)
            if run.status in SATISFIED:
                if before is None or before.status not in SATISFIED:
                    self._release(index)
            elif run.status is TaskStatus.WAITING and before is not None and before.status in SATISFIED:
                self._release(index, -1)
        for key in changes.closed:
            self.open.pop(key, None)
        for command in commands:
            self.open[command.key] = command

    def _release(self, index: int, less: int = 1) -> None:
        waiting = self.waiting
        for dependent in self.graph.dependents[index]:
            waiting[dependent] -= less

    def snapshot(self) -> Snapshot:
        return Snapshot(
            head=self.head,
            spec=self.spec,
            tasks=tuple(self.task(index) for index in range(len(self.spec.tasks))),
            commands=tuple(self.open.values()),
        )


def results(job: JobState, indices: Iterable[int]) -> dict[str, dict[str, Any]]:
    """Results of the tasks among `indices` that are done, by task id, as references and conditions read them."""
    found: dict[str, dict[str, Any]] = {}
    for index in indices:
        run = job.tasks.get(index)
        if run is not None and run.status is TaskStatus.DONE:
            found[job.spec.tasks[index].id] = run.result or {}
    return found
