"""Enrolment tokens: what is kept of them. A token lets agents register that nobody has given a key yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """One token as kept: everything but the token. Times are milliseconds since 1970 UTC."""

    tenant: str
    id: str
    hash: bytes = field(repr=False)
    """HMAC-SHA-256 of the token under the server's own secret, 32 bytes."""
    name: str = ""
    """The only agent it is for; empty is any."""
    uses: int = 1
    """How often it may still be used."""
    created: int
    expires: int = 0
    """0 is never."""
    revoked: int = 0
    """0 is not revoked."""

    def active(self, now: int) -> bool:
        return self.uses > 0 and self.lives(now)

    def lives(self, now: int) -> bool:
        """Whether it counts at all, used up or not."""
        return not self.revoked and not (self.expires and self.expires <= now)


class TokenStore(Protocol):
    """Keeps tokens durably. A hash belongs to at most one token, over all tenants."""

    async def add(self, token: StoredToken) -> None:
        """Durable on return. `Conflict` when (tenant, id) or the hash is taken."""
        ...

    async def find(self, digest: bytes, name: str, now: int) -> StoredToken | None:
        """The token that `spend` would use now; nothing is used."""
        ...

    async def spend(
        self, digest: bytes, name: str, now: int, proof: bytes = b"", agent: str = ""
    ) -> StoredToken | None:
        """Use the token of this hash once for an agent of this name, durably, and give it as it was before; None,
        and nothing used, when there is none that is active and for that name. Of two at once one gets the last
        use. With the use is kept which agent (its id) it was for, and by which proof that agent is known again."""
        ...

    async def enrolled(self, digest: bytes, proof: bytes, now: int) -> tuple[str, str] | None:
        """Tenant and id of the agent that the token of this hash was last used for with this proof; None when there
        is none, and for a token that is revoked or expired. One that is used up will do."""
        ...

    async def list(self, tenant: str) -> tuple[StoredToken, ...]:
        """All tokens of a tenant, oldest first, used up and revoked ones included."""
        ...

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        """Durable on return; False when there is no such token or it is revoked already."""
        ...
