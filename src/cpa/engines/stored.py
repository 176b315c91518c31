"""Jobs out of the rows that are stored of them."""

from __future__ import annotations

from cpa.core.job import LOGIC, Graph, JobState
from cpa.errors import CPAError
from cpa.ports.steps import StoredJob, Unreadable


def rebuilt(stored: StoredJob) -> JobState:
    """The job of these rows. `Unreadable` for one that this program cannot step."""
    job, logic = stored.head.id, stored.head.logic
    if logic > LOGIC:
        raise Unreadable(
            f"job {job} needs logic {logic}, this program knows up to {LOGIC}",
            field="logic",
            value=logic,
            remedy="start the newer version of CPA that wrote it; there it goes on",
        )
    try:
        planned = len(stored.spec.tasks)
        for run in stored.tasks:
            if run.index >= planned:
                raise IndexError("a task that is in no plan")
        return JobState(stored.head, Graph(stored.spec), stored.tasks, stored.commands)
    except (CPAError, IndexError) as error:
        raise Unreadable(
            f"what is stored of job {job} does not fit together: {error}",
            field="job",
            value=job,
            remedy="restore the store from a backup; the other jobs go on",
        ) from error
