"""Whether one pattern covers a request, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cpa.core.folding import spellings
from cpa.core.intents import ArgumentDefinition, ArgumentType, Extent, IntentDefinition, Keywords
from cpa.core.marking import Marked
from cpa.core.patterns import MAX_CLAUSE
from cpa.core.reading import Reading
from cpa.core.slots import Filled, Finder
from cpa.core.utterance import is_address

AMBIGUOUS = "more than one value: "
"""How a reason begins that names an argument and the values that it may have, `name: a / b`."""
_STRONG = frozenset(("negation", "condition", "later", "reporting", "adversative", "retraction"))


@dataclass(frozen=True, slots=True)
class Request:
    """All requests of a text, as one row of words."""

    marked: tuple[Marked, ...]
    text: str
    wish: bool
    """A thing is wished for without a verb: any verb of a pattern counts as said."""
    known: frozenset[str]
    """Every verb class there is."""

    @classmethod
    def of(cls, readings: Iterable[Reading], text: str, known: frozenset[str]) -> Request:
        readings = list(readings)
        marked = tuple(m for r in readings for m in r.marked)
        wish = any(r.wish for r in readings) and not any(m.verbs for m in marked if not m.content)
        return cls(marked, text, wish, known)

    def verbs(self) -> frozenset[str]:
        return frozenset(verb for m in self.marked if not m.content for verb in m.verbs)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pattern that covers the request."""

    definition: IntentDefinition
    number: int
    score: float
    words: tuple[str, ...]
    """The pattern's own words, as recognised."""
    values: dict[str, Any]
    said: dict[str, str]
    verbs: frozenset[str]
    """Verb classes it would act on: none of them may be forbidden elsewhere in the text."""
    to_requester: frozenset[str] = frozenset()
    opens: bool = False
    """A regular expression that begins with the request's first word of meaning."""
    problems: tuple[str, ...] = field(default=())


def match_keywords(
    definition: IntentDefinition, number: int, keywords: Keywords, request: Request
) -> Candidate | str:
    """A candidate, or why not, in words."""
    finder = Finder(request.marked, request.text)
    filled = finder.fill(definition.arguments)
    if filled.problem:
        return f"{AMBIGUOUS}{filled.problem}"
    own: dict[int, str] = {}
    present: set[str] = set()
    for name in (*keywords.all, *keywords.any, *keywords.may, *keywords.not_):
        for index, item in enumerate(request.marked):
            if _is(item, name) and (index not in filled.used or index in filled.leading):
                present.add(name)
                if name not in keywords.not_:
                    own[index] = item.token.text
    barred = [name for name in keywords.not_ if name in present]
    if barred:
        return "says " + ", ".join(barred)
    implied = frozenset(name for name in keywords.all if request.wish and name in request.known)
    absent = [name for name in keywords.all if name not in present and name not in implied]
    if absent:
        return "does not say " + ", ".join(absent)
    if keywords.any and not present & set(keywords.any):
        return "says none of " + ", ".join(keywords.any)
    left = _left_over(request, filled, set(own))
    if left:
        return "not accounted for: " + ", ".join(left)
    words = tuple(own[index] for index in sorted(own))
    named = frozenset((*keywords.all, *keywords.any)) & present
    literal = (
        request.marked[i].verbs for i in own if any(_is(request.marked[i], n) for n in named - request.known)
    )
    verbs = frozenset(keywords.all) & request.known | named & request.known | implied
    return _candidate(definition, number, request, filled, words, verbs.union(*literal))


def match_regex(
    definition: IntentDefinition, number: int, pattern: re.Pattern[str], request: Request
) -> Candidate | str:
    """As `match_keywords`, for a regular expression over the folded words of the request."""
    marked = [m for m in request.marked if not _is_sign(m)]
    line, starts = _line(marked)
    if len(line) > MAX_CLAUSE:
        return f"longer than {MAX_CLAUSE} characters"
    match = pattern.search(line)
    if match is None:
        # A word of this expression may look like a typing error to somebody else's vocabulary.
        line, starts = _line(marked, as_written=True)
        match = pattern.search(line)
    if match is None or match.end() == match.start():
        return "the expression does not match"
    covered = {i for i, (a, b) in enumerate(starts) if a < match.end() and b > match.start()}
    left = [m.token.text for i, m in enumerate(marked) if i not in covered and not m.filler]
    if left:
        return "not accounted for: " + ", ".join(left)
    filled = Filled()
    finder = Finder(marked, request.text)
    for name in pattern.groupindex:
        inside = [i for i, (a, b) in enumerate(starts) if a < match.end(name) and b > match.start(name)]
        problem = _take(name, definition.arguments[name], inside, finder, filled) if inside else ""
        if problem:
            return problem
    words = tuple(marked[i].token.text for i in sorted(covered - filled.used))
    before = [m for i, m in enumerate(marked) if i < min(covered)]
    made = _candidate(definition, number, request, filled, words, request.verbs())
    return replace(made, opens=all(m.filler for m in before))


def _take(
    name: str, definition: ArgumentDefinition, inside: list[int], finder: Finder, filled: Filled
) -> str:
    """Read a named group's words as the argument's type; says what is wrong, or nothing."""
    marked = finder.marked
    if definition.type in (ArgumentType.EMAIL_LIST, ArgumentType.EMAIL):
        parts = [marked[i].token.text for i in inside if marked[i].token.kind in ("mail", "badmail")]
        if not parts or not all(is_address(part) for part in parts):
            return f"{name} is no mail address"
        if any(marked[i].token.kind == "word" and marked[i].token.fold not in ("and", "und") for i in inside):
            return f"{name} is more than mail addresses"
        filled.values[name] = parts if definition.type is ArgumentType.EMAIL_LIST else parts[0]
    elif definition.type is ArgumentType.TEXT:
        strong = any(marked[i].tags & _STRONG or marked[i].verbs for i in inside if not marked[i].content)
        if strong and definition.extent is not Extent.CONTENT:
            return f"{name} holds more than a name"
        filled.values[name] = finder.span(inside[0], inside[-1] + 1).strip("\"'“”„ ")
    else:
        single = Finder([marked[i] for i in inside], finder.text)
        got = single.fill({name: definition.model_copy(update={"after": ()})})
        if name not in got.values:
            return f"{name} is no {definition.type}"
        filled.values[name] = got.values[name]
    filled.words[name] = finder.span(inside[0], inside[-1] + 1)
    filled.used |= set(inside)
    return ""


def _is_sign(item: Marked) -> bool:
    return item.token.kind == "punct" and item.token.text in ",;!?-–()"


def _line(marked: Sequence[Marked], *, as_written: bool = False) -> tuple[str, list[tuple[int, int]]]:
    """The folded words in a row, and where each stands in it; a genitive 's joins the word before it. Typing errors
    are corrected, unless the words are wanted `as_written`."""
    pieces: list[str] = []
    starts: list[tuple[int, int]] = []
    length = 0
    for item in marked:
        word = item.token.fold if as_written else item.corrected or item.token.fold
        if pieces and item.token.kind != "clitic":
            pieces.append(" ")
            length += 1
        pieces.append(word)
        starts.append((length, length + len(word)))
        length += len(word)
    return "".join(pieces), starts


def _is(item: Marked, name: str) -> bool:
    """Whether this is the word, or a word of the group or verb class, in a form that can ask."""
    if item.content:
        return False
    for tag in item.tags:
        kind, _, rest = tag.partition(":")
        if (kind == "word" and rest == name) or (
            kind == "verb" and rest.split(":")[0] == name and not rest.endswith(":report")
        ):
            return True
    return item.token.kind == "word" and item.token.fold in spellings(name)


def _left_over(request: Request, filled: Filled, own: set[int]) -> list[str]:
    left: list[str] = []
    polite = any("frame" in m.tags for m in request.marked) or any("please" in m.tags for m in request.marked)
    for index, item in enumerate(request.marked):
        if index in filled.used or index in own or (item.tags and item.tags <= {"aside"}):
            continue
        if item.token.kind == "punct":
            if item.token.text in ",-–:()*" or item.filler:
                continue
        elif item.tags & _STRONG:
            pass
        elif (
            item.filler
            or ("genitive" in item.tags and _after_used(index, filled))
            or (item.tags & {"intensifier"} and "frame" in _all_tags(request))
            or (item.tags & {"addressed"} and (polite or request.verbs()))
        ):
            continue
        left.append(item.token.text)
    return left


def _after_used(index: int, filled: Filled) -> bool:
    return index - 1 in filled.used


def _all_tags(request: Request) -> frozenset[str]:
    return frozenset(tag for m in request.marked for tag in m.tags)


def _candidate(
    definition: IntentDefinition,
    number: int,
    request: Request,
    filled: Filled,
    words: tuple[str, ...],
    verbs: frozenset[str],
) -> Candidate:
    corrected = sum(1 for m in request.marked if m.corrected)
    return Candidate(
        definition=definition,
        number=number,
        score=max(0.5, round(1.0 - 0.1 * corrected, 2)),
        words=words,
        values=filled.values,
        said=filled.words,
        verbs=verbs,
        to_requester=frozenset(filled.to_requester),
    )
