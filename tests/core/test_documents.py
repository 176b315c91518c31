"""Documents from outside: what is wrong with them, said by path."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from cpa.core.documents import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_FINDINGS,
    check_json,
    check_size,
    every,
    invalid,
    loaded,
    path,
    written,
)
from cpa.errors import InvalidDocument, TooLarge


class Inner(BaseModel, extra="forbid"):
    count: int


class Outer(BaseModel):
    name: str
    items: list[Inner]


def problem(document: Any, prefix: str = "", union: tuple[str, ...] = ()) -> InvalidDocument:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document)
    return invalid(caught.value, prefix, union=union)


@pytest.mark.parametrize(
    ("document", "field", "remedy"),
    [
        ({"items": []}, "x.name", "Add this field."),
        ({"name": 5, "items": []}, "x.name", "Write a text."),
        ({"name": "", "items": [{"count": "ü"}]}, "x.items[0].count", "Correct this field."),
        (
            {"name": "", "items": [{"count": 1, "z": 1}]},
            "x.items[0].z",
            "Remove this field or correct its name.",
        ),
        (5, "x", "Correct this field."),
    ],
)
def test_the_first_finding_is_told_with_its_path(document: Any, field: str, remedy: str) -> None:
    found = problem(document, "x")

    assert field == found.field
    assert remedy == found.remedy


def test_a_document_as_a_whole_has_no_path() -> None:
    assert problem(5).field is None


def test_all_findings_are_named_and_the_headline_counts_them() -> None:
    found = problem({"name": 5, "items": [{"count": 1, "cuont": 2}]}, "x")

    assert found.message.endswith("(1 more)")
    assert [str(each) for each in found.problems] == [
        "x.name: input should be a valid string (Write a text.)",
        "x.items[0].cuont: extra inputs are not permitted (Remove this field or correct its name.)",
    ]
    assert every(found) == (
        "x.name: input should be a valid string; x.items[0].cuont: extra inputs are not permitted",
        "Write a text. Remove this field or correct its name.",
    )
    assert every(problem({"items": []})) == ("name: field required", "Add this field.")
    assert every(problem(5))[0].startswith("input should be")


def test_of_very_many_findings_the_others_are_counted() -> None:
    found = problem({"name": "", "items": [{}] * (MAX_FINDINGS + 7)})

    assert len(found.problems) == MAX_FINDINGS + 1
    assert str(found.problems[-1]) == "7 more places are wrong"


def test_a_missing_field_shows_no_value() -> None:
    assert problem({"items": []}).value is None


def test_a_tag_of_a_union_is_no_part_of_the_path() -> None:
    found = problem({"items": [{}], "name": ""}, union=("items",))

    assert found.field == "[0].count"


def test_paths() -> None:
    assert path("a", "b", 0, "c") == "a.b[0].c"
    assert path("", "a") == "a"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", "[1,", b'{"a": NaN}', b"[" * 100_000, '"\ud800"'])
def test_what_is_no_json_is_refused(data: bytes | str) -> None:
    with pytest.raises(InvalidDocument, match="is no JSON"):
        loaded(data)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="is no JSON object"):
        loaded("[1]")
    assert loaded('{"ä": [1]}') == {"ä": [1]}


def test_size_has_a_limit() -> None:
    check_size(b"x" * MAX_BYTES)
    with pytest.raises(TooLarge):
        loaded(b"x" * (MAX_BYTES + 1))


DEEP: dict[str, Any] = {}
for _ in range(MAX_DEPTH + 1):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("document", "field", "said"),
    [
        (DEEP, "a.a.a.a", "nested more than"),
        ({"a": [float("inf")]}, "a[0]", "not a number"),
        ({"a": {"b": "\ud800"}}, "a.b", "character pair"),
        ({"a": {"\ud800": 1}}, "a", "names of fields"),
        ({5: 1}, None, "names of fields"),
        ({"a": 2**64}, "a", "64 bits"),
        ({"a": -(2**63) - 1}, "a", "64 bits"),
    ],
)
def test_what_others_could_not_read_is_refused(document: Any, field: str | None, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said) as caught:
        check_json(document)

    assert field == caught.value.field


def test_every_json_value_passes() -> None:
    check_json({"a": [None, True, 1, -1.5, "ü", {"b": ()}], "c": 2**64 - 1, "d": -(2**63)})


@pytest.mark.parametrize(
    ("steps", "missing", "told"),
    [
        (("plan", "list[int]", 1), False, ("plan", 1)),
        (("plan", "dict[str,int]"), False, ("plan",)),
        (("plan", 1, "Task", "name"), True, ("plan", 1, "name")),
        (("plan", 2), False, ("plan",)),
        (("plan", 0, "str"), False, ("plan", 0)),
        (("fünf",), True, ("fünf",)),
        ((), False, ()),
    ],
)
def test_a_place_is_told_by_what_was_written(
    steps: tuple[str | int, ...], missing: bool, told: tuple[str | int, ...]
) -> None:
    assert written(steps, {"plan": [5, {"a": 1}]}, missing=missing) == told
