"""Events: past-tense facts about one job, the only thing that changes it.

Each carries `time`, stamped by the shell on acceptance. Fields named in `PERSONAL` may hold what a person or a
page wrote; the audit leaf covers them by a salted digest, so that they can be erased and the trail still proves
itself (`core.audit`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from cpa.core.classes import FailureClass


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", kw_only=True):
    time: int
    """Milliseconds since 1970 UTC; never below the job's last event."""


class JobSubmitted(Event, tag="job_submitted", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    tenant: str
    job: str
    spec: str
    """SHA-256 of the stored spec, hexadecimal."""
    tasks: int
    priority: int = 0
    due: int = 0
    """Absolute deadline; 0 is none."""
    start: bool = False
    """A worker was free: it starts at once, without a place in the line."""
    logic: int = 1
    by: str = ""
    """Who asked for it, by the credential; empty in older histories."""


class JobStarted(Event, tag="job_started", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A worker took the job from the line."""


class AgentChosen(Event, tag="agent_chosen", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    task: int
    epoch: int
    agent: str


class DispatchDeferred(
    Event, tag="dispatch_deferred", frozen=True, gc=False, omit_defaults=True, kw_only=True
):
    """No agent can take the task now."""

    task: int
    epoch: int
    reason: str
    """`no_agent`, `agents_draining`, `agents_offline`, `agents_not_ready`, `breaker_open` or `retry_budget`; other
    words in older histories."""
    after: int
    """Milliseconds until it is tried again."""


class TaskStarted(Event, tag="task_started", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    task: int
    epoch: int


class TaskRefused(Event, tag="task_refused", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The agent will not do it; nothing was begun, no attempt is burnt."""

    task: int
    epoch: int
    reason: str = ""


class TaskSucceeded(Event, tag="task_succeeded", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    task: int
    epoch: int
    result: dict[str, Any] | None = None
    artifacts: tuple[str, ...] = ()
    duration: int = 0
    """Milliseconds, as the agent measured it."""


class TaskFailed(Event, tag="task_failed", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    task: int
    epoch: int
    failure: FailureClass
    code: str
    message: str = ""
    remedy: str = ""
    artifacts: tuple[str, ...] = ()
    retry_after: int = 0
    """Milliseconds the target asked us to wait; 0 if it did not say."""
    duration: int = 0


class LeaseLost(Event, tag="lease_lost", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The agent that had the attempt is gone or no longer names it: the outcome is unknown."""

    task: int
    epoch: int
    reason: str = ""
    among: int = 0
    """Among how many attempts, this one included, the one is that ended its agent, as far as is known; 0 where
    nothing says that it ended, or that this may be the one."""


class TaskVerified(Event, tag="task_verified", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    task: int
    epoch: int
    verdict: str
    """`happened`, `absent` or `unknown`"""
    evidence: str = ""
    result: dict[str, Any] | None = None
    look_again: int = 0
    """Milliseconds after which looking again may tell more; 0 is never."""


class QuestionAnswered(
    Event, tag="question_answered", frozen=True, gc=False, omit_defaults=True, kw_only=True
):
    """A person answered the open question of a task.

    Approval and proposal: it may be done, or not. Doubt: it happened, or did not. Input: `answer` holds what was
    asked for, or the person will not say. Where several must say yes the question stays open until they did.
    """

    task: int
    epoch: int
    yes: bool
    by: str
    note: str = ""
    digest: str = ""
    """Of the action that was looked at (`AskPerson.digest`); another one is not answered by this."""
    answer: dict[str, Any] | None = None
    """What was asked for, by field; checked against the form by whoever took it in."""


class TaskProposed(Event, tag="task_proposed", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The agent would rather do it otherwise, or later; nothing was begun."""

    task: int
    epoch: int
    arguments: dict[str, Any] | None = None
    """All arguments as the agent would have them, literally; None to keep those of the request."""
    run_at: int = 0
    """When it could begin; 0 is at once. Counts only without `arguments`."""
    reason: str = ""


class TimerFired(Event, tag="timer_fired", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    key: str
    """Key of the command whose time is up."""


class CancelRequested(Event, tag="cancel_requested", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    by: str
    reason: str = ""


class JobReopened(Event, tag="job_reopened", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Opens the next run: done tasks keep their results, the others start again."""

    by: str
    dead_letter: bool = False
    """Asked for from the dead-letter inbox, which knows no `max_retries`."""
    fixes: dict[str, dict[str, Any]] = {}
    """New arguments by index of their task, for tasks that run again; all arguments of the task, not some."""
    skip: tuple[int, ...] = ()
    """Tasks that are not to be done."""
    done: dict[str, dict[str, Any]] = {}
    """Results by index of their task, of what a person did instead."""
    restart: tuple[int, ...] = ()
    """Tasks that are done again although they are done, with all that depend on them."""


class JobDiscarded(Event, tag="job_discarded", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Nobody will take up this failed job: it leaves the dead letters."""

    by: str
    note: str = ""


AnyEvent = (
    JobSubmitted
    | JobStarted
    | AgentChosen
    | DispatchDeferred
    | TaskStarted
    | TaskRefused
    | TaskSucceeded
    | TaskFailed
    | LeaseLost
    | TaskVerified
    | QuestionAnswered
    | TaskProposed
    | TimerFired
    | CancelRequested
    | JobReopened
    | JobDiscarded
)

PERSONAL: dict[type[Event], tuple[str, ...]] = {
    TaskRefused: ("reason",),
    TaskSucceeded: ("result",),
    TaskFailed: ("message", "remedy"),
    TaskVerified: ("evidence", "result"),
    QuestionAnswered: ("note", "answer"),
    TaskProposed: ("arguments", "reason"),
    CancelRequested: ("reason",),
    JobReopened: ("fixes", "done"),
    JobDiscarded: ("note",),
}
"""Fields that may hold personal data, by event type; all others are ids, words of ours and numbers."""
