"""Where a quotation ends."""

from __future__ import annotations

import pytest

from cpa.core.quotation import closing_quote


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('"Hello"', "Hello"),
        ('"Hello". "Bye"', "Hello"),
        ('"Hello"\n\n"Bye"', "Hello"),
        ('"one\n\ntwo" \nthree', "one\n\ntwo"),
        ('"an "inner" one"', 'an "inner" one'),
        ('" spaced "!', " spaced "),
        ("„Grüße“", "Grüße"),
        ('„Grüße"', "Grüße"),
        ("„a „b“ c“;", "a „b“ c"),
        ("“Hi”", "Hi"),
        ("«à bientôt»", "à bientôt"),
        ("»a «b»", None),
        ("»Grüße«", "Grüße"),
        ('"Project Alpha" is done', None),
        ('"Hello", she said', None),
        ('"never closed', None),
        ('"', None),
        ("", None),
        ("no quotation", None),
    ],
)
def test_a_quotation_ends_where_its_own_mark_closes_it(text: str, inside: str | None) -> None:
    end = closing_quote(text, 0)

    assert (text[1 : end - 1] if end else None) == inside
