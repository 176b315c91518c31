"""Jobs as lists show them: what cannot be read of one is marked, and hides none of the others."""

from __future__ import annotations

from typing import Final

from cpa.core.audit import ILLEGIBLE
from cpa.core.job import JobHead, JobStatus
from cpa.repository.loading import HEAD
from cpa.repository.tables import raw, told

LISTED: Final = (
    raw("id"),
    raw("head"),
    raw("intent"),
    raw("description"),
    raw("status"),
    raw("created", "INTEGER"),
)
"""What `listed` takes of a row of `jobs`."""
_STATUSES: Final = {status.value: status for status in JobStatus}


def listed(
    tenant: str, id: bytes, head: bytes, intent: bytes, description: bytes, status: bytes, created: int
) -> tuple[JobHead, str, str]:
    """(head, intent, description)"""
    shown = _head(tenant, told(id), head, told(status), created)
    return shown, told(intent), told(description)


def _head(tenant: str, job: str, head: bytes, status: str, created: int) -> JobHead:
    """As stored; where that cannot be read, what its columns tell."""
    try:
        known = HEAD.decode(head)
        if (known.tenant, known.id) == (tenant, job):
            return known
    except ILLEGIBLE:
        pass  # as one that is another job's
    standing = _STATUSES.get(status, JobStatus.PENDING)
    return JobHead(tenant, job, created, standing, reason="what is stored of this job cannot be read")
