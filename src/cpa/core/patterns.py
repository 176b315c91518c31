"""Regular expressions from a file, made safe before they see a text.

A pattern is refused when it could take more than a moment on any clause (`MAX_CLAUSE` characters are matched at
most): a repeat inside a repeat, alternatives that begin alike inside a repeat, back-references, or more than
`MAX_REPEATS` open-ended repeats. Umlauts in a pattern also match their spellings without (`für`: fuer, fur).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cpa.core.folding import fold, spellings

MAX_PATTERN = 2_000
MAX_CLAUSE = 500
"""Longest request, in folded characters, that a pattern is tried on."""
MAX_REPEATS = 3

_parser: Any = re._parser  # type: ignore[attr-defined]
"""Python's own reader of patterns: what is checked is what will run."""
_OPEN = 1_000
"""A repeat that may go beyond this counts as open-ended."""


class UnsafePattern(ValueError):
    """Why a pattern is refused, and what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.message = message
        self.remedy = remedy


def compile_pattern(source: str) -> re.Pattern[str]:
    """The pattern over folded text. Raises `UnsafePattern`."""
    if len(source) > MAX_PATTERN:
        raise UnsafePattern(f"longer than {MAX_PATTERN} characters", "Split it into several patterns")
    folded = _folded(source)
    try:
        tree = _parser.parse(folded)
        compiled = re.compile(folded)
    except (re.error, OverflowError, RecursionError) as error:
        raise UnsafePattern(
            str(error), "Mend the regular expression; a literal sign needs a backslash before it"
        ) from error
    _check(tree)
    return compiled


def _folded(source: str) -> str:
    """Lower case, umlauts as alternatives; escapes such as `\\S` and group names keep their case."""
    out: list[str] = []
    in_class = False
    index = 0
    while index < len(source):
        char = source[index]
        name = re.match(r"\(\?P[<=]\w+[>)]", source[index:])
        if char == "\\" and index + 1 < len(source):
            out.append(source[index : index + 2])
            index += 2
            continue
        if name:
            out.append(name.group())
            index += name.end()
            continue
        if char == "[" and not in_class:
            in_class = True
        elif char == "]" and in_class:
            in_class = False
        forms = spellings(char)
        if in_class and len(forms[0]) > 1:
            raise UnsafePattern(f"{char!r} inside square brackets", f"Write (?:{char}|…) instead of […]")
        out.append(f"(?:{'|'.join(forms)})" if len(forms) > 1 else fold(char) or char)
        index += 1
    return "".join(out)


def _check(tree: Any) -> None:
    repeats = 0
    for node, inside in _walk(tree, False):
        name = str(node[0])
        if name in ("GROUPREF", "GROUPREF_EXISTS"):
            raise UnsafePattern("a back-reference", "Name what is meant instead of referring back")
        if name in ("MAX_REPEAT", "MIN_REPEAT") and node[1][0] != node[1][1]:
            repeats += _open_ended(node)
            if inside:
                raise UnsafePattern(
                    "a repeat inside a repeat", "Write the inner part without + or *, or the outer one"
                )
        elif name == "BRANCH" and inside and _begin_alike(node[1][1]):
            raise UnsafePattern(
                "alternatives that begin alike inside a repeat",
                "Take the common beginning out of the brackets",
            )
    if repeats > MAX_REPEATS:
        raise UnsafePattern(
            f"{repeats} open-ended repeats, more than {MAX_REPEATS}",
            "Split the pattern, or bound them as in {1,40}",
        )


def _open_ended(node: Any) -> bool:
    return int(node[1][1]) > _OPEN


def _walk(tree: Any, inside: bool) -> Iterator[tuple[Any, bool]]:
    """Every node, with whether it stands inside a repeat that may go on."""
    for node in tree:
        yield node, inside
        name, value = str(node[0]), node[1]
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield from _walk(value[2], inside or int(value[1]) > 1)
        elif name == "BRANCH":
            for branch in value[1]:
                yield from _walk(branch, inside)
        elif name == "SUBPATTERN":
            yield from _walk(value[3], inside)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _walk(value[1], inside)
        elif name == "ATOMIC_GROUP":
            yield from _walk(value, inside)


def _begin_alike(branches: Any) -> bool:
    firsts = [str(branch[0]) if len(branch) else "" for branch in branches]
    wide = any(not first.startswith("(LITERAL") for first in firsts)
    return wide or len(set(firsts)) < len(firsts)
