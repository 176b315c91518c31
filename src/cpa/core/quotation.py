"""Where a quotation ends, over several lines and with quotations inside."""

from __future__ import annotations

import re

QUOTES = {'"': '"', "„": '“”"', "“": "”", "«": "»", "»": "«"}
"""Opening quotation marks, and which ones may close them."""
_AFTER = re.compile(r"[ \t]*(?:[.!?;\n]|$)")


def closing_quote(text: str, start: int) -> int:
    """The place after the quotation mark that closes the one at `start`.

    0 when none stands there, or when no sentence and no line ends with the one that closes it: what only
    begins with a quotation is none as a whole.
    """
    opening = text[start : start + 1]
    closing = QUOTES.get(opening, "")
    depth = 1
    for place in range(start + 1, len(text) if closing else start):
        char = text[place]
        if char == opening and (char not in closing or _opens(text, place)):
            depth += 1
        elif char in closing:
            depth -= 1
            if not depth:
                return place + 1 if _AFTER.match(text, place + 1) else 0
    return 0


def _opens(text: str, place: int) -> bool:
    """Whether a straight quotation mark opens: between a space and a word."""
    return text[place - 1] in " \t\n(" and text[place + 1 : place + 2].isalnum()
