"""Signed messages, the agent's side: its private key, and what goes with every request and frame (docs/lam.md).

The key is drawn by the agent and lies beside its API key; only the public half is told to the scheduler. Losing it
means: an admin removes the agent, and it is enrolled anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cpa.core.frames import FrameSigner, Opening
from cpa.core.signatures import decoded, encoded, sign
from cpa.errors import BadInput
from cpa.ports.clock import Clock

_SEED: Final = 32


def draw() -> str:
    """A new private key, as it is kept."""
    return encoded(secrets.token_bytes(_SEED))


class Signer:
    """Signs what one agent sends."""

    def __init__(
        self, kept: str, clock: Clock, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(18)
    ) -> None:
        """`kept` is what `draw` gave; `nonce` draws a fresh one per call. Raises `BadInput` for what is no key."""
        seed = decoded(kept, _SEED)
        if seed is None:
            raise BadInput(
                "this is no signing key",
                field="signing_key",
                remedy="restore the agent's folder, or remove it and have the agent enrolled anew",
            )
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self._sign, self._clock, self._nonce = key.sign, clock, nonce
        self.key = ""
        """What the registration was answered with as `key_id`; empty before, when nothing can be signed yet."""
        self.public: Final = encoded(key.public_key().public_bytes_raw())
        """What is registered as `public_key`."""

    def now(self) -> int:
        """The time that signatures tell, in seconds since 1970 UTC."""
        return self._clock.now_ms() // 1000

    def headers(self, method: str, url: str, body: bytes = b"") -> dict[str, str]:
        """What to send with this request, content type included; anew at each try. `url` and `body` must go over
        the wire exactly so."""
        return sign(
            method,
            url,
            body,
            key=self.key,
            nonce=self._nonce(),
            created=self.now(),
            sign=self._sign,
        )

    def channel(self, path: str) -> Callable[[str], str]:
        """Seals the frames of one new connection to this path (`/agents/ag_1/channel`), in their order."""
        opening = Opening(path=path, key=self.key, nonce=self._nonce(), created=self.now())
        return FrameSigner(opening, self._sign).seal
