"""What may become a fact: values from outside are made storable before anything is decided by them.

A page, an answer or another program's agent can say what no store keeps: halves of surrogate pairs, NaN, numbers
beyond 64 bits, values nested without end, megabytes. Texts are mended (`U+FFFD` for what is no character, long
ones cut); a value that cannot be kept as it is, is refused:

    a result            the attempt failed, class business, code `result_invalid`
    a found effect      the verdict stands, without the result
    a proposal          counts as a refusal: nothing was begun
    what a person said  InvalidDocument, to that person

The bytes of most events tell at once that nothing is wrong with them (`doubtful`); only the others are walked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from cpa.core.audit import Sealed
from cpa.core.classes import FailureClass
from cpa.core.events import (
    PERSONAL,
    Event,
    JobReopened,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskSucceeded,
    TaskVerified,
)
from cpa.errors import InvalidDocument, TooLarge

MAX_DEPTH = 32
"""How deep lists and objects of a result may be nested."""
MAX_BYTES = 256 * 1024
"""Largest result, as JSON."""
MAX_TEXT = 16 * 1024
"""Longest message, reason or evidence, in characters; the rest is cut off."""
LONGEST = 7 * 86_400_000
"""Longest duration anybody can name, in milliseconds."""
LONGEST_WAIT = 3_600_000
"""Longest time anybody can ask us to wait before a task is tried again, in milliseconds."""
UNSTORABLE = (UnicodeError, OverflowError, RecursionError, TypeError, ValueError)
"""What encoding raises for a value that cannot be stored."""

_FACTS = (TaskSucceeded, TaskFailed, TaskVerified, TaskRefused, TaskProposed)
_PLAN_DEPTH = 70
"""How deep what a person puts in place of arguments may be: as deep as a plan's, by task."""
_encode = msgspec.json.Encoder().encode
_suspect = re.compile(rb"null|[0-9]{19}").search
_halves = re.compile("[\ud800-\udfff]").sub


def milliseconds(seconds: float | None) -> int:
    """A duration somebody outside named, within 0 and `LONGEST`; 0 for none and for what is no number."""
    return int(_bounded(seconds, LONGEST))


def pause(seconds: float | None) -> int:
    """As `milliseconds`, of a time to wait, up to `LONGEST_WAIT`. Never shorter than what was said: the rest of a
    millisecond is not no time, which would mean that waiting helps nothing."""
    return math.ceil(_bounded(seconds, LONGEST_WAIT))


def _bounded(seconds: float | None, most: int) -> float:
    return 0 if seconds is None or seconds != seconds else min(max(seconds * 1000, 0), most)


def doubtful(sealed: Sealed) -> bool:
    """Whether `storable` must look at the event, although it could be encoded."""
    private = sealed.private
    if private is None:
        return False
    if len(private) > MAX_TEXT or private.count(b"{") + private.count(b"[") > MAX_DEPTH:
        return True
    return _suspect(private) is not None


def storable(event: Event) -> Event:
    """The event as it can be stored, or the one that takes its place. InvalidDocument or `TooLarge` where a person
    said it."""
    depth = _PLAN_DEPTH if isinstance(event, JobReopened) else MAX_DEPTH
    changed: dict[str, Any] = {}
    try:
        for name in PERSONAL.get(type(event), ()):
            value = getattr(event, name)
            if isinstance(value, str):
                changed[name] = mended(value)
            elif value is not None:
                changed[name] = _within(_clean(value, depth))
    except (InvalidDocument, TooLarge) as error:
        if not isinstance(event, _FACTS):
            raise
        return instead(event, error.message)
    if isinstance(event, TaskFailed):
        changed["code"] = mended(event.code)
    if isinstance(event, TaskFailed | TaskSucceeded):
        changed["artifacts"] = tuple(map(mended, event.artifacts))
    return replace(event, **changed)


def mended(text: str) -> str:
    """The text without what is no character, cut to `MAX_TEXT`."""
    return _halves("\ufffd", text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …")


def instead(event: Event, why: str) -> Event:
    """What takes the place of a success, a found effect or a proposal whose value cannot be taken."""
    if isinstance(event, TaskVerified):
        evidence = f"{mended(event.evidence)} (its result cannot be kept: {why})"
        return replace(event, result=None, evidence=evidence)
    if isinstance(event, TaskProposed):
        reason = f"its proposal cannot be kept: {why}"
        return TaskRefused(time=event.time, task=event.task, epoch=event.epoch, reason=reason)
    assert isinstance(event, TaskSucceeded)
    return TaskFailed(
        time=event.time,
        task=event.task,
        epoch=event.epoch,
        failure=FailureClass.BUSINESS,
        code="result_invalid",
        message=f"it was done, but its result cannot be kept: {why}",
        remedy="Ask for less, or have large content stored as a file.",
        artifacts=tuple(map(mended, event.artifacts)),
        duration=event.duration,
    )


def _within(value: Any) -> Any:
    size = len(_encode(value))
    if size > MAX_BYTES:
        raise TooLarge(f"it has {size} bytes, more than {MAX_BYTES}", remedy="Pass large content as a file.")
    return value


def _clean(value: Any, depth: int) -> Any:
    """A copy of JSON values alone, its texts mended but not cut."""
    if isinstance(value, str):
        return _halves("\ufffd", value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if depth == 0:
        raise InvalidDocument("it is nested too deep", remedy="Flatten the value.")
    if isinstance(value, Mapping):
        return {_halves("\ufffd", str(key)): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth - 1) for item in value]
    said = (
        "a number beyond 64 bits or none at all" if isinstance(value, int | float) else type(value).__name__
    )
    raise InvalidDocument(f"it holds {said}", remedy="Use JSON values, and texts for long numbers.")
