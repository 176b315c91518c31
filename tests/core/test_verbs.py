"""Intents of one's own are started by the verbs people use, and by no others."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.intent_router import IntentRouter
from cpa.core.intents import IntentDefinition, Reason, Vocabulary
from cpa.core.lexicon import Lexicon
from cpa.core.verbs import COMMON, NOUNS, VERBS, common

WORDS = {"stock": ["stock", "Lagerbestand", "Bestand"], "article": ["article", "Artikel"]}
ARTICLE = {"after": ["article", "of", "von", "for", "für"]}


def intent(verb: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "stock." + verb.replace("ü", "ue"),
        "description": "Something about the stock.",
        "patterns": [{"keywords": {"all": [verb, "stock"], "may": ["article"]}}],
        "examples": ["-"],
        "arguments": {"article": ARTICLE},
        "tasks": [{"action": "flow.noop"}],
    } | more


def router(*verbs: str, **vocabulary: Any) -> IntentRouter:
    made = [IntentDefinition.model_validate(intent(verb)) for verb in verbs]
    return IntentRouter(made, Vocabulary.model_validate({"words": WORDS, **vocabulary}))


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("check", "Check the stock of article 4711"),
        ("check", "Prüfe den Lagerbestand von Artikel 4711"),
        ("check", "Bitte den Bestand von Artikel 4711 prüfen"),
        ("check", "Könnten Sie bitte einmal den Bestand von Artikel 4711 überprüfen?"),
        ("check", "Would you mind checking the stock of article 4711?"),
        ("check", "Es wäre nett, wenn du den Bestand von Artikel 4711 prüfst."),
        ("give", "Give me the stock of article 4711"),
        ("give", "Gib mir den Bestand von Artikel 4711"),
        ("give", "Können Sie mir den Bestand von Artikel 4711 geben?"),
        ("create", "Create a stock for article 4711"),
        ("create", "Lege einen Bestand für Artikel 4711 an"),
        ("create", "Bitte einen Bestand für Artikel 4711 anlegen"),
        ("enter", "Fill in the stock of article 4711"),
        ("enter", "Trage den Bestand von Artikel 4711 ein"),
        ("enter", "Trag bitte den Bestand von Artikel 4711 ein, danke."),
        ("enter", "Gib den Bestand von Artikel 4711 ein."),
        ("look_up", "Look up the stock of article 4711"),
        ("look_up", "Schau den Bestand von Artikel 4711 nach"),
        ("look_up", "Schau bitte nach dem Bestand von Artikel 4711"),
        ("look_up", "Could you look up the stock of article 4711 for me?"),
        ("look_up", "Schauen Sie bitte nach dem Bestand von Artikel 4711"),
        ("enter", "Tragen Sie bitte den Bestand von Artikel 4711 ein"),
        ("create", "Bitte legen Sie einen Bestand für Artikel 4711 an"),
        ("check", "Check the stock of article no. 4711"),
        ("check", "Check the stock of article #4711"),
        ("check", "Prüfe bitte den Bestand von Artikel Nr. 4711"),
        ("tell", "Tell me the stock of article 4711"),
        ("tell", "Sag mir bitte den Bestand von Artikel 4711"),
        ("update", "Change the stock of article 4711"),
        ("update", "Ich möchte, dass Sie den Bestand von Artikel 4711 ändern"),
        ("order", "Order stock for article 4711"),
        ("upload", "Lade den Bestand von Artikel 4711 hoch"),
    ],
)
def test_a_common_verb_starts_an_intent_of_one_s_own(verb: str, text: str) -> None:
    found = router(verb).route(text)
    assert (found.name, found.detail) == (f"stock.{verb}", "")
    assert found.values() == {"article": "4711"}


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("check", "I checked the stock of article 4711."),
        ("check", "Hast du den Bestand von Artikel 4711 geprüft?"),
        ("check", "Bitte nicht den Bestand von Artikel 4711 prüfen."),
        ("check", "Check the stock of article 4711. No, do not check it."),
        ("order", "Article stock order"),
        ("order", "The order stock of article 4711"),
        ("give", "Gib den Bestand von Artikel 4711 ein"),
        ("upload", "Lade den Bestand von Artikel 4711"),
        ("get", "Lade den Bestand von Artikel 4711 hoch"),
    ],
)
def test_no_other_sentence_does(verb: str, text: str) -> None:
    assert router(verb).route(text).unknown


@pytest.mark.parametrize(
    "text", ["Check no 4711 stock", "Check the stock of article no.", "Check stock of no. x", "#"]
)
def test_what_announces_no_number_is_what_it_was(text: str) -> None:
    assert router("check").route(text).unknown


def test_a_word_that_introduces_a_value_may_be_the_pattern_s_own() -> None:
    definition = intent("create", patterns=[{"keywords": {"all": ["create", "article"]}}])
    found = IntentRouter(
        [IntentDefinition.model_validate(definition)], Vocabulary.model_validate({"words": WORDS})
    ).route("Bitte legen Sie den Artikel Schraube an")
    assert (found.name, found.values()) == ("stock.create", {"article": "Schraube"})


@pytest.mark.parametrize("word", ["check", "stocktake"])
def test_a_verb_of_a_pattern_may_be_forbidden(word: str) -> None:
    """Whether it is common, or the file's own, or written out in the pattern."""
    verbs = {"stocktake": {"order": ["stocktake"], "plain": ["stocktake"]}}
    found = router(word, verbs=verbs)
    assert not found.route(f"{word} the stock of article 4711").unknown
    assert found.route(f"{word} the stock of article 4711. Do not {word} it!").reason is Reason.NEGATED


def test_a_word_written_out_forbids_as_its_class_does() -> None:
    found = router("prüfe").route("Prüfe den Bestand von Artikel 4711. Nichts kontrollieren!")
    assert found.reason is Reason.NEGATED


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("Frobnicate the stock of article 4711", "Frobnicate"),
        ("bitteschön inventarisiere den Bestand von Artikel 4711", "inventarisiere"),
    ],
)
def test_a_verb_that_nobody_knows_is_named(text: str, verb: str) -> None:
    found = router("check").route(text)
    assert (found.reason, found.detail) == (Reason.UNKNOWN_VERB, verb)
    assert verb in found.question


@pytest.mark.parametrize(
    "text", ["Stock", "The stock is low", "Frobnicate the stock?", "4711 is the article"]
)
def test_what_is_no_order_has_no_unknown_verb(text: str) -> None:
    assert router("check").route(text).reason is not Reason.UNKNOWN_VERB


def test_verbs_of_one_s_own_are_added_to_those_there_are() -> None:
    mine = {"count": {"order": ["inventarisiere"], "plain": ["inventarisieren"]}}
    found = router("count", verbs=mine)
    for text in ("Zähle den Bestand von Artikel 4711", "Bitte den Bestand von Artikel 4711 inventarisieren"):
        assert found.route(text).name == "stock.count"


def test_every_class_has_words_for_both_languages() -> None:
    for name in COMMON:
        forms = common(name)
        assert set(forms) == set(VERBS["get"])
        assert len(forms["order"].split()) >= 2
        assert forms["plain"]
        assert forms["gerund"]
    assert not set(COMMON) & set(VERBS)


def test_typing_errors_are_not_mended_into_common_verbs() -> None:
    lexicon = Lexicon()
    assert lexicon.correct("bestellung") == ""
    assert lexicon.correct("aktualisere") == ""
    assert lexicon.correct("exportire")


def test_nouns_that_are_verbs_are_known_as_such() -> None:
    lexicon = Lexicon()
    assert all(any(tag.startswith("verb:") for tag in lexicon.tags(word)) for word in NOUNS.split())
