"""Secrets out of what an attempt says: its result, its error, and whatever is kept of it.

A service or a page echoes what it was given, and in its own spelling: JSON, form and URL encoding, HTML, the way a
library shows bytes in its messages, mixed within one value. So a secret is searched character by character, each
in any of its spellings, and as Base64 and hexadecimal.

An executor that used a secret does this once, at its end, with what it is about to return: only there is every way
out known. What is cut short is cut afterwards: half a secret is not recognised.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from cpa.ports.executor import ExecutionResult

MASK = b"[secret]"
SHORTEST = 4
"""Below this length a secret cannot be told from ordinary text."""
LONGEST_MESSAGE = 600
"""Characters of an error's message and of its remedy."""

_SHORT = {'"': b'"', "'": b"'", "/": b"/", "\n": b"n", "\t": b"t", "\r": b"r", "\f": b"f", "\b": b"b"}
_NAMED = {"&": b"&amp;", "<": b"&lt;", ">": b"&gt;", '"': b"&quot;", "'": b"&apos;"}
_SIGN = rb"[A-Za-z0-9+/_\-]?"
_SEARCHED = 80 * 1024
"""Characters of a message that are looked at; the rest is cut off anyway."""


def pattern(secrets: Iterable[str]) -> re.Pattern[bytes] | None:
    """What finds all spellings of these secrets; None if there are none. Empty ones are ignored."""
    values = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    parts = [b"".join(map(_spellings, value)) for value in values]
    parts += [text for value in values for text in _encodings(value)]
    return re.compile(b"|".join(parts)) if parts else None


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """`text` without any spelling of the secrets (of those long enough to be told from ordinary text)."""
    return str(redact(text, secrets))


def redact(value: Any, secrets: Iterable[str]) -> Any:
    """The JSON value without any spelling of the secrets, at any depth, in keys and numbers too."""
    found = pattern(secret for secret in secrets if len(secret) >= SHORTEST)
    if found is None:
        return value

    def clean(text: str) -> str:
        return found.sub(MASK, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    return _redacted(value, clean)


def redact_fields(fields: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """A result without the secrets. The names of its own fields are ours and stay."""
    kept = tuple(secrets)
    return {name: redact(value, kept) for name, value in fields.items()}


def redact_result(result: ExecutionResult, secrets: Iterable[str]) -> ExecutionResult:
    """What an attempt returns, without the secrets it used; texts for people are cut to a length to read."""
    kept = tuple(secrets)
    error = result.error
    if error is not None:
        error = replace(
            error,
            message=redact_message(error.message, kept),
            remedy=redact_message(error.remedy, kept),
            details=redact_fields(error.details, kept),
        )
    return msgspec.structs.replace(result, result=redact_fields(result.result, kept), error=error)


def redact_message(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, then cut to a length to read."""
    plain = redact_text(text[:_SEARCHED], secrets)
    return plain if len(plain) <= LONGEST_MESSAGE else plain[: LONGEST_MESSAGE - 1] + "…"


def _redacted(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [_redacted(each, clean) for each in value]
    if isinstance(value, Mapping):
        return {clean(str(key)): _redacted(each, clean) for key, each in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
        return value if clean(text) == text else clean(text)
    return value


def _spellings(character: str) -> bytes:
    """A regular expression for one character in every encoding that text may hold it in."""
    raw = character.encode("utf-8", "surrogatepass")
    # Percent encoding, also of itself (a URL inside a URL).
    options = [b"".join(b"%%(?:25)*(?i:%02x)" % byte for byte in raw)]
    # JSON escapes, also of themselves (JSON inside JSON doubles the backslashes).
    units = character.encode("utf-16-be", "surrogatepass")
    options.append(
        b"".join(rb"\\+u(?i:%s)" % units[i : i + 2].hex().encode() for i in range(0, len(units), 2))
    )
    if character in _SHORT:
        options.append(rb"\\+" + _SHORT[character])
    # Python's way to show a text or bytes, as libraries do in their messages.
    options.append(b"".join(rb"\\+x(?i:%02x)" % byte for byte in raw))
    if 0x7F < ord(character) < 0x100:
        options.append(rb"\\+x(?i:%02x)" % ord(character))
    if ord(character) > 0xFFFF:
        options.append(rb"\\+U(?i:%08x)" % ord(character))
    if character == " ":
        options += [rb"\+", b"&nbsp;"]
    # HTML references.
    options.append(b"&#0*%d;" % ord(character))
    options.append(b"&#[xX]0*(?i:%x);" % ord(character))
    if character in '"/\\:*?<>|':
        options.append(b"_")  # as it appears in the name of a file
    if character in _NAMED:
        options.append(_NAMED[character])
    # As it is, last: `&`, `%` and the backslash begin longer spellings of themselves. A backslash may stand
    # doubled any number of times.
    options.append(rb"\\+" if character == "\\" else re.escape(raw))
    return b"(?:" + b"|".join(options) + b")"


def _encodings(secret: str) -> list[bytes]:
    """Regular expressions for the secret as hexadecimal, and as Base64 at each of the three positions it may begin
    at, as in Basic authentication; only where enough of it is left to be distinctive. A sign that holds bits of the
    secret and of its neighbour may be any."""
    raw = secret.encode("utf-8", "surrogatepass")
    found = [b"(?i:%s)" % raw.hex().encode()] if len(raw) >= SHORTEST else []
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + raw)
        whole, rest = divmod(offset + len(raw), 3)
        start, stop = (0, 2, 3)[offset], whole * 4
        if stop - start >= 8:
            inner = re.escape(text[start : stop + rest]).replace(rb"\+", rb"[+\-]").replace(b"/", b"[/_]")
            found.append((_SIGN if offset else b"") + inner + (_SIGN + b"=*" if rest else b""))
    return found
