"""What is asked back, in whose language, and what a reply fills in."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.config.intents import load_shipped, router_of
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import ArgumentDefinition, Intent, IntentDefinition, RouteContext, Vocabulary
from cpa.core.questions import language_of
from cpa.core.replies import replied

ROUTER = router_of([load_shipped()])
BOTH = {"de": "Was?", "en": "What?"}


def route(text: str, **replies: str) -> Intent:
    return ROUTER.route(text, RouteContext(replies=replies))


def argument(**given: Any) -> ArgumentDefinition:
    return ArgumentDefinition.model_validate(given)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ticketliste als PDF exportieren", "de"),
        ("Lagerbestand anzeigen", "de"),
        ("Bestellung 4711 stornieren", "de"),
        ("Postfach durchsuchen", "de"),
        ("Rechnung ACME", "de"),
        ("Schreib an anna@kunde.example", "de"),
        ("Pruefe den Bestand", "de"),
        ("Ich haette gern die Liste", "de"),
        ("Issue list as PDF", "en"),
        ("Order 4711", "en"),
        ("Book room 4", "en"),
        ("Export the list in the portal", "en"),
        ("4711", "en"),
    ],
)
def test_the_language_of_a_short_request(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Schicke die Rechnung von ACME", "An welche Mailadresse? Zum Beispiel: billing@kunde.example"),
        ("Send the ACME invoice", "To which mail address? For example: billing@kunde.example"),
        ("Schreib an bob@x.example", "Was soll in der Mail stehen? Zum Beispiel: Das Paket ist angekommen."),
        (
            "Hole die Rechnung von ACME für Beta",
            "Es ist mehr als eins genannt: ACME / Beta. Welches ist gemeint?",
        ),
        (
            "Hole die Rechnung von ACME und Beta",
            "Das habe ich nicht ganz verstanden, unklar ist: „Beta“. Wie ist es gemeint? Zum Beispiel: „Hole die "
            "neueste Rechnung von ACME aus dem Portal.“; ",
        ),
        (
            "Hole die Rechnung von ACME. Exportiere die Ticketliste als PDF.",
            "Das sind mehrere Aufträge. Bitte jeden einzeln schicken, etwa so: „Exportiere die Ticketliste als "
            "PDF“; „Hole die neueste Rechnung von ACME aus dem Portal.“",
        ),
        (
            "Get the invoice of ACME. Export the issue list as PDF.",
            'Those are several requests. Please send them one by one, for example: "Export the issue list as PDF"; '
            '"Get ACME\'s latest invoice from the portal."',
        ),
    ],
)
def test_a_question_is_in_the_words_of_the_one_who_asked(text: str, asked: str) -> None:
    assert route(text).question.startswith(asked)


def test_an_intent_without_an_example_for_the_argument_asks_without() -> None:
    definition = IntentDefinition.model_validate(
        {
            "name": "room.book",
            "description": "Book a room.",
            "patterns": [{"keywords": {"all": ["book", "room"]}}],
            "examples": ["Did you book a room?", "Book a room"],
            "arguments": {"number": {"type": "number", "required": True, "question": BOTH}},
            "tasks": [{"action": "flow.noop"}],
        }
    )
    router = IntentRouter([definition], Vocabulary(words={"room": ("room", "Raum")}))
    assert router.route("Please book a room").question == "What?"
    assert router.route("Bitte einen Raum buchen").question == "Was?"
    unclear = router.route("Bitte einen blauen Raum buchen")
    assert "„Did you book a room?“" in unclear.question  # it has none in German
    odd = router.route("Please book a room", RouteContext(replies={"number": "the blue one"}))
    assert odd.question == '"the blue one" does not answer that. What?'


def test_a_reply_fills_what_was_missing_and_nothing_else() -> None:
    text = "Schicke die Rechnung von ACME"
    answer = route(text, to="bitte an anna@kunde.example und bob@kunde.example", customer="Globex")
    assert answer.complete
    assert answer.values()["to"] == ["anna@kunde.example", "bob@kunde.example"]
    assert answer.values()["customer"] == "ACME"
    assert answer.arguments["to"].words == "bitte an anna@kunde.example und bob@kunde.example"


def test_a_reply_may_fill_what_has_a_default() -> None:
    answer = route("Schicke die Rechnung von ACME an anna@kunde.example", subject="Ihre Rechnung")
    assert answer.values()["subject"] == "Ihre Rechnung"


def test_a_reply_that_is_none_is_asked_for_again() -> None:
    answer = route("Schicke die Rechnung von ACME", to="an die Anna")
    assert answer.missing == ("to",)
    assert answer.question.startswith("„an die Anna“ beantwortet das nicht. An welche Mailadresse?")


MAILS = argument(type="email_list", required=True, question=BOTH)
MAIL = argument(type="email", required=True, question=BOTH)
NAME = argument(after=["of", "von"], required=True, question=BOTH)


@pytest.mark.parametrize(
    ("definition", "words", "value"),
    [
        (MAILS, "anna@x.example", ["anna@x.example"]),
        (MAILS, "an anna@x.example, anna@x.example und bob@x.example.", ["anna@x.example", "bob@x.example"]),
        (MAILS, "an anna@x.example und bob@x", None),
        (MAILS, "an Anna", None),
        (MAIL, "anna@x.example bitte", "anna@x.example"),
        (MAIL, "anna@x.example oder bob@x.example", None),
        (NAME, "ACME", "ACME"),
        (NAME, "von der ACME GmbH.", "ACME GmbH"),
        (NAME, "Die Zeit", "Die Zeit"),
        (NAME, "„Müller & Söhne“", "Müller & Söhne"),
        (NAME, "- bitte die von ACME!", "ACME"),
        (NAME, "...", None),
        (NAME, " ", None),
        (NAME, "„ “", None),
        (argument(extent="content"), " Hallo Anna,\nbis morgen. ", "Hallo Anna,\nbis morgen."),
        (argument(extent="subject"), '"Termin"', "Termin"),
        (argument(extent="content"), "  ", None),
        (argument(type="number"), "es sind 4 Stück", 4),
        (argument(type="number"), "4 oder 5", None),
        (argument(type="number"), "vier", None),
        (argument(type="date"), "am 24.11.2026", "2026-11-24"),
        (argument(type="url"), "https://x.example/a bitte", "https://x.example/a"),
        (argument(type="choice", choices={"high": ["hoch"], "low": ["niedrig"]}), "Hoch, bitte", "high"),
        (argument(type="choice", choices={"high": ["hoch"], "low": ["niedrig"]}), "egal", None),
    ],
)
def test_what_a_reply_means(definition: ArgumentDefinition, words: str, value: Any) -> None:
    assert replied(definition, words) == value
