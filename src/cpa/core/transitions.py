"""The states of a job and of a task run as tables. The machine, its tests and the diagrams in the docs read them.

Two rules stand above the tables: a terminal task run moves only when its job is reopened, and an event about an
attempt counts only for the newest epoch. What a table does not name changes nothing.
"""

from __future__ import annotations

from cpa.core import events
from cpa.core.events import Event
from cpa.core.job import JobStatus, TaskStatus

J, T = JobStatus, TaskStatus

JOB_MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    J.PENDING: frozenset((J.RUNNING, J.DONE, J.CANCELLED, J.FAILED)),
    J.RUNNING: frozenset((J.DONE, J.FAILED, J.CANCELLED)),
    J.DONE: frozenset(),
    J.FAILED: frozenset((J.PENDING,)),
    J.CANCELLED: frozenset((J.PENDING,)),
}
"""Where one event may take a job (at its start it may be done). From its ends only `JobReopened` leads on."""

TASK_MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    T.WAITING: frozenset((T.READY, T.HELD, T.DONE, T.SKIPPED)),
    T.READY: frozenset((T.ASSIGNED, T.HELD, T.CANCELLED)),
    T.ASSIGNED: frozenset((T.RUNNING, T.DONE, T.FAILED, T.HELD, T.IN_DOUBT, T.CANCELLED)),
    T.RUNNING: frozenset((T.DONE, T.FAILED, T.HELD, T.IN_DOUBT, T.CANCELLED)),
    T.HELD: frozenset((T.READY, T.DONE, T.FAILED, T.CANCELLED)),
    T.IN_DOUBT: frozenset((T.DONE, T.FAILED, T.HELD, T.CANCELLED)),
    T.DONE: frozenset((T.WAITING, T.SKIPPED)),
    T.FAILED: frozenset((T.WAITING, T.DONE, T.SKIPPED)),
    T.SKIPPED: frozenset((T.WAITING, T.DONE)),
    T.CANCELLED: frozenset((T.WAITING, T.DONE, T.SKIPPED)),
}
"""Where a task run may go. From an end only a new run leads on: by itself from failed and cancelled, from done and
skipped where a person says so. Held becomes done by a person's answer."""

ACCEPTS: dict[type[Event], tuple[TaskStatus, ...]] = {
    events.AgentChosen: (T.READY,),
    events.DispatchDeferred: (T.READY,),
    events.TaskStarted: (T.ASSIGNED,),
    events.TaskRefused: (T.ASSIGNED,),
    events.TaskSucceeded: (T.ASSIGNED, T.RUNNING, T.IN_DOUBT),
    events.TaskFailed: (T.ASSIGNED, T.RUNNING),
    events.LeaseLost: (T.ASSIGNED, T.RUNNING),
    events.TaskVerified: (T.IN_DOUBT,),
    events.QuestionAnswered: (T.HELD, T.IN_DOUBT),
    events.TaskProposed: (T.ASSIGNED, T.RUNNING),
}
"""In which states of its task an event about an attempt counts."""
