"""Commands: what the shell is to do, as data. Each has a key that follows from its cause.

A command is *open* from the step that issued it to the step that closes it; the outbox holds exactly the open
ones. The shell may perform an open command any number of times; what came of it returns as an event. A command
with `after` is also a timer: once that many milliseconds have passed, `TimerFired(key)` comes in.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Command(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="command", kw_only=True):
    key: str
    after: int = 0
    """Milliseconds after which `TimerFired(key)` is due; 0 is never."""


class DispatchTask(Command, tag="dispatch_task", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Choose an agent; answered by `AgentChosen` or `DispatchDeferred`."""

    task: int
    epoch: int


class RequestTask(Command, tag="request_task", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Send the task to its agent; open while the attempt lives. `after` is the attempt's timeout."""

    task: int
    epoch: int
    agent: str


class CancelAttempt(Command, tag="cancel_attempt", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Tell the agent to stop at the next safe point; `after` is how long its answer is waited for."""

    task: int
    epoch: int
    agent: str


class VerifyTask(Command, tag="verify_task", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Find out whether the attempt's effect happened; answered by `TaskVerified`."""

    task: int
    epoch: int
    look: int = 0
    """How often was looked before."""


class AskPerson(Command, tag="ask_person", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Put a question to people; open until enough of them answered, or `after` has passed."""

    task: int
    epoch: int
    question: str
    """`approval`, `doubt`, `input` or `proposal`"""
    digest: str = ""
    """Of the exact action that is asked about (`core.approval`); the answer names it."""
    form: dict[str, Any] = {}
    """With `input`: the fields that are asked for (`core.forms`)."""
    people: tuple[str, ...] = ()
    """Who may answer; empty is whoever may answer questions."""


class StartTimer(Command, tag="start_timer", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Nothing but time; `after` says how long."""

    task: int = -1
    """The task it holds, or -1 for the whole job."""


AnyCommand = DispatchTask | RequestTask | CancelAttempt | VerifyTask | AskPerson | StartTimer
