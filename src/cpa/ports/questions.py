"""Where open questions are found: approvals and doubts that wait for a person."""

from __future__ import annotations

from typing import Protocol


class QuestionQuery(Protocol):
    """Reads only; a question just answered may still be listed for a moment."""

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        """Ids of the tenant's jobs with at least one open `AskPerson`, ordered by id, those after `after`.

        The cost does not grow with the number of jobs that ask nothing.
        """
        ...
