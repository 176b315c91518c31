"""Files by content: written once, named by their SHA-256, passed by reference everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from cpa.errors import TooLarge


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The reference to a stored file."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size: int
    """Bytes."""
    name: str = "file"
    """A file name for people: no path, no control characters, at most 255 bytes of UTF-8."""
    media_type: str = "application/octet-stream"

    def as_reference(self) -> dict[str, Any]:
        """How it appears in results and arguments: a JSON object with the key `artifact`."""
        return {
            "artifact": self.digest,
            "size": self.size,
            "name": self.name,
            "media_type": self.media_type,
        }


class ArtifactStore(Protocol):
    """Content-addressed, per tenant.

    Guarantees: `put` is atomic and durable (on return the bytes survive power loss; before, nothing is
    visible); the same bytes twice are stored once; a tenant sees only what that tenant put. `open` checks
    the digest while streaming and raises `InternalError` on rot. Over the size limit `put` raises `TooLarge`,
    over what one tenant may have `QuotaExceeded`, and leaves nothing behind; a full disk raises `Unavailable`.
    """

    async def put(
        self,
        tenant: str,
        content: bytes | AsyncIterator[bytes],
        *,
        name: str = "file",
        media_type: str = "application/octet-stream",
    ) -> Artifact:
        """Store and return the reference. A hostile `name` is made harmless, not refused."""
        ...

    async def stat(self, tenant: str, digest: str) -> Artifact:
        """The reference of what is stored. `NotFound` if absent, `BadInput` if no digest."""
        ...

    def open(self, tenant: str, digest: str) -> AsyncIterator[bytes]:
        """The bytes in chunks of at most 1 MiB. `NotFound` if absent, before the first chunk."""
        ...

    async def read(self, tenant: str, digest: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole content; `TooLarge` over `limit` bytes."""
        ...

    async def close(self) -> None: ...


async def whole(store: ArtifactStore, tenant: str, digest: str, *, limit: int) -> bytes:
    """What `ArtifactStore.read` gives, by `stat` and `open`: for stores that have no shorter way."""
    size = (await store.stat(tenant, digest)).size
    if size > limit:
        raise TooLarge(
            f"The artifact has {size} bytes, over the limit of {limit} for reading at once.",
            field="artifact",
            value=digest,
            remedy="Stream it instead.",
        )
    return b"".join([chunk async for chunk in store.open(tenant, digest)])
