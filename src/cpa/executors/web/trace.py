"""Secrets out of traces.

A Playwright trace holds what was filled, in clear: in the call log, in DOM snapshots, in recorded request
bodies. Before a trace is kept every occurrence of every known secret is replaced, in the content of every
entry and in its name. A secret appears in many spellings (JSON, form and URL encoding, HTML, mixed within one
value), so it is searched character by character, each in any of its spellings.

Pictures cannot be searched: traces are recorded without a film strip, and the executor's screenshots cover
the fields instead.
"""

from __future__ import annotations

import base64
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

MASK = b"[secret]"
SHORTEST = 4
"""Below this length a secret cannot be told from ordinary text; a trace that may hold one is not kept."""


def pattern(secrets: Iterable[str]) -> re.Pattern[bytes] | None:
    """What finds all spellings of these secrets; None if there are none. Empty ones are ignored."""
    values = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    parts = [b"".join(map(_spellings, value)) for value in values]
    parts += [re.escape(text) for value in values for text in _base64(value)]
    return re.compile(b"|".join(parts)) if parts else None


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """`text` without any spelling of the secrets (of those long enough to be told from ordinary text)."""
    found = pattern(secret for secret in secrets if len(secret) >= SHORTEST)
    if found is None:
        return text
    return found.sub(MASK, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def redact_zip(source: Path, target: Path, secrets: Iterable[str]) -> bool:
    """Copy a trace without the secrets. False, and no target, if a secret is too short to be found safely.
    Blocking: call it in a thread."""
    values = {secret for secret in secrets if secret}
    if any(len(value) < SHORTEST for value in values):
        return False
    found = pattern(values)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content, name = old.read(entry), entry.filename.encode()
            if found is not None:
                content, name = found.sub(MASK, content), found.sub(MASK, name)
            new.writestr(name.decode(), content)
    return True


def _spellings(character: str) -> bytes:
    """A regular expression for one character in every encoding that a trace may hold it in."""
    raw = character.encode("utf-8", "surrogatepass")
    # Percent encoding, also of itself (a URL inside a URL).
    options = [b"".join(b"%%(?:25)*(?i:%02x)" % byte for byte in raw)]
    # JSON escapes, also of themselves (JSON inside JSON doubles the backslashes).
    units = character.encode("utf-16-be", "surrogatepass")
    options.append(
        b"".join(rb"\\+u(?i:%s)" % units[i : i + 2].hex().encode() for i in range(0, len(units), 2))
    )
    short = {'"': b'"', "/": b"/", "\n": b"n", "\t": b"t", "\r": b"r", "\f": b"f", "\b": b"b"}.get(character)
    if short is not None:
        options.append(rb"\\+" + short)
    if character == " ":
        options += [rb"\+", b"&nbsp;"]
    # HTML references.
    options.append(b"&#0*%d;" % ord(character))
    options.append(b"&#[xX]0*(?i:%x);" % ord(character))
    named = {"&": b"&amp;", "<": b"&lt;", ">": b"&gt;", '"': b"&quot;", "'": b"&apos;"}.get(character)
    if named:
        options.append(named)
    # As it is, last: `&`, `%` and the backslash begin longer spellings of themselves. A backslash may stand
    # doubled any number of times.
    options.append(rb"\\+" if character == "\\" else re.escape(raw))
    return b"(?:" + b"|".join(options) + b")"


def _base64(secret: str) -> list[bytes]:
    """The inner part of the secret's Base64 at each of the three positions it may begin at, as in Basic
    authentication; only where enough of it is left to be distinctive."""
    raw = secret.encode("utf-8", "surrogatepass")
    found = []
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + raw)
        start = (0, 2, 3)[offset]
        stop = (offset + len(raw)) // 3 * 4
        if stop - start >= 8:
            found.append(text[start:stop])
    return found
