"""Numbers as people write them: `1.234,50` in German, `1,234.50` in English.

One separator with three digits behind it may group thousands or begin the decimals. Nobody can tell which, so such
a number is none, and whoever wrote it is asked.
"""

from __future__ import annotations

import re

from cpa.errors import BadInput

_WHOLE = re.compile(r"[-+]?\d{1,15}", re.ASCII)
_DECIMAL = re.compile(r"[-+]?\d{1,15}[.,]\d{1,15}", re.ASCII)
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?P<group>[.,])\d{3}(?:(?P=group)\d{3}){0,3}", re.ASCII)
_GROUPED_DECIMAL = re.compile(
    f"(?P<whole>{_GROUPED.pattern})(?!(?P=group))[.,](?P<part>\\d{{1,15}})", re.ASCII
)


def number(text: str) -> int | float | None:
    """The number that is written there; None for none, and for one that can be read in two ways."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if grouped := _GROUPED.fullmatch(text):
        # With two groups they are thousands.
        return int(_digits(text)) if text.count(grouped["group"]) > 1 else None
    if _DECIMAL.fullmatch(text):
        return float(text.replace(",", "."))
    if found := _GROUPED_DECIMAL.fullmatch(text):
        return float(f"{_digits(found['whole'])}.{found['part']}")
    return None


def in_doubt(text: str, field: str, locale: str = "") -> BadInput | None:
    """What is said of a text with a number that can be read in two ways, and how to write each; None for others."""
    for word in text.split():
        found = _GROUPED.fullmatch(word)
        if found is None or word.count(found["group"]) > 1:
            continue
        whole, point = _digits(word), "," if locale == "de" else "."
        decimal = word.replace(found["group"], point)
        if locale == "de":
            said, remedy = (
                f"{word} kann {whole} oder {decimal} heißen",
                f"bitte {whole} oder {decimal}0 schreiben",
            )
        else:
            said, remedy = f"{word} can mean {whole} or {decimal}", f"write {whole}, or {decimal}0"
        return BadInput(said, field=field, value=text, remedy=remedy)
    return None


def _digits(text: str) -> str:
    return text.replace(".", "").replace(",", "")
