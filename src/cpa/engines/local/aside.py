"""Jobs that cannot be gone on with, because a row of theirs cannot be read or a step of theirs cannot be made or
stored.

One of them must not end the process for all others. It stays as the store has it, and everybody else goes
on; the log says once which it is and why, the server's health how many there are, and whoever asks for it is told.
It is tried again when the process starts anew: by then it was mended, or a newer program understands it.
"""

from __future__ import annotations

import structlog

from cpa.engines.local.group import Key
from cpa.ports.steps import Unreadable

_log = structlog.get_logger(__name__)


class Aside:
    def __init__(self) -> None:
        self._jobs: dict[Key, Unreadable] = {}

    def put(self, key: Key, error: BaseException) -> Unreadable:
        """Set a job aside; what to raise for it from now on."""
        found = self._jobs.get(key)
        if found is None:
            _log.error("job_set_aside", tenant=key[0], job=key[1], error=str(error), exc_info=error)
            found = error if isinstance(error, Unreadable) else _of(key[1], error)
            self._jobs[key] = found
        return found

    def check(self, key: Key) -> None:
        """Raise why this job was set aside, if it was."""
        if self._jobs and (found := self._jobs.get(key)) is not None:
            raise found

    def why(self, key: Key) -> Unreadable | None:
        return self._jobs.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)


def _of(job: str, error: BaseException) -> Unreadable:
    return Unreadable(
        f"job {job} was set aside, because a step of it failed unforeseen ({type(error).__name__})",
        field="job",
        value=job,
        remedy="look into the server's log; after a restart it is tried again from where it stood",
    )
