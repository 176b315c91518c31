"""What comes from outside is made storable: texts mended, values that no store keeps refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core import events
from cpa.core.audit import seal, unseal
from cpa.core.classes import FailureClass
from cpa.core.storing import (
    LONGEST,
    LONGEST_WAIT,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_TEXT,
    UNSTORABLE,
    doubtful,
    mended,
    milliseconds,
    pause,
    storable,
)
from cpa.errors import InvalidDocument

SALT = b"\xaa" * 16


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def succeeded(result: Any) -> events.TaskSucceeded:
    return events.TaskSucceeded(time=5, task=1, epoch=2, result=result, artifacts=("sha256:0",), duration=7)


def needs_a_look(event: events.Event) -> bool:
    try:
        return doubtful(seal(event, SALT))
    except UNSTORABLE:
        return True


@pytest.mark.parametrize(
    "result",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 2**63},
        {"a": -(2**63) - 1},
        {"a": 10**400},
        {"a": nested(MAX_DEPTH)},
        {"a": nested(5000)},
        {"a": "x" * MAX_BYTES},
        {"a": object()},
        {(1, 2): object()},
    ],
    ids=["nan", "inf", "long", "negative", "huge", "deep", "bottomless", "big", "object", "key"],
)
def test_a_result_that_no_store_keeps_is_a_failure_that_says_so(result: Any) -> None:
    event = succeeded(result)
    assert needs_a_look(event)
    found = storable(event)
    assert isinstance(found, events.TaskFailed)
    assert (found.failure, found.code) == (FailureClass.BUSINESS, "result_invalid")
    assert (found.time, found.task, found.epoch, found.duration) == (5, 1, 2, 7)
    assert found.artifacts == event.artifacts
    assert "it was done" in found.message
    assert not needs_a_look(found)


def test_what_takes_the_place_of_a_result_names_its_files_in_characters() -> None:
    event = events.TaskSucceeded(time=5, task=1, epoch=2, result={"a": float("nan")}, artifacts=("\ud800",))
    found = storable(event)
    assert isinstance(found, events.TaskFailed)
    assert found.artifacts == ("\ufffd",)
    seal(found, bytes(16))


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ({"a\ud800": ["x\udc00y"]}, {"a\ufffd": ["x\ufffdy"]}),
        ({"a": None, "b": True, "c": 2**63 - 1, "d": 1.5}, None),
        ({"a": nested(MAX_DEPTH - 2)}, None),
        ({"rows": [{"n": n} for n in range(100)]}, None),
        ({"t": "x" * (MAX_BYTES - 100)}, None),
        ({"t": (1, 2)}, {"t": [1, 2]}),
    ],
    ids=["halves", "plain", "deep", "rows", "big", "tuple"],
)
def test_what_can_be_kept_is_kept_with_its_texts_mended(result: Any, kept: Any) -> None:
    found = storable(succeeded(result))
    assert isinstance(found, events.TaskSucceeded)
    assert found.result == (kept or result)
    sealed = seal(found, SALT)
    assert unseal(sealed.body, sealed.private) == found


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_every_result_can_be_stored_and_is_read_as_it_is_in_memory(value: Any) -> None:
    event: events.Event = succeeded({"value": value})
    if needs_a_look(event):
        event = storable(event)
    sealed = seal(event, SALT)
    again = unseal(sealed.body, sealed.private)
    assert msgspec.to_builtins(again) == msgspec.to_builtins(event)


def test_the_verdict_stands_without_a_result_that_cannot_be_kept() -> None:
    event = events.TaskVerified(
        time=5, task=0, epoch=1, verdict="happened", evidence="seen \ud800", result={"a": 2**70}
    )
    found = storable(event)
    assert isinstance(found, events.TaskVerified)
    assert (found.verdict, found.result) == ("happened", None)
    assert found.evidence.startswith("seen \ufffd (its result cannot be kept")


def test_a_proposal_that_cannot_be_kept_is_a_refusal() -> None:
    event = events.TaskProposed(time=5, task=0, epoch=1, arguments={"a": nested(40)})
    found = storable(event)
    assert isinstance(found, events.TaskRefused)
    assert "proposal" in found.reason
    later = events.TaskProposed(time=5, task=0, epoch=1, run_at=9, reason="tea")
    assert storable(later) == later


def test_texts_are_mended_and_cut() -> None:
    event = events.TaskFailed(
        time=5,
        task=0,
        epoch=1,
        failure=FailureClass.TECHNICAL,
        code="c\ud800",
        message="m" * 10**6,
        artifacts=("sha256:\ud800",),
    )
    assert needs_a_look(event)
    found = storable(event)
    assert isinstance(found, events.TaskFailed)
    assert (found.code, found.artifacts) == ("c\ufffd", ("sha256:\ufffd",))
    assert len(found.message) <= MAX_TEXT + 2
    assert mended("Grüße 👋") == "Grüße 👋"


def test_an_event_that_nobody_outside_says_needs_no_look() -> None:
    assert not needs_a_look(events.TimerFired(time=5, key="timeout"))


def test_a_person_is_told() -> None:
    answered = events.QuestionAnswered(
        time=5, task=0, epoch=1, yes=True, by="anna", answer={"a": float("nan")}
    )
    with pytest.raises(InvalidDocument):
        storable(answered)
    fixed = events.JobReopened(time=5, by="anna", fixes={"0": {"a": nested(60)}})
    assert storable(fixed) == fixed
    fired = events.TimerFired(time=5, key="timeout")
    assert storable(fired) == fired
    assert not needs_a_look(fired)


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (None, 0),
        (float("nan"), 0),
        (-1.0, 0),
        (1.5, 1500),
        (1e17, LONGEST),
        (float("inf"), LONGEST),
        (10**400, LONGEST),
    ],
)
def test_durations_are_bounded(seconds: float | None, found: int) -> None:
    assert milliseconds(seconds) == found
    assert pause(seconds) == min(found, LONGEST_WAIT)


def test_the_rest_of_a_millisecond_is_waited_for() -> None:
    """As none it once meant that looking again helps nothing, and a person was asked."""
    assert [pause(each) for each in (0.0, 1e-7, 0.0009, 0.001, 1.0001)] == [0, 1, 1, 1, 1001]
