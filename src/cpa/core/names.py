"""Names by which people and agents are told apart, and names that only look different.

Whoever has two names counts as two, so where several people must say yes a name may not pass for another: neither
by capitals, nor by what is not seen, nor by letters of another alphabet that have the same shape.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ALIKE: Final = frozenset(("LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE"))
"""Alphabets with letters that look the same."""
_SHAPES: Final = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορυχ",
    "ABESIJKMHOPCTYXaesijopcyxhdqwlABEZHIKMNOPTYXaikvopux",
)
"""Cyrillic and Greek letters by the Latin ones whose shape they have."""


def deceives(name: str) -> bool:
    """Whether it is written in signs that look like others: of several alphabets that share shapes, in another form
    of a letter, with other digits, or with what is not seen."""
    if name.strip() != name or not name.isprintable() or unicodedata.normalize("NFKC", name) != name:
        return True
    if any(sign.isnumeric() and not (sign.isascii() or sign.isalpha()) for sign in name):
        return True
    alphabets = {unicodedata.name(sign, "").partition(" ")[0] for sign in name if sign.isalpha()}
    return len(alphabets & _ALIKE) > 1


def alike(name: str, other: str) -> bool:
    """Whether one could be taken for the other: they differ in capitals, in blanks, in what is not seen, or in
    letters of the same shape."""
    ours, theirs = _plain(name), _plain(other)
    return ours.casefold() == theirs.casefold() or _shape(ours) == _shape(theirs)


def sendable(text: str) -> bool:
    """Whether it is made of visible ASCII signs alone, as keys, tokens and names of requests are: a header takes no
    others, and none with a blank at its end."""
    return all("!" <= sign <= "~" for sign in text)


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKC", name)
    return " ".join("".join(sign for sign in text if sign.isprintable() or sign.isspace()).split())


def _shape(name: str) -> str:
    return name.translate(_SHAPES).casefold()
