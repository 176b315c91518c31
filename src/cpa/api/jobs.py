"""Jobs: list, look, wait, explain, cancel, retry. Making them is `schedule`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Path, Query, Request, Response
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from cpa.api.caller import Reader, Submitter, identify_again
from cpa.api.notes import with_notes
from cpa.api.render import answer, problems, view
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.core.explain import Actor, Reason, explain
from cpa.core.job import JobHead, JobStatus, Snapshot, TaskStatus
from cpa.core.staffing import Staff
from cpa.core.views import (
    EventView,
    Heard,
    Job,
    JobDetail,
    Progress,
    Task,
    Timestamp,
    event_view,
    job_detail,
    job_view,
    moment,
    questions,
    task_ids,
    task_views,
)
from cpa.errors import NotFound
from cpa.orchestrator.agent import Applicant
from cpa.orchestrator.approvers import in_question
from cpa.ports.engine import Outcome, StoredEvent
from cpa.ports.keys import Caller
from cpa.ports.transport import Attempt

router = DirectRouter(prefix="/jobs", tags=["jobs"])

LONGEST_WAIT: Final = 300.0
"""Seconds one request may wait; ask again to wait longer."""
_SLICE: Final = 5.0
"""Seconds after which a waiting request looks whether its client is still there."""
_KINDS: Final = 20
"""Actions of one job of which it is told how each agent stands; of any further one only what holds for all."""
_FARTHEST: Final = 2**53

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=LONGEST_WAIT,
        allow_inf_nan=False,
        description="Seconds to wait at most for the end of the run (events: for the next event).",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=_FARTHEST, description="How many to leave out at the beginning.")]
After = Annotated[int, Query(ge=0, le=_FARTHEST, description="Only events with a greater number.")]
JobId = Annotated[str, Path(description="A job's id.", examples=["01930000-0000-7000-8000-000000000000"])]


class JobList(BaseModel):
    jobs: list[Job]
    total: int = Field(description="How many there are in all, with this status.")
    page: int = Field(description="Number of this page, from 1.")
    page_size: int


class TaskList(BaseModel):
    tasks: list[Task]
    total: int


class EventList(BaseModel):
    events: list[EventView]
    last_seq: int = Field(description="To be given as `after` next time.")
    ended: bool = Field(description="Whether the run has ended: nothing more will come until it is retried.")


class ExplanationView(BaseModel):
    task: str
    status: TaskStatus
    reason: Reason
    evidence: str
    remedy: str
    actor: Actor = Field(description="Who can move it; nobody: it moves by itself.")
    starts: Timestamp | None = Field(default=None, description="When it will probably go on by itself.")


class HindranceView(BaseModel):
    evidence: str
    remedy: str
    actor: str = Field(description="Who can move it.")


class ExplanationList(BaseModel):
    job: str
    status: JobStatus
    tasks: list[ExplanationView]
    hindrance: HindranceView | None = Field(
        default=None, description="Why the whole job cannot go on just now, whatever its tasks wait for."
    )


class Change(BaseModel):
    """What came of asking for something."""

    job_id: str
    status: JobStatus
    changed: bool
    reason: str = Field(description="Why nothing changed, if nothing did.")


@router.get("", summary="List jobs, newest first", response_model=JobList, responses=problems(422))
async def list_jobs(
    services: Services,
    caller: Reader,
    status: JobStatus | None = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    page = await services.engine.list(caller.tenant, status=status, limit=limit, offset=offset)
    jobs = [job_view(head, intent, description) for head, intent, description in page.jobs]
    return view(JobList(jobs=jobs, total=page.total, page=offset // limit + 1, page_size=limit))


@router.get(
    "/{job_id}", summary="One job with its tasks", response_model=JobDetail, responses=problems(404, 422)
)
async def read_job(
    job_id: JobId, request: Request, services: Services, caller: Reader, wait: Wait = 0
) -> Response:
    """With `wait` the answer comes at the end of the run, or after that time, whichever is first."""
    job = known(job_id)
    if wait:
        await wait_for_end(services, request, caller.tenant, job, wait)
        await identify_again(request)
    return view(job_detail(await with_notes(services, caller.tenant, job), heard(services, caller, job)))


@router.delete("/{job_id}", summary="Cancel a job", response_model=Change, responses=problems(404, 409))
async def cancel_job(job_id: JobId, services: Services, caller: Submitter) -> Response:
    """Ends once every running attempt has answered or is known to be over. Cancelling an ended job changes
    nothing and says so."""
    return await _cancel(services, caller.tenant, known(job_id), caller.name)


@router.post("/{job_id}/cancel", summary="Cancel a job", response_model=Change, responses=problems(404, 409))
async def cancel_job_too(job_id: JobId, services: Services, caller: Submitter) -> Response:
    """The same as `DELETE /jobs/{id}`, for clients that cannot send it."""
    return await _cancel(services, caller.tenant, known(job_id), caller.name)


@router.post(
    "/{job_id}/retry", summary="Run a failed job again", response_model=Change, responses=problems(404, 409)
)
async def retry_job(job_id: JobId, services: Services, caller: Submitter) -> Response:
    """From the failed task: what is done keeps its result. 409 when it has not failed or is a dead letter."""
    job = known(job_id)
    outcome = await services.engine.retry(caller.tenant, job, by=caller.name)
    return await _changed(services, caller.tenant, job, outcome)


@router.get(
    "/{job_id}/tasks", summary="The tasks of a job", response_model=TaskList, responses=problems(404, 422)
)
async def list_tasks(
    job_id: JobId, services: Services, caller: Reader, limit: Limit = 1000, offset: Offset = 0
) -> Response:
    job = known(job_id)
    snapshot = await with_notes(services, caller.tenant, job)
    tasks = task_views(snapshot, heard(services, caller, job), offset=offset, limit=limit)
    return view(TaskList(tasks=tasks, total=len(snapshot.tasks)))


@router.get(
    "/{job_id}/explain",
    summary="Why is each task not running",
    response_model=ExplanationList,
    responses=problems(404),
)
async def explain_job(job_id: JobId, services: Services, caller: Reader) -> Response:
    """For every task that has not ended, and for the one that failed the run: the reason, the evidence, the
    remedy, and who can act."""
    snapshot = await with_notes(services, caller.tenant, known(job_id))
    head, start = snapshot.head, 0
    if head.status is JobStatus.PENDING:
        start = await services.engine.start_of(caller.tenant, head.id)
        start *= start > services.clock.now_ms()
    waits = {
        run.index: services.agents.why(Applicant.of(snapshot, run)) or (Reason.BIDS_OPEN if spec.bids else "")
        for run, spec in zip(snapshot.tasks, snapshot.spec.tasks, strict=True)
        if run.status is TaskStatus.READY and not run.line
    }
    troubles: dict[int, str] = {}
    for run in snapshot.tasks:
        if run.status is TaskStatus.ASSIGNED:
            attempt = Attempt(caller.tenant, head.id, run.index, run.epoch)
            troubles[run.index], silent = services.agents.trouble(attempt, run.agent)
            if silent and not troubles[run.index]:
                waits[run.index] = Reason.AGENT_SILENT
    asked = {each.task: each for each in questions(snapshot) if each.approvers}
    people = await services.keys.people(caller.tenant) if asked else frozenset[str]()
    locale, staff = snapshot.spec.locale, _staff(services, caller.tenant, snapshot)
    found = [
        in_question(each, asked[each.task], people, locale) if each.task in asked else each
        for each in explain(snapshot, waits, start, troubles, staff)
    ]
    told = [
        ExplanationView(**asdict(each) | {"starts": moment(each.starts) if each.starts else None})
        for each in found
    ]
    why = None if head.status.ended else services.engine.hindrance(caller.tenant, head.id)
    hindrance = why and HindranceView(evidence=why.message, remedy=why.remedy or "", actor=why.actor)
    return view(ExplanationList(job=head.id, status=head.status, tasks=told, hindrance=hindrance))


@router.get(
    "/{job_id}/events", summary="What happened", response_model=EventList, responses=problems(404, 422)
)
async def list_events(
    job_id: JobId,
    request: Request,
    services: Services,
    caller: Reader,
    after: After = 0,
    limit: Limit = 1000,
    wait: Wait = 0,
) -> Response:
    """In order of their number. With `wait` an empty answer is held back until something happens."""
    job, tenant = known(job_id), caller.tenant
    snapshot = await services.engine.query(tenant, job)
    found = await services.engine.events(tenant, job, after=after, limit=limit)
    if wait and not found and not snapshot.head.status.ended:
        await _next_event(services, request, tenant, job, after=after, seconds=wait)
        await identify_again(request)
        snapshot = await services.engine.query(tenant, job)
        found = await services.engine.events(tenant, job, after=after, limit=limit)
    tasks = task_ids(snapshot.spec) if found else ()
    events = [event_view(event, tasks, snapshot.spec.locale) for event in found]
    last = events[-1].seq if events else min(after, snapshot.head.number)
    # Where the last one is damaged so that it has no number, there is nothing more all the same.
    ended = snapshot.head.status.ended and (last >= snapshot.head.number or len(found) < limit)
    return view(EventList(events=events, last_seq=last, ended=ended))


def known(job_id: str) -> str:
    """The id in its one form. What can be no job's id is not found, like any other unknown job."""
    try:
        if len(job_id) == 36:
            return str(UUID(job_id))
    except ValueError:
        pass
    raise NotFound(
        f"there is no job {job_id[:100]!r}",
        field="job_id",
        value=job_id,
        remedy="list the jobs with GET /jobs",
    )


def heard(services: ApiServices, caller: Caller, job: str) -> Heard:
    """What the job's attempts said last of their progress."""
    return {
        task: (update.epoch, Progress(share=update.progress, message=update.message))
        for task, update in services.engine.shown(caller.tenant, job).items()
    }


def _staff(services: ApiServices, tenant: str, snapshot: Snapshot) -> dict[int, Staff]:
    """By index, which agents there are for a task that asks for one, or was told that none takes it."""
    kinds: dict[tuple[str, str], Staff] = {}
    found: dict[int, Staff] = {}
    for run, spec in zip(snapshot.tasks, snapshot.spec.tasks, strict=True):
        if run.status is TaskStatus.HELD or (run.status is TaskStatus.READY and not run.line):
            kind = (spec.action, spec.capability)
            if kind not in kinds and len(kinds) < _KINDS:
                kinds[kind] = services.agents.staff(Applicant(tenant, "", -1, 0, *kind))
            if kind in kinds:
                found[run.index] = kinds[kind]
    return found


async def wait_for_end(
    services: ApiServices, request: Request, tenant: str, job: str, seconds: float
) -> JobHead | None:
    """The head at the end of the run; None when time, the client's patience or the server ended first."""
    head: JobHead | None = None
    async with services.shutdown.patience(None):
        while seconds > 0:
            slice_ = min(seconds, _SLICE)
            head = await services.engine.wait(tenant, job, slice_)
            if head.status.ended or await request.is_disconnected():
                return head
            seconds -= slice_
    return None


async def _next_event(
    services: ApiServices, request: Request, tenant: str, job: str, *, after: int, seconds: float
) -> None:
    while seconds > 0 and not services.shutdown.begun and not await request.is_disconnected():
        slice_ = min(seconds, _SLICE)
        seconds -= slice_
        stream = services.engine.follow(tenant, job, after=after)
        try:
            async with services.shutdown.patience(slice_):
                async for update in stream:
                    if isinstance(update, StoredEvent):
                        return
                return
        finally:
            await close_stream(stream)


async def close_stream(stream: AsyncIterator[object]) -> None:
    """Let a stream release what it holds now, not whenever it is collected."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


async def _cancel(services: ApiServices, tenant: str, job: str, by: str) -> Response:
    outcome = await services.engine.cancel(tenant, job, by=by)
    return await _changed(services, tenant, job, outcome)


async def _changed(services: ApiServices, tenant: str, job: str, outcome: Outcome) -> Response:
    snapshot = await services.engine.query(tenant, job)
    body: dict[str, Any] = {
        "job_id": job,
        "status": snapshot.head.status,
        "changed": outcome.changed,
        "reason": outcome.reason,
    }
    return answer(body)
