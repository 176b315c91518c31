"""Conditions: every one has an answer, and a broken one says where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core.conditions import MAX_LENGTH, MAX_NESTING, bind, parse
from cpa.errors import CPAError, InvalidDocument

SCOPE: dict[str, Any] = {
    "tasks": {
        "find": {
            "result": {
                "count": 3,
                "price": 1.5,
                "ok": True,
                "none": None,
                "subject": "Mahnung für Müller",
                "list": ["offen", 2, True, None],
                "map": {"ä": 1},
                "same": ["offen", 2, True, None],
                "one": 1,
            }
        }
    },
    "values": {"limit": 2, "word": "offen", "evil": '" or "a" == "a', "list": ["a", 1], "map": {}},
}
R = "tasks.find.result"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{R}.count == 3", True),
        (f"{R}.count == 3.0", True),
        (f"{R}.count != 3", False),
        (f"{R}.count == '3'", False),
        (f"{R}.count != '3'", True),
        (f"{R}.count > 2 and {R}.count < 4", True),
        (f"{R}.count >= 3 and {R}.count <= 3", True),
        (f"{R}.price < 1.25", False),
        (f"{R}.price > -1e2", True),
        (f"{R}.subject > 5", False),
        (f"{R}.subject < 'N'", True),
        (f"{R}.none < 1", False),
        (f"{R}.ok == true", True),
        (f"{R}.one == true", False),
        (f"{R}.ok > 0", False),
        (f"{R}.ok == True and {R}.none == None", True),
        (f"{R}.none == null", True),
        (f"{R}.nowhere == null", True),
        (f"{R}.nowhere == ''", False),
        (f"{R}.nowhere != 5", True),
        ("tasks.skipped.result.count > 0", False),
        (f"{R}.list == {R}.same", True),
        (f"{R}.map == {R}.list", False),
        (f"{R}.subject contains 'Müller'", True),
        (f"'Mahnung' in {R}.subject", True),
        (f"5 in {R}.subject", False),
        (f"'offen' in {R}.list", True),
        (f"1 in {R}.list", False),
        (f"'zu' not in {R}.list", True),
        (f"{R}.list contains null", True),
        (f"{R}.map contains 'ä'", True),
        (f"{R}.count contains 3", False),
        (f"{R}.count in [1, 2, 3]", True),
        (f"{R}.count in []", False),
        ("'a' in ['b', \"c\", 1.5, true, null]", False),
        (f"exists({R}.count)", True),
        (f"exists({R}.none)", False),
        (f"not exists({R}.nowhere)", True),
        (f"exists({{{{ {R} }}}})", True),
        (f"{{{{{R}.count}}}} == 3", True),
        (f"{R}.list[1] == 2", True),
        (f"{R}.map['ä'] == 1", True),
        ("true", True),
        ("false", False),
        ("false or true and false", False),
        ("(true or true) and false", False),
        ("not false and not (false or false)", True),
        ("true == true", True),
        ("true or false or false", True),
        (r"'it\'s' == \"it's\"".replace(r"\"", '"'), True),
        (r"'a\nb\t\\' contains 'b'", True),
        (" \n true \t", True),
    ],
)
def test_every_condition_has_an_answer(text: str, answer: bool) -> None:
    assert answer is parse(text).evaluate(SCOPE)


@pytest.mark.parametrize(
    ("text", "column", "remedy"),
    [
        ("", 1, "Compare"),
        (f"{R}.count", 24, "Compare"),
        (f"{R}.count = 3", 25, "written =="),
        ("true && true", 6, "`and`"),
        ("true || true", 6, "`or`"),
        ("! true", 1, "`not`"),
        ("1,5 == 2", 2, "1.5"),
        ("'abc", 1, "quotation mark"),
        ('1 == "abc', 6, "quotation mark"),
        ("{{ count }} == 1", 1, "Write {{"),
        ("count == 1", 1, "Compare"),
        ("tasks.find.count == 1", 1, "Compare"),
        ("(true", 6, "Compare"),
        ("true true", 6, "Compare"),
        ("true )", 6, "Compare"),
        ("null", 5, "Compare"),
        ("exists(5)", 8, "Compare"),
        ("exists 5", 8, "Compare"),
        ("1 not 2", 7, "Compare"),
        ("1 in [1 2]", 9, "Compare"),
        ("1 in [[1]]", 7, "Compare"),
        ("1 in [tasks.find.result]", 7, "Compare"),
        ("1.2.3 == 1", 1, "Compare"),
        ("1 == 'a' 'b'", 10, "Close"),
        ("(" * (MAX_NESTING + 5), MAX_NESTING + 1, "Compare"),
        ("not " * (MAX_NESTING + 5) + "true", 4 * MAX_NESTING + 1, "Compare"),
    ],
)
def test_a_broken_condition_says_where(text: str, column: int, remedy: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse(text)

    assert caught.value.message.endswith(f"(column {column})")
    assert caught.value.field == "when"
    assert remedy in str(caught.value.remedy)


def test_a_condition_has_a_size_limit() -> None:
    with pytest.raises(InvalidDocument, match="longer than"):
        parse("true " + " " * MAX_LENGTH)


def test_many_alternatives_are_no_depth() -> None:
    assert parse(" or ".join(["false"] * 300) + " or true").evaluate({}) is True
    assert parse(" and ".join(["(true)"] * 300)).evaluate({}) is True


def test_what_is_read_is_known() -> None:
    condition = parse("exists(tasks.a.result.x) and {{ tasks.b.result }} != tasks.a.result.y")

    assert [reference.task for reference in condition.references] == ["a", "b", "a"]


def test_conditions_are_equal_by_their_text() -> None:
    assert parse("1 == 1") == parse("1 == 1")
    assert parse("1 == 1") != parse("1 == 2")
    assert len({parse("1 == 1"), parse("1 == 1")}) == 1


def test_comparing_results_of_any_depth_is_no_crash() -> None:
    left: Any = []
    right: Any = []
    for _ in range(100_000):
        left, right = [left], [right]
    scope = {"tasks": {"a": {"result": {"x": left, "y": right}}}}

    assert parse("tasks.a.result.x == tasks.a.result.y").evaluate(scope) is False
    while left:
        left, right = left[0], right[0]


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("values.word == {{ values.word }}", '"offen" == "offen"'),
        (f"{R}.count > values.limit", f"{R}.count > 2"),
        (f"'a' in {{{{ values.list }}}} and exists({R})", f"""'a' in ["a", 1] and exists({R})"""),
        ("values.nowhere == null", "null == null"),
        ('"values.word" == values.word', '"values.word" == "offen"'),
    ],
)
def test_planning_puts_literals_in_place_of_values(text: str, bound: str) -> None:
    assert bound == bind(text, SCOPE)


def test_a_value_never_becomes_part_of_the_condition() -> None:
    assert parse(bind("values.evil == 'x'", SCOPE)).evaluate(SCOPE) is False


def test_an_object_cannot_be_bound() -> None:
    with pytest.raises(InvalidDocument, match="is an object"):
        bind("values.map == 1", SCOPE)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 10**5000, [10**5000]], ids=["nan", "inf", "huge", "huge inside"]
)
def test_what_cannot_be_written_cannot_be_bound(value: object) -> None:
    with pytest.raises(InvalidDocument, match="not a number that can be written"):
        bind("values.v == 1", {"values": {"v": value}})


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers())
)
WORDS = st.sampled_from(
    (
        *(
            "tasks.a.result.x",
            "{{ tasks.a.result.y }}",
            "values.z",
            "1",
            "-1.5",
            "1e999",
            "'a'",
            "true",
            "null",
        ),
        *(
            "==",
            "!=",
            "<",
            ">=",
            "=",
            "in",
            "not",
            "contains",
            "and",
            "or",
            "exists",
            "(",
            ")",
            "[",
            "]",
            ",",
        ),
        *('"', "{{", "}}", "ä"),
    )
)


@given(words=st.lists(WORDS, max_size=12), x=VALUES, y=VALUES)
def test_nothing_but_an_answer_or_a_clear_error(words: list[str], x: Any, y: Any) -> None:
    scope = {"tasks": {"a": {"result": {"x": x, "y": y}}}, "values": {"z": y}}
    try:
        condition = parse(" ".join(words))
    except CPAError:
        return

    assert condition.evaluate(scope) in (True, False)
    assert condition.evaluate({}) in (True, False)


@given(
    operator=st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains"]),
    x=VALUES,
    y=VALUES,
)
def test_every_pair_of_values_can_be_compared(operator: str, x: Any, y: Any) -> None:
    scope = {"tasks": {"a": {"result": {"x": x, "y": y}}}}

    answer = parse(f"tasks.a.result.x {operator} tasks.a.result.y").evaluate(scope)
    opposite = parse(f"not tasks.a.result.x {operator} tasks.a.result.y").evaluate(scope)

    assert answer is not opposite


@given(value=st.none() | st.booleans() | st.integers() | st.text())
def test_a_bound_value_equals_itself(value: Any) -> None:
    scope = {"values": {"v": value}}
    text = bind("tasks.a.result.x == values.v", scope)

    assert parse(text).evaluate({"tasks": {"a": {"result": {"x": value}}}}) is True
