"""Enrolment tokens: made for an admin to hand out, used by agents that have no key yet.

A token looks like an API key and is kept like one, as a keyed hash. It opens nothing but one registration per use.
"""

from __future__ import annotations

from cpa.errors import Unauthorized
from cpa.ports.clock import Clock
from cpa.ports.enrolment import StoredToken, TokenStore
from cpa.security.auth import Hasher, generate_key, well_formed


def issue_token(
    hasher: Hasher, *, now: int, tenant: str = "default", name: str = "", uses: int = 1, expires: int = 0
) -> tuple[str, StoredToken]:
    """A new token and what to store of it. Times in milliseconds."""
    token = generate_key()
    digest = hasher.hash(token)
    stored = StoredToken(
        tenant=tenant,
        id=f"tok_{digest.hex()[:16]}",
        hash=digest,
        name=name,
        uses=uses,
        created=now,
        expires=expires,
    )
    return token, stored


class Enrolment:
    """Uses tokens: `credentials.Enrol`."""

    def __init__(self, store: TokenStore, hasher: Hasher, clock: Clock) -> None:
        self._store, self._hasher, self._clock = store, hasher, clock

    async def __call__(self, token: str, name: str) -> str:
        """The tenant of the token, which is used once for an agent of this name. Raises `Unauthorized`, which tells
        nobody why a token is not accepted."""
        digest = self._hasher.hash(token)
        spent = await self._store.spend(digest, name, self._clock.now_ms()) if well_formed(token) else None
        if spent is None:
            raise Unauthorized(
                "this enrolment token is not accepted",
                field="X-Enrolment-Token",
                remedy="ask an admin for a new one (`cpa agents token`), or register with an admin's key",
            )
        return spent.tenant
