"""Large values on their way through the engine's server: kept here, while the server gets a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ClaimStore(Protocol):
    """Content-addressed, per job; shared by all workers of one store.

    Guarantees: `put` is durable on return, and the same bytes twice are stored once, and are as young as the second
    time; `read` checks the digest. Nothing goes but by `forget`.
    """

    async def put(self, job: str, content: bytes) -> str:
        """Store; `sha256:` and 64 hexadecimal digits. `TooLarge` over the limit, `Unavailable` on a full disk."""
        ...

    async def read(self, job: str, digest: str) -> bytes:
        """`NotFound` if absent, `InternalError` on rot, `BadInput` for what is no digest or no job."""
        ...

    async def jobs(self, age: float) -> Sequence[str]:
        """Jobs that have something here, and nothing that is newer than `age` seconds."""
        ...

    async def forget(self, job: str, age: float) -> bool:
        """Remove everything of this job, unless something of it is newer than `age` seconds now. Whether it went;
        nothing there is fine."""
        ...
