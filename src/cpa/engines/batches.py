"""What is stored together."""

from __future__ import annotations

from collections.abc import Iterable

from cpa.ports.steps import StepBatch


def merged(parts: Iterable[StepBatch]) -> StepBatch:
    """One batch of several, no two of which are of the same job."""
    whole = StepBatch()
    for part in parts:
        whole.jobs |= part.jobs
        whole.queue |= part.queue
        whole.specs += part.specs
        whole.inbox += part.inbox
        whole.nonces += part.nonces
        whole.ripe, whole.expired = max(whole.ripe, part.ripe), max(whole.expired, part.expired)
    return whole
