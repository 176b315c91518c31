"""Signed messages: who checks a signature, and the nonce by which a signed message counts once.

A signature proves who wrote a message; it does not prove that the message is new. So each carries a nonce that is
remembered, in the very transaction of what the message does, until the signature has expired anyway.
"""

from __future__ import annotations

import msgspec

from cpa.errors import Conflict


class Replayed(Conflict):
    """A signed message that was here before, byte for byte."""

    code = "replayed"


class Nonce(msgspec.Struct, frozen=True):
    """What a signed message is recognised by; unique per tenant and signing key."""

    key: str
    """Id of the signing key."""
    value: str
    expires: int
    """Milliseconds since 1970 UTC: from then on nobody accepts the signature, and the nonce may be forgotten."""


def replayed(nonce: Nonce) -> Replayed:
    """The refusal of a nonce that was used before."""
    return Replayed(
        "this signature was used before",
        field="nonce",
        value=nonce.value,
        remedy="sign the message anew: a re-send keeps its id and gets a new nonce",
    )
