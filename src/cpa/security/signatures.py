"""Who must sign, and whether a signature is good: `ports.signatures` with Ed25519.

Bound to one agent of one tenant twice: by the API key, which says who calls, and by the id of the signing key,
which must be the one that follows from tenant and agent. A caller that is no registered agent has no key that could
be checked: its signature is refused rather than passed over, because nobody should believe it was looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cpa.core import frames, signatures
from cpa.core.frames import Opening
from cpa.core.signatures import check_time, decoded, key_id
from cpa.errors import CPAError, InvalidDocument, Unauthorized, Unavailable
from cpa.ports.clock import Clock
from cpa.ports.keys import Caller, Scope
from cpa.ports.nonces import Nonce
from cpa.ports.signatures import Sent, SigningKey, SigningKeys

AGENT = "agent://"
_SIGN = (1 << 255) - 1
_PRIME = 2**255 - 19
_ROOT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL = frozenset((0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ROOT, _PRIME - _ROOT))
"""Second coordinates of the points of order 1, 2, 4 and 8, and their other spellings: for such a key everybody can
make signatures."""


class SignedMessages(StrEnum):
    """The setting `signed_messages`."""

    OFF = "off"
    OPTIONAL = "optional"
    """Agents that registered a public key sign everything; the others nothing."""
    REQUIRED = "required"
    """Every agent registers a public key and signs everything."""


class MessageSignatures:
    """`ports.signatures.Signatures`."""

    def __init__(self, mode: SignedMessages, keys: SigningKeys, clock: Clock) -> None:
        self._mode, self._keys, self._clock = mode, keys, clock

    def check(self, caller: Caller, sent: Sent) -> Caller:
        if self._mode is SignedMessages.OFF:
            return caller
        return self._check(caller, sent, self._known(caller))

    def admit(self, caller: Caller | None, sent: Sent, public_key: str) -> Caller | None:
        if public_key:
            check_public_key(public_key)
        elif self._mode is SignedMessages.REQUIRED:
            raise InvalidDocument(
                "agents sign their messages here",
                field="public_key",
                remedy="register an Ed25519 public key, 32 bytes in base64 (docs/lam.md, Signed messages)",
            )
        if caller is None or self._mode is SignedMessages.OFF:
            return caller
        known = self._keys(caller.tenant, caller.name)
        return self._check(caller, sent, known) if known is not None and known.public else caller

    def frames(self, caller: Caller, path: str) -> _Frames:
        off = self._mode is SignedMessages.OFF
        return _Frames(caller, path, lambda: None if off else self._known(caller), self._clock)

    def _known(self, caller: Caller) -> SigningKey | None:
        """The key of this caller. Raises `Unauthorized` for an agent without one where all must sign."""
        known = self._keys(caller.tenant, caller.name)
        agent = Scope.AGENT in caller.scopes or caller.name.startswith(AGENT)
        if self._mode is SignedMessages.REQUIRED and agent and (known is None or not known.public):
            raise Unauthorized(
                "agents sign their messages here, and this one registered no public key",
                field="Signature",
                remedy="register with a public_key first (docs/lam.md, Signed messages)",
            )
        return known

    def _check(self, caller: Caller, sent: Sent, known: SigningKey | None) -> Caller:
        claim = signatures.claim(sent.method, sent.path, sent.query, sent.headers, sent.body)
        if known is None or not known.public:
            if claim is not None:
                raise _unknown(claim.key)
            return caller
        if claim is None:
            raise Unauthorized(
                "this agent signs its messages, and this one is not signed",
                field="Signature",
                value=key_id(caller.tenant, known.agent),
                remedy="sign it (docs/lam.md, Signed messages), or have an admin remove and enrol the agent anew",
            )
        check_time(claim.created, claim.expires, self._clock.now_ms() // 1000)
        _verify(caller, known, claim.key, claim.signature, claim.base)
        return replace(caller, nonce=_nonce(claim.key, claim.nonce, claim.expires))


class _Frames:
    """`ports.signatures.Frames`."""

    def __init__(
        self, caller: Caller, path: str, find: Callable[[], SigningKey | None], clock: Clock
    ) -> None:
        self._caller, self._path, self._find, self._clock = caller, path, find, clock
        self._known = find()
        self._opening: Opening | None = None
        self._number = 0

    def take(self, text: str) -> tuple[str, Nonce | None]:
        self.check()
        if self._known is None or not self._known.public:
            return text, None
        now = self._clock.now_ms() // 1000
        claim = frames.claim(text, self._path, self._opening, self._number, now)
        _verify(self._caller, self._known, claim.opening.key, claim.signature, claim.base)
        self._number += 1
        if self._opening is not None:
            return claim.text, None
        opening = self._opening = claim.opening
        return claim.text, _nonce(opening.key, opening.nonce, opening.expires)

    def check(self) -> None:
        found = self._find()
        if found is not None and found != self._known:
            raise Unavailable(
                "this agent has registered with another public key since its channel was opened",
                field="public_key",
                remedy="open the channel again, and sign its frames with that key",
            )


def check_public_key(text: str) -> bytes:
    """The 32 bytes of a registered key. Raises `InvalidDocument` for anything that proves nothing."""
    key = decoded(text, 32)
    if key is None or int.from_bytes(key, "little") & _SIGN in SMALL:
        raise InvalidDocument(
            "this is no Ed25519 public key",
            field="public_key",
            value=text,
            remedy="send the 32 bytes of the public key in base64",
        )
    return key


def _nonce(key: str, nonce: str, expires: int) -> Nonce:
    """The last second of a signature still counts."""
    return Nonce(key, nonce, (expires + 1) * 1000)


def _verify(caller: Caller, known: SigningKey, key: str, signature: bytes, base: bytes) -> None:
    if key != key_id(caller.tenant, known.agent):
        raise _unknown(key)
    try:
        _public(known.public).verify(signature, base)
    except (InvalidSignature, CPAError) as error:
        raise Unauthorized(
            "the signature is not that of this agent over this message",
            field="Signature",
            remedy="sign exactly what is sent, with the private key of the public one that is registered",
        ) from error


@lru_cache(maxsize=4096)
def _public(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(check_public_key(text))


def _unknown(key: str) -> Unauthorized:
    return Unauthorized(
        "this signing key is not the caller's",
        field="keyid",
        value=key,
        remedy="use the key_id that the registration was answered with, or leave the signature out",
    )
