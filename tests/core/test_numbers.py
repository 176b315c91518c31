"""Numbers in German and English, and those that nobody can read for sure."""

from __future__ import annotations

import pytest

from cpa.core.numbers import in_doubt, number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("+12", 12),
        ("007", 7),
        ("7,5", 7.5),
        ("7.5", 7.5),
        ("-7,50", -7.5),
        ("1.234,50", 1234.5),
        ("1,234.50", 1234.5),
        ("-12.345.678,9", -12345678.9),
        ("1.234.567", 1234567),
        ("1,234,567", 1234567),
        ("0,125", 0.125),
        ("0.125", 0.125),
        ("1234,567", 1234.567),
        ("1,2345", 1.2345),
    ],
)
def test_what_can_be_read_in_one_way_is_a_number(text: str, value: float) -> None:
    found = number(text)

    assert (found, type(found)) == (value, type(value))
    assert in_doubt(text, "amount") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sieben",
        "1.2.3",
        "1.234.56",
        "1,23,456",
        "1.234,5,6",
        "1.234.5",
        "٣",
        "1e5",
        "1 234",
        "12.34.567",
    ],
)
def test_what_is_no_number_is_none_and_in_no_doubt(text: str) -> None:
    assert number(text) is None
    assert in_doubt(text, "amount") is None


@pytest.mark.parametrize(
    ("text", "locale", "said"),
    [
        ("1.234", "", "amount: 1.234 can mean 1234 or 1.234 (write 1234, or 1.2340)"),
        ("-12,345 EUR", "en", "amount: -12,345 can mean -12345 or -12.345 (write -12345, or -12.3450)"),
        ("1.234", "de", "amount: 1.234 kann 1234 oder 1,234 heißen (bitte 1234 oder 1,2340 schreiben)"),
    ],
)
def test_what_can_be_read_in_two_ways_is_none_and_says_both(text: str, locale: str, said: str) -> None:
    assert number(text) is None
    assert str(in_doubt(text, "amount", locale)) == said
