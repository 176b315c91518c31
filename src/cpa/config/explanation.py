"""What a text would become and why, in lines for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cpa.core.intent_router import IntentRouter
from cpa.core.intents import ArgumentValue, Intent, IntentDefinition, RouteContext

WIDTH = 80
LABEL = 12
NEAREST = 3
"""Rejected patterns that are shown where not all are asked for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a text would become, and why."""

    intent: Intent
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.lines)


def explain_route(
    router: IntentRouter, text: str, context: RouteContext | None = None, *, all: bool = False
) -> Explanation:
    """What `text` would become: the intent, each argument, what is missing, and how sure that is; `all`: also how
    each sentence was read and why every other pattern lost. Raises what `route` raises."""
    intent = router.route(text, context)
    known = {definition.name: definition for definition in router.definitions}
    definition = known.get(intent.name)
    pairs = [*(_understood(intent, definition) if definition else _unknown(intent)), *_read(intent, all=all)]
    return Explanation(intent, tuple(line for label, said in pairs for line in _lines(label, said)))


def _understood(intent: Intent, definition: IntentDefinition) -> Iterator[tuple[str, str]]:
    yield "intent", intent.name
    yield "", definition.description
    for name in definition.arguments:
        if name in intent.missing:
            yield name, "missing"
        elif intent.arguments[name].value not in (None, "", []):
            yield name, _shown(intent.arguments[name])
    if intent.question:
        yield "question", intent.question
    yield "confidence", f"{intent.score:.0%}" + _typing(intent)
    if intent.evidence.words:
        yield "words", f"{', '.join(intent.evidence.words)} (pattern {intent.evidence.pattern})"


def _unknown(intent: Intent) -> Iterator[tuple[str, str]]:
    reason = intent.reason.value if intent.reason else ""
    yield "intent", f"unknown: {reason}" + (f" ({intent.detail})" if intent.detail else "")
    yield "question", intent.question
    if intent.evidence.corrected:
        yield "typing", _typing(intent).strip(" ,")


def _read(intent: Intent, *, all: bool) -> Iterator[tuple[str, str]]:
    """How it was read. In short only what a person would wonder about: what did not count, and what came near."""
    evidence = intent.evidence
    for sentence in evidence.sentences:
        if all or (sentence.mood != "request" and len(evidence.sentences) > 1):
            yield "sentence", f"[{sentence.mood}] {sentence.text}"
    if evidence.removed:
        yield "not read", ", ".join(evidence.removed)
    lost = list(evidence.rejected)
    if not all:
        near = [each for each in lost if each.reason.startswith(("not accounted", "more than", "the text"))]
        lost = sorted(near, key=lambda each: each.reason.count(","))[:NEAREST] if intent.unknown else []
    for each in lost:
        yield "lost" if all else "nearly", f"{each.intent} ({each.pattern}): {each.reason}"


def _typing(intent: Intent) -> str:
    corrected = intent.evidence.corrected.items()
    return "".join(f", {written} read as {meant}" for written, meant in corrected)


def _shown(value: ArgumentValue) -> str:
    shown = _plain(value.value)
    if value.origin != "request":
        return f"{shown}  ({value.origin})"
    return (
        shown if shown in (value.words, value.words.strip("\"'“”„ ")) else f"{shown}  (from: {value.words})"
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lines(label: str, said: str) -> list[str]:
    indent = " " * LABEL
    first = label.ljust(LABEL) if len(label) < LABEL else f"{label} "
    wrapped: list[str] = []
    for paragraph in said.splitlines() or [""]:
        wrapped += textwrap.wrap(
            paragraph,
            WIDTH,
            initial_indent=indent if wrapped else first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return wrapped
