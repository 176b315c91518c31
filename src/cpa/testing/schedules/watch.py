"""One job, and all that must hold after each of its events; nothing else knows whether a promise was kept.

    decision      deciding changes nothing; it closes what is open, once, and issues what is not; what does not
                  count has one of the known reasons and leaves nothing behind
    moves         every move is in the tables, epochs only grow, a run and a task run end once
    contiguous    numbers without gap, times that never go back
    invariants    `core.invariants`: commands are what is outstanding, slots and lines are kept, nothing stalls
    approval      nothing that needs a yes goes out without as many as it needs, of the right people, to this action
    rows          a job built anew from its rows is this job
    explain       every task that has not ended can say why
    replay        the stored events lead to the same bytes again, and prove themselves

and what `knowledge` and `conduct` list. Where a rule does not hold `Violation` is raised.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cpa.core import audit
from cpa.core.approval import digest_of, shown
from cpa.core.commands import (
    AskPerson,
    CancelAttempt,
    Command,
    DispatchTask,
    RequestTask,
    StartTimer,
    VerifyTask,
)
from cpa.core.events import Event, JobReopened, QuestionAnswered
from cpa.core.explain import explain
from cpa.core.invariants import outstanding, rebuilt, violations
from cpa.core.job import TERMINAL, Decision, JobSpec, JobState, TaskRun, results
from cpa.core.machine import decide
from cpa.core.people import ASK
from cpa.core.replay import opened, replay
from cpa.core.transitions import JOB_MOVES, TASK_MOVES
from cpa.testing.schedules.conduct import Conduct
from cpa.testing.schedules.hands import Hands
from cpa.testing.schedules.knowledge import Knowledge, Violation
from cpa.testing.schedules.schedule import PEOPLE
from cpa.testing.schedules.seen import REASONS, Seen

TIMED: Final = (StartTimer, RequestTask, CancelAttempt, VerifyTask)
"""Commands that nothing but time may end: without a time they would wait for ever."""
_encode: Final = msgspec.json.encode
_SALT: Final = bytes(audit.MIN_SALT)


class Watch:
    """Tell it what happens. Counts into `seen`."""

    def __init__(self, name: str, spec: JobSpec, time: int, seen: Seen) -> None:
        self.spec, self.seen = spec, seen
        self.job: JobState = opened("default", name, spec, time)
        self.outbox: dict[str, tuple[Command, int]] = {}
        """By key: the open command, and when it is due; 0 is never."""
        self.history: list[Event] = []
        """The events that counted."""
        self.left: list[bytes] = []
        """What each of them left in the store."""
        self._knowledge = Knowledge(name, spec)
        self._conduct = Conduct(spec)
        self._hands = Hands(spec)
        self._ended_in: set[tuple[int, int, int]] = set()
        """(task, run, epoch) that came to an end."""
        self._runs_ended: set[int] = set()
        self._asked_for: dict[int, str] = {}
        """What people were last asked about, by task."""
        self._yes: dict[int, list[QuestionAnswered]] = {}
        """Who said yes to that, as it counted."""

    def tell(self, event: Event) -> Decision:
        """One event, counted or not."""
        job, seen, kind = self.job, self.seen, type(event).__name__
        head = job.head
        target = getattr(event, "task", None)
        if target is not None and 0 <= target < len(self.spec.tasks):
            seen.pairs[kind, job.task(target).status._value_] += 1
        seen.job_pairs[kind, head.status._value_] += 1
        decision = decide(job, event)
        if job.head is not head:
            raise Violation("decision", "deciding changed the job")
        if decision.changes is None:
            if decision.reason not in REASONS or decision.commands:
                raise Violation("decision", f"{event} does not count, and {decision} says why")
            seen.reasons[decision.reason] += 1
            return decision
        self._count(event, decision)
        seen.events[kind] += 1
        return decision

    def crash(self) -> None:
        """The process is another one from here on: it knows what the rows say."""
        self.check_rows()
        self.job = rebuilt(self.job)

    # -- what must hold ------------------------------------------------------------------------------------

    def _count(self, event: Event, decision: Decision) -> None:
        changes, job, before = decision.changes, self.job, self.job.head
        assert changes is not None
        check(job, decision)
        self._moves(event, decision)
        self._people(event, decision)
        job.apply(changes, decision.commands)
        head = job.head
        if (head.number, head.time) != (before.number + 1, event.time) or head.time < before.time:
            raise Violation("contiguous", f"{event} led from {before} to {head}")
        broken = violations(job)
        if broken:
            raise Violation("invariants", f"after {event}: {', '.join(broken)}")
        self._knowledge.event(self.outbox, event)
        for run in changes.tasks:
            self._knowledge.run(run)
        outbox, time = self.outbox, event.time
        closed = [outbox.pop(key)[0] for key in changes.closed if key in outbox]
        for command in decision.commands:
            outbox[command.key] = (command, time + command.after if command.after else 0)
            self.seen.commands[type(command).__name__] += 1
            if isinstance(command, RequestTask):
                self._allowed(command)
        for oracle, told in self._conduct.step(closed, (event,), head, changes.tasks, outbox):
            raise Violation(oracle, told)
        self.history.append(event)
        self.left.append(stored(decision))

    def _moves(self, event: Event, decision: Decision) -> None:
        """Every move is in the tables; each task run ends once per epoch and each run once."""
        assert decision.changes is not None
        before, after, seen = self.job.head, decision.changes.head, self.seen
        if after.status is not before.status:
            if after.status not in JOB_MOVES[before.status]:
                raise Violation("moves", f"{event}: {before.status} -> {after.status}")
            seen.job_moves[before.status, after.status] += 1
            if after.status.ended:
                if after.run in self._runs_ended:
                    raise Violation("moves", f"{event}: run {after.run} ended twice")
                self._runs_ended.add(after.run)
                seen.ends[after.status] += 1
        for run in decision.changes.tasks:
            self._move(event, self.job.task(run.index), run, after.run)

    def _move(self, event: Event, before: TaskRun, after: TaskRun, number: int) -> None:
        if after.epoch < before.epoch or after.since > event.time:
            raise Violation("moves", f"{event}: {before} -> {after}")
        if after.status is before.status:
            return
        if after.status not in TASK_MOVES[before.status]:
            raise Violation("moves", f"{event}: {before.status} -> {after.status} of task {after.index}")
        self.seen.task_moves[before.status, after.status] += 1
        if after.status in TERMINAL:
            mark = (after.index, number, after.epoch)
            if mark in self._ended_in:
                raise Violation("moves", f"{event}: task {after.index} ended twice in epoch {after.epoch}")
            self._ended_in.add(mark)

    def _people(self, event: Event, decision: Decision) -> None:
        """Keep count of who said yes to what."""
        if isinstance(event, JobReopened):
            self._hands.reopened(self.job, event)
        if isinstance(event, QuestionAnswered) and event.yes:
            self._yes.setdefault(event.task, []).append(event)
        for command in decision.commands:
            if isinstance(command, AskPerson):
                if command.question == "doubt" and command.digest:
                    raise Violation("approval", f"what happened is no action: {command}")
                self.seen.questions[command.question] += 1
                self._asked_for[command.task], self._yes[command.task] = command.digest, []
            elif isinstance(command, DispatchTask) and self.spec.tasks[command.task].action == ASK:
                raise Violation("approval", f"a question goes to an agent: {command}")

    def _allowed(self, command: RequestTask) -> None:
        """Everybody said yes who must, to what goes out now."""
        spec, run = self.spec.tasks[command.task], self.job.task(command.task)
        if not spec.approvals and not run.digest:
            if spec.approval and not run.approved:
                raise Violation("approval", f"{command} goes out, and nobody said yes")
            return
        actual = shown(spec, run, results(self.job, spec.references))
        digest = digest_of(spec.action, actual, spec.capability, spec.effect, spec.tainted)
        if run.digest != digest:
            raise Violation("approval", f"{command} is another action than was allowed")
        yes = set(run.approvals)
        enough = run.approved and len(yes) >= max(spec.approvals, 1)
        if (
            not enough
            or (spec.approval and yes & self._hands.own(command.task))
            or not yes <= set(spec.approvers or PEOPLE)
        ):
            raise Violation("approval", f"{command} goes out, and {sorted(yes)} said yes")
        said = {answer.by for answer in self._yes[command.task] if answer.digest == digest}
        # A proposal that was turned down was asked about later than what counts.
        if self._asked_for[command.task] == digest and not said >= yes:
            raise Violation("approval", f"{command} goes out, and only {sorted(said)} said yes to it")
        self.seen.checks["allowed"] += 1

    # -- what is looked at now and then --------------------------------------------------------------------

    def check_rows(self) -> None:
        """What a new process makes of the rows is this job, and it can say why each task is where it is."""
        if not same(self.job, rebuilt(self.job)):
            raise Violation("rows", "the job is not what its rows say")
        if {key: command for key, (command, _) in self.outbox.items()} != self.job.open:
            raise Violation("rows", "the outbox is not what is open")
        snapshot = self.job.snapshot()
        told = {each.task: each for each in explain(snapshot)}
        for run in snapshot.tasks:
            name = self.spec.tasks[run.index].id
            silent = name not in told or not (told[name].evidence and told[name].remedy)
            if not snapshot.head.status.ended and run.status not in TERMINAL and silent:
                raise Violation("explain", f"nobody can say why {run} is where it is")
        self.seen.checks["explained"] += 1

    def check_replay(self) -> None:
        """The sealed events prove themselves, and lead to the same bytes and the same job once more."""
        sealed = [audit.seal(event, _SALT) for event in self.history]
        if not all(audit.verify(each.body, each.private, each.leaf) for each in sealed):
            raise Violation("replay", "a leaf does not prove its event")
        bodies = (audit.unseal(each.body, each.private) for each in sealed)
        after: JobState | None = None
        for number, (_, decision, job) in enumerate(replay(self.spec, bodies)):
            if stored(decision) != self.left[number]:
                raise Violation("replay", f"event {number + 1} led to other bytes: {self.history[number]}")
            after = job
        if after is None or not same(after, self.job) or _bytes(after) != _bytes(self.job):
            raise Violation("replay", "the events lead to another job")
        self.seen.checks["replayed"] += 1


def check(job: JobState, decision: Decision) -> None:
    """What every decision keeps to: it closes only what is open, once, and issues only what is not, with a time
    where nothing else ends it. Raises `Violation`."""
    assert decision.changes is not None
    closed, opening = decision.changes.closed, job.open
    for key in closed:
        if key not in opening:
            raise Violation("decision", f"closed, but not open: {key}")
    issued = {command.key for command in decision.commands}
    moved = {run.index for run in decision.changes.tasks}
    once = len(issued) == len(decision.commands) and len(moved) == len(decision.changes.tasks)
    if not once or len(set(closed)) < len(closed):
        raise Violation("decision", f"twice in one decision: {decision}")
    for command in decision.commands:
        if command.key in opening:
            raise Violation("decision", f"issued, but open: {command}")
        if command.after < 0 or (not command.after and isinstance(command, TIMED)):
            raise Violation("decision", f"nothing would end it: {command}")


def same(one: JobState, other: JobState) -> bool:
    """Whether two working copies of a job are equal in every part."""
    return (one.head, one.tasks, one.waiting, list(one.line), one.open) == (
        other.head,
        other.tasks,
        other.waiting,
        list(other.line),
        other.open,
    ) and outstanding(one) == outstanding(other)


def stored(decision: Decision) -> bytes:
    """The bytes a decision leaves in the store."""
    return _encode((decision.changes, decision.commands))


def _bytes(job: JobState) -> bytes:
    return _encode(job.snapshot())
