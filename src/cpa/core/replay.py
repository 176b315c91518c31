"""Re-run stored events through the core: the same events must lead to the same job, on any machine, for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cpa.core.events import Event, JobSubmitted
from cpa.core.job import LOGIC, Decision, Graph, JobHead, JobSpec, JobState
from cpa.core.machine import decide
from cpa.errors import InternalError, InvalidDocument


def opened(tenant: str, job: str, spec: JobSpec, created: int) -> JobState:
    """A job before its first event."""
    return JobState(JobHead(tenant, job, created), Graph(spec))


def replay(spec: JobSpec, history: Iterable[Event]) -> Iterator[tuple[Event, Decision, JobState]]:
    """Each event with its decision and the job after it. The job object is the same one all along.

    Raises `InvalidDocument` for a history that does not begin with a submission or was written by a newer core,
    `InternalError` for an event that changes nothing: what is stored did change something once.
    """
    job: JobState | None = None
    for event in history:
        if job is None:
            job = _first(spec, event)
        decision = decide(job, event)
        if decision.changes is None:
            raise InternalError(
                f"event {job.head.number + 1} ({type(event).__name__}) changed nothing: {decision.reason}",
                remedy="it was cut, reordered or written by other logic; check it with `cpa audit --verify`",
            )
        job.apply(decision.changes, decision.commands)
        yield event, decision, job


def _first(spec: JobSpec, event: Event) -> JobState:
    if not isinstance(event, JobSubmitted):
        raise InvalidDocument(
            f"a history begins with JobSubmitted, not {type(event).__name__}",
            field="events[0]",
            remedy="replay a whole history",
        )
    if event.logic > LOGIC:
        raise InvalidDocument(
            f"this history needs logic {event.logic}, this core knows up to {LOGIC}",
            field="events[0].logic",
            value=event.logic,
            remedy="use a newer version of CPA",
        )
    return opened(event.tenant, event.job, spec, event.time)
