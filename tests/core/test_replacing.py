"""Arguments that replace a plan's are checked as the plan's were."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.replacing import fixed, proposed, result
from cpa.core.task_graph import TaskGraph, compile
from cpa.errors import CPAError, InvalidDocument

PLAN: dict[str, Any] = {
    "read": {"action": "mail.read", "arguments": {"uid": "1"}},
    "name": {"action": "flow.noop", "arguments": {"value": "ä"}},
    "echo": {"action": "flow.noop", "arguments": {"value": "{{ tasks.read.result.subject }}"}},
    "send": {
        "action": "mail.send",
        "depends_on": ["name"],
        "arguments": {
            "to": "a@b.example",
            "subject": "{{ tasks.name.result.value }}",
            "text": "{{ tasks.read.result.text }} {{ tasks.echo.result.value }}",
        },
    },
}
SPEC = compile(TaskGraph.from_any(PLAN))
SEND = 3


def refused(check: Any, arguments: Any, field: str = "fixes.3") -> CPAError:
    with pytest.raises(CPAError) as caught:
        check(SPEC, SEND, arguments, field)
    assert caught.value.remedy
    assert caught.value.status < 500
    return caught.value


def test_fixed_arguments_keep_their_references_and_their_braces() -> None:
    arguments = {
        "to": "c@d.example",
        "text": '{{ tasks.read.result.text }} {{ "{{" }}',
        "cc": ["x@y.example"],
    }

    assert fixed(SPEC, SEND, arguments) == arguments


def test_a_fix_may_use_what_the_plan_used_also_to_choose_a_recipient() -> None:
    arguments = {"to": "{{ tasks.name.result.value }}@b.example"}

    assert fixed(SPEC, SEND, arguments) == arguments


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"value": {"password": "[hidden]"}}, "fixes.0.value.password"),
        ({"value": ["https://portal.example/?token=[hidden]"]}, "fixes.0.value[0]"),
    ],
)
def test_what_is_hidden_from_people_is_not_sent_back_as_it_was_shown(
    arguments: dict[str, Any], field: str
) -> None:
    plan = compile(
        TaskGraph.from_any({"a": {"action": "flow.noop", "arguments": {"value": ["so [hidden]", 7]}}})
    )

    with pytest.raises(InvalidDocument) as caught:
        fixed(plan, 0, arguments, "fixes.0")

    assert (caught.value.field, "anew" in (caught.value.remedy or "")) == (field, True)
    assert fixed(plan, 0, {"value": ["so [hidden]", 1]}) == {"value": ["so [hidden]", 1]}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"to": "c@d.example", "whom": 1}, "fixes.3.whom"),
        ({"subject": "x"}, "fixes.3.to"),
        ({"to": True}, "fixes.3.to"),
        ({"to": "{{ tasks.send.result.message_id }}"}, "fixes.3.to"),
        ({"to": "{{ tasks.nobody.result.x }}"}, "fixes.3.to"),
        ({"to": "{{ arguments.to }}"}, "fixes.3.to"),
        ({"to": "{{ tasks.read.result.sender }}"}, "fixes.3.to"),
        ({"to": "c@d.example", "subject": "{{ tasks.read.result.subject }}"}, "fixes.3.subject"),
        ({"to": "c@d.example", "subject": "{{ tasks.echo.result.value }}"}, "fixes.3.subject"),
        ({"to": "c@d.example", "text": "{{ broken"}, "fixes.3.text"),
        ("c@d.example", "fixes.3"),
    ],
)
def test_a_fix_that_cannot_be_is_refused_by_name(arguments: Any, field: str) -> None:
    assert refused(fixed, arguments).field == field


def test_a_fix_that_is_too_large_is_refused() -> None:
    assert refused(fixed, {"to": "c@d.example", "text": "x" * 300_000}).status == 413


def test_a_proposal_is_literal_and_of_the_right_types() -> None:
    arguments = {"to": "c@d.example", "text": "{{ tasks.read.result.text }} {{{"}

    assert proposed(SPEC, SEND, arguments) == arguments
    assert refused(proposed, {"to": "c@d.example", "whom": 1}, "arguments").field == "arguments.whom"
    assert refused(proposed, {"text": "x"}, "arguments").field == "arguments.to"


def test_what_a_person_did_gives_what_later_tasks_use() -> None:
    given = {"text": "ä", "subject": "b", "more": 1}

    assert result(SPEC, 0, given) == given
    assert result(SPEC, SEND, {}) == {}


def test_what_later_tasks_use_must_be_there() -> None:
    with pytest.raises(CPAError) as caught:
        result(SPEC, 0, {"text": "ä"}, "done.read")

    assert (caught.value.field, caught.value.status) == ("done.read.subject", 422)
    assert "echo" in str(caught.value)


def test_a_result_used_as_a_whole_may_hold_anything() -> None:
    plan = {
        "a": {"action": "flow.noop", "arguments": {"value": 1}},
        "b": {
            "action": "flow.noop",
            "arguments": {"value": "{{ tasks.a.result }} {{ tasks.c.result.value }}"},
        },
        "c": {"action": "flow.noop"},
    }
    spec = compile(TaskGraph.from_any(plan))

    assert result(spec, 0, {"x": 1}) == {"x": 1}


def test_an_answer_given_by_hand_fits_the_form() -> None:
    ask = {"action": "person.ask", "arguments": {"question": "?", "form": {"x": {"type": "number"}}}}
    spec = compile(TaskGraph.from_any({"ask": ask}))

    assert result(spec, 0, {"x": 7}) == {"x": 7}
    with pytest.raises(CPAError) as caught:
        result(spec, 0, {"x": "7"}, "done.ask")
    assert caught.value.field == "done.ask.x"
