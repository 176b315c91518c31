"""What a person's reply to a question means: "an anna@kunde.example", after "An welche Mailadresse?"."""

from __future__ import annotations

from typing import Any

from cpa.core.folding import clean, spellings
from cpa.core.intents import ArgumentDefinition, ArgumentType, Extent
from cpa.core.language import ARTICLES, COURTESY
from cpa.core.marking import Marked
from cpa.core.slots import value_of
from cpa.core.utterance import Token, tokens_of

_ARTICLES = frozenset(form for word in ARTICLES.split() for form in spellings(word))
_COURTESY = frozenset(form for word in COURTESY.split() for form in spellings(word))
_QUOTES = "\"'“”„«»‘’‚ "
_WHOLE = (Extent.CONTENT, Extent.SUBJECT)


def replied(definition: ArgumentDefinition, words: str) -> Any:
    """The value that a reply gives to the argument that was asked for; None for none, or more than one."""
    text = clean(words).strip()
    tokens = tokens_of(text, 0, len(text))
    if definition.type in (ArgumentType.EMAIL, ArgumentType.EMAIL_LIST):
        return _addresses(definition, tokens)
    if definition.type is not ArgumentType.TEXT:
        values = [value for token in tokens if (value := value_of(definition, Marked(token))) is not None]
        return values[0] if values and all(value == values[0] for value in values) else None
    if definition.extent in _WHOLE:
        return text.strip(_QUOTES) or None
    while tokens and _introduces(definition, tokens[0]):
        tokens = tokens[1:]
    while tokens and tokens[-1].text in (".", "!", "?", ","):
        tokens = tokens[:-1]
    return (text[tokens[0].start : tokens[-1].end].strip(_QUOTES) or None) if tokens else None


def _addresses(definition: ArgumentDefinition, tokens: list[Token]) -> Any:
    found = list(dict.fromkeys(token.text for token in tokens if token.kind == "mail"))
    if not found or any(token.kind == "badmail" for token in tokens):
        return None
    if definition.type is ArgumentType.EMAIL_LIST:
        return found
    return found[0] if len(found) == 1 else None


def _introduces(definition: ArgumentDefinition, token: Token) -> bool:
    """Whether this word only leads to a name: "die von …", "bitte für …"; but "Die Zeit" is one."""
    if token.kind == "punct":
        return True
    if token.fold in _ARTICLES and token.text[:1].islower():
        return True
    return token.fold in _COURTESY or any(token.fold in spellings(word) for word in definition.after)
