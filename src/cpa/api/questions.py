"""Open questions: what only a person can decide, and the person's answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from cpa.api.bodies import Body, read
from cpa.api.caller import Reader, Submitter
from cpa.api.jobs import known
from cpa.api.render import answer, body_schema, problems, view
from cpa.api.route import DirectRoute
from cpa.api.services import Services
from cpa.core.events import QuestionAnswered
from cpa.core.job import JobStatus
from cpa.core.views import Question, questions
from cpa.errors import BadInput, Conflict, NotFound
from cpa.ports.engine import Engine
from cpa.ports.steps import Unreadable

router = APIRouter(prefix="/questions", tags=["questions"], route_class=DirectRoute)
_PAGE = 200


class QuestionList(BaseModel):
    questions: list[Question]
    next: str | None = Field(description="To be given as `after` for more; null at the end.")


class Answer(Body):
    """A person's decision."""

    yes: bool = Field(description="Approval: do it. Doubt: it happened.")
    note: str = Field(default="", max_length=4000, description="Why; kept in the audit trail.")


class Answered(BaseModel):
    id: str
    changed: bool


class ScannedQuestions:
    """`QuestionQuery` over the engine port alone: looks at every running job. For small installations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def asking(self, tenant: str, *, after: str = "", limit: int = 50) -> tuple[str, ...]:
        running: list[str] = []
        offset, total = 0, 1
        while offset < total:
            page = await self._engine.list(tenant, status=JobStatus.RUNNING, limit=_PAGE, offset=offset)
            running += [head.id for head, _, _ in page.jobs if head.id > after]
            offset, total = offset + _PAGE, page.total
        found: list[str] = []
        for job in sorted(set(running)):
            if questions(await self._engine.query(tenant, job)):
                found.append(job)
                if len(found) == limit:
                    break
        return tuple(found)


@router.get("", summary="What waits for a person", response_model=QuestionList, responses=problems(400, 422))
async def list_questions(
    services: Services,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200, description="Of how many jobs at most.")] = 50,
    after: Annotated[str, Query(max_length=64, description="`next` of the page before.")] = "",
) -> Response:
    """Approvals and doubts, by job. A question stays open until it is answered or the job is cancelled."""
    try:
        after = known(after) if after else ""
    except NotFound:
        raise BadInput(
            "this is no place in the list",
            field="after",
            value=after,
            remedy="pass `next` of the page before",
        ) from None
    jobs = await services.questions.asking(caller.tenant, after=after, limit=limit)
    found: list[Question] = []
    for job in jobs:
        try:
            found += questions(await services.engine.query(caller.tenant, job))
        except Unreadable:
            continue  # it is set aside: nobody can answer it now
    return view(QuestionList(questions=found, next=jobs[-1] if len(jobs) == limit else None))


@router.post(
    "/{question_id}",
    summary="Answer a question",
    response_model=Answered,
    responses=problems(400, 404, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Answer, yes={"yes": True, "note": "mit dem Lieferanten geklärt"}, no={"yes": False}
    ),
)
async def answer_question(
    question_id: Annotated[str, Path(description="As listed.")],
    request: Request,
    services: Services,
    caller: Submitter,
) -> Response:
    """The first answer counts; a question that is no longer open is a conflict."""
    job, task, epoch = _parts(question_id)
    decision, _ = await read(request, Answer)
    snapshot = await services.engine.query(caller.tenant, job)
    if not 0 <= task < len(snapshot.tasks) or epoch > snapshot.tasks[task].epoch:
        raise _unknown(question_id)
    asked = next((each for each in questions(snapshot) if each.id == question_id), None)
    fact = QuestionAnswered(
        time=services.clock.now_ms(),
        task=task,
        epoch=epoch,
        yes=decision.yes,
        by=caller.name,
        note=decision.note,
        digest=asked.digest if asked is not None else "",
    )
    outcome = await services.engine.send(caller.tenant, job, fact)
    if not outcome.changed:
        raise Conflict(
            "this question is not open any more",
            field="question_id",
            value=outcome.reason,
            remedy="GET /questions lists the open ones",
        )
    body: dict[str, Any] = {"id": question_id, "changed": True}
    return answer(body)


def _parts(question_id: str) -> tuple[str, int, int]:
    job, _, rest = question_id.partition(".")
    task, _, epoch = rest.partition(".")
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (task, epoch)):
        raise _unknown(question_id)
    return known(job), int(task), int(epoch)


def _unknown(question_id: str) -> NotFound:
    return NotFound(
        "there is no such question",
        field="question_id",
        value=question_id,
        remedy="GET /questions lists the open ones",
    )
