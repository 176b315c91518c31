"""Where what waits for people is found: open questions, and failed jobs that only a person takes up again."""

from __future__ import annotations

from typing import Protocol

from cpa.ports.engine import JobPage


class QuestionQuery(Protocol):
    """Reads only; a question just answered may still be listed for a moment."""

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        """Ids of the tenant's jobs with at least one open `AskPerson`, ordered by id, those after `after`.

        The cost does not grow with the number of jobs that ask nothing.
        """
        ...


class DeadLetterQuery(Protocol):
    """Reads only; part of `ports.repository.JobRepository`."""

    async def dead_letters(self, tenant: str, *, limit: int = 50, offset: int = 0) -> JobPage:
        """Failed jobs whose retries are used up and that nobody discarded, last ended first."""
        ...
