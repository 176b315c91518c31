"""What is asked back when a request is not understood, and in which language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from cpa.core.folding import fold, spellings
from cpa.core.intents import Localised, Reason
from cpa.core.language import ENGLISH, GERMAN
from cpa.core.verbs import COMMON, common

Locale = Literal["de", "en"]

_VERBS = [common(name) for name in COMMON]
_GERMAN = frozenset(
    form
    for word in (*GERMAN.split(), *(word for verb in _VERBS for word in verb["second"].split()))
    for form in spellings(word)
)
_ENGLISH = frozenset((*ENGLISH.split(), *(word for verb in _VERBS for word in verb["gerund"].split())))
_GERMAN_ENDINGS = ("ung", "ungen", "keit", "heit", "ieren", "iere", "liste", "schein", "bestand")
_WORD = re.compile(r"[^\W\d_]+")

ASKS: dict[Reason, Localised] = {
    Reason.ONLY_QUOTED: Localised(
        de="Der Text enthält nur Zitiertes. Was soll ich tun?",
        en="The text holds only quoted words. What shall I do?",
    ),
    Reason.NO_REQUEST: Localised(
        de="Ich finde keine Bitte darin. Was soll ich tun? Zum Beispiel: {examples}",
        en="I find no request in it. What shall I do? For example: {examples}",
    ),
    Reason.NEGATED: Localised(
        de="Ich habe verstanden, was nicht geschehen soll, und tue nichts. "
        "Soll stattdessen etwas anderes geschehen?",
        en="I understood what is not to happen, and do nothing. Is something else to be done instead?",
    ),
    Reason.CONDITIONAL: Localised(
        de="Das hängt von einer Bedingung ab, die ich nicht prüfen kann: „{detail}“. "
        "Soll es jetzt geschehen? Dann bitte noch einmal ohne die Bedingung.",
        en='That depends on a condition I cannot check: "{detail}". '
        "Is it to be done now? Then please say it again without the condition.",
    ),
    Reason.LATER: Localised(
        de="Das ist nicht für jetzt gedacht: „{detail}“. "
        "Soll es jetzt geschehen? Dann bitte noch einmal ohne die Zeitangabe.",
        en='That is not meant for now: "{detail}". '
        "Is it to be done now? Then please say it again without the time.",
    ),
    Reason.REPORTED: Localised(
        de="Das sind die Worte von jemand anderem. Was soll ich für dich tun?",
        en="Those are somebody else's words. What shall I do for you?",
    ),
    Reason.RETRACTED: Localised(
        de="Ich verstehe das als zurückgenommen und tue nichts. Ist das richtig?",
        en="I take that as withdrawn and do nothing. Is that right?",
    ),
    Reason.QUESTION: Localised(
        de="Das ist eine Frage, keine Bitte: „{detail}“. Was soll ich tun? Zum Beispiel: {examples}",
        en='That is a question, not a request: "{detail}". What shall I do? For example: {examples}',
    ),
    Reason.STATEMENT: Localised(
        de="Das ist eine Mitteilung, keine Bitte: „{detail}“. Was soll ich tun? Zum Beispiel: {examples}",
        en='That is a statement, not a request: "{detail}". What shall I do? For example: {examples}',
    ),
    Reason.UNKNOWN_VERB: Localised(
        de="Ich weiß nicht, was ich bei „{detail}“ tun soll. Wie lässt es sich anders sagen? "
        "Zum Beispiel: {examples}",
        en='I do not know what to do for "{detail}". How else can it be said? For example: {examples}',
    ),
    Reason.RESTRICTED: Localised(
        de="Ein Teil schränkt die Bitte ein: „{detail}“. Was genau soll ich tun?",
        en='A part of the text restricts the request: "{detail}". What exactly shall I do?',
    ),
    Reason.SEVERAL: Localised(
        de="Das sind mehrere Aufträge. Bitte jeden einzeln schicken, etwa so: {examples}",
        en="Those are several requests. Please send them one by one, for example: {examples}",
    ),
    Reason.NOT_UNDERSTOOD: Localised(
        de="Das habe ich nicht ganz verstanden{unclear}. Wie ist es gemeint? Zum Beispiel: {examples}",
        en="I did not understand all of it{unclear}. What is meant? For example: {examples}",
    ),
    Reason.TIE: Localised(
        de="Das kann mehreres heißen. Welches davon? {examples}",
        en="That may mean several things. Which of these? {examples}",
    ),
    Reason.INVALID_ADDRESS: Localised(
        de="Keine gültige Mailadresse: {detail}. Wie lautet sie richtig?",
        en="Not a valid mail address: {detail}. What is the right one?",
    ),
    Reason.TOO_LONG: Localised(
        de="Die Bitte ist zu lang. Was soll in einem Satz geschehen?",
        en="The request is too long. What is to be done, in a sentence?",
    ),
    Reason.AMBIGUOUS_ARGUMENT: Localised(
        de="Es ist mehr als eins genannt: {detail}. Welches ist gemeint?",
        en="More than one is named: {detail}. Which one is meant?",
    ),
    Reason.TAINTED: Localised(
        de="Der Absender ist nicht bestätigt. Bitte über einen angemeldeten Weg wiederholen.",
        en="The sender is not confirmed. Please repeat it over a channel you are signed in to.",
    ),
}


_UNCLEAR = Localised(de=", unklar ist: {}", en=", not clear is: {}")
_EXAMPLE = Localised(de="{} Zum Beispiel: {}", en="{} For example: {}")
_NO_REPLY = Localised(de="{} beantwortet das nicht. {}", en="{} does not answer that. {}")


def quoted(text: str, locale: Locale) -> str:
    """In the quotation marks of the language."""
    return f"„{text}“" if locale == "de" else f'"{text}"'


def asked_back(reason: Reason, detail: str, examples: Sequence[str], locale: Locale) -> str:
    """The question about a text that became no intent. `examples`: requests in the person's language."""
    words = [quoted(word, locale) for word in detail.split(", ")] if detail else []
    return (
        ASKS[reason]
        .in_(locale)
        .format(
            detail=detail,
            unclear=_UNCLEAR.in_(locale).format(", ".join(words)) if words else "",
            examples="; ".join(quoted(example, locale) for example in examples),
        )
    )


def asked_for(question: str, example: str, reply: str, locale: Locale) -> str:
    """The question for an argument, with an answer that would do; `reply` was given to it before, and did not."""
    whole = _EXAMPLE.in_(locale).format(question, example) if example else question
    return _NO_REPLY.in_(locale).format(quoted(reply, locale), whole) if reply else whole


def language_of(text: str) -> Locale:
    """The language that more of its words belong to; umlauts and German endings count, a draw is English."""
    german = english = 0
    for match in _WORD.finditer(text[:5000]):
        word = match.group().lower()
        folded = fold(word)
        german += (folded in _GERMAN) + 2 * any(char in word for char in "äöüß")
        german += len(folded) > 6 and folded.endswith(_GERMAN_ENDINGS)
        english += folded in _ENGLISH
    return "de" if german > english else "en"
