"""Comparing words as people write them: case, umlauts, accents and small typos do not matter.

Folding maps a text to lower case ASCII-like letters: `ä`, `ö`, `ü` become `ae`, `oe`, `ue`, `ß` becomes `ss`,
other accents fall away, typographic quotes become plain ones. A word of a vocabulary that has an umlaut is known
in both spellings without it (`für`: `fuer`, `fur`), so `ä`, `ae` and `a` are the same wherever the vocabulary,
which knows the true spelling, decides. Folding never changes what an argument becomes: values are cut out of
the text as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_LETTERS = {
    "ä": "ae",
    "ö": "oe",
    "ü": "ue",
    "ß": "ss",
    "’": "'",
    "‘": "'",
    "`": "'",
    "´": "'",
    "ʼ": "'",
    "„": '"',
    "“": '"',
    "”": '"',
    "«": '"',
    "»": '"',
    "–": "-",
    "—": "-",
    "‐": "-",
    "‑": "-",
}
_WITHOUT_E = {"ä": "a", "ö": "o", "ü": "u"}
_INVISIBLE = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e")
)
_SPACES = re.compile(r"[^\S\n]+")
_UMLAUT = re.compile("[äöü]")


def clean(text: str) -> str:
    """The text in NFC, without invisible characters, with plain spaces and `\\n` line ends."""
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    return _SPACES.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n"))


@lru_cache(maxsize=8192)
def fold(word: str) -> str:
    """The form in which words are compared."""
    out: list[str] = []
    for char in unicodedata.normalize("NFC", word).casefold():
        if char in _LETTERS:
            out.append(_LETTERS[char])
        else:
            out.append(
                "".join(c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
            )
    return "".join(out)


@lru_cache(maxsize=8192)
def spellings(word: str) -> tuple[str, ...]:
    """Every folded form under which a vocabulary word is recognised: `für` gives `fuer` and `fur`."""
    lower = unicodedata.normalize("NFC", word).lower()
    first = fold(lower)
    if not _UMLAUT.search(lower):
        return (first,)
    return (first, fold(_UMLAUT.sub(lambda m: _WITHOUT_E[m.group()], lower)))


def distance(left: str, right: str, limit: int) -> int:
    """Edits (insert, delete, replace, swap neighbours) from one word to the other; `limit + 1` when more."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return row[-1]


def allowed_edits(word: str) -> int:
    """How many edits a word of this length may be away from a known one: short words must be right."""
    if len(word) < 4:
        return 0
    return 1 if len(word) < 8 else 2
