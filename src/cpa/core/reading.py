"""In which mood a sentence is said: a request, or something that only looks like one.

The mood is decided before any intent is looked for, and only a request can become an intent:

    request      imperative, "please", "could you …", "ich bräuchte …", a German infinitive note ("… holen")
    negated      "do not", "nicht", "kein", "instead of", "stop": forbids what its verbs name
    conditional  "if they pay, send": nobody here knows when that is
    later        "tomorrow", "every week": not now, so not a request to act now
    reported     "he said: …": somebody else's words
    retracted    "never mind", "doch nicht"
    question     "did you send …?", "should I …?"
    statement    everything else: "I sent it yesterday", "ich schicke dir morgen …"
    aside        a request's trimmings: thanks, "let me know", "can you help me?"

Words after a content mark ("saying", "mit dem Text", a colon after an address) are content and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cpa.core.folding import fold
from cpa.core.language import OWN_TROUBLE
from cpa.core.lexicon import Lexicon
from cpa.core.marking import Marked, mark
from cpa.core.utterance import Sentence

_SKIPPED = frozenset(("please", "courtesy", "particle", "beneficiary", "intensifier", "comma"))
_PLEASE = frozenset(
    ["please", "bitte", "pls", "plz", "plese", "pleas", "pleaes", "biite", "freundlicherweise", "netterweise"]
)


class Mood(StrEnum):
    REQUEST = "request"
    NEGATED = "negated"
    CONDITIONAL = "conditional"
    LATER = "later"
    REPORTED = "reported"
    RETRACTED = "retracted"
    QUESTION = "question"
    STATEMENT = "statement"
    ASIDE = "aside"


@dataclass(frozen=True, slots=True)
class Reading:
    """One sentence, understood as far as its mood."""

    sentence: Sentence
    marked: tuple[Marked, ...]
    mood: Mood
    verbs: frozenset[str] = frozenset()
    """Verb classes named in it, in any form, outside content."""
    wish: bool = False
    """It wishes for a thing without naming a verb: "ich brauche die Rechnung"."""
    harmless: bool = False
    """Not a request, and nothing in it restricts a request elsewhere."""
    lead_in: bool = False
    """Ends in a colon after somebody else's verb: what follows is quoted."""
    addressed: bool = field(default=False)


def read(sentence: Sentence, lexicon: Lexicon, *, eager: bool = False) -> Reading:
    """The mood of one sentence."""
    marked = mark(sentence, lexicon, eager=eager)
    marked, aside_trouble = _mark_asides(marked)
    marked, frames = _mark_frames(marked, lexicon)
    control = [m for m in marked if not m.content and "aside" not in m.tags and m.token.kind != "quoted"]
    tags = frozenset().union(*(m.tags for m in control)) if control else frozenset()
    verbs = frozenset(t.split(":")[1] for t in tags if t.startswith("verb:"))
    addressed = any(m.token.fold in ("you", "du", "ihr", "u", "dir", "dich", "euch") for m in control)
    mood, wish = _mood(sentence, marked, control, tags, verbs, frames)
    if aside_trouble:
        mood, verbs = Mood.NEGATED, verbs | aside_trouble
    reading = Reading(
        sentence, marked, mood, verbs, wish, False, _lead_in(sentence, marked, tags, mood), addressed
    )
    return replace(reading, harmless=_harmless(reading, control, tags))


def _mood(
    sentence: Sentence,
    marked: Sequence[Marked],
    control: Sequence[Marked],
    tags: frozenset[str],
    verbs: frozenset[str],
    frames: Mapping[int, str],
) -> tuple[Mood, bool]:
    if "retraction" in tags:
        return Mood.RETRACTED, False
    if "trifle" in tags and not verbs:
        return Mood.ASIDE, False
    if "reporting" in tags:
        return Mood.REPORTED, False
    if "negation" in tags:
        return Mood.NEGATED, False
    if "condition" in tags:
        return Mood.CONDITIONAL, False
    if "later" in tags:
        return Mood.LATER, False
    if not control or (all(m.filler or m.token.kind == "punct" for m in control) and not frames):
        return Mood.ASIDE, False
    if _asks(sentence, control, frames):
        if not verbs and ("proverb" in tags or all(m.filler or "addressed" in m.tags for m in control)):
            return Mood.ASIDE, False
        return Mood.REQUEST, not any(m.verbs for m in control)
    first = next((m for m in control if not m.tags & _SKIPPED), None)
    asks_back = sentence.ending == "?" or (first is not None and "question" in first.tags)
    return (Mood.QUESTION if asks_back else Mood.STATEMENT), False


def _asks(sentence: Sentence, control: Sequence[Marked], frames: Mapping[int, str]) -> bool:
    """Whether the form is one in which people ask for something to be done now."""
    if any(tag.endswith(":report") for m in control for tag in m.tags if tag.startswith("verb:")):
        if not any(m.verbs for m in control) and not frames:
            return False
        if any(
            m.tags and all(t.endswith(":report") for t in m.tags if t.startswith("verb:")) and _is_verb(m)
            for m in control
        ):
            return False
    if frames and set(frames.values()) != {"noun"}:
        return True
    please = any(m.token.fold in _PLEASE for m in control)
    if frames:
        return please or not any(m.verbs for m in control)
    opening = [m for m in control if not m.tags & _SKIPPED and "conjunction" not in m.tags]
    if not opening:
        return False
    first = opening[0]
    if "question" in first.tags and not _has_form(first, "order"):
        return False
    if _subject(opening):
        return False
    if please:
        return True
    if sentence.ending == "?":
        return False
    return _has_form(first, "order") or _german_note(opening)


def _is_verb(item: Marked) -> bool:
    return any(tag.startswith("verb:") for tag in item.tags)


def _has_form(item: Marked, *forms: str) -> bool:
    return any(tag.startswith("verb:") and tag.rsplit(":", 1)[1] in forms for tag in item.tags)


def _subject(opening: Sequence[Marked]) -> bool:
    """Whether it opens with somebody who does it: "ich schicke", "you send", "Anna holt"."""
    for index, item in enumerate(opening):
        if _is_verb(item):
            return False
        if item.token.fold in (
            "i",
            "we",
            "ich",
            "wir",
            "you",
            "du",
            "he",
            "she",
            "they",
            "er",
            "man",
            "i'm",
            "i'll",
            "we'll",
            "who",
        ):
            return True
        if item.token.fold == "sie" and index + 1 < len(opening) and _has_form(opening[index + 1], "plain"):
            return True
    return False


def _german_note(opening: Sequence[Marked]) -> bool:
    """ "Rechnung von ACME aus dem Portal holen": last word an infinitive, of German."""
    last = opening[-1]
    return _has_form(last, "plain") and last.token.fold.endswith("en") and len(opening) > 1


def _mark_asides(marked: tuple[Marked, ...]) -> tuple[tuple[Marked, ...], frozenset[str]]:
    """Reasons given ("because …", "damit …") up to the next comma; with the verbs a reason forbids."""
    out = list(marked)
    forbidden: set[str] = set()
    index = 0
    while index < len(out):
        if "reason" in out[index].tags and not out[index].content:
            end = index + 1
            while end < len(out) and not (out[end].token.text == "," or out[end].content):
                end += 1
            inside = out[index:end]
            tags = frozenset().union(*(m.tags for m in inside))
            if {"negation", "condition"} & tags and not any("first" in m.tags for m in inside):
                forbidden |= {t.split(":")[1] for t in tags if t.startswith("verb:")}
            clean = not any(m.token.kind in ("mail", "badmail") for m in inside)
            if clean:
                out[index:end] = [replace(m, tags=frozenset(("aside",))) for m in inside]
            index = end
        index += 1
    return tuple(out), frozenset(forbidden)


def _mark_frames(marked: tuple[Marked, ...], lexicon: Lexicon) -> tuple[tuple[Marked, ...], dict[int, str]]:
    """The turn of politeness that opens the sentence, if one does."""
    out = list(marked)
    folds = [m.token.fold for m in out]
    skippable = [bool(m.tags & _SKIPPED) for m in out]
    for start, item in enumerate(out):
        found = lexicon.frame(folds, start, skippable)
        if found:
            indices, kind = found
            last = max((i for i, m in enumerate(out) if not m.content and m.token.kind == "word"), default=0)
            late = out[last].token.fold in _LAST_MODALS
            if kind == "late" and not late:
                break
            wishes = out[last].token.fold in _LAST_WISHES and folds[indices[-1]] not in _OTHERS
            for index in (*indices, *([last] if late or wishes else ())):
                out[index] = replace(out[index], tags=frozenset(("frame",)))
            return tuple(out), {start: kind}
        if (
            not item.tags & _SKIPPED
            and not item.tags & {"conjunction", "aside"}
            and item.token.kind != "punct"
        ):
            break
    return tuple(out), {}


_LAST_MODALS = frozenset(
    (
        "koennten",
        "koenntest",
        "koenntet",
        "koennte",
        "kannst",
        "koennen",
        "wuerdest",
        "wuerden",
        "wuerdet",
        "moechtest",
        "moechten",
        "magst",
    )
)
""" "… wenn Sie … schicken könnten" """
_LAST_WISHES = frozenset(("haben", "bekommen", "erhalten", "kriegen"))
""" "ich möchte … haben"; but "wenn Sie … haben" is a condition."""
_OTHERS = frozenset(("du", "sie", "ihr"))


def unknown_verb(reading: Reading) -> str:
    """The word that opens a statement where the verb of an order would stand, and that nobody knows; or empty."""
    control = [
        m for m in reading.marked if not m.content and not m.tags & {*_SKIPPED, "conjunction", "aside"}
    ]
    plain = not reading.verbs and not any(m.tags & {"first", "question"} for m in control)
    if not plain or reading.sentence.ending == "?" or len(control) < 2:
        return ""
    return control[0].token.text if control[0].token.kind == "word" and not control[0].tags else ""


def _lead_in(sentence: Sentence, marked: Sequence[Marked], tags: frozenset[str], mood: Mood) -> bool:
    last = marked[-1]
    return (
        last.token.text == ":"
        and mood is not Mood.REQUEST
        and not last.content
        and "content_mark" not in last.tags
    )


def _harmless(reading: Reading, control: Sequence[Marked], tags: frozenset[str]) -> bool:
    """Whether it restricts nothing that is asked for elsewhere."""
    if reading.mood in (Mood.ASIDE, Mood.REQUEST):
        return True
    own = any("first" in m.tags for m in control) and not reading.addressed
    opening = [m for m in control if not m.tags & _SKIPPED]
    if opening and "adversative" in opening[0].tags and not own:
        return False
    if reading.mood is Mood.NEGATED:
        return own and any(m.token.fold in _OWN_TROUBLE for m in control) and "condition" not in tags
    if reading.mood is Mood.CONDITIONAL:
        return not reading.verbs and ("trifle" in tags or any(m.token.fold in _QUERIES for m in control))
    if reading.mood is Mood.LATER:
        return own and not reading.verbs
    return reading.mood is not Mood.RETRACTED


_QUERIES = frozenset(
    [
        "question",
        "questions",
        "fragen",
        "frage",
        "rueckfragen",
        "ruckfragen",
        "problem",
        "problems",
        "probleme",
        "unklar",
        "unclear",
    ]
)
_OWN_TROUBLE = frozenset(fold(word) for word in OWN_TROUBLE.split())
