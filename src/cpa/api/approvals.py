"""What must be allowed before it is done: the open questions that ask for a yes, by a name of their own."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from cpa.api.answers import Answer, Answered
from cpa.api.bodies import read
from cpa.api.caller import Reader, Submitter
from cpa.api.questions import DIGEST, After, Kind, Most, QuestionId, open_questions, said_to
from cpa.api.render import body_schema, problems, view
from cpa.api.route import DirectRouter
from cpa.api.services import Services
from cpa.core.views import Question

router = DirectRouter(prefix="/approvals", tags=["questions"])
_KINDS: Final = (Kind.APPROVAL, Kind.PROPOSAL)


class ApprovalList(BaseModel):
    approvals: list[Question]
    next: str | None = Field(description="To be given as `after` for more; null at the end.")


@router.get("", summary="What waits to be allowed", response_model=ApprovalList, responses=problems(400, 422))
async def list_approvals(
    services: Services,
    caller: Reader,
    limit: Most = 50,
    after: After = "",
) -> Response:
    """Approvals and proposals, by job: the open questions of these kinds, as `GET /questions` has them."""
    found, following = await open_questions(services, caller, _KINDS, limit=limit, after=after)
    return view(ApprovalList(approvals=found, next=following))


@router.post(
    "/{question_id}",
    summary="Allow an action, or do not",
    response_model=Answered,
    responses=problems(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=body_schema(
        Answer,
        yes={"yes": True, "digest": DIGEST, "note": "mit dem Lieferanten geklärt"},
        no={"yes": False, "note": "the recipient is wrong"},
    ),
)
async def decide(
    question_id: QuestionId, request: Request, services: Services, caller: Submitter
) -> Response:
    """As `POST /questions/{question_id}`, for approvals and proposals alone: any other open question is
    404 here."""
    said, _ = await read(request, Answer)
    return view(await said_to(services, caller, question_id, said, _KINDS))
