"""What comes out of turn: about the present, about what was, about what never is, and mostly not true."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from cpa.core import events
from cpa.core.classes import FailureClass
from cpa.core.events import Event
from cpa.core.job import JobState, JobStatus
from cpa.testing.schedules.schedule import PEOPLE

Place = dict[str, Any]
Stray = Callable[[random.Random, JobState, int, Place], Event]
"""Made with chance, the job, the time, and the attempt it is about: time, task and epoch."""


def place(chance: random.Random, job: JobState, time: int) -> Place:
    """Some attempt, perhaps of a task that is not there."""
    index = chance.randint(-1, len(job.spec.tasks))
    return {"time": time, "task": index, "epoch": job.task(index).epoch + chance.choice((0, 0, 0, -1, 1))}


def stray(chance: random.Random, job: JobState, time: int) -> Event:
    """One of any kind."""
    return chance.choice(_fitting(job))(chance, job, time, place(chance, job, time))


def strays(chance: random.Random, job: JobState, time: int) -> list[Event]:
    """One of every kind, about the same attempt."""
    about = place(chance, job, time)
    return [make(chance, job, time, about) for make in _fitting(job)]


def _fitting(job: JobState) -> list[Stray]:
    """All but those that would be no stray: a person who reopens a job, discards it, or cancels."""
    head, found = job.head, list(_ALWAYS)
    if head.status is not JobStatus.FAILED or head.discarded:
        found.append(lambda _, __, time, ___: events.JobDiscarded(time=time, by="x"))
    unfit = head.discarded or head.run >= job.spec.max_retries
    if unfit or head.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        found.append(lambda _, __, time, ___: events.JobReopened(time=time, by="x"))
    if head.status.ended:
        found.append(lambda _, __, time, ___: events.CancelRequested(time=time, by="x"))
    return found


def _timer(chance: random.Random, _: JobState, time: int, about: Place) -> Event:
    kind = chance.choice(("retry", "request", "verify", "look", "cancel", "ask", "dispatch"))
    return events.TimerFired(time=time, key=f"{kind}:{about['task']}:{about['epoch']}")


def _submitted(_: random.Random, job: JobState, time: int, __: Place) -> Event:
    return events.JobSubmitted(time=time, tenant="default", job=job.head.id, spec="", tasks=1)


def _verified(chance: random.Random, _: JobState, __: int, about: Place) -> Event:
    verdict = chance.choice(("happened", "absent", "unknown"))
    return events.TaskVerified(**about, verdict=verdict, look_again=chance.choice((0, 5)))


_CLASSES: Final = tuple(FailureClass)
_ALWAYS: Final[tuple[Stray, ...]] = (
    lambda _, __, ___, about: events.AgentChosen(**about, agent="agent-9"),
    lambda _, __, ___, about: events.DispatchDeferred(**about, reason="no_agent", after=5),
    lambda _, __, ___, about: events.TaskStarted(**about),
    lambda _, __, ___, about: events.TaskRefused(**about),
    lambda _, __, ___, about: events.TaskSucceeded(**about, result={"x": 1}),
    lambda chance, _, __, about: events.TaskFailed(**about, failure=chance.choice(_CLASSES), code="x"),
    lambda _, __, ___, about: events.LeaseLost(**about),
    lambda _, __, time, about: events.TaskProposed(**about, run_at=time + 5),
    _verified,
    lambda chance, _, __, about: events.QuestionAnswered(**about, yes=chance.random() < 0.5, by="x"),
    lambda chance, _, __, about: events.QuestionAnswered(
        **about, yes=True, by=chance.choice(PEOPLE), digest="00"
    ),
    _timer,
    lambda chance, _, time, __: events.TimerFired(time=time, key=chance.choice(("", "nothing", "retry:"))),
    lambda _, __, time, ___: events.JobStarted(time=time),
    _submitted,
)
