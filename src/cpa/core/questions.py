"""What is asked back when a request is not understood, and in which language."""

from __future__ import annotations

import re
from typing import Literal

from cpa.core.folding import fold, spellings
from cpa.core.intents import Localised, Reason
from cpa.core.language import ENGLISH, GERMAN

_GERMAN = frozenset(form for word in GERMAN.split() for form in spellings(word))
_ENGLISH = frozenset(ENGLISH.split())
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
        de="Das hängt von einer Bedingung ab, die ich nicht prüfen kann: „{detail}“. Soll ich es jetzt tun?",
        en='That depends on a condition I cannot check: "{detail}". Shall I do it now?',
    ),
    Reason.LATER: Localised(
        de="Das ist nicht für jetzt gedacht: „{detail}“. Soll ich es jetzt tun?",
        en='That is not meant for now: "{detail}". Shall I do it now?',
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
        de="Das ist eine Frage, keine Bitte: „{detail}“. Soll ich etwas tun?",
        en='That is a question, not a request: "{detail}". Shall I do something?',
    ),
    Reason.STATEMENT: Localised(
        de="Das ist eine Mitteilung, keine Bitte: „{detail}“. Soll ich etwas tun?",
        en='That is a statement, not a request: "{detail}". Shall I do something?',
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
        de="Das sind mehrere Aufträge ({detail}). Welcher soll es sein? Bitte jeden einzeln schicken.",
        en="Those are several requests ({detail}). Which one is it? Please send them one by one.",
    ),
    Reason.NOT_UNDERSTOOD: Localised(
        de="Das habe ich nicht ganz verstanden (unklar: {detail}). Wie ist es gemeint? Zum Beispiel: {examples}",
        en="I did not understand all of it (unclear: {detail}). What is meant? For example: {examples}",
    ),
    Reason.TIE: Localised(
        de="Das kann mehreres heißen: {detail}. Was davon?",
        en="That may mean several things: {detail}. Which one?",
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
        de="Nicht eindeutig: {detail}. Was davon ist gemeint?", en="Not clear: {detail}. Which one is meant?"
    ),
    Reason.TAINTED: Localised(
        de="Der Absender ist nicht bestätigt. Bitte über einen angemeldeten Weg wiederholen.",
        en="The sender is not confirmed. Please repeat it over a channel you are signed in to.",
    ),
}


def language_of(text: str) -> Literal["de", "en"]:
    """The language that more of its little words belong to; umlauts count for German, a draw is English."""
    german = english = 0
    for match in _WORD.finditer(text[:5000]):
        word = match.group().lower()
        folded = fold(word)
        german += (folded in _GERMAN) + 2 * any(char in word for char in "äöüß")
        english += folded in _ENGLISH
    return "de" if german > english else "en"
