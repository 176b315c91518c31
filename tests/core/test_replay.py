"""Stored events, run again."""

from __future__ import annotations

import pytest
from tests.core.situations import START, Story, same, task

from cpa.core import events
from cpa.core.job import LOGIC
from cpa.core.replay import opened, replay
from cpa.errors import InternalError, InvalidDocument


def finished() -> Story:
    story = Story(task("a"), task("b", 0))
    story.done(0)
    story.done(1)
    return story


def test_the_same_events_lead_to_the_same_job() -> None:
    story = finished()

    steps = list(replay(story.spec, story.history))

    assert [event for event, _, _ in steps] == story.history
    assert same(steps[-1][2], story.job)
    assert steps[0][2] is steps[-1][2]


def test_a_history_without_events_has_no_steps() -> None:
    assert list(replay(finished().spec, [])) == []


def test_a_job_before_its_first_event_has_nothing_but_its_name() -> None:
    job = opened("default", "j", finished().spec, 77)

    assert (job.head.tenant, job.head.id, job.head.created, job.head.number) == ("default", "j", 77, 0)
    assert (job.tasks, job.open) == ({}, {})


def test_a_history_without_its_beginning_is_refused() -> None:
    story = finished()

    with pytest.raises(InvalidDocument, match="begins with JobSubmitted, not AgentChosen") as caught:
        list(replay(story.spec, story.history[1:]))
    assert caught.value.field == "events[0]"


def test_a_history_of_a_newer_core_is_refused() -> None:
    first = events.JobSubmitted(time=START, tenant="default", job="j", spec="", tasks=2, logic=LOGIC + 1)

    with pytest.raises(InvalidDocument, match=f"needs logic {LOGIC + 1}") as caught:
        list(replay(finished().spec, [first]))
    assert caught.value.field == "events[0].logic"


def test_a_history_with_a_gap_is_not_believed() -> None:
    story = finished()

    with pytest.raises(InternalError, match=r"event 2 \(TaskSucceeded\) changed nothing: not_expected"):
        list(replay(story.spec, [story.history[0], *story.history[2:]]))
