"""Why a job cannot be run again, in words."""

from __future__ import annotations

from cpa.core.events import Event, JobReopened, JobSubmitted
from cpa.core.job import JobState
from cpa.core.reopening import WENT_ON, staying
from cpa.engines.graphs import digest_of
from cpa.errors import Conflict, CPAError, Forbidden


def check_whole(job: JobState, first: Event) -> None:
    """Refuse to run a job again whose plan is not what was submitted by its first event: its personal data was
    erased."""
    if isinstance(first, JobSubmitted) and first.spec != digest_of(job.spec):
        raise Conflict(
            "the personal data of this job was erased, and with it what it was to do",
            field="job",
            value=job.head.id,
            remedy="submit the request anew",
        )


def not_reopened(job: JobState, reason: str, event: JobReopened, run: int | None = None) -> CPAError:
    """What to raise for a refused `event`, which was meant for `run`."""
    head, still = job.head, _staying(job, event) if reason == "still_done" else []
    if reason == WENT_ON:
        return Conflict(
            "the job went on since this was looked at",
            field="run",
            value=run,
            remedy=f"look at it again: its `retry_count` is {head.run}",
        )
    if reason == "approval_needed":
        named = _gates(job, {*event.skip, *map(int, event.done)})
        return Forbidden(
            "others wait for what people must allow first: only who may allow it alone may skip it, or count it as "
            "done",
            field="done" if event.done else "skip",
            value=named,
            remedy=f"take the job up without naming {named}: people are asked then",
        )
    words = {
        "not_ended": (
            f"the job is {head.status.value}",
            "only a failed or cancelled job can be run again; `cpa cancel` stops this one, then `cpa dead-letters "
            "retry` takes it up with other corrections",
        ),
        "retries_used_up": (
            f"the job failed after {head.run} retries and is a dead letter",
            "see `cpa explain`, mend the cause, then take it up with `cpa dead-letters retry`",
        ),
        "discarded": ("the job was discarded", "`cpa dead-letters retry` takes it up after all"),
        "no_such_task": ("the job has no such task", "tasks are named by their index in the plan, from 0"),
        "said_twice": ("one task is named for two things", "fix it, skip it, or count it as done"),
        "still_done": (
            f"what stays done is not changed: {', '.join(still)}",
            f"have it done again: `cpa dead-letters retry` with --again {' --again '.join(still)}, or `restart` "
            "of the API",
        ),
        "nobody_left": (
            f"who corrects a task does not allow it, and too few of its approvers would be left without {event.by}",
            "have somebody correct it who is none of them",
        ),
    }
    message, remedy = words[reason]
    return Conflict(message, field="job", value=head.id, remedy=remedy)


def _staying(job: JobState, event: JobReopened) -> list[str]:
    return [job.spec.tasks[at].id for at in staying(job, event)]


def _gates(job: JobState, named: set[int]) -> str:
    """Those of the tasks that people must allow and others wait for."""
    tasks, dependents = job.spec.tasks, job.graph.dependents
    return ", ".join(tasks[at].id for at in sorted(named) if tasks[at].approval and dependents[at])
