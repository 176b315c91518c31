"""API keys: what is kept of them, and who a caller turns out to be. The key itself is nowhere but with its
owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from cpa.ports.nonces import Nonce


class Scope(StrEnum):
    """What a key may do. `admin` includes all others, `submit` includes `read`."""

    ADMIN = "admin"
    """Everything, also other people's approvals and the keys themselves."""
    SUBMIT = "submit"
    """Create, cancel and retry jobs, answer questions, store files; and read."""
    READ = "read"
    """See jobs, events, explanations, files and the audit trail."""
    AGENT = "agent"
    """Speak LAM as an agent, store and fetch files."""
    METRICS = "metrics"
    """Read the figures of the whole server, and nothing else."""


IMPLIED: dict[Scope, frozenset[Scope]] = {
    Scope.ADMIN: frozenset(Scope),
    Scope.SUBMIT: frozenset((Scope.SUBMIT, Scope.READ)),
    Scope.READ: frozenset((Scope.READ,)),
    Scope.AGENT: frozenset((Scope.AGENT,)),
    Scope.METRICS: frozenset((Scope.METRICS,)),
}
"""Every scope with all that it includes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is on the other side of a credential. Tenant and identity come from here and nowhere else."""

    tenant: str
    key: str
    """Id of the key, which is no secret."""
    name: str
    """What the key is called; for an agent its address, `agent://<kind>/<name>`."""
    scopes: frozenset[Scope]
    nonce: Nonce | None = None
    """Of the signed message it came with, to be stored together with what that does; None if it was not signed."""

    def may(self, *scopes: Scope) -> bool:
        """Whether one of these scopes is held or included in one that is."""
        return any(scope in IMPLIED[held] for held in self.scopes for scope in scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """One key as kept: everything but the key."""

    tenant: str
    id: str
    name: str
    scopes: frozenset[Scope]
    hash: bytes = field(repr=False)
    """HMAC-SHA-256 of the key under the server's own secret, 32 bytes."""
    created: int
    """Milliseconds since 1970 UTC, as `expires` and `revoked`."""
    expires: int = 0
    """0 is never."""
    revoked: int = 0
    """0 is not revoked."""

    def active(self, now: int) -> bool:
        return not self.revoked and not (self.expires and self.expires <= now)

    def caller(self) -> Caller:
        return Caller(tenant=self.tenant, key=self.id, name=self.name, scopes=self.scopes)


def answering(keys: Iterable[StoredKey], now: int) -> frozenset[str]:
    """By which names questions can be answered at this time, in milliseconds since 1970 UTC."""
    return frozenset(key.name for key in keys if key.active(now) and key.caller().may(Scope.SUBMIT))


class KeyStore(Protocol):
    """Keeps keys durably. A hash belongs to at most one key, over all tenants."""

    async def add(self, key: StoredKey) -> None:
        """Durable on return. `Conflict` when (tenant, id) or the hash is taken."""
        ...

    async def find(self, digest: bytes) -> StoredKey | None:
        """The key with this hash, also a revoked or expired one; None if there is none."""
        ...

    async def get(self, tenant: str, id: str) -> StoredKey | None:
        """The tenant's key of this id, also a revoked or expired one; None if there is none. One read."""
        ...

    async def list(self, tenant: str) -> tuple[StoredKey, ...]:
        """All keys of a tenant, oldest first, revoked ones included."""
        ...

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        """Durable on return; False when there is no such key or it is revoked already."""
        ...
