"""Stored events as they are read: a damaged one is named."""

from __future__ import annotations

from cpa.core.audit import unseal
from cpa.errors import InternalError
from cpa.ports.engine import StoredEvent


def stored_event(job: str, number: int, body: bytes, private: bytes | None, leaf: bytes) -> StoredEvent:
    """The event of this row; `InternalError` naming it when its bytes are none."""
    try:
        event = unseal(body, private)
    except InternalError as error:
        raise InternalError(
            f"event {number} of job {job} is damaged: {error.message}",
            field="event",
            value=number,
            remedy=error.remedy,
        ) from error
    return StoredEvent(job, number, event, leaf.hex(), body)
