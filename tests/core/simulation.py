"""A world for one job, drawn from a seed: agents, verifiers, people and clocks that answer, err, repeat and lie.

Which faults exist is drawn per seed (a swarm): a world in which everything happens at once hides what only
happens when little else does. After every event the whole of `situations.check`, the invariants, the rebuilt job
and the history of ends are looked at; after the last the events are replayed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.core.situations import check, same, stored

from cpa.core import events
from cpa.core.approval import digest_of, shown
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import (
    AskPerson,
    CancelAttempt,
    Command,
    DispatchTask,
    RequestTask,
    StartTimer,
    VerifyTask,
)
from cpa.core.events import Event, QuestionAnswered
from cpa.core.invariants import rebuilt, violations
from cpa.core.job import (
    LOGIC,
    SATISFIED,
    TERMINAL,
    Decision,
    JobSpec,
    JobState,
    JobStatus,
    RetryPolicy,
    TaskRun,
    TaskSpec,
    TaskStatus,
    results,
)
from cpa.core.machine import decide
from cpa.core.people import ASK
from cpa.core.replay import opened, replay
from cpa.core.transitions import JOB_MOVES, TASK_MOVES

FAULTS = (
    "technical",
    "environment",
    "business",
    "policy",
    "unknown_outcome",
    "refuses",
    "proposes",
    "discards",
    "inbox",
    "silent",
    "impostor",
    "deferred",
    "lease",
    "timeout",
    "absent",
    "unseen",
    "no",
    "cancel",
    "deadline",
    "noise",
    "repeats",
)
MOST_EVENTS = 3_000
QUIET = 400
"""Events after which no more faults come, so that every world ends."""

REASONS = frozenset(
    (
        "ended",
        "no_such_task",
        "stale_epoch",
        "duplicate",
        "not_expected",
        "not_open",
        "not_pending",
        "not_ended",
        "not_failed",
        "discarded",
        "other_action",
        "not_approver",
        "own_request",
        "said_twice",
        "still_done",
        "retries_used_up",
        "exists",
    )
)


PEOPLE = ("Jörg", "Anna", "Uwe", "İnci", "Ida")
"""Who answers questions; the first is who asked for the job, where that is known."""


@dataclass
class Seen:
    """What really happened over many worlds, so that a green run cannot be an empty one."""

    events: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    job_moves: Counter[tuple[JobStatus, JobStatus]] = field(default_factory=Counter)
    task_moves: Counter[tuple[TaskStatus, TaskStatus]] = field(default_factory=Counter)
    pairs: Counter[tuple[str, TaskStatus]] = field(default_factory=Counter)
    """(event about an attempt, status of its task), whether it counted or not."""
    job_pairs: Counter[tuple[str, JobStatus]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ends: Counter[JobStatus] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    allowed: int = 0
    """Attempts that went out after people had said yes to the exact action."""
    told: int = 0


def plan(chance: random.Random) -> JobSpec:
    """A graph of up to twelve tasks with everything a task can have."""
    tasks: list[TaskSpec] = []
    for index in range(chance.randint(1, 12)):
        needs = tuple(sorted(chance.sample(range(index), min(index, chance.choice((0, 1, 1, 2, 3))))))
        references = tuple(need for need in needs if chance.random() < 0.2)
        when = chance.choice(("", "", "", "tasks.t{}.result.x == 1", "false"))
        asks = chance.random() < 0.1
        approval = not asks and chance.random() < 0.25
        number = chance.choice((0, 1, 1, 2, 3)) if approval else 0
        arguments: dict[str, Any] = {"v": chance.choice((1, "ä", {"secret": "s"}))}
        if references:
            arguments["x"] = f"{{{{ tasks.t{references[0]}.result.x }}}}"
        tasks.append(
            TaskSpec(
                id=f"t{index}",
                action=ASK if asks else "flow.noop",
                arguments={"question": "Wie viel?", "for": chance.choice(("", "Anna"))}
                if asks
                else arguments,
                needs=needs,
                references=references,
                when=when.format(needs[0]) if needs else chance.choice(("", "", "", "false")),
                effect=chance.choice(list(EffectClass)),
                approval=approval,
                approvals=number,
                approvers=chance.choice(((), PEOPLE[1:])) if number else (),
                approval_expires=chance.choice((0, 0, 60_000)) if number else 0,
                retry=RetryPolicy(
                    max_attempts=chance.randint(1, 4), first_delay=chance.choice((0, 1, 500, 2_000))
                ),
            )
        )
    return JobSpec(
        tuple(tasks),
        max_parallel=chance.randint(1, 4),
        timeout=chance.choice((0, 0, 60_000)),
        max_retries=chance.randint(0, 3),
        environment_wait=chance.choice((0, 5_000, 400_000, 3_600_000)),
        requester=chance.choice(("", PEOPLE[0])),
    )


class World:
    """One job from its submission to its last end."""

    def __init__(self, seed: int, seen: Seen) -> None:
        self.chance = random.Random(seed)
        self.seen = seen
        self.faults = frozenset(fault for fault in FAULTS if self.chance.random() < 0.5)
        self.weight = self.chance.choice((0.05, 0.2, 0.5))
        self.spec = plan(self.chance)
        self.time = self.chance.randint(1, 10**12)
        self.job: JobState = opened("default", f"job-{seed}", self.spec, self.time)
        self.history: list[Event] = []
        self.left: list[bytes] = []
        """What each event that counted left in the store."""
        self.ended_in: set[tuple[int, int]] = set()
        """(task, epoch) that came to an end."""
        self.runs_ended: set[int] = set()
        self.asked_for: dict[int, str] = {}
        """What people were last asked about, by task."""
        self.yes: dict[int, list[QuestionAnswered]] = {}
        """Who said yes to that, as it counted."""
        self.count = 0

    # -- the world's course --------------------------------------------------------------------------------

    def live(self) -> None:
        """Until the job has ended and nobody opens it again."""
        due = self.time + self.chance.randint(-5, 50_000) if self.has("deadline") else 0
        tasks = len(self.spec.tasks)
        start = self.chance.random() < 0.5
        self.tell(
            events.JobSubmitted(
                time=self.time,
                tenant="default",
                job=self.job.head.id,
                spec="",
                tasks=tasks,
                due=due,
                start=start,
                logic=LOGIC,
            )
        )
        while not self.over():
            self.count += 1
            assert self.count < MOST_EVENTS, f"no end: {self.job.head} {list(self.job.open)}"
            self.time += self.chance.choice((0, 0, 1, 500, 70_000))
            self.tell(self.next())
        self.replayed()

    def over(self) -> bool:
        if not self.job.head.status.ended:
            return False
        for event in self.strays():
            self.tell(event)
        if self.job.head.status is JobStatus.DONE or self.count > QUIET:
            return True
        return self.chance.random() < 0.3

    def has(self, fault: str) -> bool:
        """Whether this fault exists here and strikes now."""
        return fault in self.faults and self.count < QUIET and self.chance.random() < self.weight

    def next(self) -> Event:
        head = self.job.head
        if self.has("noise"):
            return self.noise()
        if self.has("repeats") and self.history:
            return msgspec.structs.replace(self.chance.choice(self.history[-12:]), time=self.time)
        if self.has("cancel") and self.chance.random() < 0.2:
            return events.CancelRequested(time=self.time, by="Jörg", reason=self.chance.choice(("", "no")))
        if head.status.ended:
            return self.taken_up()
        if head.status is JobStatus.PENDING:
            if "deadline" in self.job.open and self.has("deadline"):
                return events.TimerFired(time=self.time, key="deadline")
            return events.JobStarted(time=self.time)
        return self.answer(self.urgent())

    def taken_up(self) -> Event:
        """What a person does with a run that ended badly."""
        head = self.job.head
        if self.has("discards"):
            return events.JobDiscarded(time=self.time, by="Jörg", note=self.chance.choice(("", "zu spät")))
        dead = head.discarded or head.run >= self.spec.max_retries
        more = self.said() if "inbox" in self.faults and self.chance.random() < 0.5 else {}
        dead = dead or self.chance.random() < 0.2
        return events.JobReopened(time=self.time, by="Jörg", dead_letter=dead, **more)

    def said(self) -> dict[str, Any]:
        """What is to be different in the next run; mostly possible, and sometimes not."""
        chance, tasks = self.chance, range(len(self.spec.tasks))
        restart = tuple(chance.sample(tasks, chance.choice((0, 0, 1, min(2, len(tasks))))))
        again, left = set(restart), list(restart)
        while left:
            more = set(self.job.graph.dependents[left.pop()]) - again
            again, left = again | more, left + sorted(more)
        free = [index for index in tasks if index in again or self.job.task(index).status not in SATISFIED]
        if chance.random() < 0.25:
            wrong = ([*free, *free], [*free, *tasks], [*free, -1, len(tasks)])
            free = chance.choice(wrong)
        chance.shuffle(free)
        fixed, done, skipped = (free[at::4][:2] for at in range(3))
        return {
            "fixes": {str(index): {"v": chance.choice((2, "{{ braces"))} for index in fixed},
            "done": {str(index): {"x": chance.choice((0, 1))} for index in done},
            "skip": tuple(skipped),
            "restart": restart,
        }

    def urgent(self) -> Command:
        """Any open command; the job's own timers only where time is a fault."""
        commands = list(self.job.open.values())
        own = [one for one in commands if not (isinstance(one, StartTimer) and one.task < 0)]
        assert own, f"stalled: {self.job.head} {list(self.job.open)}"
        return self.chance.choice(commands if self.has("deadline") else own)

    def answer(self, command: Command) -> Event:
        """What becomes of a command."""
        answers: dict[type[Command], Callable[[Any], Event]] = {
            DispatchTask: self.chosen,
            RequestTask: self.worked,
            CancelAttempt: self.worked,
            VerifyTask: self.looked,
            AskPerson: self.asked,
        }
        answer = answers.get(type(command))
        return events.TimerFired(time=self.time, key=command.key) if answer is None else answer(command)

    # -- those who answer ----------------------------------------------------------------------------------

    def chosen(self, command: DispatchTask) -> Event:
        if self.has("deferred"):
            reason = self.chance.choice(("no_agent", "breaker_open", "agent_busy"))
            return events.DispatchDeferred(**self.of(command), reason=reason, after=self.chance.randint(0, 9))
        return events.AgentChosen(**self.of(command), agent=f"agent-{self.chance.randint(1, 3)}")

    def worked(self, command: RequestTask | CancelAttempt) -> Event:
        place = self.of(command)
        run = self.job.task(command.task)
        if run.status is TaskStatus.ASSIGNED:
            if self.has("refuses"):
                return events.TaskRefused(**place, reason="no display")
            if self.chance.random() < 0.5:
                return events.TaskStarted(**place)
        if self.has("proposes"):
            run_at = self.time + self.chance.choice((-5, 5, 3_000, 900_000))
            arguments = self.chance.choice((None, {"v": "{{ braces"}, {"v": 3}, {"w": {"secret": "t"}}))
            reason = self.chance.choice(("", "nachts"))
            return events.TaskProposed(**place, run_at=run_at, arguments=arguments, reason=reason)
        if self.has("lease"):
            return events.LeaseLost(**place, reason="gone")
        if self.has("timeout"):
            return events.TimerFired(time=self.time, key=command.key)
        for failure in FailureClass:
            final = failure in (FailureClass.BUSINESS, FailureClass.POLICY)
            if self.has(failure.value) and not (final and self.chance.random() < 0.7):
                after = self.chance.choice((0, 0, 5_000))
                code = self.chance.choice(("x", "approval", "retry", "doubt", "proving", "lease_lost"))
                return events.TaskFailed(**place, failure=failure, code=code, message="ä", retry_after=after)
        result = self.chance.choice((None, {}, {"x": 0}, {"x": 1}))
        return events.TaskSucceeded(**place, result=result)

    def looked(self, command: VerifyTask) -> Event:
        if self.has("timeout"):
            return events.TimerFired(time=self.time, key=command.key)
        if self.has("unseen"):
            if self.chance.random() < 0.3:
                return events.TaskSucceeded(**self.of(command), result={"x": 1})
            again = self.chance.choice((0, -5, 10, 90_000))
            return events.TaskVerified(**self.of(command), verdict="unknown", look_again=again)
        verdict = "absent" if self.has("absent") else "happened"
        return events.TaskVerified(**self.of(command), verdict=verdict, result={"x": 1})

    def asked(self, command: AskPerson) -> Event:
        chance, digest = self.chance, command.digest
        if command.after and self.has("silent"):
            return events.TimerFired(time=self.time, key=command.key)
        by = chance.choice(command.people or PEOPLE)
        if self.has("impostor"):
            by, digest = chance.choice(PEOPLE), chance.choice((digest, "", "00"))
        answer = {"x": chance.choice((0, 1))} if command.question == "input" else None
        yes = not self.has("no")
        return events.QuestionAnswered(**self.of(command), yes=yes, by=by, digest=digest, answer=answer)

    def of(self, command: Any) -> dict[str, Any]:
        return {"time": self.time, "task": command.task, "epoch": command.epoch}

    # -- those who talk out of turn ------------------------------------------------------------------------

    def noise(self) -> Event:
        """Any event at all, mostly about the present, sometimes about what was or never is."""
        return self.chance.choice(self.strays())

    def strays(self) -> list[Event]:
        """One of every kind about one task."""
        index = self.chance.randint(-1, len(self.spec.tasks))
        epoch = self.job.task(index).epoch + self.chance.choice((0, 0, 0, -1, 1))
        place: dict[str, Any] = {"time": self.time, "task": index, "epoch": epoch}
        chance = self.chance
        key = chance.choice(("retry", "request", "verify", "look", "cancel", "ask", "dispatch"))
        verdict = chance.choice(("happened", "absent", "unknown"))
        job = self.job.head.id
        told: list[Event] = [
            events.AgentChosen(**place, agent="agent-9"),
            events.DispatchDeferred(**place, reason="no_agent", after=5),
            events.TaskStarted(**place),
            events.TaskRefused(**place),
            events.TaskSucceeded(**place, result={"x": 1}),
            events.TaskFailed(**place, failure=chance.choice(list(FailureClass)), code="x"),
            events.LeaseLost(**place),
            events.TaskProposed(**place, run_at=self.time + 5),
            events.TaskVerified(**place, verdict=verdict, look_again=chance.choice((0, 5))),
            events.QuestionAnswered(**place, yes=chance.random() < 0.5, by="x"),
            events.QuestionAnswered(**place, yes=True, by=chance.choice(PEOPLE), digest="00"),
            events.TimerFired(time=self.time, key=f"{key}:{index}:{epoch}"),
            events.TimerFired(time=self.time, key=chance.choice(("", "nothing", "retry:"))),
            events.JobStarted(time=self.time),
            events.JobSubmitted(time=self.time, tenant="default", job=job, spec="", tasks=1),
        ]
        if self.job.head.status is not JobStatus.FAILED or self.job.head.discarded:
            told.append(events.JobDiscarded(time=self.time, by="x"))
        if self.job.head.discarded or self.job.head.run >= self.spec.max_retries:
            told.append(events.JobReopened(time=self.time, by="x"))
        if self.job.head.status.ended:
            told.append(events.CancelRequested(time=self.time, by="x"))
        if self.job.head.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            told.append(events.JobReopened(time=self.time, by="x"))
        return told

    # -- looking -------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """One event, counted or not, and all that must hold afterwards."""
        job, seen, kind = self.job, self.seen, type(event).__name__
        head = job.head
        target = getattr(event, "task", None)
        if target is not None and 0 <= target < len(self.spec.tasks):
            seen.pairs[kind, job.task(target).status] += 1
        seen.job_pairs[kind, head.status] += 1
        decision = decide(job, event)
        assert job.head is head, "deciding changed the job"
        if decision.changes is None:
            assert decision.reason in REASONS, decision.reason
            assert not decision.commands
            seen.reasons[decision.reason] += 1
            return
        assert not decision.reason
        check(job, decision)
        self.moves(decision)
        self.people(event, decision)
        job.apply(decision.changes, decision.commands)
        assert (job.head.number, job.head.time) == (head.number + 1, event.time)
        assert job.head.time >= head.time
        assert violations(job) == []
        assert same(job, rebuilt(job))
        self.allowed(decision)
        self.history.append(event)
        self.left.append(stored(decision))
        seen.events[kind] += 1
        seen.told += 1
        seen.commands.update(type(command).__name__ for command in decision.commands)

    def people(self, event: Event, decision: Decision) -> None:
        """Keep count of who said yes to what."""
        if isinstance(event, events.QuestionAnswered) and event.yes:
            self.yes.setdefault(event.task, []).append(event)
        for command in decision.commands:
            if isinstance(command, AskPerson):
                assert command.question != "doubt" or not command.digest
                self.seen.questions[command.question] += 1
                self.asked_for[command.task], self.yes[command.task] = command.digest, []
            assert not isinstance(command, DispatchTask) or self.spec.tasks[command.task].action != ASK

    def allowed(self, decision: Decision) -> None:
        """Nothing that needs a yes goes out without as many as it needs, of the right people, to this action."""
        for command in decision.commands:
            if not isinstance(command, RequestTask):
                continue
            spec, run = self.spec.tasks[command.task], self.job.task(command.task)
            if not spec.approvals and not run.digest:
                assert run.approved or not spec.approval
                continue
            actual = shown(spec, run, results(self.job, spec.references))
            digest = digest_of(spec.action, actual, spec.capability, spec.effect, spec.tainted)
            assert run.digest == digest, "another action than was allowed"
            assert run.approved
            assert len(set(run.approvals)) >= max(spec.approvals, 1)
            if spec.approval:
                assert self.spec.requester not in run.approvals
            assert set(run.approvals) <= set(spec.approvers or PEOPLE)
            said = {answer.by for answer in self.yes[command.task] if answer.digest == digest}
            # A proposal that was turned down was asked about later than what counts.
            assert self.asked_for[command.task] != digest or said >= set(run.approvals)
            self.seen.allowed += 1

    def moves(self, decision: Decision) -> None:
        """Every move is in the tables; each task run ends once per epoch and each run once."""
        assert decision.changes is not None
        before, after = self.job.head, decision.changes.head
        if after.status is not before.status:
            assert after.status in JOB_MOVES[before.status], f"{before.status} -> {after.status}"
            self.seen.job_moves[before.status, after.status] += 1
        if after.status.ended and not before.status.ended:
            assert after.run not in self.runs_ended, "a run ended twice"
            self.runs_ended.add(after.run)
            self.seen.ends[after.status] += 1
        for run in decision.changes.tasks:
            self.move(self.job.task(run.index), run, after.run)

    def move(self, before: TaskRun, after: TaskRun, number: int) -> None:
        assert after.epoch >= before.epoch, "an epoch went back"
        assert after.since <= self.time
        if after.status is before.status:
            return
        assert after.status in TASK_MOVES[before.status], f"{before.status} -> {after.status}"
        self.seen.task_moves[before.status, after.status] += 1
        if after.status in TERMINAL:
            mark = (after.index, number << 32 | after.epoch)
            assert mark not in self.ended_in, "a task run ended twice"
            self.ended_in.add(mark)

    def replayed(self) -> None:
        """The stored events lead to the same bytes, and the same job, once more."""
        bodies = [msgspec.json.encode(event) for event in self.history]
        decoder = msgspec.json.Decoder(events.AnyEvent)
        job: JobState | None = None
        left: list[bytes] = []
        for _, decision, after in replay(self.spec, (decoder.decode(body) for body in bodies)):
            left.append(stored(decision))
            job = after
        assert left == self.left
        assert job is not None
        assert same(job, self.job)
        assert msgspec.json.encode(job.snapshot()) == msgspec.json.encode(self.job.snapshot())
