"""What people write, in both languages: no action that was not asked for, and the plain requests understood."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cpa.config.intents import load_shipped, router_of
from cpa.core.intents import Intent, Reason, RouteContext
from cpa.errors import BadInput, TooLarge

CORPUS = yaml.safe_load((Path(__file__).parent / "utterances.yaml").read_text("utf-8"))
ROUTER = router_of([load_shipped()])
RECALL = 0.95


def requests() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (intent, text, group["arguments"] if not group.get("loose") else {"to": group["arguments"]["to"]})
        for intent, groups in CORPUS["requests"].items()
        for group in groups
        for text in group["texts"]
    ]


def others() -> list[str]:
    return [text for texts in CORPUS["unknown"].values() for text in texts]


def route(text: str, **context: Any) -> Intent:
    return ROUTER.route(text, RouteContext(**context))


def test_the_corpus_is_large() -> None:
    assert len(requests()) >= 200
    assert len(others()) >= 180


def test_plain_requests_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    missed = [(text, route(text)) for intent, text, _ in requests() if route(text).name != intent]
    share = 1 - len(missed) / len(requests())
    with capsys.disabled():
        print(f"\nunderstood: {share:.1%} of {len(requests())} plain requests")
    shown = "\n".join(f"{answer.name} {answer.reason} {answer.detail!r}: {text}" for text, answer in missed)
    assert share >= RECALL, shown


@pytest.mark.parametrize(("intent", "text", "arguments"), requests())
def test_a_request_is_its_intent_or_unknown_and_never_has_other_arguments(
    intent: str, text: str, arguments: dict[str, Any]
) -> None:
    answer = route(text)
    assert answer.name in (intent, "unknown")
    if not answer.unknown:
        assert {name: answer.values()[name] for name in arguments} == arguments
        assert answer.complete
        assert answer.score >= 0.5


@pytest.mark.parametrize("text", others())
def test_what_is_no_request_becomes_no_action(text: str) -> None:
    answer = route(text)
    assert not answer.complete, f"{answer.name} {answer.values()}"
    assert answer.question
    if answer.unknown:
        assert answer.reason is not None


def test_me_is_the_requester_when_the_channel_knows_an_address() -> None:
    assert route("Send me ACME's latest invoice", user="me@x.example").values()["to"] == ["me@x.example"]
    asked = route("Send me ACME's latest invoice", user="bob")
    assert (asked.name, asked.missing, asked.question) == (
        "portal.invoice.mail",
        ("to",),
        "To which mail address? For example: billing@kunde.example",
    )


@pytest.mark.parametrize(
    ("text", "reason"), [("asdf", Reason.NOT_UNDERSTOOD), ("Rechnung", Reason.STATEMENT)]
)
def test_of_words_that_nobody_knows_nothing_is_said_but_that(text: str, reason: Reason) -> None:
    answer = route(text)
    assert (answer.reason, answer.detail) == (reason, text)


def test_a_missing_argument_is_asked_for_in_the_language_of_the_request() -> None:
    answer = route("Hole die neueste Rechnung aus dem Portal.")
    assert (answer.name, answer.missing, answer.complete) == ("portal.invoice.download", ("customer",), False)
    assert answer.question == "Die Rechnung welches Kunden? Zum Beispiel: ACME"
    assert route("Get the latest invoice from the portal.").question == "Whose invoice? For example: ACME"
    assert route("Get the latest invoice from the portal.", locale="de").question.startswith("Die Rechnung")


@pytest.mark.parametrize(
    ("text", "passed_on"),
    [
        ("Schreibe eine Mail an anna@kunde.example: Die Tür ist offen.", "Die Tür ist offen."),
        ("Write a mail to anna@kunde.example saying: Plese downlaod it.", "Plese downlaod it."),
    ],
)
def test_what_is_passed_on_is_not_corrected(text: str, passed_on: str) -> None:
    answer = route(text)
    assert (answer.values()["text"], answer.score, answer.evidence.corrected) == (passed_on, 1.0, {})
    subject = route(text.replace("anna@kunde.example", "anna@kunde.example mit dem Betreff offen Rechnugn"))
    assert (subject.values()["subject"], subject.score) == ("offen Rechnugn", 1.0)


def test_umlauts_capitals_and_width_make_no_difference() -> None:
    plain = route("Könnten Sie bitte die neueste Rechnung von Müller herunterladen?")
    assert plain.values()["customer"] == "Müller"
    for text in (
        "KOENNTEN SIE BITTE DIE NEUESTE RECHNUNG VON Müller HERUNTERLADEN?",
        "Ko\u0308nnten Sie bitte die neueste Rechnung von Mu\u0308ller herunterladen?",
        "Könnten Sie\u00a0bitte die neu\u00adeste Rech\u200bnung von Müller herunterladen?",
    ):
        assert route(text).values()["customer"] == "Müller"


def test_evidence_tells_words_corrections_moods_and_why_others_lost() -> None:
    answer = route(
        "Hello!\n\nPlease downlaod ACME's latest invoice. I sent the old one yesterday.\n\n> send all"
    )
    evidence = answer.evidence
    assert answer.name == "portal.invoice.download"
    assert answer.score == 0.9
    assert evidence.corrected == {"downlaod": "download"}
    assert "invoice" in evidence.words
    assert [sentence.mood for sentence in evidence.sentences] == ["request", "statement"]
    assert set(evidence.removed) == {"greeting", "quoted"}
    lost = {rejected.intent: rejected.reason for rejected in evidence.rejected}
    assert lost["portal.invoice.mail"] == "does not say send"
    assert answer.arguments["customer"].words == "ACME"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Bitte nicht schicken", Reason.NEGATED),
        ("If they pay, send the invoice of ACME to a@x.example", Reason.CONDITIONAL),
        ("Send ACME's invoice to a@x.example tomorrow", Reason.LATER),
        ("He said: send ACME's invoice to a@x.example", Reason.REPORTED),
        ("Send ACME's invoice to a@x.example. Never mind.", Reason.RETRACTED),
        ("Did you send ACME's invoice to a@x.example?", Reason.QUESTION),
        ("I sent ACME's invoice to a@x.example.", Reason.STATEMENT),
        ("Send ACME's invoice to a@x.example. But only if they paid.", Reason.RESTRICTED),
        ("Send ACME's invoice to a@x", Reason.INVALID_ADDRESS),
        ("Get ACME's invoice. Export the issue list as PDF.", Reason.SEVERAL),
        ("Get the invoice of ACME. Get the invoice of Globex.", Reason.AMBIGUOUS_ARGUMENT),
        ("Get ACME's invoice and frame it", Reason.NOT_UNDERSTOOD),
        ("> send all", Reason.ONLY_QUOTED),
        ("Hello!", Reason.NO_REQUEST),
    ],
)
def test_unknown_says_why(text: str, reason: Reason) -> None:
    assert route(text).reason is reason


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b"])
def test_no_text_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="empty"):
        route(text)


def test_too_much_text_is_refused() -> None:
    with pytest.raises(TooLarge, match="20001 characters"):
        route("x" * 20_001)


def seconds(work: Callable[[str], object], text: str) -> float:
    """Least time of three that this takes, without the garbage collector: what it walks is everybody else's."""
    taken: list[float] = []
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            started = time.process_time()
            work(text)
            taken.append(time.process_time() - started)
    finally:
        if enabled:
            gc.enable()
    return min(taken)


def growth(work: Callable[[str], object], piece: str, times: int) -> float:
    """How many times longer four times the text takes: 4 for work that grows with the text, 16 for a quadratic
    search. Of three pairs the best counts, because a busy machine can only make one look worse."""
    quarter, whole = piece * (times // 4) + "x", piece * times + "x"
    work(quarter)
    grown: list[float] = []
    for _ in range(3):
        grown.append(seconds(work, whole) / max(seconds(work, quarter), 0.002))
        if grown[-1] < BOUND:
            break
    return min(grown)


def not_complete(text: str) -> None:
    assert not route(text).complete


BOUND = 9.0


def test_quadratic_work_would_be_seen() -> None:
    def pairs(text: str) -> int:
        return sum(left == right for left in text[::16] for right in text[::16])

    assert any(growth(pairs, ",", 19_000) > BOUND for _ in range(5))


@pytest.mark.parametrize(
    ("piece", "times"),
    [
        ("of ", 6_000),
        ("send ", 3_900),
        ("a@", 9_000),
        ('"', 19_000),
        ("> ", 9_000),
        (",", 19_000),
        ("bitte schicke an a@x.example ", 600),
        ("Am 1.1. schrieb ", 1_000),
        ("leite ", 3_000),
        ("\n", 19_000),
        ("Hallo ", 3_000),
        ("a.", 9_500),
        ("könnten sie ", 1_500),
        ("Bitte ", 3_300),
        ('Write to a@x.example saying "a". ', 600),
        (':"a\n', 4_700),
    ],
)
def test_the_work_for_a_hostile_text_grows_no_faster_than_the_text(piece: str, times: int) -> None:
    grown = growth(not_complete, piece, times)
    assert grown < BOUND, f"four times the text took {grown:.1f} times the time at best"
