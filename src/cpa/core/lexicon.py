"""All words the router knows, of both languages and of the intents file, ready for looking up.

A tag says what a word may be: `verb:send:order`, `word:invoice`, `negation`, `article` … A word may have several.
Phrases (`as_soon_as_possible`) take precedence over their single words, longer ones over shorter ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cpa.core import language as lang
from cpa.core import verbs as known
from cpa.core.folding import allowed_edits, distance, fold, spellings

Verbs = Mapping[str, Mapping[Any, Sequence[str]]]

_CLASSES: tuple[tuple[str, str], ...] = (
    ("article", lang.ARTICLES),
    ("object", lang.OBJECTS),
    ("beneficiary", lang.BENEFICIARY),
    ("addressed", lang.ADDRESSED),
    ("conjunction", lang.CONJUNCTIONS),
    ("particle", lang.PARTICLES),
    ("preposition", lang.PREPOSITIONS),
    ("courtesy", lang.COURTESY),
    ("negation", lang.NEGATIONS),
    ("condition", lang.CONDITIONS),
    ("later", lang.LATER),
    ("reason", lang.ASIDES),
    ("adversative", lang.ADVERSATIVES),
    ("reporting", lang.REPORTING),
    ("question", lang.QUESTIONS),
    ("retraction", lang.RETRACTIONS),
    ("trifle", lang.TRIFLES),
    ("first", lang.FIRST_PERSON),
    ("intensifier", lang.INTENSIFIERS),
    ("proverb", lang.PROVERBS),
    ("trouble", lang.OWN_TROUBLE),
    ("forwarded", lang.FORWARDED),
)
_TRUE_UMLAUT_ONLY = frozenset(("trouble", "question", "condition", "reporting", "adversative"))
"""Classes in which dropping an umlaut makes another word (`könnte` and `konnte`)."""
_MAX_GAP = 40
_AMBIGUOUS = frozenset(("ein", "an", "aus", "um", "ab", "zu", "nach", "in", "up", "out"))
"""Ends of verbs that are other words too, unless they stand last: "gib mir ein Bild", "gib die Nummer ein"."""
_ENGLISH = frozenset(("in", "up", "out"))
"""Of these, those that may stand right after their verb as well: "fill in the form"."""
_LAST = frozenset((",", ":", "-", "und", "and", "then", "dann", "bitte", "please", "oder", "or"))
"""What may follow the last word of a clause."""
_LOOSE = frozenset(
    tuple(entry.split("_"))
    for forms in known.VERBS.values()
    for words in forms.values()
    for entry in words.split()
    if "_" in entry and entry not in ("lege_an", "leg_an")
)
"""Verbs whose end may stand anywhere."""


class Lexicon:
    """Immutable after construction. `words` and `verbs` come from the intents file."""

    def __init__(self, words: Mapping[str, Sequence[str]] | None = None, verbs: Verbs | None = None) -> None:
        self._tags: dict[str, set[str]] = {"'s": {"genitive"}}
        self._phrases: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._split: dict[str, dict[tuple[str, ...], set[str]]] = {}
        self._frames: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for tag, listed in _CLASSES:
            self._add(tag, listed.split(), lossy=tag not in _TRUE_UMLAUT_ONLY)
        for name, forms in known.VERBS.items():
            for form, listed in forms.items():
                self._add_verb(name, form, listed.split())
        for name, more in (verbs or {}).items():
            for form, entries in more.items():
                self._add_verb(name, form, entries)
        mended = frozenset(self._tags)
        for name in known.COMMON:
            for form, listed in known.common(name).items():
                self._add_verb(name, form, listed.split())
        self.verbs = frozenset((*known.VERBS, *known.COMMON, *(verbs or {})))
        for name, entries in (words or {}).items():
            self._add(f"word:{name}", [entry.replace(" ", "_") for entry in entries])
        for kind, listed in lang.FRAMES:
            for entry in listed.split("|"):
                key = tuple(fold(entry).split())
                self._frames.setdefault(key[0], []).append((key, kind))
        for table in (self._phrases, self._frames):
            for choices in table.values():
                choices.sort(key=lambda choice: (-len(choice[0]), choice))
        self._correctable = self._targets(mended)
        parts = {part for forms in self._split.values() for words_ in forms for part in words_}
        for table in (self._phrases, self._frames):
            parts |= {part for choices in table.values() for words_, _ in choices for part in words_}
        self._keep = parts | {fold(word) for word in lang.CONFUSABLE.split()}
        self.correct = lru_cache(maxsize=4096)(self._correct)

    def _add(self, tag: str, entries: Iterable[str], lossy: bool = True) -> None:
        for entry in entries:
            for spelling in spellings(entry) if lossy else spellings(entry)[:1]:
                parts = tuple(spelling.split("_"))
                if len(parts) == 1:
                    self._tags.setdefault(spelling, set()).add(tag)
                else:
                    choices = self._phrases.setdefault(parts[0], [])
                    if (parts, tag) not in choices:
                        choices.append((parts, tag))

    def _add_verb(self, name: str, form: str, entries: Iterable[str]) -> None:
        tag = f"verb:{name}:{form}"
        for entry in entries:
            if form == "order" and "e_" in entry:
                self._add_verb(name, "plain", [entry.replace("e_", "en_", 1)])  # "legen Sie … an"
            for spelling in spellings(entry.replace(" ", "_")):
                parts = tuple(spelling.split("_"))
                if len(parts) == 1:
                    self._tags.setdefault(spelling, set()).add(tag)
                else:
                    self._split.setdefault(parts[0], {}).setdefault(parts, set()).add(tag)

    def tags(self, folded: str) -> frozenset[str]:
        return frozenset(self._tags.get(folded, ()))

    def names(self) -> frozenset[str]:
        """Every verb class and word group a pattern may name."""
        tags = {tag for found in self._tags.values() for tag in found}
        tags |= {tag for choices in self._phrases.values() for _, tag in choices}
        tags |= {tag for choices in self._split.values() for found in choices.values() for tag in found}
        return frozenset(tag.split(":")[1] for tag in tags if ":" in tag)

    def phrases(self, folds: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """(start, length, tag) of the phrases in a sentence, longest first, without overlap."""
        index = 0
        while index < len(folds):
            for parts, tag in self._phrases.get(folds[index], ()):
                if tuple(folds[index : index + len(parts)]) == parts:
                    yield index, len(parts), tag
                    index += len(parts) - 1
                    break
            index += 1

    def split_verbs(self, folds: Sequence[str]) -> Iterator[tuple[list[int], frozenset[str]]]:
        """Verbs in several words, other words between them or not ("leite … weiter"), with their tags."""
        for start, word in enumerate(folds):
            choices = self._split.get(word, {})
            found = [(places, parts) for parts in choices if (places := _places(folds, start, parts))]
            if found:
                # The longest, of several the one whose end comes first: "look up the number for me".
                indices, parts = min(found, key=lambda each: (-len(each[1]), each))
                yield indices, frozenset(choices[parts])

    def frame(
        self, folds: Sequence[str], start: int, skippable: Sequence[bool]
    ) -> tuple[list[int], str] | None:
        """The longest turn of politeness at `start`; fillers between its words do not matter."""
        for parts, kind in self._frames.get(folds[start], ()):
            indices, position = [start], start + 1
            for part in parts[1:]:
                end = min(len(folds), indices[-1] + _MAX_GAP)
                while position < end and folds[position] != part and skippable[position]:
                    position += 1
                if position >= end or folds[position] != part:
                    break
                indices.append(position)
                position += 1
            if len(indices) == len(parts):
                return indices, kind
        return None

    def _targets(self, mended: Collection[str]) -> dict[int, list[tuple[str, bool]]]:
        """Words that a typing error may have been meant for, by length: (word, is it a verb). `mended`: no others,
        of the words that are verbs only."""
        found: dict[int, list[tuple[str, bool]]] = {}
        wanted = ("verb:", "word:", "negation")
        for word, tags in sorted(self._tags.items()):
            bare = word not in mended and not any(tag.startswith("word:") for tag in tags)
            if len(word) >= 4 and not bare and any(tag.startswith(wanted) for tag in tags):
                verb = any(tag.startswith("verb:") for tag in tags)
                found.setdefault(len(word), []).append((word, verb))
        for word in ("please", "bitte", "could", "would", "koennten", "koenntest", "wuerdest", "wuerden"):
            found.setdefault(len(word), []).append((word, True))
        return found

    def _correct(self, folded: str) -> str:
        """The one known word this is a typing error of; empty when there is none or more than one meaning.

        Verbs, which decide what is done, only for swapped, missing or extra letters, never for another letter.
        """
        if folded in self._keep or not folded.isalpha():
            return ""
        limit = allowed_edits(folded)
        best: list[str] = []
        nearest = limit + 1
        for length in range(len(folded) - limit, len(folded) + limit + 1):
            for word, verb in self._correctable.get(length, ()):
                if not _plausible(folded, word, verb):
                    continue
                edits = distance(folded, word, limit)
                if edits < nearest:
                    nearest, best = edits, [word]
                elif edits == nearest and edits <= limit:
                    best.append(word)
        meanings = {
            frozenset(tag.split(":")[1] if ":" in tag else tag for tag in self._tags.get(w, ())) for w in best
        }
        return best[0] if best and len(meanings) == 1 else ""


def _places(folds: Sequence[str], start: int, parts: Sequence[str]) -> list[int]:
    """Where the parts of a verb stand that begins here; empty when one is missing."""
    indices = [start]
    for part in parts[1:]:
        at = _next(folds, indices[-1] + 1, part, loose=parts in _LOOSE)
        if at < 0:
            return []
        indices.append(at)
    return indices


def _next(folds: Sequence[str], start: int, part: str, *, loose: bool) -> int:
    """Where this part of a verb comes next, or -1; unless `loose`, an ambiguous one only where a clause ends."""
    window = folds[start : start + _MAX_GAP]
    for index, word in enumerate(window, start):
        if word != part:
            continue
        last = index + 1 == len(folds) or folds[index + 1] in _LAST
        near = index == start and part in _ENGLISH
        if loose or part not in _AMBIGUOUS or last or near:
            return index
    return -1


def _plausible(written: str, meant: str, verb: bool) -> bool:
    if sorted(written) == sorted(meant):
        return True
    if len(meant) < 5 or len(written) < 5:
        return False
    if not verb:
        return written[0] == meant[0] or written[1:2] == meant[:1]
    if len(written) == len(meant) or written[0] != meant[0]:
        return False
    return set(written) == set(meant) or min(len(written), len(meant)) >= 7
