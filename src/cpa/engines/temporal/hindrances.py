"""Jobs that do not go on here, because a value of theirs cannot be read or written: which value, and why. Or as
their workflow cannot be gone on with by this program at all, as it stands at the server.

Noted by who works; who calls is told by the error, and hinders nobody. Each value counts by itself: that another
one of the same job can be read says nothing. It is kept as it came, so that it can be tried again without the job.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import structlog
from temporalio.api.common.v1 import Payload

from cpa.errors import CPAError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hindrance:
    error: CPAError
    value: Payload | None = None
    """What could not be read, or written; None where the job was not even asked: who wanted to tries again."""
    writing: bool = False
    lasting: bool = False
    """This program cannot be rid of it: whatever is tried again ends the same."""


class Hindrances:
    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Hindrance]] = {}

    @property
    def jobs(self) -> frozenset[str]:
        """Those that wait."""
        return frozenset(self._jobs)

    def why(self, job: str) -> CPAError | None:
        """What hinders this job here; None when nothing does."""
        return next((each.error for each in self._jobs.get(job, {}).values()), None)

    def of(self, job: str) -> list[Hindrance]:
        return list(self._jobs.get(job, {}).values())

    def note(self, job: str, hindrance: Hindrance) -> None:
        self._put(job, _name(hindrance.value), hindrance)

    def gone(self, job: str, value: Payload | None) -> None:
        """This one is fine now."""
        self._pop(job, _name(value))

    def stuck(self, job: str, error: CPAError) -> None:
        """A workflow task of it failed."""
        self._put(job, _TASK, Hindrance(error, lasting=True))

    def moved(self, job: str) -> None:
        """A workflow task of it did not fail."""
        self._pop(job, _TASK)

    def went_on(self, job: str) -> None:
        """Its execution did. What is on its way there and cannot be written is whose who has it."""
        for each in self.of(job):
            if each.value is not None:
                self.gone(job, each.value)
        self.moved(job)

    def forget(self, job: str) -> None:
        """Another execution goes on with this job."""
        if self._jobs.pop(job, None) is not None:
            log.info("job_goes_on", job=job)

    def _put(self, job: str, name: str, hindrance: Hindrance) -> None:
        if job not in self._jobs:
            log.error("job_waits", job=job, error=str(hindrance.error))
        self._jobs.setdefault(job, {})[name] = hindrance

    def _pop(self, job: str, name: str) -> None:
        found = self._jobs.get(job)
        if found and found.pop(name, None) is not None and not found:
            self.forget(job)


_TASK = "task"


def _name(value: Payload | None) -> str:
    return "" if value is None else hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()
