"""Signed frames: what RFC 9421 is for requests, for the frames of a channel, which have no headers.

A signed frame carries the frame itself as a text, so that exactly its bytes are signed and nobody has to agree on
how JSON is written:

    {"signed": "{…}", "security": {"keyId": …, "nonce": …, "created": …, "signature": …}}
    {"signed": "{…}", "security": {"number": 1, "signature": …}}

Signed are these lines, joined by line feeds: `cpa-lam-frame`, the channel's path, the key's id, the nonce,
`created` (seconds), `number`, and the SHA-256 of the text in base64. The first frame of a connection has the
number 0 and opens it: its nonce counts once, for ever, and it must come as soon as a signed request must. Every
later frame is bound to that connection by the same nonce, and to its place in it by its number, one more than the
last. So no frame counts twice, and only the opening costs a row in the store.
"""

from __future__ import annotations

import hashlib

import msgspec

from cpa.core.signatures import WINDOW, Sign, check_nonce, check_time, decoded, encoded
from cpa.errors import Unauthorized

TAG = "cpa-lam-frame"


class Seal(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True
):
    """The security of a frame; key, nonce and time stand in the first alone."""

    key_id: str = ""
    nonce: str = ""
    created: int = 0
    number: int = 0
    signature: str


class SealedFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed frame on the wire."""

    signed: str
    security: Seal


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection's first frame fixes for all that follow."""

    path: str
    key: str
    nonce: str
    created: int
    """Seconds since 1970 UTC."""

    @property
    def expires(self) -> int:
        return self.created + WINDOW


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SealedFrame).decode


class FrameSigner:
    """Seals the frames of one connection, in their order."""

    def __init__(self, opening: Opening, sign: Sign) -> None:
        self._opening, self._sign, self._number = opening, sign, 0

    def seal(self, text: str) -> str:
        """The frame to send instead of this one."""
        number, opening = self._number, self._opening
        signature = encoded(self._sign(base(opening, number, text)))
        if number:
            seal = Seal(number=number, signature=signature)
        else:
            seal = Seal(key_id=opening.key, nonce=opening.nonce, created=opening.created, signature=signature)
        self._number += 1
        return _encode(SealedFrame(text, seal)).decode()


class FrameClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed frame says, before anybody has verified it."""

    opening: Opening
    number: int
    text: str
    base: bytes
    signature: bytes


def claim(text: str, path: str, opening: Opening | None, number: int, now: int) -> FrameClaim:
    """What the frame of this number claims. `opening` is that of the connection, None for its first frame. Raises
    `Unauthorized` for a frame that is not signed, not in its place, or not of this moment (`now` in seconds)."""
    try:
        frame = _decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused("security", "", f"this is no signed frame: {error}") from error
    seal = frame.security
    if seal.number != number:
        raise _refused("security.number", seal.number, f"the next frame has the number {number}")
    if opening is None:
        opening = Opening(path=path, key=seal.key_id, nonce=seal.nonce, created=seal.created)
        check_nonce(opening.nonce)
        check_time(opening.created, opening.expires, now)
    elif seal.key_id or seal.nonce or seal.created:
        raise _refused("security", "", "only the first frame names key, nonce and time")
    signature = decoded(seal.signature, 64)
    if signature is None:
        raise _refused(
            "security.signature", seal.signature, "a signature is the 64 bytes of Ed25519 in base64"
        )
    return FrameClaim(
        opening=opening,
        number=number,
        text=frame.signed,
        base=base(opening, number, frame.signed),
        signature=signature,
    )


def base(opening: Opening, number: int, text: str) -> bytes:
    """What is signed."""
    body = encoded(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    lines = (TAG, opening.path, opening.key, opening.nonce, str(opening.created), str(number), body)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _refused(field: str, value: object, why: str) -> Unauthorized:
    return Unauthorized(why, field=field, value=value, remedy="sign the frames as docs/lam.md says")
