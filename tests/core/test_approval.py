"""The digest of an action: the same for the same, another for every other; and what goes out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.situations import task

from cpa.core.approval import arguments_of, digest_of, proposable, shown
from cpa.core.classes import EffectClass
from cpa.core.job import TaskRun
from cpa.core.references import literal
from cpa.errors import InvalidDocument

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def test_the_digest_is_this_and_stays_it() -> None:
    """Written out, for what was said yes to must be found again by every version."""
    digest = digest_of(
        "mail.send", {"to": "jörg@b.example", "cc": ["a"]}, "de", EffectClass.VERIFIABLE, ("to",)
    )

    assert digest == "3facb2aec9d86c60d3e7680ea9d67a6feed73ba59ebcbc590137125b3a4b72da"


def test_order_plays_no_part() -> None:
    one = digest_of("a.b", {"x": {"p": 1, "q": 2}, "y": 2}, tainted=("y", "x"))

    assert one == digest_of("a.b", {"y": 2, "x": {"q": 2, "p": 1}}, tainted=frozenset(("x", "y")))


BASE: dict[str, Any] = {"action": "a.b", "arguments": {"x": [1, 2]}}


@pytest.mark.parametrize(
    "other",
    [
        {"action": "a.c"},
        {"arguments": {"x": [2, 1]}},
        {"arguments": {"x": ["1", 2]}},
        {"arguments": {"x": [1, 2], "y": None}},
        {"arguments": {"X": [1, 2]}},
        {"arguments": {}},
        {"capability": "de"},
        {"effect": EffectClass.UNSAFE},
        {"tainted": ("x",)},
    ],
)
def test_every_part_of_the_action_counts(other: dict[str, Any]) -> None:
    assert digest_of(**BASE | other) != digest_of(**BASE)


@given(JSON)
def test_what_is_stored_and_read_again_has_the_same_digest(value: Any) -> None:
    again = msgspec.json.decode(msgspec.json.encode(value))

    assert digest_of("a.b", {"v": again}) == digest_of("a.b", {"v": value})


@given(JSON)
def test_a_literal_goes_out_as_it_is(value: Any) -> None:
    run = TaskRun(0, arguments=literal({"v": value}))

    assert arguments_of(task("a"), run, {"x": {"r": 1}}) == {"v": value}


@given(st.text(alphabet='{} "a.[]\\tasks', max_size=30))
def test_braces_go_out_as_they_are(text: str) -> None:
    assert arguments_of(task("a"), TaskRun(0, arguments=literal({"v": text})), {}) == {"v": text}


def test_what_has_no_references_goes_out_untouched() -> None:
    spec = task("a", arguments={"v": "{{ not filled }}"})

    assert arguments_of(spec, TaskRun(0), {}) is spec.arguments


def test_references_are_filled_and_fixed_arguments_replace_the_plans() -> None:
    spec = task("a", references=(0,), arguments={"v": "{{ tasks.x.result.r }}"})

    assert arguments_of(spec, TaskRun(0), {"x": {"r": 7}}) == {"v": 7}
    fixed = TaskRun(0, arguments={"w": "{{ tasks.x.result.r }}!"})
    assert arguments_of(spec, fixed, {"x": {"r": 7}}) == {"w": "7!"}
    assert arguments_of(task("a"), TaskRun(0, arguments={}), {}) == {}


def test_what_cannot_be_filled_is_shown_as_it_is_written() -> None:
    spec = task("a", references=(0,), arguments={"v": "{{ tasks.x.result.r }}"})

    with pytest.raises(InvalidDocument):
        arguments_of(spec, TaskRun(0), {"x": {}})
    assert shown(spec, TaskRun(0), {"x": {}}) == spec.arguments
    assert shown(spec, TaskRun(0), {"x": {"r": 7}}) == {"v": 7}
    assert shown(spec, TaskRun(0, arguments={"v": "{{ tasks.x.result.q }}"}), {"x": {}}) == {
        "v": "{{ tasks.x.result.q }}"
    }


def test_people_are_asked_about_what_is_new_and_reveals_nothing() -> None:
    own = {"key": {"secret": "own"}, "v": 1}

    assert proposable(own, {"v": 2})
    assert proposable(own, {"key": {"secret": "own"}, "v": 2, "w": [1]})
    assert not proposable(own, dict(own))
    assert not proposable(own, {"v": {"secret": "own"}})
    assert not proposable(own, {"key": [{"secret": "own"}, {"deep": {"secret": "other"}}]})
