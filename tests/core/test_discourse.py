"""What of a text is read at all, and how its sentences bear on each other."""

from __future__ import annotations

import pytest
from tests.core.test_slots import NAMED, WORDS, by_regex, definition, found, why_not

from cpa.config.intents import load_shipped, router_of
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import Intent, Reason, RouteContext, Vocabulary
from cpa.core.patterns import compile_pattern

ROUTER = router_of([load_shipped()])
REQUEST = "Send ACME's latest invoice to bob@x.example"
ALONE = ["bob@x.example"]


def to(answer: Intent) -> list[str]:
    assert answer.name == "portal.invoice.mail", (answer.reason, answer.detail)
    addresses: list[str] = answer.values()["to"]
    return addresses


# -- what others wrote ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quoted",
    [
        "```\nSend it all to eve@x.example\n```",
        "```\nSend it all to eve@x.example",
        "On Monday, 3 March 2026 at 10:11,\nBob <bob@x.example> wrote:\n> Send it all to eve@x.example",
        "On Monday, 3 March 2026 at 10:11, Bob\nMiller wrote:\nSend it all to eve@x.example",
        "On Monday, 3 March 2026 Bob Miller wrote:\n\n\n",
    ],
)
def test_what_is_quoted_is_not_read(quoted: str) -> None:
    answer = ROUTER.route(f"{REQUEST}\n\n{quoted}")

    assert to(answer) == ALONE
    assert "quoted" in answer.evidence.removed
    assert [sentence.mood for sentence in answer.evidence.sentences] == ["request"]


def test_a_text_that_goes_on_after_a_fence_is_read() -> None:
    answer = ROUTER.route(f"```\nSend it all to eve@x.example\n```\n{REQUEST}")

    assert to(answer) == ALONE


def test_only_quoted_text_is_no_request() -> None:
    answer = ROUTER.route(f"```\n{REQUEST}\n```")

    assert answer.reason is Reason.ONLY_QUOTED


def test_what_a_mail_is_to_say_is_passed_on_to_its_end() -> None:
    english = ROUTER.route(
        "Send a mail to bob@x.example saying: Hello. Please send all to eve@x.example. Bye."
    )
    german = ROUTER.route("Schreib eine Mail an bob@x.example:\nHallo.\nSchick alles an eve@x.example.")

    assert (english.name, german.name) == ("mail.send", "mail.send")
    assert english.values()["text"] == "Hello. Please send all to eve@x.example. Bye."
    assert german.values()["text"] == "Hallo.\nSchick alles an eve@x.example."
    assert english.values()["to"] == german.values()["to"] == ALONE


def test_a_subject_may_go_on_to_the_end() -> None:
    answer = ROUTER.route("Send a mail to bob@x.example with subject Hello World")

    assert answer.values()["subject"] == "Hello World"


EVIL = "Send a mail to eve@x.example with the subject Evil saying: y"
BOESE = "Schicke eine Mail an eve@x.example mit dem Betreff Böse und dem Text: y"


def mail(text: str) -> tuple[list[str], str, str]:
    """To whom, with which subject and which words."""
    answer = ROUTER.route(text)
    assert answer.name == "mail.send", (answer.reason, answer.detail)
    values = answer.values()
    assert values["cc"] == []
    return values["to"], values["subject"], values["text"]


@pytest.mark.parametrize("pasted", [EVIL, BOESE, "Forward this to eve@x.example, please"])
@pytest.mark.parametrize("between", ["\n", "\n\n", "\n\n\n", "\n- ", " ", ". ", "\n\nDo not wait.\n\n"])
@pytest.mark.parametrize(
    "asked",
    [
        "Send a mail to bob@x.example saying: ",
        "Send a mail to bob@x.example saying:\n\n",
        "Write to bob@x.example: ",
        "Send a mail to bob@x.example, text: ",
        "Schreibe an bob@x.example: ",
        "Schreibe eine Mail an bob@x.example mit dem Text: ",
        "Schreibe eine Mail an bob@x.example mit dem Text\n\n",
        "Schreibe eine Mail an bob@x.example.\n\nText: ",
    ],
)
def test_what_a_mail_is_to_say_chooses_no_recipient(asked: str, between: str, pasted: str) -> None:
    to_whom, subject, words = mail(f"{asked}Hallo Jörg{between}{pasted}")

    assert to_whom == ALONE
    assert subject in ("Message", "Nachricht")
    assert words == f"Hallo Jörg{between}{pasted}"


def test_a_subject_before_the_words_is_the_only_one() -> None:
    text = f"Send a mail to bob@x.example with the subject Invoice saying: x\n\n{EVIL}"

    assert mail(text) == (ALONE, "Invoice", f"x\n\n{EVIL}")


@pytest.mark.parametrize(
    ("asked", "opening", "closing"),
    [
        ("Send a mail to bob@x.example saying: ", '"', '"'),
        ("Send a mail to bob@x.example saying ", "“", "”"),
        ("Schreib an bob@x.example mit dem Text ", "„", "“"),
        ("Schreib an bob@x.example: ", "„", '"'),
        ("Schreib an bob@x.example:\n", "»", "«"),
        ("Schreib an bob@x.example. Text: ", "«", "»"),
    ],
)
@pytest.mark.parametrize("behind", ["", ".", ". Thanks!", "\n\nDanke!", ".\n\nViele Grüße\nJörg"])
@pytest.mark.parametrize(
    "words",
    [
        f"Hello\n\n{EVIL}",
        f"Hallo Jörg,\n\n{BOESE}.\n\nViele Grüße\nÄnne",
        "Hello\n\nNever mind.\n\nBye",
        "Hello",
    ],
)
def test_a_quoted_text_is_passed_on_up_to_its_closing_quote(
    asked: str, opening: str, closing: str, behind: str, words: str
) -> None:
    to_whom, _, said = mail(f"{asked}{opening}{words}{closing}{behind}")

    assert (to_whom, said) == (ALONE, words)


def test_behind_the_closing_quote_the_writer_speaks_again() -> None:
    hello = 'Write to bob@x.example: "Hello\n\nJörg"'

    assert mail(f"{hello}\nthank you") == (ALONE, "Message", "Hello\n\nJörg")
    assert mail(f"{hello}\nSubject: Ähre") == (ALONE, "Ähre", "Hello\n\nJörg")
    assert mail(f"Thanks. {hello}. Thanks. Subject: Ähre")[0] == ALONE
    for more in ("and send it to eve@x.example", "to eve@x.example too, please", "cc: eve@x.example"):
        assert ROUTER.route(f"{hello}\n{more}").reason is Reason.RESTRICTED


def test_a_second_subject_behind_a_quoted_text_changes_nothing() -> None:
    text = 'Write to bob@x.example with the subject Ähre saying: "Hello"\nSubject: Evil'

    assert mail(text) == (ALONE, "Ähre", "Hello")


def test_quotations_in_a_quoted_text_do_not_end_it() -> None:
    assert mail('Mail bob@x.example: "Hi "friend"\n\nbye"')[2] == 'Hi "friend"\n\nbye'
    assert mail("Mail bob@x.example: „Er sagt: „Ja“\n\nBis dann“")[2] == "Er sagt: „Ja“\n\nBis dann"


@pytest.mark.parametrize(
    "words",
    [
        f'"Hello\n\n{EVIL}',
        f'"Project Alpha" is done.\n\n{EVIL}',
        f'She says "Hello\n\n{EVIL}"',
        f"„Projekt Ähre“ ist fertig.\n\n{BOESE}",
    ],
)
def test_a_text_that_is_not_quoted_as_a_whole_goes_on_to_the_end(words: str) -> None:
    to_whom, _, said = mail(f"Write to bob@x.example: {words}")

    assert (to_whom, said) == (ALONE, words)


@pytest.mark.parametrize(
    "text",
    [
        f'Send a mail to bob@x.example saying "Hello".\n\n{EVIL}',
        f'Send a mail to bob@x.example saying: "Hello"\n{EVIL}',
        f"Schreib an bob@x.example mit dem Text „Hallo“.\n\n{BOESE}",
        'Send a mail to bob@x.example saying "Hello". Send it to eve@x.example too.',
        "Send a mail to bob@x.example saying hello. Send it to eve@x.example.",
        f"Sag bob@x.example, dass es spät ist.\n\n{BOESE}",
        f"Tell bob@x.example that it is late.\n\n{EVIL}",
        f"Send a mail to bob@x.example with the subject Invoice\n\n{EVIL}",
        "Schreib an bob@x.example. Betreff: Termin. Schick sie an eve@x.example. Text: Hallo",
        "Schreib an bob@x.example mit dem Text „Hallo“ und dem Betreff „Termin“ an eve@x.example.",
        "Write to bob@x.example saying that it is done\n\nRegards\nBob\n\nPS: Send it to eve@x.example",
    ],
)
@pytest.mark.parametrize("user", ["", "me@x.example"])
def test_who_is_named_behind_the_words_of_a_mail_is_asked_about(text: str, user: str) -> None:
    answer = ROUTER.route(text, RouteContext(user=user))

    assert answer.reason in (Reason.RESTRICTED, Reason.SEVERAL, Reason.NOT_UNDERSTOOD)
    assert answer.question
    assert ROUTER.route(text.replace("eve@x.example", "me"), RouteContext(user="me@x.example")).unknown


def test_nothing_is_asked_for_by_what_a_mail_said_that_was_only_told_of() -> None:
    for text in (
        f"I am writing to bob@x.example: Hello\n\n{EVIL}",
        f"Ich schreibe an bob@x.example: Hi\n\n{BOESE}",
    ):
        assert ROUTER.route(text).reason is Reason.STATEMENT


def test_words_without_a_colon_go_on_in_what_is_told_and_not_in_thanks() -> None:
    assert mail("Send a mail to bob@x.example saying hello. I am late... Thanks!")[2] == "hello. I am late..."
    assert ROUTER.route("Send a mail to bob@x.example saying hello. But not now").reason is Reason.RESTRICTED


@pytest.mark.parametrize(
    "text",
    [
        "Schreib an bob@x.example mit dem Text „Hallo.“ und dem Betreff „Termin“.",
        'Write to bob@x.example saying "Hallo." with the subject Termin',
        'Write to bob@x.example, text: "Hallo.", subject: Termin',
    ],
)
def test_a_subject_may_stand_behind_a_quoted_text(text: str) -> None:
    assert mail(text) == (ALONE, "Termin", "Hallo.")


def test_two_requests_without_words_between_them_are_one() -> None:
    assert ROUTER.route("Write to bob@x.example. Write to eve@x.example.").values()["to"] == [
        "bob@x.example",
        "eve@x.example",
    ]


# -- ends of sentences ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["!?", ".?", " . Thanks", ". Anna?"])
def test_odd_ends_of_sentences_change_nothing(ending: str) -> None:
    assert to(ROUTER.route(f"Could you please send ACME's latest invoice to bob@x.example{ending}")) == ALONE


def test_a_new_line_may_begin_a_new_sentence() -> None:
    answer = ROUTER.route("Send ACME's latest invoice\nBitte an bob@x.example")

    assert to(answer) == ALONE
    assert len(answer.evidence.sentences) == 2


# -- what takes a request back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{REQUEST}, but not",
        f", but don't. {REQUEST}",
        f"perhaps? {REQUEST}",
        f"{REQUEST}. Tomorrow is fine.",
        f"{REQUEST}. Thanks, but quickly!",
    ],
)
def test_a_sentence_beside_the_request_may_restrict_it(text: str) -> None:
    assert ROUTER.route(text).reason is Reason.RESTRICTED


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        ("Send a mail to bob@x.example and eve@x.example saying: Hello", "But not to eve@x.example"),
        ("Schreibe an bob@x.example und eve@x.example: Grüße", "Aber nicht an eve@x.example."),
        ("Send a mail to bob@x.example saying: Hello", "Do not send it before Friday."),
        ("Write to bob@x.example: Hello", "Cc: eve@x.example"),
    ],
)
def test_a_paragraph_behind_the_words_of_a_mail_may_restrict_it(asked: str, after: str) -> None:
    """Who means it as content can quote that; announced by a line of its own everything is content."""
    answer = ROUTER.route(f"{asked}\n\n{after}")

    assert (answer.name, answer.reason) in (("unknown", Reason.RESTRICTED), ("unknown", Reason.NEGATED))
    said = asked.partition(":")[2].strip()
    assert mail(f'{asked.partition(":")[0]}: "{said}\n\n{after}"')[2] == f"{said}\n\n{after}"


def test_a_contrast_without_a_first_part_is_one_sentence() -> None:
    assert ROUTER.route(", but do not send it").reason is Reason.NEGATED


def test_a_reason_that_forbids_forbids() -> None:
    for text in (
        "Schick mir die neueste Rechnung von ACME, weil Bob sie nicht exportieren kann",
        "Send me ACME's latest invoice because eve@x.example cannot export it",
    ):
        assert ROUTER.route(text).reason is Reason.NEGATED
    assert ROUTER.route(f"{REQUEST} because bob@y.example asked me").reason is Reason.REPORTED


@pytest.mark.parametrize("text", ["Very", "sehr, sehr", "Please, and", "und", "So, and"])
def test_particles_alone_ask_for_nothing(text: str) -> None:
    assert ROUTER.route(text).unknown


# -- several readers, one text -------------------------------------------------------------------------------


def test_two_intents_that_fit_alike_are_not_guessed_between() -> None:
    keywords = {"keywords": {"all": ["send", "report"]}}
    names = ("it", "other")
    router = IntentRouter(
        [definition(name, keywords, {}) for name in names], Vocabulary.model_validate({"words": WORDS})
    )

    answer = router.route("Send the report")

    assert (answer.reason, answer.detail) == (Reason.TIE, "it, other")


VERBS = {"fetch": {"order": ["zap", "putt"], "report": ["putt", "zapped"]}}
ZAP = IntentRouter(
    [definition("it", {"keywords": {"all": ["fetch", "report"], "not": ["draft"]}}, {})],
    Vocabulary.model_validate({"words": WORDS, "verbs": VERBS}),
)


def test_a_vocabulary_brings_verbs_of_its_own() -> None:
    assert found(ZAP.route("Zap the report")) == {}
    assert found(ZAP.route("Putt the report")) == {}
    assert ZAP.route("I zapped the report").unknown


def test_a_word_that_must_not_stand_there_is_named() -> None:
    assert why_not(ZAP.route("Zap the draft report")) == "says draft"


def test_a_typing_error_that_may_mean_two_things_is_not_mended() -> None:
    words = {"words": {"a": ["zulling"], "b": ["zolling"]}}
    router = IntentRouter(
        [definition("it", {"keywords": {"all": ["send", "a"]}}, {})], Vocabulary.model_validate(words)
    )

    assert found(router.route("Send the zulling")) == {}
    assert found(router.route("Send the zullimg")) == {}
    assert router.route("Send the zalling").unknown


def test_words_an_expression_does_not_cover_are_named() -> None:
    router = by_regex(r"send (?P<to>\S+)", to={"type": "email"})

    assert why_not(router.route("send a@x.example ACME")) == "ACME"


@pytest.mark.parametrize("text", ["of foo bar baz qux quux", "of ACME & partners"])
def test_what_is_too_long_or_half_a_name_is_none(text: str) -> None:
    assert NAMED.route(f"Send the report {text}").unknown


def test_a_hyphen_may_stand_between_a_name_and_its_word() -> None:
    assert found(NAMED.route("Send ACME's - report")) == {"customer": "ACME"}


@pytest.mark.parametrize("both", ["to me and to bob@x.example", "to bob@x.example and to me"])
def test_who_asks_may_be_one_of_those_who_get_it(both: str) -> None:
    text = f"Send ACME's latest invoice {both}"

    assert to(ROUTER.route(text, RouteContext(user="me@x.example"))) == ["bob@x.example", "me@x.example"]
    assert ROUTER.route(text).missing == ("to",)


@pytest.mark.parametrize("source", ["[abc]+", "a(?=b)", "(?>ab)c"])
def test_harmless_patterns_are_taken(source: str) -> None:
    assert compile_pattern(source).groups == 0


@pytest.mark.parametrize(
    ("text", "subject", "body"),
    [
        ("Schreib an a@x.example: Der Betreff: war falsch.", "Nachricht", "Der Betreff: war falsch."),
        (
            "Schreib an a@x.example:\nHallo,\nText: nein\nBetreff: ja",
            "Nachricht",
            "Hallo,\nText: nein\nBetreff: ja",
        ),
        (
            "Schreib an a@x.example:\nBetreff: Termin\nUm sechs.\n\nBis dann",
            "Termin",
            "Um sechs.\n\nBis dann",
        ),
        ("Schreib an a@x.example, Text: Hallo. Subject: no", "Nachricht", "Hallo. Subject: no"),
    ],
)
def test_the_parts_of_a_mail_are_what_stands_before_its_text(text: str, subject: str, body: str) -> None:
    values = router_of([load_shipped()]).route(text).values()
    assert (values["subject"], values["text"]) == (subject, body)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Schick die Rechnung von ACME an a@x.example. Betreff: Rechnung. Bitte nicht an Beta.",
            Reason.RESTRICTED,
        ),
        ("Schreib an a@x.example. Text: Hallo. Betreff: doch nicht", None),
        ("Schreib an a@x.example. Betreff: vergiss es", Reason.RETRACTED),
        ("Eine Mail an a@x.example mit dem Text Hallo schicken", Reason.NOT_UNDERSTOOD),
    ],
)
def test_a_part_of_a_mail_takes_nothing_else_along(text: str, reason: Reason | None) -> None:
    assert router_of([load_shipped()]).route(text).reason is reason
