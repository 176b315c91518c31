"""How the sentences of one text bear on each other: what belongs to whom, and what takes a request back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cpa.core.intents import Reason
from cpa.core.marking import Marked
from cpa.core.reading import Mood, Reading
from cpa.core.utterance import LABELS, SUBJECT_LABELS, Utterance


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
    return None


def _tags(reading: Reading) -> frozenset[str]:
    return frozenset(tag for m in reading.marked if not m.content for tag in m.tags)


def _names_address(reading: Reading) -> bool:
    """An address outside every request: it may correct the one in the request."""
    return (
        any(m.token.kind in ("mail", "badmail") and not m.content for m in reading.marked)
        and not reading.verbs
    )


def with_content(utterance: Utterance, readings: list[Reading]) -> list[Reading]:
    """After a colon the content goes on to the end of its paragraph, or of the text if the colon ends its line."""
    out: list[Reading] = []
    until = paragraph = -1
    for reading in readings:
        label = _label(reading) if out and _takes_parts(out[-1]) else ""
        if not label and reading.sentence.tokens[0].start < until and reading.mood is not Mood.RETRACTED:
            marked = tuple(Marked(t, content=True) for t in reading.sentence.tokens)
            last = out.pop()
            out.append(_extended(last, marked))
            continue
        if label:
            reading = _extended(out.pop(), _labelled(reading, label))
        out.append(reading)
        colon = _content_colon(reading)
        if reading.mood is Mood.REQUEST and colon is not None:
            paragraph = reading.sentence.end
            rest = utterance.text[colon + 1 :]
            until = (
                len(utterance.text)
                if rest.startswith("\n") or not rest[: paragraph - colon - 1].strip()
                else paragraph
            )
    return out


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


def _content_colon(reading: Reading) -> int | None:
    for item in reading.marked:
        if "content_mark" in item.tags and item.token.text == ":":
            return item.token.start
    return None


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
