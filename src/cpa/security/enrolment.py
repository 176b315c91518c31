"""Enrolment tokens: made for an admin to hand out, used by agents that have no key yet.

A token looks like an API key and is kept like one, as a keyed hash. It opens nothing but one registration per use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cpa.errors import Unauthorized
from cpa.ports.clock import Clock
from cpa.ports.enrolment import StoredToken, TokenStore
from cpa.security.auth import Hasher, generate_key, well_formed

_Ask = Callable[[bytes, str, int], Awaitable[StoredToken | None]]


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
    """Uses tokens."""

    def __init__(self, store: TokenStore, hasher: Hasher, clock: Clock) -> None:
        self._store, self._hasher, self._clock = store, hasher, clock

    async def tenant(self, token: str, name: str) -> str:
        """The tenant that an agent of this name would enter with the token, which is not used. Raises as `use`."""
        return await self._ask(self._store.find, token, name)

    async def use(self, token: str, name: str, secret: str = "", agent: str = "") -> str:
        """The tenant of the token, which is used once for an agent of this name. Raises `Unauthorized`, which tells
        nobody why a token is not accepted. With a secret, `used` knows the agent of this id again."""
        proof = self._proof(token, name, secret) if secret else b""

        def spend(digest: bytes, name: str, now: int) -> Awaitable[StoredToken | None]:
            return self._store.spend(digest, name, now, proof, agent)

        return await self._ask(spend, token, name)

    async def used(self, token: str, name: str, secret: str) -> tuple[str, str] | None:
        """Tenant and id of the agent of this name that used the token with this secret, as long as the token is
        neither revoked nor expired."""
        if not secret or not well_formed(token):
            return None
        proof = self._proof(token, name, secret)
        return await self._store.enrolled(self._hasher.hash(token), proof, self._clock.now_ms())

    def _proof(self, token: str, name: str, secret: str) -> bytes:
        return self._hasher.hash(f"enrolment\n{token}\n{name}\n{secret}")

    async def _ask(self, ask: _Ask, token: str, name: str) -> str:
        digest = self._hasher.hash(token)
        found = await ask(digest, name, self._clock.now_ms()) if well_formed(token) else None
        if found is None:
            raise Unauthorized(
                "this enrolment token is not accepted",
                field="X-Enrolment-Token",
                remedy="ask an admin for a new one (`cpa agents token`), or register with an admin's key",
            )
        return found.tenant
