"""From a sentence to an intent, by rules that can be read, or to "unknown" with a question.

What counts
-----------
1. Only requests said now and in the writer's own name are looked at (`core.utterance`, `core.reading`).
   Whatever is quoted, negated, conditional, meant for later, reported, asked about or told never becomes
   an intent.
2. **Every word counts.** A pattern covers the requests of a text only if each of their words is one of
   the pattern's words, part of an argument, or a mere particle ("please", "the", "und"). One word left
   over and the pattern loses: "get the invoice and shred it" is not "get the invoice".
3. All requests of a text must be covered by one intent. Two things asked for at once are unknown, and so
   is one thing understood beside one that is not.
4. What is said elsewhere in the text may take back: a forbidden verb ("do not send it") rules out every
   intent that would do it; a restriction that names no verb ("not to the customer!", "only if they paid")
   rules out all.

Score and ties
--------------
The score is the share of the request's words, particles left out, that the pattern or its arguments account for;
by rule 2 that is 1 for a match, less a tenth for each typing error corrected, never under 0.5. Among matches the
order is: fewer missing required arguments, higher score, more of the pattern's own words, more arguments. If two
intents are level after that it is a tie, and a tie is unknown. Order in the file never decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpa.core.classes import Source
from cpa.core.discourse import attributed, spoiler_of, with_content
from cpa.core.intents import (
    UNKNOWN,
    ArgumentType,
    ArgumentValue,
    Evidence,
    Intent,
    IntentDefinition,
    Pattern,
    Reason,
    Rejected,
    RouteContext,
    SentenceMood,
    Vocabulary,
)
from cpa.core.lexicon import Lexicon
from cpa.core.marking import contrast
from cpa.core.matching import AMBIGUOUS, Candidate, Request, match_keywords, match_regex
from cpa.core.questions import Locale, asked_back, asked_for, language_of
from cpa.core.reading import Mood, Reading, read, unknown_verb
from cpa.core.replies import replied
from cpa.core.utterance import Sentence, Utterance, is_address
from cpa.core.utterance import read as read_utterance
from cpa.errors import InvalidDocument

__all__ = ["Intent", "IntentDefinition", "IntentRouter", "RouteContext", "Vocabulary"]

_MOOD_REASON = {
    Mood.NEGATED: Reason.NEGATED,
    Mood.CONDITIONAL: Reason.CONDITIONAL,
    Mood.LATER: Reason.LATER,
    Mood.REPORTED: Reason.REPORTED,
    Mood.RETRACTED: Reason.RETRACTED,
    Mood.QUESTION: Reason.QUESTION,
    Mood.STATEMENT: Reason.STATEMENT,
    Mood.ASIDE: Reason.NO_REQUEST,
}


@dataclass(frozen=True, slots=True)
class _Text:
    """One text, read."""

    utterance: Utterance
    readings: tuple[Reading, ...]
    locale: Locale


class IntentRouter:
    """Routes texts by a fixed set of definitions; immutable and free of I/O, so one serves all threads."""

    def __init__(self, definitions: Iterable[IntentDefinition], vocabulary: Vocabulary | None = None) -> None:
        """Raises `InvalidDocument` when two definitions have one name or a pattern names an empty group."""
        self.definitions = tuple(definitions)
        self.vocabulary = vocabulary or Vocabulary()
        self.lexicon = Lexicon(self.vocabulary.words, self.vocabulary.verbs)
        names = [definition.name for definition in self.definitions]
        for name in names:
            if names.count(name) > 1 or name == UNKNOWN:
                raise InvalidDocument(
                    f"two intents are called {name!r}"
                    if name != UNKNOWN
                    else "unknown is no name for an intent",
                    field=f"intents.{name}",
                    remedy="Give each intent its own name.",
                )

    def route(self, text: str, context: RouteContext | None = None) -> Intent:
        """The one intent the text asks for, or unknown. Raises `BadInput` for no text, `TooLarge` for too much."""
        context = context or RouteContext()
        utterance = read_utterance(text)
        first = self._attempt(utterance, context, eager=False)
        if not first.unknown or first.reason is not Reason.NOT_UNDERSTOOD:
            return first
        second = self._attempt(utterance, context, eager=True)
        return first if second.unknown else second

    def _read(self, utterance: Utterance, *, eager: bool) -> list[Reading]:
        parts = (part for s in utterance.sentences for part in contrast(s, self.lexicon))

        def heard(sentence: Sentence) -> Reading:
            return read(sentence, self.lexicon, eager=eager)

        return attributed(with_content(utterance, [heard(part) for part in parts], heard))

    def _attempt(self, utterance: Utterance, context: RouteContext, *, eager: bool) -> Intent:
        readings = self._read(utterance, eager=eager)
        text = _Text(utterance, tuple(readings), context.locale or language_of(utterance.text))
        requests = [r for r in readings if r.mood is Mood.REQUEST]
        requests = [r for r in requests if not all(m.filler for m in r.marked)]
        spoiler = spoiler_of(readings, bool(requests))
        if spoiler:
            return self._unknown(text, spoiler[0], spoiler[1])
        if not requests:
            return self._by_statement(text, context)
        bad = [
            m.token.text for r in requests for m in r.marked if m.token.kind == "badmail" and not m.content
        ]
        if bad:
            return self._unknown(text, Reason.INVALID_ADDRESS, ", ".join(bad))
        forbidden = frozenset(
            v for r in readings if r.mood is Mood.NEGATED and not r.harmless for v in r.verbs
        )
        return self._decide(text, self._joined(requests, utterance), requests, forbidden, context)

    def _joined(self, requests: Sequence[Reading], utterance: Utterance) -> Request:
        return Request.of(requests, utterance.text, self.lexicon.verbs)

    def _by_statement(self, text: _Text, context: RouteContext) -> Intent:
        """Nothing is asked for in a form the language lists know: a regular expression may know better.

        It must begin with the sentence, and the sentence must be neither question nor somebody's report.
        """
        plain = [r for r in text.readings if r.mood is Mood.STATEMENT and not r.lead_in and not r.addressed]
        plain = [r for r in plain if not any("first" in m.tags or m.tags & {"frame"} for m in r.marked)]
        if len(plain) == 1 and plain[0].sentence.ending != "?" and not plain[0].verbs:
            request = Request.of(plain, text.utterance.text, self.lexicon.verbs)
            found = [c for c in self._candidates(request, regex_only=True)[0] if c.opens]
            if found:
                return self._best(text, found, (), context, frozenset())
        return self._unknown(text, *self._why_no_request(text))

    def _why_no_request(self, text: _Text) -> tuple[Reason, str]:
        if not text.readings:
            return (Reason.ONLY_QUOTED if "quoted" in text.utterance.removed else Reason.NO_REQUEST), ""
        acting = [r for r in text.readings if r.verbs and r.mood is not Mood.ASIDE] or list(text.readings)
        if acting[0].mood is Mood.STATEMENT and (word := unknown_verb(acting[0])):
            return Reason.UNKNOWN_VERB, word
        if acting[0].mood is Mood.STATEMENT and all(
            m.token.kind != "word" or not m.tags for m in acting[0].marked
        ):
            # Nothing in it is known, so nothing can be said about what it is.
            return Reason.NOT_UNDERSTOOD, _written(acting[0].sentence, text.utterance)
        return _MOOD_REASON.get(acting[0].mood, Reason.NO_REQUEST), _written(
            acting[0].sentence, text.utterance
        )

    def _decide(
        self,
        text: _Text,
        request: Request,
        requests: Sequence[Reading],
        forbidden: frozenset[str],
        context: RouteContext,
    ) -> Intent:
        found, rejected = self._candidates(request)
        allowed = [c for c in found if not c.verbs & forbidden]
        rejected += [
            Rejected(
                intent=c.definition.name,
                pattern=c.number,
                reason="the text forbids " + ", ".join(sorted(c.verbs & forbidden)),
            )
            for c in found
            if c.verbs & forbidden
        ]
        if allowed:
            return self._best(text, allowed, tuple(rejected), context, forbidden)
        if found:
            return self._unknown(text, Reason.NEGATED, ", ".join(sorted(forbidden)), rejected)
        if len(requests) > 1:
            each = {
                best.definition.name
                for reading in requests
                for best in self._candidates(Request.of([reading], text.utterance.text, self.lexicon.verbs))[
                    0
                ]
            }
            if len(each) > 1:
                return self._unknown(text, Reason.SEVERAL, ", ".join(sorted(each)), rejected, sorted(each))
        problem = next((r.reason for r in rejected if r.reason.startswith(AMBIGUOUS)), "")
        if problem:
            values = problem.removeprefix(AMBIGUOUS).partition(": ")[2]
            return self._unknown(text, Reason.AMBIGUOUS_ARGUMENT, values, rejected)
        nearest, words = _left_over(rejected)
        return self._unknown(text, Reason.NOT_UNDERSTOOD, words, rejected, nearest)

    def _candidates(
        self, request: Request, *, regex_only: bool = False
    ) -> tuple[list[Candidate], list[Rejected]]:
        found: list[Candidate] = []
        rejected: list[Rejected] = []
        for definition in self.definitions:
            for number, pattern in enumerate(definition.patterns):
                if regex_only and pattern.regex is None:
                    continue
                outcome = _match(definition, number, pattern, request)
                if isinstance(outcome, Candidate):
                    found.append(outcome)
                else:
                    rejected.append(Rejected(intent=definition.name, pattern=number, reason=outcome))
        return found, rejected

    def _best(
        self,
        text: _Text,
        found: Sequence[Candidate],
        rejected: tuple[Rejected, ...],
        context: RouteContext,
        forbidden: frozenset[str],
    ) -> Intent:
        filled = [(c, *_arguments(c, context, text.locale)) for c in found]
        ranked = sorted(filled, key=lambda item: _rank(item[0], item[2]))
        best, values, missing = ranked[0]
        level = [c for c, _, m in ranked if _rank(c, m) == _rank(best, missing)]
        rivals = sorted({c.definition.name for c in level})
        if len(rivals) > 1:
            return self._unknown(text, Reason.TIE, ", ".join(rivals), rejected, rivals)
        lost = [
            Rejected(
                intent=c.definition.name, pattern=c.number, reason="a better match: " + best.definition.name
            )
            for c, _, _ in ranked[1:]
            if c.definition.name != best.definition.name
        ]
        question = self._question(text, best.definition, missing[0], context) if missing else ""
        return Intent(
            name=best.definition.name,
            score=best.score,
            arguments=values,
            missing=missing,
            evidence=self._evidence(text, best, (*rejected, *lost)),
            question=question,
            locale=text.locale,
        )

    def _question(self, text: _Text, definition: IntentDefinition, name: str, context: RouteContext) -> str:
        """What to ask for a missing argument, with the words that fill it in one of the intent's own examples."""
        question = definition.arguments[name].question
        asked = question.in_(text.locale) if question else ""
        given = (self._given(definition, name, sentence) for sentence in _spoken(definition, text.locale))
        example = next((words for words in given if words), "")
        return asked_for(asked, example, context.replies.get(name, ""), text.locale)

    def _given(self, definition: IntentDefinition, name: str, sentence: str) -> str:
        """The words that an example of the intent gives for an argument; empty when it gives none."""
        utterance = read_utterance(sentence)
        asking = [r for r in self._read(utterance, eager=False) if r.mood is Mood.REQUEST]
        request = Request.of(asking, utterance.text, self.lexicon.verbs)
        for number, pattern in enumerate(definition.patterns):
            found = _match(definition, number, pattern, request)
            if isinstance(found, Candidate) and name in found.said:
                return found.said[name]
        return ""

    def _unknown(
        self,
        text: _Text,
        reason: Reason,
        detail: str = "",
        rejected: Iterable[Rejected] = (),
        near: Sequence[str] = (),
    ) -> Intent:
        """`near`: names of the intents that come first among the examples."""
        known = {definition.name: definition for definition in self.definitions}
        shown = list(dict.fromkeys((*near, *(() if reason in _THESE else known))))[:3]
        can = [next(iter(_spoken(known[name], text.locale)), known[name].examples[0]) for name in shown]
        question = asked_back(reason, detail, can, text.locale)
        evidence = self._evidence(text, None, tuple(rejected))
        return Intent(
            name=UNKNOWN,
            score=0.0,
            reason=reason,
            detail=detail,
            question=question,
            locale=text.locale,
            evidence=evidence,
        )

    def _evidence(self, text: _Text, best: Candidate | None, rejected: tuple[Rejected, ...]) -> Evidence:
        marked = [m for r in text.readings for m in r.marked if m.corrected]
        return Evidence(
            pattern=best.number if best else None,
            words=best.words if best else (),
            corrected={m.token.text: m.corrected for m in marked},
            sentences=tuple(
                SentenceMood(text=_written(r.sentence, text.utterance), mood=r.mood.value)
                for r in text.readings
            ),
            removed=text.utterance.removed,
            rejected=rejected,
        )


def _match(definition: IntentDefinition, number: int, pattern: Pattern, request: Request) -> Candidate | str:
    if pattern.regex is not None:
        return match_regex(definition, number, pattern.compiled, request)
    assert pattern.keywords is not None
    return match_keywords(definition, number, pattern.keywords, request)


def _rank(candidate: Candidate, missing: Sequence[str]) -> tuple[int, float, int, int]:
    return (len(missing), -candidate.score, -len(candidate.words), -len(candidate.values))


def _arguments(
    candidate: Candidate, context: RouteContext, locale: Locale
) -> tuple[dict[str, ArgumentValue], tuple[str, ...]]:
    """Values with their sources, defaults included, and which required ones are missing."""
    source = Source.TRUSTED if context.authenticated else Source.TAINTED
    values: dict[str, ArgumentValue] = {}
    missing: list[str] = []
    for name, definition in candidate.definition.arguments.items():
        value = candidate.values.get(name)
        if name in candidate.to_requester:
            if not is_address(context.user):
                missing.append(name)
                continue
            many = definition.type is ArgumentType.EMAIL_LIST
            value = list(dict.fromkeys([*(value or []), context.user])) if many else context.user
            values[name] = ArgumentValue(
                value=value, source=source, words=candidate.said.get(name, ""), origin="context"
            )
        elif value is not None and value != "":
            values[name] = ArgumentValue(value=value, source=source, words=candidate.said.get(name, ""))
        elif (told := replied(definition, context.replies.get(name, ""))) is not None:
            values[name] = ArgumentValue(value=told, source=source, words=context.replies[name])
        elif definition.required:
            missing.append(name)
        else:
            values[name] = ArgumentValue(value=definition.fallback(locale), origin="default")
    return values, tuple(missing)


_THESE = (Reason.TIE, Reason.SEVERAL)
"""Reasons whose question is about these intents and no others."""


def _spoken(definition: IntentDefinition, locale: Locale) -> list[str]:
    """Its examples in this language."""
    return [example for example in definition.examples if language_of(example) == locale]


def _left_over(rejected: Sequence[Rejected]) -> tuple[list[str], str]:
    """The intents that fewest words stood in the way of, nearest first, and those words."""
    left = [
        (reason.count(","), reason, r.intent)
        for r in rejected
        if (reason := r.reason.removeprefix("not accounted for: ")) != r.reason
    ]
    return [intent for _, _, intent in sorted(left)], min(left)[1] if left else ""


def _written(sentence: Sentence, utterance: Utterance) -> str:
    return utterance.text[sentence.tokens[0].start : sentence.tokens[-1].end][:200]
