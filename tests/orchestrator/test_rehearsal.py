"""Plans made before anybody asks for them: every mistake is named with its place, and none hides another."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.config.intents import load_shipped
from cpa.core.intents import IntentDefinition
from cpa.orchestrator.rehearsal import rehearse

VALUES = {"portal": {"url": "http://127.0.0.1:1", "user": "demo"}, "list": ["a"]}


def intent(tasks: Any, **arguments: Any) -> IntentDefinition:
    return IntentDefinition.model_validate(
        {
            "name": "a.b",
            "description": "d",
            "patterns": [{"regex": "ping"}],
            "examples": ["ping"],
            "arguments": arguments,
            "tasks": tasks,
        }
    )


def said(tasks: Any, values: dict[str, Any] | None = VALUES, **arguments: Any) -> list[str]:
    found = rehearse([intent(tasks, **arguments)], values)
    assert all(fault.path[:3] == ("intents", "a.b", "tasks") for fault in found)
    return [f"{'.'.join(map(str, fault.path[3:]))}: {fault.message} ({fault.remedy})" for fault in found]


def test_the_shipped_intents_can_be_planned_and_name_the_values_they_need() -> None:
    shipped = load_shipped().definitions
    assert rehearse(shipped, None) == ()
    missing = {fault.message.split("the value ")[1] for fault in rehearse(shipped, VALUES)}
    assert missing == {"issues.url", "issues.user"}


def test_each_thing_that_is_wrong_with_a_task_is_a_fault_of_its_own() -> None:
    assert said({"t": {"acton": "flow.noop", "argumnts": {}}}) == [
        "t.action: field required (Add this field.)",
        "t.acton: extra inputs are not permitted (Did you mean action? arguments of the action go below "
        "`arguments`.)",
        "t.argumnts: extra inputs are not permitted (Did you mean arguments? arguments of the action go below "
        "`arguments`.)",
    ]


OPEN = {"action": "web.goto", "arguments": {"url": "http://127.0.0.1:1"}}


@pytest.mark.parametrize(
    ("task", "where", "message", "remedy"),
    [
        ({"action": "web.gotoo"}, "t.action", "unknown action 'web.gotoo'", "web.goto"),
        ({"action": "web.click", "selectr": "a"}, "t.selectr", "not permitted", "Did you mean selector?"),
        (
            {"action": "web.click", "arguments": {"foo": 1, "selector": "a"}},
            "t.arguments.foo",
            "'foo'",
            "takes",
        ),
        ({"action": "web.click"}, "t.arguments.selector", "needs the argument 'selector'", "Add"),
        (
            {"action": "flow.noop", "depends_on": ["opn"]},
            "t.depends_on",
            "no task 'opn'",
            "Did you mean open?",
        ),
        ({"action": "web.goto", "arguments": {"url": "{{ values.x.y }}"}}, "t", "value x.y", "cpa.yaml"),
        (
            {"action": "web.goto", "arguments": {"url": "{{ values.list.a }}/"}},
            "t",
            "value list.a",
            "cpa.yaml",
        ),
        (
            {"action": "web.click", "selector": "#a {{ values.portal.x }}"},
            "t",
            "value portal.x",
            "Set portal.x under `values:`",
        ),
        (
            {"action": "file.write", "arguments": {"path": "a", "text": "{{ tasks.read.result.valu }}"}},
            "t.arguments.text",
            "gives no 'valu'",
            "It gives: value",
        ),
        (
            {"action": "web.goto", "arguments": {"url": "{{ tasks.read.result.value }}"}},
            "t.arguments.url",
            "cannot decide 'url'",
            "configuration",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(task: Any, where: str, message: str, remedy: str) -> None:
    read = {"action": "web.extract", "selector": "h1", "depends_on": ["open"]}
    found = said({"open": OPEN, "read": read, "t": task}, n={"type": "number", "default": 2})
    assert len(found) == 1, found
    place, _, text = found[0].partition(": ")
    assert place == where
    assert message in text
    assert remedy in text


def test_one_mistake_hides_no_other() -> None:
    found = said(
        [
            {"action": "web.gotoo", "id": "a"},
            {"action": "web.fill", "selector": "#q", "text": "{{ values.portal.x }}", "depends_on": ["nope"]},
            {
                "action": "file.write",
                "arguments": {"path": "{{ values.y.x }}", "text": "{{ tasks.a.result.z }}"},
            },
            {"action": "flow.noop", "given": ["who"], "depends_on": [9]},
            {"action": "mail.snd", "not_given": ["who"]},
        ],
        who={},
    )
    places = ["1", "2", "0.action", "1.depends_on", "3.depends_on", "4.action"]
    assert [each.split(": ")[0] for each in found] == places


def test_what_only_a_request_decides_is_no_mistake() -> None:
    arguments = {"what": "{{ arguments.what }}", "selector": "{{ values.who.knows }}"}
    tasks = {"open": OPEN, "t": {"action": "web.extract", "arguments": arguments, "depends_on": ["open"]}}
    assert said(tasks, None, what={}) == []
    choice = {"type": "choice", "choices": {"count": ["number"]}, "default": "count"}
    assert said(tasks, {"who": {"knows": "h1"}}, what=choice) == []


def test_a_plan_that_is_wrong_as_a_whole_is_named_too() -> None:
    tasks = {
        "a": {"action": "flow.noop", "depends_on": ["b"]},
        "b": {"action": "flow.noop", "depends_on": ["a"]},
    }
    assert "wait for each other" in said(tasks)[0]
    assert "cannot be the name of a task" in said({"a b!": {"action": "flow.noop"}})[0]


def test_the_workspaces_values_stay_as_they_are() -> None:
    values = {"portal": {"url": "x"}}
    said({"t": {"action": "web.goto", "arguments": {"url": "{{ values.portal.a.b }}"}}}, values)
    assert values == {"portal": {"url": "x"}}
