"""Signed requests: a strict profile of HTTP Message Signatures (RFC 9421) with Ed25519 and a digest of the body
(RFC 9530).

A signature covers exactly this, in this order:

    "@method" "@authority" "@path" "@query" "content-digest" "content-type"

with exactly these parameters, in any order: `created` and `expires` (seconds), `nonce`, `keyid`, `alg="ed25519"`,
`tag="cpa-lam"`. One signature, called `cpa`; one digest, `sha-256`. Everything else is refused: what two readers
could read differently, what is left out, what comes twice, base64 with stray bits.

`@authority` and `@path` rather than `@target-uri`: behind a proxy that ends TLS the scheduler does not know the
scheme that was asked for, while host and path reach it unchanged.

Who signs and what is accepted when is decided elsewhere. Nothing here is random and no clock is read: nonce, time
and the primitive come in as arguments.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable

import msgspec

from cpa.errors import BadInput, Unauthorized

LABEL = "cpa"
TAG = "cpa-lam"
COMPONENTS = ("@method", "@authority", "@path", "@query", "content-digest", "content-type")
WINDOW = 60
"""Seconds by which `created` may be off, and the longest time from `created` to `expires`."""

Sign = Callable[[bytes], bytes]
"""Ed25519 over these bytes; gives 64."""

_COVERED = "(" + " ".join(f'"{name}"' for name in COMPONENTS) + ")"
_HEADERS = ("host", "content-digest", "content-type", "signature-input", "signature")
_URL = re.compile(r"(https?)://([^/?#@\s]+)(/[^?#\s]*)?(\?[^#\s]*)?")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}
_PARAMETER = re.compile(r';([a-z]+)=(?:"([\x20\x21\x23-\x5b\x5d-\x7e]{1,300})"|(0|[1-9][0-9]{0,11}))')
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_TEXTS, _NUMBERS = ("nonce", "keyid", "alg", "tag"), ("created", "expires")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request is signed, as it goes over the wire."""

    method: str
    authority: str
    """Host in lower case, and the port unless it is the scheme's own."""
    path: str
    """As sent, percent-encoded; at least `/`."""
    query: str
    """With its question mark; `?` alone when there is none."""
    content_type: str
    body: bytes


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature says, before anybody has verified it."""

    key: str
    nonce: str
    created: int
    """Seconds since 1970 UTC, as `expires`."""
    expires: int
    base: bytes
    """What was signed."""
    signature: bytes


def key_id(tenant: str, agent: str) -> str:
    """What an agent calls its signing key: it names the tenant and the agent, and nobody else's."""
    return f"{_plain(tenant)}/{_plain(agent)}"


def sign(
    method: str,
    url: str,
    body: bytes,
    *,
    content_type: str = "application/json",
    key: str,
    nonce: str,
    created: int,
    sign: Sign,
) -> dict[str, str]:
    """The headers to send with a request, content type included. `nonce` is fresh for each: 16 to 64 letters,
    digits, `-` and `_`; `created` is now, in seconds. Raises `BadInput` for a URL that cannot be signed."""
    request = outgoing(method, url, body, content_type)
    parameters = (
        f'{_COVERED};created={created};expires={created + WINDOW};nonce="{nonce}";keyid="{key}"'
        f';alg="ed25519";tag="{TAG}"'
    )
    return {
        "Content-Type": content_type,
        "Content-Digest": digest(body),
        "Signature-Input": f"{LABEL}={parameters}",
        "Signature": f"{LABEL}=:{encoded(sign(base(request, parameters)))}:",
    }


def claim(
    method: str, path: str, query: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> Claim | None:
    """What the signature of a request claims; None for one without any sign of a signature. Raises `Unauthorized`
    for one that is not exactly of this profile, or whose digest is not that of the body."""
    found = _single(headers)
    if not found.keys() & {"signature", "signature-input"}:
        return None
    for name in _HEADERS:
        if name not in found:
            raise _refused(name, "", f"a signed request has the header {name}")
    for part in (method, path, query):
        if not (part.isascii() and part.isprintable()):
            raise _refused("path", part, "the target of a signed request is one line of ASCII")
    if found["content-digest"] != digest(body):
        raise _refused("content-digest", found["content-digest"], "this is not the digest of the body")
    parameters, said = _parameters(found["signature-input"])
    request = Request(
        method=method,
        authority=found["host"].lower(),
        path=path,
        query=query,
        content_type=found["content-type"],
        body=body,
    )
    return Claim(
        key=said["keyid"],
        nonce=said["nonce"],
        created=int(said["created"]),
        expires=int(said["expires"]),
        base=base(request, parameters),
        signature=_signature(found["signature"]),
    )


def check_time(created: int, expires: int, now: int) -> None:
    """Raises `Unauthorized` when a signature does not hold at this moment. All in seconds."""
    if not 0 < expires - created <= WINDOW:
        raise _refused("expires", expires, f"a signature holds for at most {WINDOW} seconds")
    if abs(now - created) > WINDOW or now > expires:
        raise Unauthorized(
            f"signed {abs(now - created)} seconds {'ago' if now > created else 'ahead'}, which is too much",
            field="created",
            value=created,
            remedy=f"sign anew when sending; set the clock, here it is {now} (seconds since 1970 UTC)",
        )


def base(request: Request, parameters: str) -> bytes:
    """The signature base of RFC 9421, section 2.5."""
    values = (
        request.method,
        request.authority,
        request.path,
        request.query,
        digest(request.body),
        request.content_type,
    )
    lines = [f'"{name}": {value}' for name, value in zip(COMPONENTS, values, strict=True)]
    return "\n".join((*lines, f'"@signature-params": {parameters}')).encode("ascii")


def outgoing(method: str, url: str, body: bytes, content_type: str) -> Request:
    """A request as the other side will see it. Raises `BadInput` for a URL that cannot be signed."""
    parts = _URL.fullmatch(url)
    if parts is None or not url.isascii():
        raise BadInput(
            "this URL cannot be signed",
            field="url",
            value=url,
            remedy="write it in ASCII, with scheme and host, without user, fragment and blanks",
        )
    scheme, host, path, query = parts.groups()
    return Request(
        method=method,
        authority=host.lower().removesuffix(_DEFAULT_PORT[scheme]),
        path=path or "/",
        query=query or "?",
        content_type=content_type,
        body=body,
    )


def digest(body: bytes) -> str:
    """The header Content-Digest of a body."""
    return f"sha-256=:{encoded(hashlib.sha256(body).digest())}:"


def encoded(data: bytes) -> str:
    """Base64 as it stands in headers, frames and registrations."""
    return base64.b64encode(data).decode("ascii")


def decoded(text: str, size: int) -> bytes | None:
    """The bytes, if this is base64 of exactly so many, written in the one right way; else None."""
    if len(text) != (size + 2) // 3 * 4 or not text.isascii():
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if len(data) == size and encoded(data) == text else None


def _single(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that matter. Raises `Unauthorized` for one that comes twice or is no printable ASCII."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name not in _HEADERS:
            continue
        text = value.decode("latin-1")
        if name in found:
            raise _refused(name, text, "this header may stand in a signed request once")
        if not (text.isascii() and text.isprintable()):
            raise _refused(name, text, "a signed header is one line of ASCII")
        found[name] = text.strip()
    return found


def _parameters(field: str) -> tuple[str, dict[str, str]]:
    """The parameters as they stand, and each by name."""
    start = f"{LABEL}={_COVERED}"
    if not field.startswith(start):
        raise _refused(
            "signature-input", field, f"a signature is called {LABEL} and covers exactly {_COVERED}"
        )
    said: dict[str, str] = {}
    place = len(start)
    while place < len(field):
        found = _PARAMETER.match(field, place)
        name = "" if found is None else found[1]
        if found is None or name in said or name not in (_TEXTS if found[3] is None else _NUMBERS):
            raise _refused("signature-input", field[place:], "this is no parameter of a signature here")
        said[name] = found[2] or found[3]
        place = found.end()
    missing = [name for name in (*_NUMBERS, *_TEXTS) if name not in said]
    if missing:
        raise _refused("signature-input", field, f"the signature lacks {', '.join(missing)}")
    if (said["alg"], said["tag"]) != ("ed25519", TAG):
        raise _refused("signature-input", field, f'a signature has alg="ed25519" and tag="{TAG}"')
    check_nonce(said["nonce"])
    return field[len(LABEL) + 1 :], said


def check_nonce(nonce: str) -> None:
    """Raises `Unauthorized` for what is no nonce."""
    if not _NONCE.fullmatch(nonce):
        raise _refused("nonce", nonce, "a nonce is 16 to 64 letters, digits, - and _, drawn anew each time")


def _signature(field: str) -> bytes:
    start, end = f"{LABEL}=:", ":"
    data = None
    if field.startswith(start) and field.endswith(end):
        data = decoded(field[len(start) : -len(end)], 64)
    if data is None:
        raise _refused(
            "signature", field, f"a signature reads {LABEL}=:…: with the 64 bytes of Ed25519 in base64"
        )
    return data


def _plain(text: str) -> str:
    """Percent-encoded, but for what needs no encoding anywhere."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "._~-") else f"%{byte:02X}"
        for byte in text.encode("utf-8", "backslashreplace")
    )


def _refused(field: str, value: object, why: str) -> Unauthorized:
    return Unauthorized(why, field=field, value=value, remedy="sign the request as docs/lam.md says")
