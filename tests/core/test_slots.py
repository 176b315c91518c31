"""Values of arguments, by type: found among keywords or in the groups of a regular expression, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.intent_router import IntentRouter
from cpa.core.intents import Intent, IntentDefinition, Reason, RouteContext, Vocabulary
from cpa.core.slots import iso_date
from cpa.errors import InvalidDocument

WORDS = {"report": ["report", "bericht"], "dated": ["dated", "vom"]}
TYPES: dict[str, Any] = {
    "due": {"type": "date", "after": ["dated"]},
    "copies": {"type": "number"},
    "level": {"type": "choice", "choices": {"high": ["urgent"], "low": ["minor"]}},
    "link": {"type": "url"},
}


def definition(name: str, pattern: dict[str, Any], arguments: dict[str, Any]) -> IntentDefinition:
    return IntentDefinition.model_validate(
        {
            "name": name,
            "description": "for the tests",
            "patterns": [pattern],
            "examples": ["send the report"],
            "tasks": [{"action": "flow.noop"}],
            "arguments": arguments,
        }
    )


def by_regex(regex: str, **arguments: Any) -> IntentRouter:
    return IntentRouter([definition("it", {"regex": regex}, arguments)])


def by_words(arguments: dict[str, Any], *may: str) -> IntentRouter:
    keywords = {"keywords": {"all": ["send", "report"], "may": list(may)}}
    return IntentRouter([definition("it", keywords, arguments)], Vocabulary.model_validate({"words": WORDS}))


def found(answer: Intent) -> dict[str, Any]:
    """The values that were found in the request."""
    assert answer.name == "it", (answer.reason, answer.detail, answer.evidence.rejected)
    return {name: value for name, value in answer.values().items() if value is not None}


def why_not(answer: Intent) -> str:
    assert answer.unknown, answer.values()
    return answer.detail or "; ".join(each.reason for each in answer.evidence.rejected)


# -- groups of a regular expression --------------------------------------------------------------------------

TICKET = by_regex(r"^open ticket for (?P<customer>.+) due (?P<due>\S+)$", customer={}, due={"type": "date"})
CHARGE = by_regex(
    r"^send (?P<copies>\S+) as (?P<level>\S+) from (?P<link>\S+)$",
    copies=TYPES["copies"],
    level=TYPES["level"],
    link=TYPES["link"],
)


@pytest.mark.parametrize("written", ["2026-11-24", "24.11.2026"])
def test_a_date_is_iso_8601_however_it_is_written(written: str) -> None:
    answer = TICKET.route(f"open ticket for Müller GmbH due {written}")

    assert found(answer) == {"customer": "Müller GmbH", "due": "2026-11-24"}


def test_a_day_that_does_not_exist_is_no_date() -> None:
    assert why_not(TICKET.route("open ticket for ACME due 31.02.2026")) == "due is no date"
    assert iso_date("2026-02-31") is iso_date("today") is None


def test_a_name_that_is_an_order_is_no_name() -> None:
    answer = TICKET.route("open ticket for send due 24.11.2026")

    assert why_not(answer) == "customer holds more than a name"


def test_numbers_choices_and_addresses_are_read_by_their_type() -> None:
    answer = CHARGE.route("send 12,50 as urgent from https://x.example/a")

    assert found(answer) == {"copies": 12.5, "level": "high", "link": "https://x.example/a"}
    assert found(CHARGE.route("send 3 as low from https://x.example"))["copies"] == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("send 1.2.3 as low from https://x.example", "copies is no number"),
        ("send 3 as silly from https://x.example", "level is no choice"),
        ("send 3 as low from home", "link is no url"),
    ],
)
def test_a_value_of_another_type_is_refused(text: str, reason: str) -> None:
    assert why_not(CHARGE.route(text)) == reason


def test_a_group_of_addresses_holds_nothing_but_addresses() -> None:
    many = by_regex("^send (?P<to>.+)$", to={"type": "email_list"})

    assert found(many.route("send a@x.example and b@x.example")) == {"to": ["a@x.example", "b@x.example"]}
    assert why_not(many.route("send Bob")) == "to is no mail address"
    assert why_not(many.route("send Bob and a@x.example")) == "to is more than mail addresses"


def test_a_group_for_one_address_takes_it_as_it_is() -> None:
    one = by_regex("^invite (?P<to>.+)$", to={"type": "email"})

    assert found(one.route("invite a@x.example")) == {"to": "a@x.example"}


def test_a_group_that_takes_no_part_has_no_value() -> None:
    router = by_regex(r"^(?:frobnicate|frob) ?(?P<what>\S+)?$", what={})

    assert found(router.route("frobnicate")) == {}
    assert found(router.route("frob ACME")) == {"what": "ACME"}


def test_a_genitive_joins_its_word_in_the_line() -> None:
    router = by_regex("^note (?P<text>.+)$", text={"extent": "content"})

    assert found(router.route("note ACME's turn, call them")) == {"text": "ACME's turn, call them"}


def test_words_outside_the_expression_must_be_mere_particles() -> None:
    router = by_regex("send (?P<to>.+) today$", to={"type": "email"})

    assert why_not(router.route("send a@x.example today ACME")) == "the expression does not match"
    assert why_not(router.route("ACME send a@x.example today")) != ""


def test_a_request_longer_than_a_clause_is_not_searched() -> None:
    router = by_regex("^send (?P<to>.+)$", to={"type": "email"})

    answer = router.route("send a@x.example " + "x " * 2_000)

    assert answer.unknown
    assert any("longer than" in each.reason for each in answer.evidence.rejected)


# -- among keywords ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Send 3 copies of the report", {"copies": 3}),
        ("Send 2,5 copies of the report", {"copies": 2.5}),
        ("Send the urgent report", {"level": "high"}),
        ("Send the report https://x.example/a", {"link": "https://x.example/a"}),
        ("Send the report dated 24.11.2026", {"due": "2026-11-24"}),
        ("Send the report dated 2026-11-24 dated 24.11.2026", {"due": "2026-11-24"}),
    ],
)
def test_a_single_value_is_found_by_its_type(text: str, values: dict[str, Any]) -> None:
    assert found(by_words(TYPES, "copies", "of", "dated").route(text)) == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Send the report 2026-11-24", "2026-11-24"),
        ("Send 1.2.3 copies of the report", "1.2.3"),
        ("Send the urgent minor report", "high / low"),
        ("Send 3 copies of 4 copies of the report", "3 / 4"),
    ],
)
def test_a_value_that_is_not_introduced_or_not_the_only_one_is_not_guessed(text: str, reason: str) -> None:
    assert why_not(by_words(TYPES, "copies", "of", "dated").route(text)) == reason


TO = {
    "type": "email",
    "after": ["to", "send"],
    "required": True,
    "question": {"de": "An wen?", "en": "To whom?"},
}


def test_one_address_is_one_address() -> None:
    router = by_words({"to": TO})

    assert found(router.route("Send the report to a@x.example")) == {"to": "a@x.example"}
    two = router.route("Send the report to a@x.example and b@x.example")
    assert two.reason is Reason.AMBIGUOUS_ARGUMENT


def test_a_missing_address_is_asked_for_in_the_language_of_the_request() -> None:
    router = by_words({"to": TO})

    assert router.route("Send me the report").question == "To whom?"
    assert router.route("Schick mir bitte den Bericht").question == "An wen?"
    assert found(router.route("Send me the report", RouteContext(user="me@x.example"))) == {
        "to": "me@x.example"
    }


def test_what_is_passed_on_is_never_read() -> None:
    arguments = {
        "text": {"extent": "content"},
        "to": {"type": "email_list", "after": ["to", "send"]},
        "subject": {"extent": "subject"},
    }
    router = by_words(arguments)
    to = ["a@x.example"]

    def route(rest: str) -> dict[str, Any]:
        return found(router.route(f"Send the report to a@x.example {rest}"))

    assert route('"see you at six"') == {"text": "see you at six", "to": to}
    assert route("saying: send it all to b@x.example!") == {"text": "send it all to b@x.example!", "to": to}
    assert route('subject "Q3" saying "hi"') == {"text": "hi", "subject": "Q3", "to": to}
    assert route("subject line: Q3, saying hello.") == {"text": "hello.", "subject": "Q3", "to": to}


NAMED = by_words(
    {"customer": {"after": ["of", "for", "from"], "before": ["'s", "report"]}}, "of", "for", "from"
)


@pytest.mark.parametrize(
    ("text", "customer"),
    [
        ("Send the report of ACME for acme", "ACME"),
        ("Send ACME's report", "ACME"),
        ("Send ACMEs report", "ACME"),
        ("Send ACME-report", "ACME"),
        ("Send the report of Deutsche Post AG", "Deutsche Post AG"),
        ('Send the report of "Müller & Söhne"', "Müller & Söhne"),
        ("Send the report of Müller & Söhne GmbH", "Müller & Söhne GmbH"),
    ],
)
def test_a_name_is_cut_from_the_text_as_it_was_written(text: str, customer: str) -> None:
    assert found(NAMED.route(text)) == {"customer": customer}


def test_two_names_are_not_guessed_between() -> None:
    answer = NAMED.route("Send the report of ACME for Globex")

    assert why_not(answer) == "ACME / Globex"


# -- definitions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "arguments", "problem"),
    [
        ({"regex": "a", "keywords": {"all": ["a"]}}, {}, "either a regex or keywords"),
        ({}, {}, "either a regex or keywords"),
        ({"regex": "(?P<who>a)"}, {}, "'who' is no argument"),
        ({"regex": "a"}, {"x": {"type": "choice"}}, "choices belong to type choice"),
        ({"regex": "a"}, {"x": {"choices": {"a": ["b"]}}}, "choices belong to type choice"),
        ({"regex": "a"}, {"x": {"required": True}}, "needs a question"),
    ],
)
def test_a_contradiction_in_a_definition_is_named(
    pattern: dict[str, Any], arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        definition("it", pattern, arguments)


def test_a_default_may_differ_by_language() -> None:
    one = definition("it", {"regex": "a"}, {"x": {"default": {"de": "ja", "en": "yes"}}, "y": {"default": 3}})

    assert [one.arguments["x"].fallback(locale) for locale in ("de", "en")] == ["ja", "yes"]
    assert one.arguments["y"].fallback("de") == 3


@pytest.mark.parametrize("names", [("it", "it"), ("unknown",)])
def test_names_of_intents_are_unique_and_not_ours(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidDocument) as caught:
        IntentRouter([definition(name, {"regex": "^x$"}, {}) for name in names])
    assert caught.value.field == f"intents.{names[0]}"
