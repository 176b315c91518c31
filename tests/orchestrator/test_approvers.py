"""Who is to answer and has no key is told before a job waits for them in vain."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.intents import IntentDefinition
from cpa.core.job import JobSpec, TaskSpec
from cpa.orchestrator.approvers import in_plan, keyless
from cpa.ports.keys import Scope, StoredKey

NOW = 1000


def intent(*tasks: dict[str, Any]) -> IntentDefinition:
    written = [{"action": "flow.noop", **task} for task in tasks]
    return IntentDefinition.model_validate(
        {"name": "bills.pay", "description": "Pays.", "patterns": [{"regex": "pay"}], "examples": ["pay"]}
        | {"tasks": written, "arguments": {"who": {"type": "text"}}}
    )


def pays(*approvers: str) -> dict[str, Any]:
    return {"id": "pay", "approval": {"needed": 1, "approvers": list(approvers)}}


def asks(who: str) -> dict[str, Any]:
    return {"id": "ask", "action": "person.ask", "arguments": {"question": "Wie viel?", "for": who}}


def key(name: str, scope: Scope = Scope.SUBMIT, **more: int) -> StoredKey:
    return StoredKey(
        tenant="default", id=f"k_{name}", name=name, scopes=frozenset((scope,)), hash=b"", created=1, **more
    )


ANNA = [key("anna")]


def test_all_who_have_no_key_are_one_line_with_the_remedy() -> None:
    told = keyless([intent(pays("anna", "jörg"), asks("uwe maier"))], {}, ANNA, NOW)

    assert told == (
        "nobody has a key by the name of those who are to answer: jörg (bills.pay.pay); uwe maier (bills.pay.ask); "
        "make one with `cpa keys add jörg`, `cpa keys add 'uwe maier'`"
    )


@pytest.mark.parametrize(
    "tasks",
    [
        (pays("anna"), asks("anna")),
        ({"approval": True}, {"approval": {"needed": 2}}),
        (pays("{{ values.boss }}"), asks("{{ values.boss }}")),
        (pays("{{ arguments.who }}"), asks("{{ values.nobody }}")),
    ],
)
def test_who_has_a_key_or_is_not_known_yet_is_not_told(tasks: tuple[dict[str, Any], ...]) -> None:
    assert keyless([intent(*tasks)], {"boss": "anna"}, ANNA, NOW) == ""


def test_names_of_the_workspace_are_looked_up() -> None:
    assert "uwe (bills.pay.pay)" in keyless([intent(pays("{{ values.boss }}"))], {"boss": "uwe"}, ANNA, NOW)
    listed = {"id": "pay", "approval": {"approvers": "{{ values.bosses }}"}}
    assert "uwe" in keyless([intent(listed)], {"bosses": ["anna", "uwe"]}, ANNA, NOW)


def test_another_spelling_is_another_person() -> None:
    assert "Anna" in keyless([intent(pays("Anna"))], {}, ANNA, NOW)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (key("uwe", Scope.ADMIN), False),
        (key("uwe", expires=NOW + 1), False),
        (key("uwe", Scope.READ), True),
        (key("uwe", Scope.AGENT), True),
        (key("uwe", expires=NOW), True),
        (key("uwe", revoked=1), True),
    ],
)
def test_only_a_living_key_that_may_answer_counts(one: StoredKey, told: bool) -> None:
    assert bool(keyless([intent(pays("uwe"))], {}, [*ANNA, one], NOW)) is told


def test_a_plan_tells_of_each_task_that_would_wait_for_who_has_no_key() -> None:
    plan = JobSpec(
        (
            TaskSpec(id="pay", action="flow.noop", approvers=("anna", "jörg", "uwe maier", "jörg")),
            TaskSpec(id="ask", action="person.ask", arguments={"question": "?", "for": "niemand"}),
            TaskSpec(id="later", action="person.ask", arguments={"for": "{{ tasks.a.result.name }}"}),
            TaskSpec(id="all", action="person.ask", arguments={"question": "?"}),
            TaskSpec(id="no", action="flow.noop", arguments={"for": "niemand"}),
        )
    )
    assert list(in_plan(plan, {"anna"})) == [
        "pay: nobody has a key by the name of jörg, uwe maier; "
        "make one with `cpa keys add jörg`, `cpa keys add 'uwe maier'`",
        "ask: nobody has a key by the name of niemand; make one with `cpa keys add niemand`",
    ]
