"""Keys for what the Temporal server keeps: AES-256-GCM, each under an id that is written beside what it encrypts.

One key is the current one; the older ones are found by their ids, as long as their secrets are there. So a key is
changed by adding a secret and naming it, and taken away once no history needs it any more.

What is encrypted twice, in a replay, must be the same bytes where it is named by its content. Then the nonce is a
digest of the content, under a key of its own, and no chance: two that are equal are seen to be equal, nothing else.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cpa.errors import BadInput, CPAError, NotFound, Unavailable

PREFIX = "temporal_payload_"
"""Of the names of the secrets: no id leads to any other."""
_SIZE = 32
_NONCE = 12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class _Key:
    def __init__(self, secret: bytes) -> None:
        self.cipher = AESGCM(secret)
        self._naming = hmac.digest(secret, b"cpa temporal nonce", "sha256")

    def nonce(self, content: bytes) -> bytes:
        return hmac.digest(self._naming, content, "sha256")[:_NONCE]


class KeyRing:
    """`resolve` gives the value of a secret by its name: 32 bytes in base64. Raises `BadInput` at once when the
    current key is not there or is none."""

    def __init__(self, current: str, resolve: Callable[[str], str]) -> None:
        self.current = current
        self._resolve = resolve
        self._keys: dict[str, _Key] = {}
        if not _ID.fullmatch(current):
            raise BadInput(
                "this is no id of a key",
                field="temporal_payload_key",
                value=current,
                remedy="an id is up to 40 letters, digits, '_' or '-', such as 2026-11",
            )
        self._key(current)

    def seal(self, content: bytes, *, same: bool) -> bytes:
        """Encrypted with the current key; with `same` the same bytes for the same content."""
        key = self._key(self.current)
        nonce = key.nonce(content) if same else os.urandom(_NONCE)
        return nonce + key.cipher.encrypt(nonce, content, _bound(self.current))

    def open(self, key_id: str, sealed: bytes) -> bytes:
        """What `seal` was given. `Unavailable` while that key is missing, or is another one."""
        key = self._key(key_id)
        try:
            return key.cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(key_id))
        except (InvalidTag, ValueError) as error:
            # Perhaps the secret is mended by the next time.
            self._keys.pop(key_id, None)
            raise Unavailable(
                f"a value at the Temporal server cannot be decrypted with the key {key_id!r}",
                field="temporal_payload_key",
                value=key_id,
                remedy=f"put the key back that was the secret '{PREFIX}{key_id}' when it was written",
            ) from error

    def _key(self, key_id: str) -> _Key:
        found = self._keys.get(key_id)
        if found is None:
            found = self._keys[key_id] = self._read(key_id)
        return found

    def _read(self, key_id: str) -> _Key:
        if not _ID.fullmatch(key_id):
            raise missing(key_id, "this is no id of a key")
        try:
            secret = base64.b64decode(self._resolve(PREFIX + key_id).strip(), validate=True)
        except NotFound as error:
            raise missing(key_id, error.remedy) from error
        except CPAError as error:
            raise missing(key_id, f"{error.message}: {error.remedy}") from error
        except ValueError:
            secret = b""
        if len(secret) != _SIZE:
            remedy = f"the secret '{PREFIX}{key_id}' must be {_SIZE} bytes in base64: {MAKE}"
            raise missing(key_id, remedy, "cannot be used")
        return _Key(secret)


MAKE = "`openssl rand -base64 32` makes one"


def missing(key_id: str, remedy: str | None, how: str = "is missing") -> Unavailable:
    """The clear error for a key that is not there."""
    return Unavailable(
        f"the key {key_id!r} for values at the Temporal server {how}: jobs that need it wait",
        field="temporal_payload_key",
        value=key_id,
        remedy=remedy,
    )


def _bound(key_id: str) -> bytes:
    """What is authenticated beside the content."""
    return b"cpa temporal payload 1:" + key_id.encode()
