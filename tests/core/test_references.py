"""Filling references: totality, types, texts, and the two doors that stay shut."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core import references
from cpa.core.references import (
    MISSING,
    Reference,
    fill,
    lookup,
    parse,
    prefill,
    secrets_in,
    whole,
)
from cpa.errors import CPAError, InvalidDocument, TooLarge

FILE = {"artifact": "sha256:" + "a" * 64, "size": 3, "name": "Rechnung März.pdf"}
SCOPE: dict[str, Any] = {
    "tasks": {
        "find": {
            "result": {
                "count": 3,
                "price": 1.5,
                "ok": True,
                "no": False,
                "none": None,
                "text": "Grüße",
                "file": FILE,
                "list": ["ä", {"x": [10, 20]}],
                "odd key": {"a.b": 1},
                "trap": "{{ tasks.find.result.count }}",
            }
        },
        "lösche-alles": {"result": {}},
    },
    "arguments": {"name": "Müller", "evil": "{{ tasks.find.result.text }}", "open": "{", "n": 7},
    "values": {"portal": {"url": "https://portal.example", "password": {"secret": "portal"}}},
}
PREFIXED = {"prefix": "Bearer ", "secret": "api"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BRACES = st.text(alphabet="{} \"'.tasks[]0ä\\", max_size=40)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("tasks.find.result", ("find", "result")),
        (" tasks.find.result.list.0 ", ("find", "result", "list", "0")),
        ("tasks.find.result.list[1].x[0]", ("find", "result", "list", 1, "x", 0)),
        ("""tasks.find.result["odd key"]['a.b']""", ("find", "result", "odd key", "a.b")),
        ("""tasks.find.result["a ]b"][""]""", ("find", "result", "a ]b", "")),
        ("tasks.lösche-alles.result.Größe", ("lösche-alles", "result", "Größe")),
        ("arguments.name", ("name",)),
        ("values.portal.url", ("portal", "url")),
    ],
)
def test_a_path_is_read_step_by_step(text: str, path: tuple[str | int, ...]) -> None:
    assert path == parse(text).path


@pytest.mark.parametrize(
    "text",
    [
        *("", "tasks", "tasks.", "job.x", "tasks.a-.result", "tasks..result", "tasks.a.result.b c", "1 + 1"),
        *("tasks.find", "tasks.find.status", "tasks.find.count", "tasks.a.result()", "tasks.a.result[-1]"),
        *("arguments.a|upper", "tasks.a.result" + ".x" * 40),
    ],
)
def test_whatever_is_no_reference_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse(text)

    assert "Write {{ tasks." in str(caught.value.remedy)


def test_a_reference_knows_its_task_and_field() -> None:
    assert (
        parse("tasks.find.result.count").task,
        parse("tasks.find.result.count").field,
    ) == ("find", "count")
    assert (parse("tasks.find.result").task, parse("tasks.find.result").field) == ("find", "")
    assert (parse("values.a.b.c").task, parse("values.a.b.c").field) == ("", "")


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("{{ tasks.find.result.count }}", 3),
        ("{{tasks.find.result.file}}", FILE),
        ("{{ tasks.find.result.none }}", None),
        ("{{ tasks.find.result.list[1].x[0] }}", 10),
        ("{{ tasks.find.result.list.1.x.1 }}", 20),
        ("""{{ tasks.find.result["odd key"]["a.b"] }}""", 1),
        ("{{ tasks.find.result.trap }}", "{{ tasks.find.result.count }}"),
        ("{{ values.portal.password }}", {"secret": "portal"}),
        ("a {{ tasks.find.result.trap }}", "a {{ tasks.find.result.count }}"),
        ("{{ tasks.find.result.text }}, {{ arguments.name }}!", "Grüße, Müller!"),
        ("n={{ tasks.find.result.count }} p={{ tasks.find.result.price }}", "n=3 p=1.5"),
        ("{{ tasks.find.result.ok }}/{{ tasks.find.result.no }}", "true/false"),
        ("[{{ tasks.find.result.none }}]", "[]"),
        ("Datei {{ tasks.find.result.file }}", "Datei Rechnung März.pdf"),
        ("L: {{ tasks.find.result.list }}", 'L: ["ä",{"x":[10,20]}]'),
        ('{{ "{{" }} x {{ "}}" }} {{ "{" }}', "{{ x }} {"),
        ("{ {} }} {", "{ {} }} {"),
        ("{{{ arguments.n }}}", "{7}"),
        (["{{ arguments.n }}", {"a": "{{ arguments.n }}"}, 5], [7, {"a": 7}, 5]),
        ({"{{ arguments.n }}": 1}, {"{{ arguments.n }}": 1}),
        (None, None),
    ],
)
def test_filling(value: Any, filled: Any) -> None:
    assert filled == fill(value, SCOPE)


LISTS = {
    "names": ["ACME", "Müller & Söhne", 3, True, None],
    "mails": [{"subject": "Angebot", "count": 2, "note": ""}, {"subject": "Termin", "count": 1}],
    "files": [{"artifact": "sha256:1", "name": "a.pdf"}, {"artifact": "sha256:2"}],
    "nested": [["a"], {"x": [1]}],
    "half": [1.5, [1]],
    "object": {"a": 1},
    "endless": [float("inf")],
    "empty": [],
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Kunden:\n{{ values.names }}\n", "Kunden:\nACME\nMüller & Söhne\n3\ntrue\n\n"),
        ("{{ values.files }}\nGruß", "a.pdf\nsha256:2\nGruß"),
        ("Kunden: {{ values.names }}.", "Kunden: ACME, Müller & Söhne, 3, true, ."),
        ("{{ values.empty }}{{ values.files }}", "a.pdf, sha256:2"),
        ("Mails:\n{{ values.mails }}", "Mails:\nsubject: Angebot, count: 2\nsubject: Termin, count: 1"),
        ("Rest:\n{{ values.nested }}", 'Rest:\n[["a"],{"x":[1]}]'),
        ("Objekt: {{ values.object }}", 'Objekt: {"a":1}'),
        ("Halb: {{ values.half }}", "Halb: [1.5,[1]]"),
    ],
)
def test_a_list_in_a_text_is_written_for_people(text: str, filled: str) -> None:
    assert fill(text, {"values": LISTS}) == filled
    assert fill(prefill(text, {"values": LISTS}), {}) == filled


def test_what_no_text_can_hold_is_refused_in_a_list_too() -> None:
    with pytest.raises(InvalidDocument, match="cannot be written as text"):
        fill("x {{ values.endless }}", {"values": LISTS})


def test_a_list_that_names_a_secret_is_no_text() -> None:
    with pytest.raises(InvalidDocument, match="is a secret"):
        fill("x {{ values.all }}", {"values": {"all": [{"secret": "smtp"}]}})


def test_a_file_without_a_name_is_written_by_its_digest() -> None:
    scope = {"values": {"file": {"artifact": "sha256:0"}}}

    assert fill("x {{ values.file }}", scope) == "x sha256:0"


@pytest.mark.parametrize(
    ("value", "named", "remedy"),
    [
        ("{{ tasks.find.result.cuont }}", "tasks.find.result.cuont", "Did you mean count?"),
        ("{{ tasks.fnid.result.count }}", "tasks.fnid.result.count", "Did you mean find?"),
        ("{{ tasks.find.result.list[7] }}", "tasks.find.result.list[7]", "There is: nothing."),
        ("{{ tasks.find.result.list.x }}", "tasks.find.result.list.x", "There is: nothing."),
        ("{{ tasks.find.result.count.x }}", "tasks.find.result.count.x", "There is: nothing."),
        ("x {{ values.zzz }}", "values.zzz", "There is: portal."),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(value: str, named: str, remedy: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        fill(value, SCOPE)

    assert named == caught.value.value
    assert remedy == caught.value.remedy


def test_an_empty_scope_is_no_crash() -> None:
    with pytest.raises(InvalidDocument, match="there is no value"):
        fill("{{ values.a }}", {})

    assert lookup(parse("values.a"), {}) is MISSING
    assert repr(MISSING) == "MISSING"
    assert not MISSING


@pytest.mark.parametrize(
    "value", ["{{", "a {{ b", "{{ tasks.{{ arguments.n }}.result.x }}", "{{ }}", '{{ "{{{" }}']
)
def test_broken_braces_are_never_passed_on_as_text(value: str) -> None:
    with pytest.raises(InvalidDocument):
        fill(value, SCOPE)
    with pytest.raises(InvalidDocument):
        references.references(value)


def test_a_result_cannot_name_a_secret() -> None:
    scope = {
        "tasks": {"get": {"result": {"json": {"a": [{"secret": "smtp"}]}, "ok": {"secret": "x", "id": 1}}}}
    }

    with pytest.raises(InvalidDocument, match="names a secret"):
        fill(
            "{{ arguments.n }} {{ tasks.a.result.x }}", SCOPE | {"tasks": {"a": {"result": {"x": PREFIXED}}}}
        )
    with pytest.raises(InvalidDocument, match="names a secret"):
        fill({"json": "{{ tasks.get.result.json }}"}, scope)
    assert fill("{{ tasks.get.result.ok }}", scope) == {"secret": "x", "id": 1}


def test_a_secret_is_never_written_into_a_text() -> None:
    with pytest.raises(InvalidDocument, match="is a secret"):
        fill("password: {{ values.portal.password }}", SCOPE)


def test_results_of_any_depth_are_handled() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    scope = {"tasks": {"a": {"result": {"deep": deep}}}}

    with pytest.raises(InvalidDocument, match="cannot be passed on"):
        fill("{{ tasks.a.result.deep }}", scope)
    with pytest.raises(InvalidDocument, match="cannot be written as text"):
        fill("x {{ tasks.a.result.deep }}", scope)
    while deep:  # taken apart by hand: freeing it at once would recurse in some interpreters
        deep = deep[0]


def test_a_template_nested_too_deep_is_refused() -> None:
    deep: Any = "{{ arguments.n }}"
    for _ in range(references.MAX_DEPTH + 1):
        deep = [deep]

    with pytest.raises(InvalidDocument, match="nested more than"):
        fill(deep, SCOPE)
    with pytest.raises(InvalidDocument, match="nested more than"):
        references.references(deep)


def test_filling_cannot_blow_up() -> None:
    scope = {"tasks": {"a": {"result": {"text": "x" * 10_000}}}}

    with pytest.raises(TooLarge):
        fill("{{ tasks.a.result.text }} " * 200, scope)


def test_a_large_result_is_not_repeated_without_end() -> None:
    row = {"text": "x" * 10_000}
    scope = {"tasks": {"a": {"result": {"text": "x" * 10_000, "rows": [row]}}}}

    for reference in ("{{ tasks.a.result.text }}", "{{ tasks.a.result.rows }}", "{{ tasks.a.result }}"):
        assert len(fill([reference] * 50, scope)) == 50
        with pytest.raises(TooLarge, match="filled in"):
            fill([reference] * 220, scope)
        with pytest.raises(TooLarge, match="filled in"):
            references.fill_each({f"v{n}": [reference] * 10 for n in range(22)}, scope)


def test_what_cannot_be_passed_on_is_named() -> None:
    with pytest.raises(InvalidDocument, match="cannot be passed on"):
        fill("{{ tasks.a.result }}", {"tasks": {"a": {"result": {"x": object()}}}})


def test_hostile_braces_cost_linear_time() -> None:
    """Under the test's timeout: a quadratic scan of 200 kB would take minutes."""
    for text in ("{{" + " " * 200_000, "{{" * 100_000, '{{ "' * 50_000, "{{ tasks" + ".a" * 100_000):
        with pytest.raises(InvalidDocument):
            fill(text, SCOPE)


@pytest.mark.parametrize(
    ("value", "prefilled"),
    [
        ("{{ arguments.n }}", 7),
        ("{{ arguments.name }} {{ tasks.find.result.count }}", "Müller {{ tasks.find.result.count }}"),
        ("{{tasks.find.result.count}}", "{{ tasks.find.result.count }}"),
        ({"to": ["{{ values.portal.url }}"]}, {"to": ["https://portal.example"]}),
        ('{{ "{{" }}', '{{ "{" }}{{ "{" }}'),
        ("a { b }", "a { b }"),
    ],
)
def test_planning_leaves_references_to_tasks(value: Any, prefilled: Any) -> None:
    assert prefilled == prefill(value, SCOPE)


@pytest.mark.parametrize(
    ("value", "final"),
    [
        ("{{ arguments.evil }}", "{{ tasks.find.result.text }}"),
        ("x {{ arguments.evil }}", "x {{ tasks.find.result.text }}"),
        (
            "{{ arguments.open }}{{ arguments.open }} tasks.find.result.text }}",
            "{{ tasks.find.result.text }}",
        ),
        ("{{{ arguments.open }} tasks.find.result.text }}", "{{ tasks.find.result.text }}"),
        ("{{ arguments.open }}", "{"),
    ],
)
def test_text_of_a_request_never_becomes_a_reference(value: str, final: str) -> None:
    planned = prefill(value, SCOPE)

    assert final == fill(planned, SCOPE)
    assert references.references(planned) == ()


@given(first=BRACES, second=BRACES, value=JSON)
def test_what_is_inserted_at_planning_arrives_unchanged(first: str, second: str, value: Any) -> None:
    scope = {"arguments": {"a": first, "b": second, "c": value}}
    template = {
        "joined": "{{ arguments.a }}{{ arguments.b }}x{{ arguments.a }}",
        "whole": "{{ arguments.c }}",
    }

    planned = prefill(template, scope)

    assert planned == prefill(planned, scope)
    assert {"joined": f"{first}{second}x{first}", "whole": value} == fill(planned, {})


@given(
    value=st.recursive(BRACES, lambda inner: st.lists(inner) | st.dictionaries(BRACES, inner), max_leaves=5)
)
def test_hostile_templates_raise_nothing_else(value: Any) -> None:
    for attempt in (fill, prefill):
        with suppress(CPAError):
            attempt(value, SCOPE)


def test_references_are_listed_in_order() -> None:
    value = {
        "a": ["{{ tasks.b.result.x }} {{ arguments.n }}", 5],
        "b": "{{ tasks.a.result }}",
        "c": '{{ "{{" }}',
    }

    assert [r.text for r in references.references(value)] == [
        "tasks.b.result.x",
        "arguments.n",
        "tasks.a.result",
    ]


def test_a_string_that_is_one_reference_is_known() -> None:
    assert Reference("tasks", ("a", "result"), "tasks.a.result") == whole("{{ tasks.a.result }}")
    assert None is whole("x {{ tasks.a.result }}")
    assert None is whole('{{ "{{" }}')
    assert None is whole("text")


def test_secrets_are_found_wherever_they_are_named() -> None:
    deep: Any = {"secret": "c", "prefix": "Bearer "}
    for _ in range(2_000):
        deep = [deep]

    assert secrets_in({"a": {"secret": "b"}, "deep": deep}) == {"('b', None)", "('c', 'Bearer ')"}
    assert secrets_in({"secret": "b", "more": 1}) == secrets_in(None) == frozenset()
