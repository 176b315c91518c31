"""Plans: both forms, every static check, order, cycles, taint, and compilation."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core.actions import CATALOGUE
from cpa.core.catalogue import ActionSpec
from cpa.core.classes import EffectClass
from cpa.core.job import JobSpec, RetryPolicy, TaskSpec
from cpa.core.task_graph import MAX_TASKS, TaskGraph, ToDo, compile
from cpa.errors import CPAError, InvalidDocument, TooLarge

NOOP = {"action": "flow.noop"}
FILE = {"artifact": "sha256:" + "0" * 64}


def noop(*needs: int | str, **more: Any) -> dict[str, Any]:
    return {"action": "flow.noop", "depends_on": list(needs), **more}


def refused(document: Any) -> CPAError:
    with pytest.raises(CPAError) as caught:
        TaskGraph.from_any(document)
    assert caught.value.remedy
    assert caught.value.status < 500
    return caught.value


# -- the two forms ---------------------------------------------------------------------------------------------


def test_list_and_mapping_mean_the_same() -> None:
    download = {"action": "web.download", "selector": "text=PDF"}
    mail = {"action": "mail.send", "arguments": {"to": "a@b", "attachments": "{{ tasks.load.result.file }}"}}
    as_list: list[dict[str, Any]] = [{"id": "login", "action": "web.goto", "arguments": {"url": "https://x"}}]
    as_list += [{"id": "load", "depends_on": [0], **download}, {"id": "mail", "depends_on": 1, **mail}]
    as_mapping: dict[str, Any] = {"login": {"action": "web.goto", "arguments": {"url": "https://x"}}}
    as_mapping |= {"load": {"depends_on": "login", **download}, "mail": mail}

    specs = [compile(TaskGraph.from_any(form)) for form in (as_list, as_mapping, {"tasks": as_mapping})]

    assert [specs[0]] * 3 == specs
    assert [task.needs for task in specs[0].tasks] == [(), (0,), (1,)]


def test_null_stands_for_no_dependency() -> None:
    assert TaskGraph.from_any({"a": {**NOOP, "depends_on": None}}).build_graph() == {"a": ()}


def test_a_task_may_be_called_tasks() -> None:
    assert TaskGraph.from_any({"tasks": NOOP}).build_graph() == {"tasks": ()}


def test_tasks_without_an_id_are_called_by_their_index() -> None:
    graph = TaskGraph.from_list([NOOP, ToDo(action="flow.noop"), ToDo(action="flow.noop", id="größe")])

    assert [todo.id for todo in graph.topological_sort()] == ["task_0", "task_1", "größe"]


def test_a_graph_grows_task_by_task() -> None:
    graph = TaskGraph()

    assert graph.add_task(NOOP) == "task_0"
    assert graph.build_graph([noop(0, id="b")]) == {"task_0": (), "b": ("task_0",)}
    assert graph.add_task(noop("b", id="c")) == "c"
    assert [todo.id for todo in graph.topological_sort()] == ["task_0", "b", "c"]
    assert graph.build_graph() == {"task_0": (), "b": ("task_0",), "c": ("b",)}


def test_the_short_actions_carry_selector_and_text() -> None:
    todos: list[dict[str, Any]] = [
        {"action": "open_app", "text": "outlook"},
        {"action": "click", "selector": "name=Neu"},
        {"action": "type", "selector": "name=An", "text": "Grüße"},
        {"action": "wait_for", "selector": "name=Gesendet", "timeout": 2.5},
        {"action": "uia", "selector": "name=Senden", "do": "invoke"},
        {"action": "playwright", "do": "select", "selector": "#land", "text": "Österreich"},
        {"action": "send_mail", "text": "Hallo", "arguments": {"to": ["a@b"], "cc": None}},
    ]

    tasks = compile(TaskGraph.from_list(todos)).tasks

    assert [(task.action, task.arguments, task.timeout) for task in tasks] == [
        ("desktop.open_app", {"app": "outlook"}, 30_000),
        ("desktop.click", {"selector": "name=Neu"}, 8_000),
        ("desktop.type", {"selector": "name=An", "text": "Grüße"}, 8_000),
        ("desktop.wait_for", {"selector": "name=Gesendet"}, 2_500),
        ("desktop.uia", {"selector": "name=Senden", "do": "invoke"}, 8_000),
        ("web.select", {"selector": "#land", "value": "Österreich"}, 8_000),
        ("mail.send", {"to": ["a@b"], "text": "Hallo"}, 60_000),
    ]


# -- what is refused -------------------------------------------------------------------------------------------

READ = {"action": "mail.read", "arguments": {"uid": "1"}}
DEEP: Any = "x"
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("document", "field", "said"),
    [
        ("x", "tasks", "a plan is a list"),
        (None, "tasks", "a plan is a list"),
        ({"tasks": 5}, "tasks", "a plan is a list"),
        ([3], "tasks[0]", "a task is a mapping"),
        ({"a": None}, "tasks.a", "a task is a mapping"),
        ([{}], "tasks[0].action", "field required"),
        ([{"action": "web.klick"}], "tasks[0].action", "unknown action"),
        ([{"action": "playwright"}], "tasks[0].do", "needs to know what to do"),
        ([{"action": "web.goto", "do": "click"}], "tasks[0].do", "takes no `do`"),
        ([{"action": "web.goto", "url": "x"}], "tasks[0].url", "extra inputs"),
        ([{"action": "web.goto"}], "tasks[0].arguments.url", "needs the argument"),
        (
            [{"action": "web.goto", "arguments": {"url": None}}],
            "tasks[0].arguments.url",
            "needs the argument",
        ),
        ([{"action": "web.goto", "arguments": {"uri": "x"}}], "tasks[0].arguments.uri", "takes no argument"),
        ([{"action": "web.goto", "arguments": {"uri": None}}], "tasks[0].arguments.uri", "takes no argument"),
        ([{"action": "web.goto", "selector": "x"}], "tasks[0].selector", "takes no argument"),
        ([{"action": "web.goto", "arguments": {"url": True}}], "tasks[0].arguments.url", "is not a text"),
        (
            [{"action": "web.click", "selector": "a", "arguments": {"selector": "b"}}],
            "tasks[0].selector",
            "twice",
        ),
        ([{"action": "web.download"}], "tasks[0].arguments", "exactly one of selector, url"),
        (
            [{"action": "web.download", "selector": "a", "arguments": {"url": "b"}}],
            "tasks[0].arguments",
            "exactly one of selector, url",
        ),
        (
            [{"action": "http.request", "arguments": {"url": "x", "json": 1, "form": {}}}],
            "tasks[0].arguments",
            "at most one of json, form",
        ),
        (
            [{"action": "web.extract", "selector": "x", "arguments": {"what": "html"}}],
            "tasks[0].arguments.what",
            "is not one of text, attribute",
        ),
        (
            [{"action": "mail.send", "arguments": {"to": "a", "attachments": ["x.pdf"]}}],
            "tasks[0].arguments.attachments",
            "is not a file",
        ),
        (
            [{"action": "mail.send", "arguments": {"to": "a", "attachments": "x {{ tasks.a.result.file }}"}}],
            "tasks[0].arguments.attachments",
            "is not a file",
        ),
        (
            [noop(arguments={"a": {"b": [float("nan")]}})],
            "tasks[0].arguments.a.b[0]",
            "float is no JSON value",
        ),
        ([noop(arguments={"a": 2**64})], "tasks[0].arguments.a", "too large"),
        ([noop(arguments={"a": {1, 2}})], "tasks[0].arguments.a", "set is no JSON value"),
        ([noop(arguments={"a": {1: 2}})], "tasks[0].arguments.a", "names in objects are texts"),
        ([noop(arguments={"a": "\ud800"})], "tasks[0].arguments", "half of a character pair"),
        ([noop(when="1 == '\ud800'")], "tasks[0].arguments", "half of a character pair"),
        ([noop(capability="\ud800")], "tasks[0].capability", "unicode"),
        ([noop(arguments={"a": DEEP})], "tasks[0].arguments.a", "nested more than"),
        ([noop(arguments={"a": "x" * 300_000})], "tasks[0].arguments", "more than 262144"),
        ([noop(arguments={"a": "{{ tasks.b.result }}" * 1001})], "tasks[0].arguments", "at most 1000"),
        ([noop(arguments={"a": ["{{ x }}"]})], "tasks[0].arguments.a[0]", "is no reference"),
        ([noop(arguments={"a": "{{ tasks.b"})], "tasks[0].arguments.a", "begin no reference"),
        ([noop(arguments={"a": "{{ arguments.x }}"})], "tasks[0].arguments.a", "was not filled at planning"),
        (
            [noop(arguments={"a": {"secret": "{{ tasks.b.result }}"}})],
            "tasks[0].arguments.a",
            "named literally",
        ),
        ([noop(arguments={"a": {"secret": 5}})], "tasks[0].arguments.a", "named literally"),
        (
            [noop(arguments={"a": {"secret": "b", "prefix": "{{ tasks.b.result }}"}})],
            "tasks[0].arguments.a",
            "named literally",
        ),
        ([noop(arguments={"a": {"secret": ""}})], "tasks[0].arguments.a", "named literally"),
        ([noop(when="x")], "tasks[0].when", "column 1"),
        ([noop(when="values.x == 1")], "tasks[0].when", "was not filled at planning"),
        ([noop(timeout=0)], "tasks[0].timeout", "greater than 0"),
        ([noop(timeout=float("inf"))], "tasks[0].timeout", "finite"),
        ([noop(timeout=10**5000)], "tasks[0].timeout", "valid number"),
        ({"\ud800": NOOP}, "tasks.\\ud800", "cannot be the name"),
        ([noop(effect="harmless")], "tasks[0].effect", "input should be"),
        ([noop(retry={"max_attempts": 0})], "tasks[0].retry.max_attempts", "greater than or equal to 1"),
        ([noop(retry={"max_losses": 0})], "tasks[0].retry.max_losses", "greater than or equal to 1"),
        ([noop(retry={"max_losses": 101})], "tasks[0].retry.max_losses", "less than or equal to 100"),
        ([noop(retry={"attempts": 1})], "tasks[0].retry.attempts", "extra inputs"),
        ([noop(tainted="b")], "tasks[0].tainted", "there is no argument"),
        ([noop(id="a b")], "tasks[0].id", "letters, digits"),
        ([noop(id="a-")], "tasks[0].id", "letters, digits"),
        ([noop(id="a"), noop(id="a")], "tasks[1].id", "two tasks are called 'a'"),
        ([noop(id="task_1"), noop()], "tasks[1].id", "two tasks are called 'task_1'"),
        ({"a b": NOOP}, "tasks.a b", "cannot be the name"),
        ({5: NOOP}, "tasks.5", "cannot be the name"),
        ({"a": noop(id="b")}, "tasks.a.id", "says it is 'b'"),
        ([noop(1)], "tasks[0].depends_on", "there is no task 1"),
        ([noop(-1)], "tasks[0].depends_on", "there is no task -1"),
        ([noop("nope")], "tasks[0].depends_on", "there is no task 'nope'"),
        ([noop(True)], "tasks[0].depends_on", "indices or ids"),
        ([{**NOOP, "depends_on": [[0]]}], "tasks[0].depends_on", "indices"),
        ([noop(0)], "tasks[0].depends_on", "task_0 → task_0"),
        ([noop(1), noop(0)], "tasks[0].depends_on", "task_0 → task_1 → task_0"),
        ([noop(arguments={"a": "{{ tasks.b.result }}"})], "tasks[0].arguments.a", "there is no task 'b'"),
        ([noop(when="exists(tasks.b.result)")], "tasks[0].when", "there is no task 'b'"),
        (
            {"r": READ, "n": noop(arguments={"x": "{{ tasks.r.result.sendr }}"})},
            "tasks.n.arguments.x",
            "mail.read gives no 'sendr'",
        ),
        ({"r": READ, "n": noop(when="tasks.r.result.cc == 1")}, "tasks.n.when", "mail.read gives no 'cc'"),
    ],
)
def test_a_mistake_is_named_by_its_place(document: Any, field: str, said: str) -> None:
    problem = refused(document)

    assert field == problem.field
    assert said in problem.message


def test_the_nearest_id_is_offered() -> None:
    assert refused({"login": NOOP, "b": noop("logni")}).remedy == "Did you mean login?"
    assert refused({"login": NOOP, "b": noop("xyz")}).remedy == "Tasks are: login, b."


def test_an_argument_beside_its_place_is_sent_there() -> None:
    assert "below `arguments`" in str(refused([{"action": "web.goto", "url": "x"}]).remedy)


def test_a_long_cycle_is_shortened() -> None:
    problem = refused([noop((at + 1) % 50) for at in range(50)])

    assert problem.message.startswith("tasks wait for each other: task_0 → task_1 → ")
    assert problem.message.endswith("→ … → task_47 → task_48 → task_49 → task_0") or "…" in problem.message
    assert len(problem.message) < 250


def test_a_plan_has_a_size_limit() -> None:
    graph = TaskGraph(NOOP for _ in range(MAX_TASKS))

    with pytest.raises(TooLarge):
        graph.add_task(NOOP)


def test_an_empty_plan_is_no_job() -> None:
    with pytest.raises(InvalidDocument, match="has no task"):
        compile(TaskGraph())


# -- dependencies ----------------------------------------------------------------------------------------------


def test_a_reference_implies_the_dependency() -> None:
    graph = TaskGraph.from_any(
        {
            "c": noop(arguments={"x": "{{ tasks.b.result.value }}"}),
            "b": noop(when="exists(tasks.a.result.value)", arguments={"value": 1}),
            "a": noop(arguments={"value": 2}),
        }
    )

    spec = compile(graph)

    assert graph.build_graph() == {"c": ("b",), "b": ("a",), "a": ()}
    assert [task.id for task in spec.tasks] == ["a", "b", "c"]
    assert [task.needs for task in spec.tasks] == [(), (0,), (1,)]
    assert [task.references for task in spec.tasks] == [(), (), (1,)]


def test_references_may_close_a_cycle() -> None:
    problem = refused({"a": noop("b"), "b": noop(arguments={"x": "{{ tasks.a.result }}"})})

    assert problem.message == "tasks wait for each other: a → b → a"


@pytest.mark.parametrize(
    ("needs", "order", "batches", "cycles"),
    [
        ([[], [], []], [0, 1, 2], [[0, 1, 2]], []),
        ([[1], [2], []], [2, 1, 0], [[2], [1], [0]], []),
        ([[], [0], [0], [1, 2]], [0, 1, 2, 3], [[0], [1, 2], [3]], []),
        ([[3], [], [1], []], [1, 2, 3, 0], [[1, 3], [0, 2]], []),
        ([[1], [0], []], None, None, [[0, 1, 0]]),
        ([[0]], None, None, [[0, 0]]),
        ([[1], [2], [1], [4], [3], []], None, None, [[1, 2, 1], [3, 4, 3]]),
        ([[1], [0], [0]], None, None, [[0, 1, 0]]),
    ],
)
def test_order_batches_and_cycles(
    needs: list[list[int]],
    order: list[int] | None,
    batches: list[list[int]] | None,
    cycles: list[list[int]],
) -> None:
    graph = TaskGraph([noop(*each) for each in needs])

    assert [[f"task_{at}" for at in cycle] for cycle in cycles] == graph.detect_cycles()
    if order is None or batches is None:
        for method in (graph.topological_sort, graph.get_parallel_batches, graph.build_graph):
            with pytest.raises(InvalidDocument, match="wait for each other"):
                method()
    else:
        assert [f"task_{at}" for at in order] == [todo.id for todo in graph.topological_sort()]
        assert [[f"task_{at}" for at in batch] for batch in batches] == [
            [todo.id for todo in batch] for batch in graph.get_parallel_batches()
        ]


@given(edges=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_either_an_order_or_a_cycle(edges: list[tuple[int, int]]) -> None:
    needs: list[set[int]] = [set() for _ in range(12)]
    for dependent, need in edges:
        needs[dependent].add(need)
    graph = TaskGraph([noop(*sorted(each)) for each in needs])
    cycles = graph.detect_cycles()

    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        for name, needed in pairwise(cycle):
            assert int(needed[5:]) in needs[int(name[5:])]
    try:
        order = [int(todo.id[5:]) for todo in graph.topological_sort()]
    except InvalidDocument:
        assert cycles
    else:
        assert not cycles
        place = {position: at for at, position in enumerate(order)}
        assert all(place[need] < place[dependent] for dependent, need in edges)


# -- taint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "argument"),
    [
        ({"action": "mail.send", "arguments": {"to": "{{ tasks.r.result.sender }}"}}, "to"),
        ({"action": "mail.send", "arguments": {"to": ["a@b", "{{ tasks.r.result.sender }}"]}}, "to"),
        ({"action": "web.goto", "arguments": {"url": "https://x/{{ tasks.r.result.subject }}"}}, "url"),
        ({"action": "web.click", "selector": "text={{ tasks.r.result.subject }}"}, "selector"),
        (
            {"action": "file.write", "arguments": {"path": "{{ tasks.r.result.subject }}", "text": "x"}},
            "path",
        ),
        (
            {
                "action": "http.request",
                "arguments": {"url": "x", "headers": {"A": "{{ tasks.r.result.text }}"}},
            },
            "headers",
        ),
    ],
)
def test_text_from_outside_never_decides(task: dict[str, Any], argument: str) -> None:
    problem = refused({"r": READ, "t": task})

    assert f"tasks.t.arguments.{argument}" == problem.field
    assert "comes from outside" in problem.message


def test_text_from_outside_may_be_carried_and_compared() -> None:
    spec = compile(
        TaskGraph.from_any(
            {
                "r": READ,
                "m": {
                    "action": "mail.send",
                    "arguments": {
                        "to": "a@b",
                        "subject": "AW: {{ tasks.r.result.subject }}",
                        "attachments": ["{{ tasks.r.result.attachments }}", FILE],
                    },
                    "when": "tasks.r.result.subject contains 'Rechnung'",
                },
            }
        )
    )

    assert spec.tasks[1].tainted == ("attachments", "subject")


def test_a_detour_does_not_wash_it_clean() -> None:
    problem = refused(
        {
            "r": READ,
            "wash": noop(arguments={"value": "{{ tasks.r.result.sender }}"}),
            "m": {"action": "mail.send", "arguments": {"to": "{{ tasks.wash.result.value }}"}},
        }
    )

    assert problem.field == "tasks.m.arguments.to"


def test_results_of_our_own_may_decide() -> None:
    spec = compile(
        TaskGraph.from_any(
            {
                "n": noop(arguments={"value": "a@b"}),
                "m": {"action": "mail.send", "arguments": {"to": "{{ tasks.n.result.value }}"}},
            }
        )
    )

    assert spec.tasks[1].tainted == ()


def test_literals_from_outside_are_followed_too() -> None:
    mail = {"action": "send_mail", "arguments": {"to": "a@b", "text": "x"}}
    select = {"action": "web.select", "selector": "#a", "text": "x", "tainted": ["text"]}

    assert compile(TaskGraph([{**mail, "tainted": ["text"]}])).tasks[0].tainted == ("text",)
    assert compile(TaskGraph([select])).tasks[0].tainted == ("value",)
    assert refused([{**mail, "tainted": "to"}]).field == "tasks[0].arguments.to"
    washed = {"n": noop(arguments={"value": "x"}, tainted="value")}
    assert "comes from outside" in (
        refused(washed | {"m": {**mail, "arguments": {"to": "{{ tasks.n.result.value }}"}}}).message
    )


# -- templates -------------------------------------------------------------------------------------------------

SCOPE: dict[str, Any] = {
    "arguments": {
        "to": "müller@kunde.example",
        "text": "{{ tasks.a.result.x }}",
        "kind": "web.click",
        "n": 5,
    },
    "values": {"portal": {"url": "https://p", "password": {"secret": "portal"}}},
}


def test_a_template_is_filled_and_checked() -> None:
    template = {
        "open": {"action": "web.goto", "arguments": {"url": "{{ values.portal.url }}/login"}},
        "fill": {"action": "web.fill", "selector": "#p", "text": "{{ values.portal.password }}"},
        "mail": {
            "action": "mail.send",
            "depends_on": "open",
            "timeout": "{{ arguments.n }}",
            "arguments": {"to": "{{ arguments.to }}", "text": "{{ arguments.text }}"},
            "when": "arguments.to != ''",
        },
    }

    graph = TaskGraph.from_template(template, SCOPE)
    listed = TaskGraph.from_template([template["open"]], SCOPE)

    spec = compile(graph)
    assert spec.tasks[0].arguments == {"url": "https://p/login"}
    assert spec.tasks[1].arguments == {"selector": "#p", "text": {"secret": "portal"}}
    assert spec.tasks[2].arguments["to"] == "müller@kunde.example"
    assert spec.tasks[2].when == "\"müller@kunde.example\" != ''"
    assert (spec.tasks[2].needs, spec.tasks[2].references, spec.tasks[2].timeout) == ((0,), (), 5_000)
    assert [todo.id for todo in listed.topological_sort()] == ["task_0"]


def test_a_request_never_chooses_the_step() -> None:
    with pytest.raises(InvalidDocument) as caught:
        TaskGraph.from_template([{"action": "{{ arguments.kind }}"}], SCOPE)

    assert caught.value.field == "tasks[0].action"


def test_arguments_of_a_model_fill_data_only() -> None:
    template = [
        {"action": "mail.send", "text": "{{ arguments.text }}", "arguments": {"to": "{{ arguments.to }}"}}
    ]

    spec = compile(TaskGraph.from_template(template, SCOPE, tainted={"text"}))
    with pytest.raises(InvalidDocument) as caught:
        TaskGraph.from_template(template, SCOPE, tainted={"to"})

    assert spec.tasks[0].tainted == ("text",)
    assert caught.value.field == "tasks[0].arguments.to"


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ([noop(arguments={"a": "{{ arguments.nope }}"})], "tasks[0]"),
        ({"x": noop(when="values.portal == 1")}, "tasks.x.when"),
        ({"x": noop(arguments=5)}, "tasks.x.arguments"),
        ([5], "tasks[0]"),
        (5, "tasks"),
    ],
)
def test_a_broken_template_is_named_by_its_place(template: Any, field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        TaskGraph.from_template(template, SCOPE)

    assert field == caught.value.field


# -- compilation -----------------------------------------------------------------------------------------------


def test_everything_reaches_the_job() -> None:
    todo = ToDo(
        id="a",
        action="http.request",
        arguments={"url": "https://x", "method": "POST"},
        retry={"max_attempts": 5, "first_delay": 0.5, "factor": 3, "max_delay": 10, "max_losses": 7},
        approval=True,
        capability="intern",
        outputs=["number"],
        timeout=0.0001,
    )
    graph = TaskGraph([todo, noop(arguments={"x": "{{ tasks.a.result.number }}"}), noop(effect="unsafe")])

    spec = compile(
        graph,
        intent="book",
        description="Buche für Müller",
        context={"user": "ü"},
        timeout=1.5,
        max_parallel=3,
        max_retries=1,
        environment_wait=60,
    )

    task = spec.tasks[0]
    policy = RetryPolicy(max_attempts=5, first_delay=500, factor=3.0, max_delay=10_000, max_losses=7)
    assert policy == task.retry
    assert (
        task.approval,
        task.capability,
        task.timeout,
        task.effect,
    ) == (True, "intern", 1, EffectClass.UNSAFE)
    assert [RetryPolicy(), EffectClass.UNSAFE] == [spec.tasks[2].retry, spec.tasks[2].effect]
    assert (spec.intent, spec.description, spec.context) == ("book", "Buche für Müller", {"user": "ü"})
    assert (spec.timeout, spec.max_parallel, spec.max_retries, spec.environment_wait) == (1_500, 3, 1, 60_000)
    assert spec == msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec)


def test_braces_are_text_again_where_dispatch_fills_nothing() -> None:
    escaped = {"value": '{{ "{{" }} x }}', "n": 1}
    graph = TaskGraph(
        [noop(arguments=escaped), noop(arguments={**escaped, "m": "{{ tasks.task_0.result }}"})]
    )

    final, filled = compile(graph).tasks

    assert final.arguments == {"value": "{{ x }}", "n": 1}
    assert filled.arguments["value"] == escaped["value"]


@pytest.mark.parametrize("secret", [{"secret": "api"}, {"secret": "api", "prefix": "Bearer "}])
def test_secrets_are_passed_by_name(secret: dict[str, str]) -> None:
    headers = {"Authorization": secret}
    graph = TaskGraph(
        [{"action": "http.request", "arguments": {"url": "x", "headers": headers, "save": secret}}]
    )

    assert compile(graph).tasks[0].arguments["headers"] == headers


def test_half_a_character_pair_in_the_request_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="character pair"):
        compile(TaskGraph([NOOP]), description="\udc00")


def test_other_actions_come_with_their_catalogue() -> None:
    catalogue = CATALOGUE.with_actions(ActionSpec(name="erp.book", summary="", timeout=5))

    spec = compile(TaskGraph.from_any([{"action": "erp.book"}], catalogue=catalogue))

    assert (
        spec.tasks[0].action,
        spec.tasks[0].timeout,
        spec.tasks[0].effect,
    ) == ("erp.book", 5_000, EffectClass.UNSAFE)


def test_ten_thousand_tasks_are_planned_while_a_person_waits() -> None:
    items = [noop(*range(max(0, at - 2), at), arguments={"value": at}) for at in range(MAX_TASKS)]

    began = time.process_time()
    spec = compile(TaskGraph.from_list(items))
    took = time.process_time() - began

    assert len(spec.tasks) == MAX_TASKS
    assert took < 10, "usually 0.4 s; a search among all tasks for each would take minutes"


@given(
    arguments=st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(alphabet=st.characters(exclude_characters="{", exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_arguments_are_stored_as_they_were_written(arguments: dict[str, Any]) -> None:
    spec = compile(TaskGraph([noop(arguments=arguments)]))

    assert arguments == msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec).tasks[0].arguments


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["flow.noop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ToDo.model_fields, "x", "tasks"]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(document=JUNK)
def test_hostile_plans_raise_nothing_else(document: Any) -> None:
    try:
        compile(TaskGraph.from_any(document))
    except InvalidDocument:
        return


# -- approvals -----------------------------------------------------------------------------------------------


def approval(value: Any) -> TaskSpec:
    return compile(TaskGraph.from_any([noop(approval=value)])).tasks[0]


def test_an_approval_by_anybody_is_one_yes() -> None:
    spec = approval(True)

    assert (spec.approval, spec.approvals, spec.approvers, spec.approval_expires) == (True, 1, (), 0)
    assert (approval(False).approval, approval(False).approvals) == (False, 0)
    assert not approval(None).approval


def test_an_approval_says_how_many_who_and_for_how_long() -> None:
    spec = approval({"needed": 2, "approvers": ["jörg", "anna", "uwe"], "expires": 90.5})

    assert (spec.approvals, spec.approvers, spec.approval_expires) == (2, ("jörg", "anna", "uwe"), 90_500)
    assert approval({"approvers": "jörg"}).approvers == ("jörg",)
    assert approval({"approvers": None}).approvals == 1


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"needed": 0}, "tasks[0].approval.needed"),
        ({"needed": 2, "approvers": ["anna", "anna"]}, "tasks[0].approval"),
        ({"expires": -1}, "tasks[0].approval.expires"),
        ({"who": "anna"}, "tasks[0].approval.who"),
        ("yes please", "tasks[0].approval"),
    ],
)
def test_an_approval_that_cannot_be_is_refused_by_name(value: Any, field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        approval(value)

    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    "written",
    [{"bids": True}, {"timeout": True}, {"retry": {"factor": True}}, {"approval": {"needed": True}}],
)
def test_true_is_no_number(written: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument, match="a number is wanted"):
        TaskGraph.from_any([{"action": "flow.noop"} | written])


def test_bids_are_waited_for_as_long_as_the_task_says() -> None:
    assert compile(TaskGraph.from_any([noop(bids=2.5)])).tasks[0].bids == 2_500
    assert compile(TaskGraph.from_any([noop()])).tasks[0].bids == 0


def test_enough_people_besides_the_requester_must_be_named() -> None:
    graph = TaskGraph.from_any([noop(approval={"needed": 2, "approvers": ["anna", "jörg"]})])

    assert compile(graph).requester == ""
    assert compile(graph, requester="uwe").requester == "uwe"
    with pytest.raises(InvalidDocument) as caught:
        compile(graph, requester="jörg")
    assert caught.value.field == "tasks[0].approval"
    assert compile(TaskGraph.from_any([noop(approval={"needed": 2})]), requester="jörg").requester == "jörg"


# -- questions to people ---------------------------------------------------------------------------------------


def ask(**more: Any) -> dict[str, Any]:
    return {"action": "person.ask", "arguments": {"question": "Wie viel?"} | more}


def test_a_question_promises_the_fields_of_its_form() -> None:
    form = {"amount": {"type": "number"}}
    graph = {"q": ask(form=form), "mail": {"action": "mail.send", "arguments": {"to": "a@b"}}}
    graph["mail"]["arguments"]["text"] = "{{ tasks.q.result.amount }}"

    spec = compile(TaskGraph.from_any(graph)).tasks[0]

    assert (spec.arguments["form"], spec.timeout, spec.effect) == (form, 604_800_000, EffectClass.IDEMPOTENT)
    graph["mail"]["arguments"]["text"] = "{{ tasks.q.result.answer }}"
    assert refused(graph).field == "tasks.mail.arguments.text"
    TaskGraph.from_any({**graph, "q": ask()})


def test_what_a_person_answers_may_decide() -> None:
    mail = {"action": "mail.send", "arguments": {"to": "{{ tasks.q.result.answer }}"}}

    assert compile(TaskGraph.from_any({"q": ask(), "mail": mail})).tasks[1].tainted == ()


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (ask(form={"a": {"type": "color"}}), "tasks.q.arguments.form.a.type"),
        (ask(form=[1]), "tasks.q.arguments.form"),
        (ask(form="{{ tasks.n.result.value }}"), "tasks.q.arguments.form"),
        (ask(form={"a": {"label": "{{ tasks.n.result.value }}"}}), "tasks.q.arguments.form"),
        (ask() | {"approval": True}, "tasks.q.approval"),
        ({"action": "person.ask"}, "tasks.q.arguments.question"),
        (ask(whom="anna"), "tasks.q.arguments.whom"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_name(task: dict[str, Any], field: str) -> None:
    assert refused({"q": task, "n": noop()}).field == field


def test_words_from_outside_may_be_asked_about_and_never_choose_whom() -> None:
    read = {"action": "mail.read", "arguments": {"uid": "1"}}

    TaskGraph.from_any({"r": read, "q": ask(question="{{ tasks.r.result.subject }}?")})
    wrong = refused({"r": read, "q": ask(**{"for": "{{ tasks.r.result.sender }}"})})
    assert wrong.field == "tasks.q.arguments.for"
