"""The agent's side of signed messages: its private key, and what is sent with every request and frame.

The key is made at the first start and lies in a file that only its owner may read. Only the public half is told to
the scheduler. Losing it means: an admin removes the agent, and it is enrolled anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cpa.core.frames import FrameSigner, Opening
from cpa.core.signatures import decoded, encoded, sign
from cpa.errors import BadInput
from cpa.ports.clock import Clock
from cpa.security.private import kept_secret

_SEED: Final = 32


class Signer:
    """Signs what one agent sends. `nonce` draws a fresh one per call."""

    def __init__(
        self, seed: bytes, clock: Clock, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(18)
    ) -> None:
        """`seed` is the private key, 32 bytes of chance."""
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self._sign, self._clock, self._nonce = key.sign, clock, nonce
        self.public: Final = encoded(key.public_key().public_bytes_raw())
        """What is registered as `public_key`."""

    @classmethod
    def of(cls, path: Path, clock: Clock) -> Signer:
        """The signer whose key is kept in this file; made at the first call. Raises `Unavailable` when others can
        read the file, `BadInput` when it holds no key."""
        kept = kept_secret(path, lambda: encoded(secrets.token_bytes(_SEED)).encode() + b"\n")
        seed = decoded(kept.decode("latin-1").strip(), _SEED)
        if seed is None:
            raise BadInput(
                "this file holds no signing key",
                field=str(path),
                remedy="restore it, or remove it and have the agent enrolled anew",
            )
        return cls(seed, clock)

    def headers(self, key: str, method: str, url: str, body: bytes = b"") -> dict[str, str]:
        """What to send with this request, content type included; anew at each try. `key` is the `key_id` that the
        registration was answered with; `url` and `body` must go over the wire exactly so."""
        return sign(
            method,
            url,
            body,
            key=key,
            nonce=self._nonce(),
            created=self._clock.now_ms() // 1000,
            sign=self._sign,
        )

    def channel(self, key: str, path: str) -> FrameSigner:
        """Seals the frames of one new connection to this path (`/agents/ag_1/channel`)."""
        now = self._clock.now_ms() // 1000
        return FrameSigner(Opening(path=path, key=key, nonce=self._nonce(), created=now), self._sign)
