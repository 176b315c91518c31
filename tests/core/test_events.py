"""Stored names: what is in a store for years must not change by a renaming in the code."""

from __future__ import annotations

import msgspec
import pytest

from cpa.core import commands, events
from cpa.core.classes import FailureClass

TAGS = {
    events.JobSubmitted: "job_submitted",
    events.JobStarted: "job_started",
    events.AgentChosen: "agent_chosen",
    events.DispatchDeferred: "dispatch_deferred",
    events.TaskStarted: "task_started",
    events.TaskRefused: "task_refused",
    events.TaskSucceeded: "task_succeeded",
    events.TaskFailed: "task_failed",
    events.LeaseLost: "lease_lost",
    events.TaskVerified: "task_verified",
    events.QuestionAnswered: "question_answered",
    events.TaskProposed: "task_proposed",
    events.TimerFired: "timer_fired",
    events.CancelRequested: "cancel_requested",
    events.JobReopened: "job_reopened",
    events.JobDiscarded: "job_discarded",
    commands.DispatchTask: "dispatch_task",
    commands.RequestTask: "request_task",
    commands.CancelAttempt: "cancel_attempt",
    commands.VerifyTask: "verify_task",
    commands.AskPerson: "ask_person",
    commands.StartTimer: "start_timer",
}


def test_every_event_and_command_has_its_stored_name() -> None:
    kinds = {kind for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}

    assert kinds | set(commands.Command.__subclasses__()) == set(TAGS)
    assert {kind: msgspec.inspect.type_info(kind).tag for kind in TAGS} == TAGS  # type: ignore[attr-defined]


def test_an_event_comes_back_from_its_bytes() -> None:
    event = events.TaskFailed(
        time=5, task=1, epoch=2, failure=FailureClass.BUSINESS, code="nö", message="ä", retry_after=7
    )

    body = msgspec.json.encode(event)

    assert body.startswith(b'{"event":"task_failed","time":5,"task":1,"epoch":2,"failure":"business"')
    assert msgspec.json.decode(body, type=events.AnyEvent) == event


def test_a_command_comes_back_from_its_bytes() -> None:
    command = commands.AskPerson(key="ask:1:0", task=1, epoch=0, question="approval")

    body = msgspec.json.encode(command)

    assert body == b'{"command":"ask_person","key":"ask:1:0","task":1,"epoch":0,"question":"approval"}'
    assert msgspec.json.decode(body, type=commands.AnyCommand) == command


def test_a_question_about_an_action_names_it_and_one_for_words_its_form() -> None:
    form = {"amount": {"type": "number"}}
    for more in ({"question": "approval", "digest": "ab"}, {"question": "input", "form": form}):
        command = commands.AskPerson(key="ask:1:0", task=1, epoch=0, after=5, **more)  # type: ignore[arg-type]
        assert msgspec.json.decode(msgspec.json.encode(command), type=commands.AnyCommand) == command


@pytest.mark.parametrize("kind", list(events.PERSONAL), ids=lambda kind: str(kind.__name__))
def test_personal_fields_exist(kind: type[events.Event]) -> None:
    fields = {field.name for field in msgspec.structs.fields(kind)}

    assert set(events.PERSONAL[kind]) <= fields
