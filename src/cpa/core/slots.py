"""Where in a request the values of an intent's arguments stand.

`fill` walks the marked words once per argument and says which words each value, and the words that introduce it,
account for. A value is cut from the text as it was written, never from its folded form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from cpa.core.folding import fold, spellings
from cpa.core.intents import ArgumentDefinition, ArgumentType, Extent
from cpa.core.language import LEGAL_FORMS
from cpa.core.marking import Marked
from cpa.core.numbers import number
from cpa.core.quotation import closing_quote

_JOINERS = frozenset((",", "and", "und", "&", "sowie", "also", "as", "well", "+"))
_OF_SENDER = frozenset(["from", "von", "by", "bei", "vom", "off"])
_LEGAL = frozenset(LEGAL_FORMS.split())
_ME = frozenset(("me", "mir", "mich", "us", "uns"))
_QUOTES = "\"'“”„«»‘’‚"
_LONGEST_NAME = 6


@dataclass(slots=True)
class Filled:
    """Values found, and the places (indices of words) that are accounted for by them."""

    values: dict[str, Any] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    leading: set[int] = field(default_factory=set)
    """Those of `used` that only introduce a value: a pattern may name them too."""
    to_requester: set[str] = field(default_factory=set)
    """Address arguments for which the request says "me"."""
    problem: str = ""
    """A value that cannot be: two customers, a date that is none."""


class Finder:
    """Finds values in one request. `text` is what the tokens were cut from."""

    def __init__(self, marked: Sequence[Marked], text: str) -> None:
        self.marked = marked
        self.text = text

    def fill(self, arguments: Mapping[str, ArgumentDefinition]) -> Filled:
        found = Filled()
        for name, definition in arguments.items():
            if definition.extent in (Extent.CONTENT, Extent.SUBJECT) and definition.type is ArgumentType.TEXT:
                self._passed_on(name, definition, found)
            elif definition.type in (ArgumentType.EMAIL_LIST, ArgumentType.EMAIL):
                self._addresses(name, definition, found)
            elif definition.type is ArgumentType.TEXT:
                self._text(name, definition, found)
            else:
                self._single(name, definition, found)
        return found

    def span(self, start: int, end: int) -> str:
        """The text from word `start` to before word `end`, as written."""
        return self.text[self.marked[start].token.start : self.marked[end - 1].token.end]

    def _passed_on(self, name: str, definition: ArgumentDefinition, found: Filled) -> None:
        wanted = "subject" if definition.extent is Extent.SUBJECT else ""
        mark = "subject_mark" if wanted else "content_mark"
        inside = [
            i
            for i, m in enumerate(self.marked)
            if ("subject" in m.tags if wanted else m.content and "subject" not in m.tags)
        ]
        found.used |= {i for i, m in enumerate(self.marked) if mark in m.tags}
        if not inside:
            if not wanted:
                self._quoted_content(name, found)
            return
        found.used |= set(inside)
        start, end = self.marked[inside[0]].token.start, self.marked[inside[-1]].token.end
        if [self.marked[i].token.kind for i in inside] == ["quoted"]:
            value = self.text[start:end].strip(_QUOTES)
        elif closing_quote(self.text, start) == end:
            value = self.text[start + 1 : end - 1].strip()
        else:
            end = end if wanted else _behind(self.text, end)
            value = self.text[start:end].strip()
        found.values[name], found.words[name] = value, self.text[start:end]

    def _quoted_content(self, name: str, found: Filled) -> None:
        """`Send bob@x "see you at six"`: a quoted string nobody else claims."""
        quoted = [
            i
            for i, m in enumerate(self.marked)
            if m.token.kind == "quoted" and not m.tags and i not in found.used
        ]
        if len(quoted) == 1:
            text = self.marked[quoted[0]].token.text
            found.values[name], found.words[name] = text.strip(_QUOTES).strip(), text
            found.used.add(quoted[0])

    def _addresses(self, name: str, definition: ArgumentDefinition, found: Filled) -> None:
        addresses: list[str] = []
        words: list[str] = []
        index = 0
        while index < len(self.marked):
            token = self.marked[index].token
            if token.kind != "mail" or index in found.used or self.marked[index].content:
                index += 1
                continue
            start = index
            if not self._introduced(start, definition):
                index += 1
                continue
            end = self._list_end(start)
            for place in range(start, end):
                found.used.add(place)
                if self.marked[place].token.kind == "mail":
                    addresses.append(self.marked[place].token.text)
            words.append(self.span(start, end))
            index = end
        if not addresses:
            if self._to_me(definition, found):
                found.to_requester.add(name)
            return
        if self._explicit_me(definition):
            found.to_requester.add(name)
        unique = list(dict.fromkeys(addresses))
        if definition.type is ArgumentType.EMAIL and len(unique) > 1:
            found.problem = f"{name}: {' / '.join(unique)}"
        found.values[name] = unique if definition.type is ArgumentType.EMAIL_LIST else unique[0]
        found.words[name] = ", ".join(words)

    def _list_end(self, start: int) -> int:
        """After the last address of "a@x, b@y and c@z"."""
        end = index = start + 1
        while index < len(self.marked):
            token = self.marked[index].token
            if token.kind == "mail":
                end = index + 1
            elif not (
                token.fold in _JOINERS or (token.fold in ("an", "to") and self._before_is_joiner(index))
            ):
                break
            index += 1
        return end

    def _before_is_joiner(self, index: int) -> bool:
        return self.marked[index - 1].token.fold in _JOINERS

    def _introduced(self, start: int, definition: ArgumentDefinition) -> bool:
        """Whether one of `after` stands before it, with nothing but fillers between."""
        index = start - 1
        while index >= 0:
            item = self.marked[index]
            if self._is(item, definition.after):
                return item.token.fold not in _OF_SENDER or any(
                    fold(w) in _OF_SENDER for w in definition.after
                )
            if item.token.fold in _OF_SENDER or not (
                item.filler or item.token.text in ":(" or "genitive" in item.tags
            ):
                return False
            index -= 1
        # "Kannst du anna@x.example eine Mail schreiben": the verb comes later.
        return "send" in definition.after and any(self._is(m, ("send", "write")) for m in self.marked[start:])

    def _is(self, item: Marked, names: Sequence[str]) -> bool:
        """Whether a word is one of these words or belongs to one of these groups."""
        if item.content:
            return False
        groups = {tag.split(":")[1] for tag in item.tags if ":" in tag}
        return any(name in groups or item.token.fold in spellings(name) for name in names)

    def _to_me(self, definition: ArgumentDefinition, found: Filled) -> bool:
        if not any(self._is(m, ("send",)) or self._is(m, ("write",)) for m in self.marked):
            return False
        near = [i for i, m in enumerate(self.marked) if m.token.fold in _ME and not m.content]
        return bool(near) and any(self._after_send(i) for i in near) and bool(definition.required)

    def _after_send(self, index: int) -> bool:
        """ "send me …", "… und schick sie mir", "mir … schicken"."""
        window = self.marked[max(0, index - 4) : index + 1]
        if any(self._is(m, ("send", "write")) for m in window):
            return True
        verbs = [m.verbs for m in self.marked[index + 1 :] if m.verbs]
        return bool(verbs) and bool(verbs[0] & {"send", "write"})

    def _explicit_me(self, definition: ArgumentDefinition) -> bool:
        pairs = zip(self.marked, self.marked[1:], strict=False)
        return any(
            a.token.fold in ("to", "an") and b.token.fold in ("me", "mich", "uns", "us") for a, b in pairs
        )

    def _phrase(self, name: str, definition: ArgumentDefinition, found: Filled) -> None:
        """What follows the first of `after`, up to the next verb or address, or to "in <one of `before`>"."""
        for index, item in enumerate(self.marked):
            start = index + 1
            while start < len(self.marked) and (
                self._is(self.marked[start], definition.after) or self.marked[start].token.text == ":"
            ):
                start += 1
            if (
                index in found.used
                or not self._is(item, definition.after)
                or self._place_follows(start - 1, definition)
            ):
                continue
            end = start
            while (
                end < len(self.marked) and end not in found.used and self._may_name(start, end, Extent.PHRASE)
            ):
                if end > start and self._place_follows(end, definition):
                    break
                end += 1
            if end in found.used:
                end = self._before_introducer(start, end)
            if end > start:
                found.values[name] = self.span(start, end).strip(_QUOTES).strip()
                found.words[name] = self.span(index, end)
                found.used |= set(range(index, end))
                return

    def _before_introducer(self, start: int, end: int) -> int:
        """`end` without what introduces the value behind it: "about invoices from anna@x"."""
        while end > start and self.marked[end - 1].tags & {"preposition", "article"}:
            end -= 1
        return end

    def _place_follows(self, index: int, definition: ArgumentDefinition) -> bool:
        """Whether "in my mailbox" or the like begins here: a preposition, articles, one of `before`."""
        if "preposition" not in self.marked[index].tags:
            return False
        index += 1
        while index < len(self.marked) and self.marked[index].tags & {"article", "object"}:
            index += 1
        return index < len(self.marked) and self._is(self.marked[index], definition.before)

    def _text(self, name: str, definition: ArgumentDefinition, found: Filled) -> None:
        if definition.extent is Extent.PHRASE:
            self._phrase(name, definition, found)
            return
        spans: list[tuple[int, int, set[int]]] = []
        index = 0
        while index < len(self.marked):
            end = self._run_end(index, definition.extent, found.used)
            if end <= index:
                index += 1
                continue
            around = self._context(index, end, definition)
            if around is not None:
                spans.append((index, end, around))
            index = end
        if not spans:
            return
        texts = [self._name(start, end) for start, end, _ in spans]
        if len({fold(text) for text in texts}) > 1:
            found.problem = f"{name}: {' / '.join(texts)}"
            return
        for start, end, around in spans:
            found.used |= set(range(start, end)) | around
            found.leading |= around
        found.values[name], found.words[name] = texts[0], self.span(spans[0][0], spans[0][1])

    def _run_end(self, start: int, extent: Extent, used: set[int]) -> int:
        end = start
        while end < len(self.marked) and end not in used and self._may_name(start, end, extent):
            end += 1
            if self.marked[end - 1].token.kind == "quoted":
                return end
        end = self._capitalised_end(start, end)
        if end - start > (_LONGEST_NAME if self._capital(start) else 3):
            return start
        while (
            end > start
            and self.marked[end - 1].token.kind == "punct"
            and self.marked[end - 1].token.text != "."
        ):
            end -= 1
        return end

    def _capital(self, index: int) -> bool:
        text = self.marked[index].token.text[:1]
        return text.isupper() or text.isdigit() or self.marked[index].token.kind == "quoted"

    def _capitalised_end(self, start: int, end: int) -> int:
        """A name that begins with a capital ends before the first word without: "ACME notfalls" is no name."""
        for index in range(start + 1, end):
            small = (
                self.marked[index].token.kind == "word" and not self.marked[index].token.text[:1].isupper()
            )
            if small and self._capital(start) and self.marked[index].token.fold not in _LEGAL:
                return index
        return end

    def _may_name(self, start: int, index: int, extent: Extent) -> bool:
        item = self.marked[index]
        if item.content or item.corrected or item.token.kind in ("mail", "badmail", "url"):
            return False
        if item.token.kind == "quoted":
            return not item.tags and (index == start or extent is Extent.PHRASE)
        if item.token.kind == "punct":
            return index > start and item.token.text in ("&", "+", ".") and self._goes_on(index)
        if extent is Extent.PHRASE:
            bad = any(t.startswith("verb:") and not t.endswith(":report") for t in item.tags)
            return not bad and not item.tags & {
                "negation",
                "condition",
                "later",
                "reporting",
                "frame",
                "comma",
                "please",
            }
        if item.token.kind not in ("word", "number"):
            return False
        if not item.tags or (item.token.fold in _LEGAL and item.token.text[:1].isupper() and index > start):
            return True
        # A known word may be part of a name whose legal form stands behind it: "Deutsche Post AG".
        return index > start and item.token.text[:1].isupper() and self._legal_follows(index)

    def _goes_on(self, index: int) -> bool:
        return index + 1 < len(self.marked) and self.marked[index + 1].token.kind == "word"

    def _legal_follows(self, index: int) -> bool:
        return any(m.token.fold in _LEGAL for m in self.marked[index + 1 : index + 3])

    def _context(self, start: int, end: int, definition: ArgumentDefinition) -> set[int] | None:
        """Words that show this run to be the argument; None when nothing does."""
        index = start - 1
        passed: set[int] = set()
        while index >= 0 and (
            "article" in self.marked[index].tags or self._is(self.marked[index], ("company",))
        ):
            passed.add(index)
            if self._is(self.marked[index], definition.after):
                return passed
            index -= 1
        if index >= 0 and self._is(self.marked[index], definition.after):
            return passed | {index}
        after = end
        around: set[int] = set()
        if after < len(self.marked) and "genitive" in self.marked[after].tags:
            around.add(after)
            after += 1
        while after < len(self.marked) and self.marked[after].token.text == "-":
            around.add(after)
            after += 1
        if after < len(self.marked) and self._is(self.marked[after], definition.before):
            return around
        return None

    def _name(self, start: int, end: int) -> str:
        text = self.span(start, end)
        if self.marked[start].token.kind == "quoted":
            return text.strip(_QUOTES).strip()
        if end < len(self.marked) and self.marked[end].tags and re.fullmatch(r"[A-ZÄÖÜ0-9]{2,}s", text):
            return text[:-1]  # ACMEs neueste Rechnung
        return re.sub(r"\s+", " ", text).strip()

    def _single(self, name: str, definition: ArgumentDefinition, found: Filled) -> None:
        for index, item in enumerate(self.marked):
            if index in found.used or item.content:
                continue
            value = value_of(definition, item)
            if value is None or (definition.after and not self._introduced(index, definition)):
                continue
            if found.values.get(name, value) != value:
                found.problem = f"{name}: {found.values[name]} / {value}"
            found.values[name], found.words[name] = value, item.token.text
            found.used.add(index)


def _behind(text: str, end: int) -> int:
    """The place after the signs that end a sentence here: "Wait..." """
    while text[end : end + 1] in tuple(".!?"):
        end += 1
    return end


def value_of(definition: ArgumentDefinition, item: Marked) -> Any:
    """What one word means as a value of this type; None when it is none."""
    text = item.token.text
    if definition.type is ArgumentType.URL:
        return text if item.token.kind == "url" else None
    if definition.type is ArgumentType.NUMBER:
        return number(text) if item.token.kind == "number" else None
    if definition.type is ArgumentType.DATE:
        return iso_date(text)
    for value, words in definition.choices.items():
        if any(item.token.fold in spellings(word) for word in (value, *words)):
            return value
    return None


def iso_date(text: str) -> str | None:
    """`2026-11-24` and `24.11.2026` as ISO 8601; None for anything else, also for the 31st of February."""
    iso = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", text)
    german = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text)
    if iso:
        year, month, day = (int(part) for part in iso.groups())
    elif german:
        day, month, year = (int(part) for part in german.groups())
    else:
        return None
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
