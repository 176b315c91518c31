"""A world for one job, drawn from a seed: agents, verifiers, people and clocks that answer, err, repeat and lie."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.commands import (
    AskPerson,
    CancelAttempt,
    Command,
    DispatchTask,
    RequestTask,
    StartTimer,
    VerifyTask,
)
from cpa.core.events import Event
from cpa.core.job import LOGIC, SATISFIED, JobState, JobStatus, TaskStatus
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.schedules.schedule import PEOPLE, Schedule, plan
from cpa.testing.schedules.seen import Seen
from cpa.testing.schedules.strays import stray, strays
from cpa.testing.schedules.watch import Watch

_MORE_TURNS: Final = 2_600
"""Turns after the last fault within which everything has ended."""
_LATENESS: Final = (0, 0, 1, 5_000, 600_000)
_PAUSES: Final = (0, 0, 1, 500, 70_000)


class World:
    """One job from its submission to its last end. `live` once."""

    def __init__(self, schedule: Schedule, seen: Seen) -> None:
        self.schedule = schedule.drawn()
        self.chance = chance = random.Random(f"{schedule.seed}:course")  # noqa: S311
        self.seen = seen
        self.weight = chance.choice((0.05, 0.2, 0.5))
        self.spec = plan(chance, schedule.tasks)
        self.name = f"job-{schedule.seed}"
        self.began = self.time = chance.randint(1, 10**12)
        self.watch = Watch(self.name, self.spec, self.time, seen)
        self.course: list[Event | None] = []
        """All that was told, whether it counted or not; None where the process ended."""
        self.violation: Violation | None = None
        self.count = 0
        """Turns taken."""
        self._faults = self.schedule.faults or frozenset()
        self._pocket: list[Event] = []
        """What was said and has not arrived."""
        self._answers: dict[type[Command], Callable[[Any], Event]] = {
            DispatchTask: self._chosen,
            RequestTask: self._worked,
            CancelAttempt: self._worked,
            VerifyTask: self._looked,
            AskPerson: self._asked,
            StartTimer: self._timed,
        }

    # -- the course ----------------------------------------------------------------------------------------

    def live(self) -> None:
        """Until the job has ended and nobody opens it again. Raises `Violation`."""
        chance = self.chance
        due = self.time + chance.randint(-5, 50_000) if self.has("deadline") else 0
        self.tell(
            events.JobSubmitted(
                time=self.time,
                tenant="default",
                job=self.job.head.id,
                spec="",
                tasks=len(self.spec.tasks),
                due=due,
                start=chance.random() < 0.5,
                logic=LOGIC,
            )
        )
        most = self.schedule.quiet + _MORE_TURNS
        while not self._over():
            self.count += 1
            if self.count > most:
                raise Violation("liveness", f"no end: {self.job.head} {list(self.job.open)}")
            self.time += chance.choice(_PAUSES)
            self.tell(self._next())
            if chance.random() < 0.15 and self.has("crashes"):
                self.course.append(None)
                self.watch.crash()
        if chance.random() < 0.25:
            self.watch.check_rows()
            self.watch.check_replay()

    @property
    def job(self) -> JobState:
        return self.watch.job

    def has(self, fault: str) -> bool:
        """Whether this fault exists here and strikes now."""
        if fault in self._faults and self.chance.random() < self.weight and self.count < self.schedule.quiet:
            self.seen.faults[fault] += 1
            return True
        return False

    def tell(self, event: Event) -> None:
        """What happens, now; a timer not before its time."""
        if isinstance(event, events.TimerFired):
            due = self.watch.outbox.get(event.key, (None, 0))[1]
            if due > event.time:
                self.time = due
                event = replace(event, time=due)
        self.course.append(event)
        self.watch.tell(event)

    def _over(self) -> bool:
        head, chance = self.job.head, self.chance
        if not head.status.ended:
            return False
        for event in self._pocket:
            self.tell(replace(event, time=self.time))
        self._pocket.clear()
        some = strays if chance.random() < 0.2 else lambda *now: [stray(*now)]
        for event in some(chance, self.job, self.time):
            self.tell(event)
        if head.status is JobStatus.DONE or self.count > self.schedule.quiet:
            return True
        return chance.random() < 0.3

    def _next(self) -> Event:
        head, chance, history = self.job.head, self.chance, self.watch.history
        if self.has("noise"):
            return stray(chance, self.job, self.time)
        if self.has("repeats"):
            return replace(chance.choice(history[-12:]), time=self.time)
        if self._pocket and chance.random() < 0.3:
            return replace(self._pocket.pop(chance.randrange(len(self._pocket))), time=self.time)
        if chance.random() < 0.2 and self.has("cancel"):
            return events.CancelRequested(time=self.time, by="Jörg", reason=chance.choice(("", "no")))
        if head.status.ended:
            return self._taken_up()
        if head.status is JobStatus.PENDING:
            if "deadline" in self.job.open and self.has("deadline"):
                return events.TimerFired(time=self.time, key="deadline")
            return events.JobStarted(time=self.time)
        answer = self._answer(self._urgent())
        if self.has("late") and not isinstance(answer, events.TimerFired):
            self._pocket.append(answer)
            answer = self._answer(self._urgent())
        return answer

    def _urgent(self) -> Command:
        """Any open command; the job's own timers only where time is a fault."""
        commands = list(self.job.open.values())
        if self.has("deadline"):
            return self.chance.choice(commands)
        own = [one for one in commands if one.key not in _OF_THE_JOB]
        if not own:
            raise Violation("liveness", f"stalled: {self.job.head} {list(self.job.open)}")
        return self.chance.choice(own)

    def _answer(self, command: Command) -> Event:
        """What becomes of a command."""
        return self._answers[type(command)](command)

    # -- people who take up what failed --------------------------------------------------------------------

    def _taken_up(self) -> Event:
        """What a person does with a run that ended badly."""
        head, chance = self.job.head, self.chance
        if self.has("discards"):
            return events.JobDiscarded(time=self.time, by="Jörg", note=chance.choice(("", "zu spät")))
        dead = head.discarded or head.run >= self.spec.max_retries or chance.random() < 0.2
        more = self._said() if chance.random() < 0.5 and "inbox" in self._faults else {}
        by = PEOPLE[head.number % len(PEOPLE)]
        return events.JobReopened(time=self.time, by=by, dead_letter=dead, **more)

    def _said(self) -> dict[str, Any]:
        """What is to be different in the next run; mostly possible, and sometimes not."""
        chance, tasks = self.chance, range(len(self.spec.tasks))
        self.seen.faults["inbox"] += 1
        restart = tuple(chance.sample(tasks, chance.choice((0, 0, 1, min(2, len(tasks))))))
        again, left = set(restart), list(restart)
        while left:
            more = set(self.job.graph.dependents[left.pop()]) - again
            again, left = again | more, left + sorted(more)
        free = [index for index in tasks if index in again or self.job.task(index).status not in SATISFIED]
        if chance.random() < 0.25:
            free = chance.choice(([*free, *free], [*free, *tasks], [*free, -1, len(tasks)]))
        chance.shuffle(free)
        fixed, done, skipped = (free[at::4][:2] for at in range(3))
        return {
            "fixes": {str(index): {"v": chance.choice((2, "{{ braces"))} for index in fixed},
            "done": {str(index): {"x": chance.choice((0, 1))} for index in done},
            "skip": tuple(skipped),
            "restart": restart,
        }

    # -- those who answer ----------------------------------------------------------------------------------

    def _timed(self, command: Command) -> Event:
        """Its time is up, or was long ago."""
        due = self.watch.outbox[command.key][1]
        self.time = max(self.time, due)
        if self.has("slow_timers"):
            self.time += self.chance.choice(_LATENESS)
        return events.TimerFired(time=self.time, key=command.key)

    def _chosen(self, command: DispatchTask) -> Event:
        if self.has("deferred"):
            reason = self.chance.choice(("no_agent", "breaker_open", "agent_busy"))
            return events.DispatchDeferred(
                **self._of(command), reason=reason, after=self.chance.randint(0, 9)
            )
        return events.AgentChosen(**self._of(command), agent=self.chance.choice(_AGENTS))

    def _worked(self, command: RequestTask | CancelAttempt) -> Event:
        place, chance = self._of(command), self.chance
        if self.job.task(command.task).status is TaskStatus.ASSIGNED:
            if self.has("refuses"):
                return events.TaskRefused(**place, reason="no display")
            if chance.random() < 0.5:
                return events.TaskStarted(**place)
        if self.has("proposes"):
            run_at = self.time + chance.choice((-5, 5, 3_000, 900_000))
            arguments = chance.choice((None, {"v": "{{ braces"}, {"v": 3}, {"w": {"secret": "t"}}))
            reason = chance.choice(("", "nachts"))
            return events.TaskProposed(**place, run_at=run_at, arguments=arguments, reason=reason)
        if self.has("lease"):
            return events.LeaseLost(**place, reason="gone", among=chance.choice((0, 1, 1, 2, 3)))
        if self.has("loss"):
            return self._timed(command)
        failure = self._failure()
        if failure is not None:
            after = chance.choice((0, 0, 5_000))
            code = chance.choice(("x", "approval", "retry", "doubt", "proving", "lease_lost"))
            return events.TaskFailed(**place, failure=failure, code=code, message="ä", retry_after=after)
        return events.TaskSucceeded(**place, result=chance.choice((None, {}, {"x": 0}, {"x": 1})))

    def _failure(self) -> FailureClass | None:
        """Those that end a run strike less."""
        for failure in _FAILURES:
            final = failure in (FailureClass.BUSINESS, FailureClass.POLICY)
            if (
                failure.value in self._faults
                and not (final and self.chance.random() < 0.7)
                and self.has(failure.value)
            ):
                return failure
        return None

    def _looked(self, command: VerifyTask) -> Event:
        if self.has("loss"):
            return self._timed(command)
        if self.has("unseen"):
            if self.chance.random() < 0.3:
                return events.TaskSucceeded(**self._of(command), result={"x": 1})
            again = self.chance.choice((0, -5, 10, 90_000))
            return events.TaskVerified(**self._of(command), verdict="unknown", look_again=again)
        verdict = "absent" if self.has("absent") else "happened"
        return events.TaskVerified(**self._of(command), verdict=verdict, result={"x": 1})

    def _asked(self, command: AskPerson) -> Event:
        chance, digest = self.chance, command.digest
        if command.after and self.has("silent"):
            return self._timed(command)
        by = chance.choice(command.people or PEOPLE)
        if self.has("impostor"):
            by, digest = chance.choice(PEOPLE), chance.choice((digest, "", "00"))
        answer = {"x": chance.choice((0, 1))} if command.question == "input" else None
        yes = not self.has("no")
        return events.QuestionAnswered(**self._of(command), yes=yes, by=by, digest=digest, answer=answer)

    def _of(self, command: Any) -> dict[str, Any]:
        return {"time": self.time, "task": command.task, "epoch": command.epoch}


_OF_THE_JOB: Final = ("deadline", "timeout")
_AGENTS: Final = ("agent-1", "agent-2", "agent-3")
_FAILURES: Final = tuple(FailureClass)
