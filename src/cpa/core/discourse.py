"""How the sentences of one text bear on each other: what belongs to whom, and what takes a request back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cpa.core.intents import Reason
from cpa.core.marking import Marked
from cpa.core.quotation import QUOTES, closing_quote
from cpa.core.reading import Mood, Reading
from cpa.core.utterance import LABELS, SUBJECT_LABELS, Sentence, Utterance


def spoiler_of(readings: Sequence[Reading], asked: bool) -> tuple[Reason, str] | None:
    """What takes every request of the text back, whatever it is."""
    for reading in readings:
        if reading.mood is Mood.RETRACTED:
            return Reason.RETRACTED, ""
        if not asked or reading.mood is Mood.REQUEST:
            continue
        if _names_address(reading) and reading.mood not in (Mood.QUESTION, Mood.REPORTED):
            return Reason.RESTRICTED, " ".join(m.token.text for m in reading.marked)
        if reading.harmless:
            continue
        if reading.mood is Mood.NEGATED and reading.verbs and "condition" not in _tags(reading):
            continue  # it forbids these verbs only
        return Reason.RESTRICTED, " ".join(m.token.text for m in reading.marked)
    added = _added_recipient(readings)
    return (Reason.RESTRICTED, " ".join(m.token.text for m in added.marked)) if added else None


def _tags(reading: Reading) -> frozenset[str]:
    return frozenset(tag for m in reading.marked if not m.content for tag in m.tags)


_ME = frozenset(("me", "mir", "mich", "us", "uns"))


def _added_recipient(readings: Sequence[Reading]) -> Reading | None:
    """The request that names somebody behind the words a mail is to say: those may be pasted, and with them what
    looks like their end. Behind a subject too, in a later sentence, if that is another paragraph or somebody was
    named before."""
    said = named = False
    subject: int | None = None
    for reading in readings:
        if reading.mood is not Mood.REQUEST:
            continue
        apart = subject is not None and (named or subject != reading.sentence.paragraph)
        for item in reading.marked:
            if "subject" in item.tags:
                subject = reading.sentence.paragraph
            elif item.content:
                said = True
            elif item.token.kind in ("mail", "badmail") or item.token.fold in _ME:
                if said or apart:
                    return reading
                named = True
    return None


def _names_address(reading: Reading) -> bool:
    """An address outside every request: it may correct the one in the request."""
    return (
        any(m.token.kind in ("mail", "badmail") and not m.content for m in reading.marked)
        and not reading.verbs
    )


def _of_sending(reading: Reading) -> bool:
    """Whether it may restrict to whom a mail goes, or when: who means it as content can quote that."""
    if reading.mood is Mood.REQUEST:
        return False
    return _names_address(reading) or (not reading.harmless and bool(reading.verbs & {"send", "write"}))


@dataclass(frozen=True, slots=True)
class _Content:
    """How far the content of a request reaches beyond its own sentence."""

    until: int
    """Where it ends in the text."""
    everything: bool
    """Every sentence before that belongs to it; otherwise not those that ask, thank or restrict."""
    quoted: bool
    """It ends at its closing quote, so that not even "never mind" in it is meant for us."""
    paragraph: int | None
    """Of the request, if content begins there: then a later one may be meant for us. None if none can be."""

    def takes(self, reading: Reading) -> bool:
        if reading.sentence.tokens[0].start >= self.until:
            return False
        if self.quoted:
            return True
        if reading.mood is Mood.RETRACTED:
            return False
        if self.paragraph not in (None, reading.sentence.paragraph) and _of_sending(reading):
            return False
        return self.everything or (reading.harmless and reading.mood not in (Mood.ASIDE, Mood.REQUEST))


def with_content(
    utterance: Utterance, readings: Sequence[Reading], again: Callable[[Sentence], Reading]
) -> list[Reading]:
    """Content goes on to its closing quote or to the end of the text, over blank lines, whatever it looks like.

    After a mark without a colon ("saying it is late") a sentence that asks, thanks or restricts is not part of it.
    `again` reads what stands behind the closing quote.
    """
    out: list[Reading] = []
    holder, content = 0, _NONE
    for reading in readings:
        label = _label(reading) if out and _takes_parts(out[-1]) else ""
        if content.quoted and holder == len(out) - 1 and _subject_behind(reading, content, out[-1]):
            label = "subject"
        if not label and content.takes(reading):
            tokens = reading.sentence.tokens
            inside = tuple(Marked(t, content=True) for t in tokens if t.start < content.until)
            out[holder] = _extended(out[holder], inside)
            if len(inside) == len(tokens):
                continue
            reading = again(replace(reading.sentence, tokens=tokens[len(inside) :]))
        if label:
            reading = _extended(out.pop(), _labelled(reading, label))
        out.append(reading)
        if reading.mood is not Mood.ASIDE:
            holder, content = len(out) - 1, _content_of(reading, utterance.text)
    return out


def _subject_behind(reading: Reading, content: _Content, mail: Reading) -> bool:
    """Whether it is the only subject of a mail whose quoted text has ended."""
    ended = not content.takes(reading) and _label(reading) == "subject"
    return ended and not any("subject" in m.tags for m in mail.marked)


_NONE = _Content(until=0, everything=False, quoted=False, paragraph=None)


def _content_of(reading: Reading, text: str) -> _Content:
    marks = [m.token for m in reading.marked if "content_mark" in m.tags]
    if not marks:
        return _NONE
    last = reading.marked[-1]
    inside = [m.token for m in reading.marked if m.content and "subject" not in m.tags]
    if inside and inside[-1] is not last.token:
        return _NONE  # the sentence went on behind it
    start = inside[0].start if inside else last.token.end
    start = len(text) - len(text[start:].lstrip())
    end = closing_quote(text, start)
    if end and (not inside or inside[-1].end <= end):
        return _Content(end, True, True, None)
    unclosed = not end and text[start : start + 1] in tuple(QUOTES)
    everything = not inside or unclosed or any(mark.text == ":" for mark in marks)
    return _Content(len(text), everything, False, reading.sentence.paragraph if inside else None)


def _takes_parts(reading: Reading) -> bool:
    """Whether it asks for a mail whose text has not begun."""
    begun = any(m.content and "subject" not in m.tags for m in reading.marked)
    return reading.mood is Mood.REQUEST and bool(reading.verbs & {"send", "write"}) and not begun


def _label(reading: Reading) -> str:
    """What a sentence such as "Betreff: Termin." or "Text: Bis morgen." gives to the request before it."""
    tokens = [m.token for m in reading.marked]
    if len(tokens) < 3 or tokens[1].text != ":" or reading.mood is Mood.RETRACTED:
        return ""
    return "subject" if tokens[0].fold in SUBJECT_LABELS else "content" if tokens[0].fold in LABELS else ""


def _labelled(reading: Reading, label: str) -> tuple[Marked, ...]:
    tags = frozenset(("subject",)) if label == "subject" else frozenset[str]()
    return (
        *(replace(m, tags=frozenset((f"{label}_mark",))) for m in reading.marked[:2]),
        *(Marked(m.token, tags, content=True) for m in reading.marked[2:]),
    )


def _extended(reading: Reading, marked: tuple[Marked, ...]) -> Reading:
    return replace(reading, marked=reading.marked + marked, lead_in=False)


_SHOWN = frozenset(
    ["following", "folgende", "folgendes", "folgenden", "untenstehende", "phishing", "spam", "scam"]
)
"""Who says so of a text shows it, and does not ask for what it says."""


def attributed(readings: list[Reading]) -> list[Reading]:
    """What follows "he said:" is his, to the end of the text."""
    for index, reading in enumerate(readings):
        shows = reading.mood is not Mood.REQUEST and any(m.token.fold in _SHOWN for m in reading.marked)
        said = reading.lead_in and {"reporting", "forwarded"} & _tags(reading)
        if said or shows:
            theirs = [
                Reading(r.sentence, r.marked, Mood.REPORTED, r.verbs, harmless=True)
                for r in readings[index + 1 :]
            ]
            return [*readings[: index + 1], *theirs]
    return readings
