"""Open questions: what only a person can decide, and the person's answer."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, Field

from cpa.api.answers import Answer, Answered, put, repeated
from cpa.api.bodies import read
from cpa.api.caller import Reader, Submitter
from cpa.api.jobs import known
from cpa.api.render import body_schema, problems, view
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.core.job import Snapshot
from cpa.core.views import Question, questions
from cpa.core.views import question_id as named
from cpa.errors import BadInput, NotFound
from cpa.ports.keys import Caller, Scope
from cpa.ports.steps import Unreadable

router = DirectRouter(prefix="/questions", tags=["questions"])

QuestionId = Annotated[
    str, Path(description="As listed.", examples=["01930000-0000-7000-8000-000000000000.3.1"])
]
Most = Annotated[int, Query(ge=1, le=200, description="Of how many jobs at most.")]
After = Annotated[str, Query(max_length=64, description="`next` of the page before.")]
DIGEST = "4f0b6c9a2d1e8f7035c4b6a7988d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f70819"


class Kind(StrEnum):
    """What a question is about."""

    APPROVAL = "approval"
    PROPOSAL = "proposal"
    INPUT = "input"
    DOUBT = "doubt"


class QuestionList(BaseModel):
    questions: list[Question]
    next: str | None = Field(description="To be given as `after` for more; null at the end.")


@router.get("", summary="What waits for a person", response_model=QuestionList, responses=problems(400, 422))
async def list_questions(
    services: Services,
    caller: Reader,
    kind: Annotated[Kind | None, Query(description="Only of this kind.")] = None,
    limit: Most = 50,
    after: After = "",
) -> Response:
    """Approvals, proposals, forms and doubts, by job. A question stays open until enough people answered, its time
    is over, or the job is cancelled."""
    kinds = tuple(Kind) if kind is None else (kind,)
    found, following = await open_questions(services, caller, kinds, limit=limit, after=after)
    return view(QuestionList(questions=found, next=following))


@router.get("/{question_id}", summary="One open question", response_model=Question, responses=problems(404))
async def read_question(question_id: QuestionId, services: Services, caller: Reader) -> Response:
    """What would be done, down to the last argument, who said yes, and how long there is."""
    snapshot, task, epoch = await _place(services, caller.tenant, question_id)
    asked = _open(snapshot, task, epoch)
    if asked is None:
        raise _unknown(question_id)
    return view(_for(caller, asked))


@router.post(
    "/{question_id}",
    summary="Answer a question",
    response_model=Answered,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Answer,
        yes={"yes": True, "digest": DIGEST, "note": "mit dem Lieferanten geklärt"},
        no={"yes": False, "note": "the recipient is wrong"},
        form={"answer": {"amount": 119.0, "way": "Post"}},
    ),
)
async def answer_question(
    question_id: QuestionId, request: Request, services: Services, caller: Submitter
) -> Response:
    """Who answers is whom the key belongs to: each counts once, and who asked for the job or corrected it not at
    all. A yes to an action names its `digest`; where the action is another one by now it is refused (409
    `other_action`). Values that do not fit a form are all named (422, `errors`). The same answer again changes
    nothing."""
    said, _ = await read(request, Answer)
    return view(await said_to(services, caller, question_id, said, tuple(Kind)))


async def open_questions(
    services: ApiServices, caller: Caller, kinds: Collection[Kind], *, limit: int, after: str
) -> tuple[list[Question], str | None]:
    """Those of these kinds of the next `limit` jobs that ask something, and what to go on after."""
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
            asked = questions(await services.engine.query(caller.tenant, job))
        except (Unreadable, NotFound):
            continue  # it is set aside, or gone but for its question: nobody can answer it now
        found += [_for(caller, each) for each in asked if each.kind in kinds]
    return found, jobs[-1] if len(jobs) == limit else None


async def said_to(
    services: ApiServices, caller: Caller, question_id: str, said: Answer, kinds: Collection[Kind]
) -> Answered:
    """What came of the answer; `NotFound` for an open question of another kind."""
    snapshot, task, epoch = await _place(services, caller.tenant, question_id)
    asked = _open(snapshot, task, epoch)
    if asked is None:
        return await repeated(services, caller, snapshot.head.id, task, epoch, said)
    if asked.kind not in kinds:
        raise _unknown(question_id)
    return await put(services, caller, asked, said)


def _for(caller: Caller, asked: Question) -> Question:
    """The question as this caller is shown it."""
    others = {*asked.authors, *asked.given}
    named = not asked.approvers or caller.name in asked.approvers
    return asked.model_copy(
        update={"yours": named and caller.name not in others and caller.may(Scope.SUBMIT)}
    )


async def _place(services: ApiServices, tenant: str, question_id: str) -> tuple[Snapshot, int, int]:
    """The job of a question that was asked once, the task and the attempt; `NotFound` for any other."""
    job, _, rest = question_id.partition(".")
    task, _, epoch = rest.partition(".")
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (task, epoch)):
        raise _unknown(question_id)
    snapshot = await services.engine.query(tenant, known(job))
    if int(task) >= len(snapshot.tasks) or int(epoch) > snapshot.tasks[int(task)].epoch:
        raise _unknown(question_id)
    return snapshot, int(task), int(epoch)


def _open(snapshot: Snapshot, task: int, epoch: int) -> Question | None:
    wanted = named(snapshot.head.id, task, epoch)
    return next((each for each in questions(snapshot) if each.id == wanted), None)


def _unknown(question_id: str) -> NotFound:
    return NotFound(
        "there is no such question",
        field="question_id",
        value=question_id,
        remedy="GET /questions lists the open ones",
    )
