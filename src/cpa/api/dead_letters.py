"""Dead letters: failed jobs that only a person takes up again, and what the person may say in doing so.

Nothing is lost in here: a job stays until somebody takes it up, or discards it with a reason. Any failed or
cancelled job can be taken up in the same way, before its retries are used up too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field, JsonValue, RootModel, StringConstraints

from cpa.api.bodies import Body, read
from cpa.api.caller import Reader, Submitter
from cpa.api.jobs import Change, JobId, Limit, Offset, known
from cpa.api.notes import with_notes
from cpa.api.render import body_schema, problems, view
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.core.documents import path
from cpa.core.events import JobDiscarded, JobReopened
from cpa.core.job import JobSpec, Snapshot, TaskStatus
from cpa.core.replacing import fixed, result
from cpa.core.results import files
from cpa.core.views import Job, Task, job_detail
from cpa.errors import Conflict, InvalidDocument, NotFound
from cpa.ports.keys import Caller
from cpa.ports.steps import Unreadable

router = DirectRouter(prefix="/dead-letters", tags=["dead letters"])
_PAGE = 1000
_CORRECTED: dict[str, Any] = {
    "run": 3,
    "fixes": {"send": {"to": "rechnung@kunde.example", "subject": "Rechnung 4711"}},
}
_BY_HAND: dict[str, Any] = {"done": {"download": {"file": {"artifact": "sha256:…"}}}, "skip": ["note"]}
_BECAUSE = {"note": "der Kunde hat storniert"}


class DeadLetter(BaseModel):
    """A job, and what of it failed."""

    job: Job
    failed: list[Task] = Field(description="With the arguments they had; `error` says why.")
    left: list[str] = Field(description="Tasks that were not reached.")


class DeadLetterList(BaseModel):
    dead_letters: list[DeadLetter]
    total: int
    page: int = Field(description="Number of this page, from 1.")
    page_size: int


class Reopening(Body):
    """How a failed job is to go on. Tasks are named by their ids; what is not named is done as planned, and what is
    done stays done."""

    run: int | None = Field(
        default=None,
        ge=0,
        description="The job's `retry_count` as it was looked at: then this counts for no later run, and may be "
        "sent again without harm.",
    )
    fixes: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="New arguments by task: all of a task, not some."
    )
    skip: list[str] = Field(default_factory=list, max_length=10_000, description="Tasks not to be done.")
    done: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="Results by task, of what a person did instead."
    )
    restart: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        description="Done tasks that are done again, with all that depend on them.",
    )


class Discarding(Body):
    note: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)] = Field(
        description="Why; kept in the audit trail."
    )


class TakeUp(Reopening):
    """It is run again; the fields are those of `Reopening`."""

    do: Literal["retry"]


class GiveUp(Discarding):
    """Nobody does it any more."""

    do: Literal["discard"]


class Decision(RootModel[Annotated[TakeUp | GiveUp, Field(discriminator="do")]]):
    """What becomes of a failed job: `do` says which of the two, and so which other fields there are."""


@router.get(
    "", summary="Failed jobs that wait for a person", response_model=DeadLetterList, responses=problems(422)
)
async def list_dead_letters(
    services: Services, caller: Reader, limit: Limit = 50, offset: Offset = 0
) -> Response:
    """Those whose retries are used up, last ended first, with the tasks that failed and their arguments."""
    page = await services.dead_letters.dead_letters(caller.tenant, limit=limit, offset=offset)
    found: list[DeadLetter] = []
    for head, _, _ in page.jobs:
        try:
            found.append(_letter(await with_notes(services, caller.tenant, head.id)))
        except (Unreadable, NotFound):
            continue  # it is set aside, or has no name: nobody can take it up now
    total, number = page.total, offset // limit + 1
    return view(DeadLetterList(dead_letters=found, total=total, page=number, page_size=limit))


@router.post(
    "/{job_id}",
    summary="Decide about a failed job",
    response_model=Change,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Decision,
        as_planned={"do": "retry"},
        corrected={"do": "retry", **_CORRECTED},
        by_hand={"do": "retry", **_BY_HAND},
        discarded={"do": "discard", **_BECAUSE},
    ),
)
async def decide(job_id: JobId, request: Request, services: Services, caller: Submitter) -> Response:
    """`retry` takes it up again, `discard` gives it up: each as the path of that name."""
    job = known(job_id)
    said, _ = await read(request, Decision)
    if isinstance(said.root, GiveUp):
        return await _give_up(services, caller, job, said.root)
    return await _take_up(services, caller, job, said.root)


@router.post(
    "/{job_id}/retry",
    summary="Take a failed job up again",
    response_model=Change,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Reopening,
        as_planned={},
        corrected=_CORRECTED,
        by_hand=_BY_HAND,
    ),
)
async def take_up(job_id: JobId, request: Request, services: Services, caller: Submitter) -> Response:
    """The next run begins at what failed: with other arguments, without some tasks, or with what a person did
    instead. Approvals are asked for anew. 409 when the job has not failed, or went on since `run`."""
    job = known(job_id)
    wanted, _ = await read(request, Reopening)
    return await _take_up(services, caller, job, wanted)


@router.post(
    "/{job_id}/discard",
    summary="Give a failed job up",
    response_model=Change,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(Discarding, because=_BECAUSE),
)
async def discard(job_id: JobId, request: Request, services: Services, caller: Submitter) -> Response:
    """It leaves the dead letters and stays failed, with the reason in its audit trail. Discarding twice changes
    nothing and says so; who is wrong may still take it up."""
    job = known(job_id)
    said, _ = await read(request, Discarding)
    return await _give_up(services, caller, job, said)


async def _take_up(services: ApiServices, caller: Caller, job: str, wanted: Reopening) -> Response:
    snapshot = await services.engine.query(caller.tenant, job)
    _check_once(wanted)
    event = _event(snapshot.spec, wanted, caller, services.clock.now_ms())
    for task, given in wanted.done.items():
        await _check_files(services, caller.tenant, given, path("done", task))
    try:
        await services.engine.reopen(caller.tenant, job, event, run=wanted.run)
    except Conflict as refused:
        if refused.field != "run" or not await _opened(services, caller, job, wanted.run or 0, event):
            raise
        return await _changed(services, caller, job, changed=False, reason="duplicate")
    return await _changed(services, caller, job, changed=True)


async def _give_up(services: ApiServices, caller: Caller, job: str, said: Discarding) -> Response:
    event = JobDiscarded(time=services.clock.now_ms(), by=caller.name, note=said.note)
    outcome = await services.engine.send(caller.tenant, job, event)
    if outcome.reason == "not_failed":
        raise Conflict(
            "only a failed job can be discarded",
            field="job_id",
            value=job,
            remedy="cancel it if it is running",
        )
    return await _changed(services, caller, job, changed=outcome.changed, reason=outcome.reason)


def _letter(snapshot: Snapshot) -> DeadLetter:
    detail = job_detail(snapshot)
    left = (TaskStatus.WAITING, TaskStatus.CANCELLED)
    return DeadLetter(
        job=detail.job,
        failed=[task for task in detail.tasks if task.status is TaskStatus.FAILED],
        left=[task.id for task in detail.tasks if task.status in left],
    )


def _event(spec: JobSpec, wanted: Reopening, caller: Caller, now: int) -> JobReopened:
    """What is wanted as a fact; `InvalidDocument` names what cannot be."""
    place = {task.id: index for index, task in enumerate(spec.tasks)}
    for field, named in (("skip", wanted.skip), ("restart", wanted.restart)):
        for at, task in enumerate(named):
            _check_known(place, task, path(field, at))
    for field, given in (("fixes", wanted.fixes), ("done", wanted.done)):
        for task in given:
            _check_known(place, task, path(field, task))
    return JobReopened(
        time=now,
        by=caller.name,
        dead_letter=True,
        fixes={
            str(place[task]): fixed(spec, place[task], given, path("fixes", task))
            for task, given in wanted.fixes.items()
        },
        skip=tuple(place[task] for task in wanted.skip),
        done={
            str(place[task]): result(spec, place[task], given, path("done", task))
            for task, given in wanted.done.items()
        },
        restart=tuple(place[task] for task in wanted.restart),
    )


def _check_known(place: Mapping[str, int], task: str, field: str) -> None:
    if task not in place:
        raise InvalidDocument(
            f"the job has no task {task[:100]!r}",
            field=field,
            value=task,
            remedy=f"its tasks are {', '.join(list(place)[:20])}",
        )


async def _check_files(services: ApiServices, tenant: str, given: Any, field: str) -> None:
    """`InvalidDocument` for a result with a file that nobody stored: a later task would fail for want of it."""
    for digest in files(given):
        try:
            await services.artifacts.stat(tenant, digest)
        except NotFound:
            raise InvalidDocument(
                "there is no file of this digest",
                field=field,
                value=digest,
                remedy="store it with POST /artifacts, and name the artifact as it is answered",
            ) from None


def _check_once(wanted: Reopening) -> None:
    """What is done again is neither left out nor done already. (The core would take it, as it always did.)"""
    for number, task in enumerate(wanted.restart):
        if task in wanted.skip or task in wanted.done:
            raise InvalidDocument(
                "one task is named for two things",
                field=path("restart", number),
                value=task,
                remedy="do it again, skip it, or count it as done",
            )


async def _opened(services: ApiServices, caller: Caller, job: str, run: int, wanted: JobReopened) -> bool:
    """Whether the very same had opened the run after this one."""
    opened, last = 0, 0
    while opened <= run and (
        events := await services.engine.events(caller.tenant, job, after=last, limit=_PAGE)
    ):
        for stored in events:
            last, event = stored.number, stored.event
            if isinstance(event, JobReopened):
                opened += 1
                if opened == run + 1:
                    return _says(event, wanted)
    return False


def _says(event: JobReopened, wanted: JobReopened) -> bool:
    """Whether the event is what is wanted now. Of what is done again it also names what is for the sake of a
    browser's page."""
    return _meaning(event) == _meaning(wanted) and set(wanted.restart) <= set(event.restart)


def _meaning(event: JobReopened) -> tuple[Any, ...]:
    """Without its time, and without what is done again."""
    return event.by, event.dead_letter, event.fixes, event.skip, event.done


async def _changed(
    services: ApiServices, caller: Caller, job: str, *, changed: bool, reason: str = ""
) -> Response:
    status = (await services.engine.query(caller.tenant, job)).head.status
    return view(Change(job_id=job, status=status, changed=changed, reason=reason))
