"""Stored events as they are read: a damaged one is named."""

from __future__ import annotations

from cpa.core.audit import Damaged, unseal
from cpa.core.events import Event
from cpa.errors import CPAError, InternalError
from cpa.ports.engine import StoredEvent
from cpa.repository.tables import told


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


def shown_event(
    job: str, number: int, type: bytes, time: int, body: bytes, private: bytes | None, leaf: bytes
) -> StoredEvent:
    """The event of this row, for people."""
    event = legible(body, private, time, told(type), f"Event {number} of this job")
    return StoredEvent(job, number, event, leaf.hex(), body)


def legible(body: bytes, private: bytes | None, time: int, type: str, which: str) -> Event:
    """The event of these bytes, or what stands for it, so that the others can be read all the same."""
    try:
        return unseal(body, private)
    except CPAError:
        return Damaged(time=time, type=type, which=which)
