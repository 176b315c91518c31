"""What came in from outside before: messages by (sender, id), signed ones by their nonce too.

Two of the same at the same moment must not both be new, and what was committed must be found: so one after the
other per key, each looking into the store, each holding its key until its own step is durable. The store's unique
keys are the last resort; they would refuse a whole batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cpa.core.job import JobStatus
from cpa.engines.keyed import Keyed
from cpa.errors import BadInput, Conflict
from cpa.ports.engine import Receipt, Submission
from cpa.ports.nonces import Nonce, replayed
from cpa.ports.steps import StepStore

MANY = 10_000
"""Most submissions in one call."""
KEEP_NONCES = 600_000
"""Milliseconds a nonce is kept beyond its end, for a clock that is set back."""
Known = tuple[str, str, int]
"""(job, digest, received) of what was accepted before."""


def check_number(submissions: Sequence[Submission]) -> None:
    """`BadInput` for more than one call takes."""
    if len(submissions) > MANY:
        raise BadInput(
            "too many jobs in one call",
            field="jobs",
            value=len(submissions),
            remedy=f"submit at most {MANY} at a time",
        )


class Inbox:
    """`read` runs a blocking read of the store in a thread."""

    def __init__(self, store: StepStore, read: Callable[..., Awaitable[Any]]) -> None:
        self._store, self._read = store, read
        self._alone = Keyed[tuple[str, ...]]()

    @asynccontextmanager
    async def once(self, tenant: str, sender: str, message: str) -> AsyncIterator[Known | None]:
        """Gives what was accepted under this key before. Hold it until the own step is durable."""
        async with self._alone.of(("message", tenant, sender, message)):
            yield await self._read(self._store.accepted, tenant, sender, message)

    @asynccontextmanager
    async def unused(self, tenant: str, nonce: Nonce | None) -> AsyncIterator[None]:
        """Raises `Replayed` for a nonce that was used. Hold it until the own use is durable."""
        if nonce is None:
            yield
            return
        async with self._alone.of(("nonce", tenant, nonce.key, nonce.value)):
            if await self._read(self._store.spent, tenant, nonce.key, nonce.value):
                raise replayed(nonce)
            yield


def repeated(dedupe: str, body_digest: str, job: str, digest: str, received: int) -> Receipt:
    """The receipt of what was accepted before, if it was the same."""
    if digest != body_digest:
        raise Conflict(
            "the same key was used for another request",
            field="Idempotency-Key",
            value=dedupe,
            remedy="use a new key for a new request",
        )
    return Receipt(job, received, JobStatus.PENDING, new=False)
