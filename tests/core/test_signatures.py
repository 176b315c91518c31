"""The strict profile of HTTP Message Signatures: what is signed, and everything that is refused."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core.signatures import (
    COMPONENTS,
    WINDOW,
    Claim,
    check_time,
    claim,
    decoded,
    digest,
    encoded,
    key_id,
    outgoing,
    sign,
)
from cpa.errors import BadInput, Unauthorized

BODY = '{"größe": "mäßig"}'.encode()
URL = "https://CPA.example:443/lam/message"
KEY, NONCE, NOW = "default/ag_1", "n0nce-n0nce_n0nce", 1_795_000_000
Headers = list[tuple[bytes, bytes]]


def seal(data: bytes) -> bytes:
    """64 bytes that follow from the data: here nobody verifies."""
    return hashlib.sha512(data).digest()


def signed(url: str = URL, body: bytes = BODY, **more: str) -> Headers:
    headers = sign("POST", url, body, key=KEY, nonce=NONCE, created=NOW, sign=seal, **more)  # type: ignore[arg-type]
    host = url.partition("//")[2].partition("/")[0].partition("?")[0]
    sent = {"Host": host.lower().removesuffix(":443"), "User-Agent": "größe", **headers}
    return [(name.encode(), value.encode()) for name, value in sent.items()]


def read(
    headers: Headers,
    body: bytes = BODY,
    *,
    method: str = "POST",
    path: str = "/lam/message",
    query: str = "?",
) -> Claim:
    found = claim(method, path, query, headers, body)
    assert found is not None
    return found


def changed(name: str, old: str, new: str) -> Headers:
    """The headers of a good request with one of them changed."""
    headers = signed()
    place = next(i for i, (found, _) in enumerate(headers) if found.decode().lower() == name)
    value = headers[place][1].decode()
    assert old in value
    headers[place] = (headers[place][0], value.replace(old, new, 1).encode("latin-1"))
    return headers


def test_what_is_signed_is_what_is_claimed() -> None:
    found = read(signed())
    assert (found.key, found.nonce) == (KEY, NONCE)
    assert (found.created, found.expires) == (NOW, NOW + WINDOW)
    assert found.signature == seal(found.base)


def test_the_base_is_that_of_the_standard() -> None:
    assert read(signed()).base.decode() == "\n".join(
        (
            '"@method": POST',
            '"@authority": cpa.example',
            '"@path": /lam/message',
            '"@query": ?',
            f'"content-digest": {digest(BODY)}',
            '"content-type": application/json',
            '"@signature-params": ("@method" "@authority" "@path" "@query" "content-digest" "content-type")'
            f';created={NOW};expires={NOW + WINDOW};nonce="{NONCE}";keyid="{KEY}";alg="ed25519";tag="cpa-lam"',
        )
    )


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("http://127.0.0.1:8700", "/", "?"),
        ("http://127.0.0.1:8700?a=b&c", "/", "?a=b&c"),
        ("https://[::1]:8700/a%20b/c?x=%C3%A4", "/a%20b/c", "?x=%C3%A4"),
    ],
)
def test_host_path_and_query_are_signed_as_they_are_sent(url: str, path: str, query: str) -> None:
    found = read(signed(url), path=path, query=query)
    assert found.signature == seal(found.base)
    for other in ({"path": path + "x", "query": query}, {"path": path, "query": query + "x"}):
        wrong = read(signed(url), **other)  # type: ignore[arg-type]
        assert wrong.signature != seal(wrong.base)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://A.example:80/", "a.example"),
        ("https://a.example:443/", "a.example"),
        ("http://a.example:443/", "a.example:443"),
        ("https://a.example:80/", "a.example:80"),
        ("https://a.example", "a.example"),
    ],
)
def test_only_the_port_of_the_scheme_is_left_out(url: str, authority: str) -> None:
    """As clients do in the header Host."""
    assert outgoing("GET", url, b"", "").authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://a@b.example/",
        "https://a.example/#x",
        "https://größe.example/",
        "a.example",
        "",
    ],
)
def test_a_url_that_cannot_be_signed_is_named(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        sign("POST", url, BODY, key=KEY, nonce=NONCE, created=NOW, sign=seal)
    assert caught.value.field == "url"


def test_a_request_without_signature_claims_nothing() -> None:
    headers = [(name, value) for name, value in signed() if not name.startswith(b"Signature")]
    assert claim("POST", "/lam/message", "?", headers, BODY) is None


@pytest.mark.parametrize("name", ["host", "content-digest", "content-type", "signature-input", "signature"])
def test_a_signed_request_has_every_header_exactly_once(name: str) -> None:
    headers = signed()
    mine = [each for each in headers if each[0].decode().lower() == name]
    with pytest.raises(Unauthorized) as caught:
        read([each for each in headers if each not in mine])
    assert caught.value.field == name
    with pytest.raises(Unauthorized) as caught:
        read([*headers, (name.upper().encode(), mine[0][1])])
    assert caught.value.field == name


def test_the_digest_is_that_of_the_body() -> None:
    with pytest.raises(Unauthorized) as caught:
        read(signed(), BODY + b" ")
    assert caught.value.field == "content-digest"


COVERED = "(" + " ".join(f'"{name}"' for name in COMPONENTS) + ")"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cpa=", "sig1="),
        ("cpa=", 'other=("@method");created=1, cpa='),
        ('"@method" "@authority"', '"@authority" "@method"'),
        ('"@method" ', ""),
        ('"@method"', '"@method";req'),
        (' "content-type")', ")"),
        (' "content-type")', ' "content-type" "date")'),
        (COVERED, COVERED.replace(" ", "  ")),
        (";created", "; created"),
        (f"created={NOW}", f"created=0{NOW}"),
        (f"created={NOW}", f"created=+{NOW}"),
        (f"created={NOW}", f'created="{NOW}"'),
        (f"created={NOW}", f"created={NOW}.0"),
        (f"created={NOW}", f"created={NOW};created={NOW}"),
        (f";created={NOW}", ""),
        (f";expires={NOW + WINDOW}", ""),
        (f';nonce="{NONCE}"', ""),
        (f';nonce="{NONCE}"', ";nonce=12345678901"),
        (NONCE, "short"),
        (NONCE, NONCE + "é"),
        (NONCE, "n" * 65),
        (NONCE, NONCE + "\\\\"),
        (NONCE, NONCE + '"'),
        (f';keyid="{KEY}"', ""),
        (KEY, ""),
        (';alg="ed25519"', ""),
        ("ed25519", "ed25519ph"),
        ("ed25519", "hmac-sha256"),
        (';tag="cpa-lam"', ""),
        ("cpa-lam", "cpa-lam-frame"),
        (';tag="cpa-lam"', ';tag="cpa-lam";x="y"'),
        (';tag="cpa-lam"', ';tag="cpa-lam";'),
        (';tag="cpa-lam"', ';tag="cpa-lam", b=()'),
    ],
)
def test_what_is_not_exactly_of_the_profile_is_refused(old: str, new: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        read(changed("signature-input", old, new))
    assert caught.value.field in ("signature-input", "nonce")
    assert "docs/lam.md" in (caught.value.remedy or "")


def test_the_order_of_parameters_is_the_signers() -> None:
    headers = changed("signature-input", f';created={NOW};expires={NOW + WINDOW};nonce="{NONCE}"', "")
    place = [name.lower() for name, _ in headers].index(b"signature-input")
    more = f';nonce="{NONCE}";expires={NOW + WINDOW};created={NOW}'.encode()
    headers[place] = (headers[place][0], headers[place][1] + more)
    found = read(headers)
    assert (found.nonce, found.created) == (NONCE, NOW)
    assert found.base.endswith(more)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "cpa=::",
        "cpa=:AAAA:",
        f"sig1=:{encoded(b's' * 64)}:",
        f"cpa=:{encoded(b's' * 64)}",
        f"cpa=:{encoded(b's' * 63)}:",
        f"cpa=:{encoded(b's' * 65)}:",
        f"cpa=:{encoded(b's' * 64)}:, b=:AA==:",
        f"cpa=:{encoded(b's' * 64)[:-3]}x==:",
        f"cpa=:{encoded(b'?' * 64).replace('/', '_')}:",
    ],
)
def test_a_signature_is_64_bytes_in_the_one_right_base64(value: str) -> None:
    headers = [each for each in signed() if each[0] != b"Signature"]
    with pytest.raises(Unauthorized) as caught:
        read([*headers, (b"Signature", value.encode())])
    assert caught.value.field == "signature"


@pytest.mark.parametrize("name", ["content-type", "host"])
@pytest.mark.parametrize("value", ["größe", "a\tb", "a\x00b", "a\nb"])
def test_signed_headers_are_one_line_of_ascii(name: str, value: str) -> None:
    headers = [each for each in signed() if each[0].decode().lower() != name]
    with pytest.raises(Unauthorized) as caught:
        read([*headers, (name.encode(), value.encode())])
    assert caught.value.field == name


@pytest.mark.parametrize("part", ["method", "path", "query"])
def test_a_target_of_two_lines_cannot_pass_for_other_lines_of_the_base(part: str) -> None:
    with pytest.raises(Unauthorized):
        read(signed(), **{part: '/a\n"@path": /b'})  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        read(signed(), **{part: "/größe"})  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [-WINDOW, 0, WINDOW])
def test_a_signature_holds_within_its_window(late: int) -> None:
    check_time(NOW, NOW + WINDOW, NOW + late)
    check_time(NOW, NOW + 1, NOW + 1)


@pytest.mark.parametrize(
    ("created", "expires", "field"),
    [
        (NOW - WINDOW - 1, NOW, "expires"),
        (NOW - WINDOW - 1, NOW - 1, "created"),
        (NOW + WINDOW + 1, NOW + WINDOW + 2, "created"),
        (NOW - 5, NOW - 1, "created"),
        (NOW, NOW, "expires"),
        (NOW, NOW - 1, "expires"),
        (NOW, NOW + WINDOW + 1, "expires"),
    ],
)
def test_and_not_outside_of_it(created: int, expires: int, field: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        check_time(created, expires, NOW)
    assert caught.value.field == field
    if field == "created":
        assert str(NOW) in (caught.value.remedy or "")


def test_base64_has_one_spelling() -> None:
    assert decoded(encoded(b"x" * 32), 32) == b"x" * 32
    assert decoded(encoded(b"x" * 31), 32) is None
    assert decoded("größe" + "A" * 39, 32) is None
    assert decoded("A" * 43 + "é", 32) is None
    assert decoded("A" * 42 + "B=", 32) is None
    assert decoded("A" * 43 + "!", 32) is None
    assert decoded("A" * 44, 32) is None


def test_a_key_id_names_tenant_and_agent_and_fits_into_a_header() -> None:
    assert key_id("default", "ag_1") == KEY
    assert key_id("größe/x", "ag_1") == "gr%C3%B6%C3%9Fe%2Fx/ag_1"
    assert key_id("a/b", "c") != key_id("a", "b/c")


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_two_agents_never_share_a_key_id(a: str, b: str, c: str, d: str) -> None:
    assert (key_id(a, b) == key_id(c, d)) == ((a, b) == (c, d))
    assert re.fullmatch(r"[\w.~%/-]+", key_id(a, b), re.ASCII)
