"""Composed messages, read back by another parser: what went in comes out, and nothing else."""

from __future__ import annotations

import time
from contextlib import suppress
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cpa.executors.arguments import Stopped
from cpa.executors.mail.message import POLICY, compose, header_text, message_id, parse_addresses, safe_name
from cpa.ports.mail import MailAttachment

HEADERS = ["From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted"]
LINE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=200)
SENDER = Address(display_name="Büro", username="buero", domain="firma.example")


def read_back(message: EmailMessage) -> EmailMessage:
    content = message.as_bytes(policy=POLICY)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    return message_from_bytes(content, policy=default)


def letter(
    *, subject: str = "x", name: str = "", text: str = "x", domain: str = "kunde.example", file: str = ""
) -> EmailMessage:
    return compose(
        sender=SENDER,
        to=[Address(display_name=name, username="a", domain=domain)],
        cc=[],
        subject=subject,
        text=text,
        attachments=[MailAttachment(name=file, media_type="application/pdf", content=b"%PDF")]
        if file
        else [],
        identity=message_id("0" * 32, SENDER),
    )


def headers(message: EmailMessage) -> list[str]:
    return [name for name in message.keys() if not name.lower().startswith(("content-", "mime-"))]  # noqa: SIM118


@given(LINE)
@example("=?utf-8?q?Bcc?=: x")
@example("Re: " + "ä" * 150)
@example("x" * 150)
def test_any_one_line_subject_comes_back(subject: str) -> None:
    received = read_back(letter(subject=subject))
    assert headers(received) == HEADERS
    assert received["Subject"].split() == subject.split()


WORDS = [
    "=?utf-8?q?x=0d=0aReply-To:_evil=40x.example=0d=0a=0d=0aBODY?=",
    "a" * 77 + "=?utf-8?b?DQpYLUV2aWw6IDE=?=",
    " =?utf-8?q?=00?=",
    "Re: =?iso-8859-1?q?=0a?= und =?utf-8?b?Cg==?=",
]


@pytest.mark.parametrize("word", WORDS)
def test_encoded_words_stay_what_they_are(word: str) -> None:
    received = read_back(letter(subject=word, file=f"{word}.pdf"))
    assert headers(received) == HEADERS
    assert received["Subject"].strip() == word.strip()
    body = received.get_body()
    assert body is not None
    assert body.get_content().split() == ["x"]
    (attached,) = received.iter_attachments()
    assert sorted(name.lower() for name in attached.keys()) == [  # noqa: SIM118
        "content-disposition",
        "content-transfer-encoding",
        "content-type",
        "mime-version",
    ]
    assert "=?" not in (attached.get_filename() or "")


@pytest.mark.parametrize("user", ["=?utf-8?q?x=0a?=", "a.=?utf-8?q?x=0a?="])
def test_encoded_words_in_an_address_are_refused(user: str) -> None:
    with pytest.raises(Stopped, match="is not a mail address"):
        parse_addresses("to", f"{user}@kunde.example")


def test_a_header_that_would_be_more_than_one_is_not_sent() -> None:
    with pytest.raises(Stopped, match="would be more than one"):
        letter(name="=?utf-8?q?a=0d=0aBcc:_b=40c.example?=")


@given(LINE)
def test_any_display_name_stays_a_display_name(name: str) -> None:
    received = read_back(letter(name=name))
    assert headers(received) == HEADERS
    assert [each.addr_spec for each in received["To"].addresses] == ["a@kunde.example"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_file_name_becomes_one_harmless_name(name: str) -> None:
    received = read_back(letter(file=name or "file"))
    assert headers(received) == HEADERS
    (attached,) = received.iter_attachments()
    found = attached.get_filename()
    assert found
    assert not set(found) & set("/\\\r\n\x00")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_any_text_stays_in_the_body(text: str) -> None:
    received = read_back(letter(text=text))
    assert headers(received) == HEADERS
    body = received.get_body()
    assert body is not None
    assert body.get_content().split() == text.split()


@given(st.one_of(st.text(max_size=60), st.text('ab1@.<>",;: ()[]\\=?_-ü\n', max_size=40)))
@example("a@b.example, c@d.example")
@example('"a\\"@x" <b@c.example>')
@example("a@[127.0.0.1]")
@example("<a@b.example> <c@d.example>")
@example("a@b.example(comment)")
@example("=?utf-8?q?a=0Ab?= <a@b.example>")
def test_any_recipient_text_gives_plain_addresses_or_a_refusal(text: str) -> None:
    try:
        found = parse_addresses("to", text)
    except Stopped as stopped:
        assert stopped.error.code == "invalid_address"  # noqa: PT017
        assert "\n" not in stopped.error.message  # noqa: PT017
        return
    for address in found:
        assert address.addr_spec.isascii()
        assert not set(address.addr_spec) & set(' <>\r\n"(),:;')
        assert address.addr_spec.count("@") == 1
        message = letter(name=address.display_name, domain=address.domain)
        assert headers(read_back(message)) == HEADERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jürgen Groß <j.gross@kunde.example>", ["Jürgen Groß <j.gross@kunde.example>"]),
        (
            '"Groß, J. \\"X\\"" <a@b.example>; c@d.example,',
            ['"Groß, J. \\"X\\"" <a@b.example>', "c@d.example"],
        ),
        ("Müller GmbH (Einkauf) <x+y@faß.example>", ['"Müller GmbH (Einkauf)" <x+y@xn--fa-hia.example>']),
        ("O'Neil <o@n.example>, <p@n.example>", ["O'Neil <o@n.example>", "p@n.example"]),
    ],
)
def test_addresses_as_people_write_them_are_understood(text: str, expected: list[str]) -> None:
    assert [str(each) for each in parse_addresses("to", text)] == expected


@pytest.mark.parametrize("part", [" ", '"', "\\a", "a ", "<", "(", "a@b.example,", ",", "\\", '"a" '])
def test_reading_a_long_hostile_recipient_text_takes_no_time(part: str) -> None:
    begun = time.monotonic()
    with suppress(Stopped):
        parse_addresses("to", part * (32_000 // len(part)))
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("labels", [1, 3])
def test_long_sender_domain_keeps_the_message_id_in_one_piece(labels: int) -> None:
    sender = Address(
        username="a", domain=".".join(["abteilung-fuer-eingangsrechnungen-und-mahnwesen"] * labels)
    )
    identity = message_id("f" * 32, sender)
    message = compose(
        sender=sender,
        to=[SENDER],
        cc=[],
        subject="x",
        text="x",
        attachments=[],
        identity=identity,
    )
    assert message_from_bytes(message.as_bytes(policy=POLICY))["Message-ID"].strip() == identity
    assert read_back(message)["Message-ID"] == identity


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b", "a\x0bb", "a\x85b", "a\u2028b"])
def test_anything_that_could_end_a_header_is_refused(value: str) -> None:
    with pytest.raises(Stopped, match="line break"):
        header_text("subject", value)


@pytest.mark.parametrize(
    ("given_name", "plain"),
    [("../../a.pdf", "a.pdf"), ("C:\\x\\b.pdf", "b.pdf"), ("", "file"), ("..", "file"), ("ü.pdf", "ü.pdf")],
)
def test_path_in_a_file_name_is_dropped(given_name: str, plain: str) -> None:
    assert safe_name(given_name) == plain
