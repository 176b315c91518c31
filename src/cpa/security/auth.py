"""API keys: made, hashed, recognised.

A key is `cpa_`, 43 letters and digits holding 256 random bits, and 6 that are a checksum of those, so that
a mistyped or made-up key is refused without looking anywhere. The server keeps only HMAC-SHA-256(server
secret, key): whoever steals the database can neither use nor test keys. The secret lies in
`<data>/keys/hmac.key` (0600), never in the database.

A key that was found good stays good in memory for `CACHED` seconds, counted from *before* the look-up: a
revoked key stops working everywhere within that time, and a busy client costs one query per period instead
of one per request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cpa.core.names import alike, deceives
from cpa.errors import BadInput, Conflict, Forbidden, Unauthorized
from cpa.ports.agents import RESERVED
from cpa.ports.clock import Clock
from cpa.ports.keys import Caller, KeyStore, Scope, StoredKey, answering
from cpa.security.private import kept_secret, read_private, write_private

__all__ = ["Authenticator", "Caller", "Hasher", "KeyStore", "Scope", "StoredKey", "ensure_admin_key", "issue"]

PREFIX: Final = "cpa_"
LONGEST_NAME: Final = 200
"""Characters of the name of a key."""
CACHED: Final = 0.9
"""Seconds; together with the look-up itself below the promised second."""
_REMEMBERED: Final = 4096
_DIGITS: Final = string.digits + string.ascii_letters
_RANDOM, _CHECK = 43, 6
_LENGTH: Final = len(PREFIX) + _RANDOM + _CHECK
_SECRET_BYTES: Final = 32


def generate_key(bits: bytes = b"") -> str:
    """A new key with 256 random bits, or with these."""
    body = _base62(int.from_bytes(bits or secrets.token_bytes(32)), _RANDOM)
    return PREFIX + body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether this can be a key of ours: prefix, length and checksum. Says nothing about its validity."""
    if len(key) != _LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    body, check = key[len(PREFIX) : -_CHECK], key[-_CHECK:]
    return hmac.compare_digest(_checksum(body), check)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


class Hasher:
    """HMAC-SHA-256 under one server's secret."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _SECRET_BYTES:
            raise BadInput(
                "the server's key secret is too short",
                field="hmac.key",
                remedy=f"it must be at least {_SECRET_BYTES} bytes; restore the file from a backup",
            )
        self._secret = secret

    @classmethod
    def of(cls, folder: Path) -> Hasher:
        """The hasher of a data folder; its secret is made at the first call and then kept.

        Two processes starting at once agree on one secret. Raises `Unavailable` when others can read the
        file.
        """
        return cls(kept_secret(folder / "keys" / "hmac.key", lambda: secrets.token_bytes(_SECRET_BYTES)))

    def hash(self, key: str) -> bytes:
        return hmac.digest(self._secret, key.encode("utf-8", "surrogatepass"), hashlib.sha256)


def issue(
    hasher: Hasher,
    *,
    name: str,
    scopes: frozenset[Scope],
    now: int,
    tenant: str = "default",
    expires: int = 0,
    key: str = "",
) -> tuple[str, StoredKey]:
    """A new key and what to store of it; `key` adopts an existing one. Times in milliseconds."""
    key = key or generate_key()
    digest = hasher.hash(key)
    stored = StoredKey(
        tenant=tenant,
        id=f"key_{digest.hex()[:16]}",
        name=name,
        scopes=scopes,
        hash=digest,
        created=now,
        expires=expires,
    )
    return key, stored


def check_name(name: str, known: Iterable[StoredKey]) -> None:
    """Refuse the name of a new key that could be taken for that of another: whom it belongs to would count as two
    people. Keys that are revoked or expired count too: their names stand in the trail, and in open jobs. The very
    same name is another key of the same person. An agent's address names the key of an agent, and no address that
    is a person's already, or ours. A name has 1 to `LONGEST_NAME` characters. Raises `BadInput` and `Conflict`."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise BadInput(
            "a key needs a name" if not name.strip() else "this name is too long",
            field="name",
            value=name[:LONGEST_NAME],
            remedy=f"call it after whom it belongs to, such as anna, in at most {LONGEST_NAME} characters",
        )
    scheme, _, rest = name.partition("://")
    kind, _, bare = rest.partition("/")
    if scheme.lower() == "agent" and kind.lower() in RESERVED:
        raise BadInput(
            f"an address of the kind {kind} is no name for a key",
            field="name",
            value=name,
            remedy=f"call it {bare or 'anna'!r} for a person; an agent's is as agent://web/browser-1",
        )
    if alike(name, FIXED.name):
        raise Conflict(
            "this is the name of who holds the key of the settings (CPA_API_KEY)",
            field="name",
            value=name,
            remedy="call it after whom it belongs to, such as anna",
        )
    names = {key.name for key in known}
    if name in names:
        return
    if deceives(name):
        raise BadInput(
            "this name could be taken for another",
            field="name",
            value=name,
            remedy="use the letters of one alphabet, in their usual form, the digits 0 to 9, and nothing unseen",
        )
    for other in sorted(names):
        if alike(name, other):
            raise Conflict(
                f"this name could be taken for that of the key {other!r}",
                field="name",
                value=name,
                remedy=f"for the same person call it exactly {other!r}; for somebody else choose a name that "
                "differs in more than capitals",
            )


async def ensure_admin_key(store: KeyStore, folder: Path, *, now: int) -> Path | None:
    """See to it that somebody can administer; returns the file the key was written to now, else None.

    An active admin key in the store is left alone, also when its file is gone (its owner put it away). The
    file is durable before the store learns of the key, so a crash in between is mended by the next start,
    which adopts it.
    """
    hasher, path = Hasher.of(folder), folder / "admin.key"
    held = read_private(path)
    if well_formed(held):
        known = await store.find(hasher.hash(held))
        if known is None:
            _, stored = issue(hasher, name="admin", scopes=frozenset((Scope.ADMIN,)), now=now, key=held)
            await store.add(stored)
            return path
        if known.active(now):
            return None
    if any(key.active(now) and Scope.ADMIN in key.scopes for key in await store.list("default")):
        return None
    key, stored = issue(hasher, name="admin", scopes=frozenset((Scope.ADMIN,)), now=now)
    write_private(path, key.encode() + b"\n", replace=True)
    await store.add(stored)
    return path


def not_accepted() -> Unauthorized:
    """A key that is unknown, dead or expired; which of them is nobody's business."""
    return Unauthorized(
        "this API key is not accepted",
        field="X-API-Key",
        remedy="check the key, or ask an admin for a new one",
    )


class Authenticator:
    """Credential in, caller out."""

    def __init__(self, store: KeyStore, hasher: Hasher, clock: Clock, *, fixed_key: str = "") -> None:
        """`fixed_key` is an admin key of the default tenant that is in no store (`CPA_API_KEY`)."""
        self._store, self._hasher, self._clock = store, hasher, clock
        self._fixed = hasher.hash(fixed_key) if fixed_key else b""
        self._known: OrderedDict[bytes, tuple[StoredKey | None, float]] = OrderedDict()

    async def identify(self, key: str | None) -> Caller:
        """The caller this key stands for. Raises `Unauthorized`, which tells nobody why a key is not
        accepted."""
        if not key:
            raise Unauthorized(
                "no API key",
                field="X-API-Key",
                remedy="send the header X-API-Key; the first key is in admin.key",
            )
        digest = self._hasher.hash(key)
        if self._fixed and hmac.compare_digest(digest, self._fixed):
            return FIXED
        stored = await self._find(digest) if well_formed(key) else None
        if stored is None or not stored.active(self._clock.now_ms()):
            raise not_accepted()
        return stored.caller()

    async def people(self, tenant: str) -> frozenset[str]:
        """By which names questions of this tenant can be answered now."""
        found = answering(await self._store.list(tenant), self._clock.now_ms())
        return found | {FIXED.name} if self._fixed and tenant == FIXED.tenant else found

    def forget(self) -> None:
        """Drop what is remembered: the next use of any key asks the store."""
        self._known = OrderedDict()

    async def _find(self, digest: bytes) -> StoredKey | None:
        known, asked = self._known, self._clock.monotonic()
        remembered = known.get(digest)
        if remembered is not None and asked - remembered[1] < CACHED:
            return remembered[0]
        stored = await self._store.find(digest)
        if known is not self._known:
            return await self._find(digest)  # A key was revoked meanwhile; it may be the one that was found.
        if stored is not None and not hmac.compare_digest(stored.hash, digest):
            stored = None
        known[digest] = (stored, asked)
        known.move_to_end(digest)
        while len(known) > _REMEMBERED:
            known.popitem(last=False)
        return stored


FIXED: Final = Caller(tenant="default", key="settings", name="settings", scopes=frozenset((Scope.ADMIN,)))
"""Who holds the key of the settings."""


def require(caller: Caller, *scopes: Scope) -> None:
    """Raise `Forbidden` unless the caller holds one of the scopes."""
    if not caller.may(*scopes):
        wanted = " or ".join(scopes)
        held = ", ".join(sorted(caller.scopes)) or "none"
        raise Forbidden(
            f"this key lacks the scope {wanted}",
            field="X-API-Key",
            value=f"scopes: {held}",
            remedy=f"use a key with the scope {wanted}",
        )


def require_tenant(caller: Caller, tenant: str | None, field: str) -> None:
    """Raise `Forbidden` when something names a tenant that is not the caller's; naming none is fine."""
    if tenant is not None and tenant != caller.tenant:
        raise Forbidden(
            "the tenant follows from the key and cannot be another",
            field=field,
            value=tenant,
            remedy=f"leave {field} out, or use a key of that tenant",
        )
