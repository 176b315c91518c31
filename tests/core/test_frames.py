"""Signed frames of a channel: each counts once, in its place, in its connection."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from cpa.core.frames import FrameClaim, FrameSigner, Opening, claim
from cpa.core.signatures import WINDOW, encoded
from cpa.errors import Unauthorized

PATH, NOW = "/agents/ag_1/channel", 1_795_000_000
OPENING = Opening(path=PATH, key="default/ag_1", nonce="n0nce-n0nce_n0nce", created=NOW)
HELLO, NEXT = '{"hello":{"stream":"größe"}}', '{"seq":1,"message":{}}'


def seal(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


def sealed(*texts: str, opening: Opening = OPENING) -> list[str]:
    signer = FrameSigner(opening, seal)
    return [signer.seal(text) for text in texts]


def good(found: FrameClaim) -> bool:
    return found.signature == seal(found.base)


def refused(
    text: str, opening: Opening | None = None, number: int = 0, *, path: str = PATH, now: int = NOW
) -> str:
    """The field that is named."""
    with pytest.raises(Unauthorized) as caught:
        claim(text, path, opening, number, now)
    return caught.value.field or ""


def edited(frame: str, **security: Any) -> str:
    document = json.loads(frame)
    document["security"] |= security
    return json.dumps(document)


def test_a_connection_opens_and_goes_on() -> None:
    first, second = sealed(HELLO, NEXT)
    opened = claim(first, PATH, None, 0, NOW)
    assert (opened.opening, opened.text) == (OPENING, HELLO)
    assert good(opened)
    # Much later: the connection is what binds it.
    later = claim(second, PATH, opened.opening, 1, NOW + 10_000)
    assert later.text == NEXT
    assert good(later)


def test_only_the_first_frame_names_key_nonce_and_time() -> None:
    first, second = sealed(HELLO, NEXT)
    assert json.loads(first)["security"].keys() == {"keyId", "nonce", "created", "signature"}
    assert json.loads(second)["security"].keys() == {"number", "signature"}
    for more in ({"keyId": "default/ag_2"}, {"nonce": OPENING.nonce}, {"created": NOW}):
        assert refused(edited(second, **more), OPENING, 1) == "security"


def test_what_is_signed_stands_in_lines() -> None:
    found = claim(sealed(HELLO)[0], PATH, None, 0, NOW)
    assert found.base.decode() == "\n".join(
        (
            "cpa-lam-frame",
            PATH,
            "default/ag_1",
            OPENING.nonce,
            str(NOW),
            "0",
            encoded(hashlib.sha256(HELLO.encode()).digest()),
        )
    )


def test_a_frame_counts_in_its_place_only() -> None:
    first, second, third = sealed(HELLO, NEXT, NEXT)
    assert refused(third, OPENING, 1) == "security.number"
    assert refused(second, OPENING, 2) == "security.number"
    assert refused(first, OPENING, 1) == "security.number"
    assert refused(second) == "security.number"


def test_a_frame_of_another_connection_or_path_does_not_hold() -> None:
    other = Opening(path=PATH, key=OPENING.key, nonce="another-nonce-123", created=NOW)
    assert not good(claim(sealed(HELLO, NEXT, opening=other)[1], PATH, OPENING, 1, NOW))
    assert not good(claim(sealed(HELLO)[0], "/agents/ag_2/channel", None, 0, NOW))


@pytest.mark.parametrize("late", [-WINDOW, 0, WINDOW])
def test_the_first_frame_comes_soon(late: int) -> None:
    assert good(claim(sealed(HELLO)[0], PATH, None, 0, NOW + late))


@pytest.mark.parametrize("late", [-WINDOW - 1, WINDOW + 1])
def test_or_is_refused(late: int) -> None:
    assert refused(sealed(HELLO)[0], now=NOW + late) == "created"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        HELLO,
        '{"signed": 1, "security": {"signature": "x"}}',
        '{"signed": "{}"}',
        '{"signed": "{}", "security": {}}',
        '{"signed": "{}", "security": {"signature": "x", "more": 1}}',
        '{"signed": "{}", "security": {"signature": "x"}, "message": {}}',
        '{"signed": "\\ud800", "security": {"signature": "x"}}',
        "\ud800",
    ],
)
def test_what_is_no_signed_frame_is_refused(text: str) -> None:
    assert refused(text) == "security"
    assert refused(text, OPENING, 1) == "security"


@pytest.mark.parametrize("nonce", ["", "short", "n" * 65, "größe-größe-größe", "a\nb-0123456789012"])
def test_what_is_no_nonce_opens_nothing(nonce: str) -> None:
    assert refused(edited(sealed(HELLO)[0], nonce=nonce)) == "nonce"


@pytest.mark.parametrize("signature", ["", "AAAA", encoded(b"s" * 63), "é" * 88])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert refused(edited(sealed(HELLO)[0], signature=signature)) == "security.signature"
    assert refused(edited(sealed(HELLO, NEXT)[1], signature=signature), OPENING, 1) == "security.signature"


def test_every_part_is_signed() -> None:
    first, second = sealed(HELLO, NEXT)
    for frame in (
        edited(first, keyId="default/ag_2"),
        edited(first, nonce="another-nonce-123"),
        edited(first, created=NOW + 1),
        first.replace("größe", "grösse"),
    ):
        assert not good(claim(frame, PATH, None, 0, NOW))
    assert not good(claim(second.replace("seq", "seQ"), PATH, OPENING, 1, NOW))
