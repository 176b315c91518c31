"""What a person says to a question: read against what is asked, put to the job, and told what came of it.

The caller's credential says who answers. A yes is worth what was looked at: it names the digest of that exact
action. Saying the same again changes nothing and is no error, also when the question is closed since: an answer
whose response got lost may be sent again.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field, JsonValue

from cpa.api.bodies import Body
from cpa.api.services import ApiServices
from cpa.core.events import QuestionAnswered
from cpa.core.forms import check, fields
from cpa.core.job import Snapshot
from cpa.core.people import needed
from cpa.core.views import Question, question_id, questions
from cpa.errors import Conflict, Forbidden, InvalidDocument
from cpa.ports.keys import Caller

_PAGE = 1000


class OtherAction(Conflict):
    """What would be done is not what the answer was given for."""

    code: ClassVar[str] = "other_action"


class Answer(Body):
    """A person's decision, or what a form asks for."""

    yes: bool | None = Field(
        default=None,
        description="Approval, proposal: do it. Doubt: it happened. Input: false for `I will not say`.",
    )
    answer: dict[str, JsonValue] | None = Field(
        default=None, description="Input: what the question's `form` asks for, field by field."
    )
    digest: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="The question's `digest` as it was looked at; a yes to an action must name it.",
    )
    note: str = Field(
        default="",
        max_length=4000,
        description="Why; shown with what comes of a no, and kept in the audit trail.",
    )


class Answered(BaseModel):
    """Where the question stands now."""

    id: str
    changed: bool = Field(description="False when the same person had said the same before.")
    open: bool = Field(description="Whether further people are needed.")
    needed: int = Field(description="How many people must say yes.")
    given: list[str] = Field(description="Who said yes so far.")


async def put(services: ApiServices, caller: Caller, asked: Question, said: Answer) -> Answered:
    """Give an answer to an open question.

    Raises `InvalidDocument` where it is none, `Forbidden` for who may not give it, `OtherAction` where it was given
    for something else, `Conflict` when the question was closed in the meantime.
    """
    fact = _fact(services, caller, asked, said)
    outcome = await services.engine.send(caller.tenant, asked.job, fact)
    if outcome.reason in ("own_request", "not_approver"):
        raise _not_theirs(caller, asked, outcome.reason)
    if outcome.reason == "other_action":
        raise OtherAction(
            "what would be done is not what this answer was given for",
            field="digest",
            value=said.digest,
            remedy=f"look at it with GET /questions/{asked.id} and answer with its digest",
        )
    if not outcome.changed and outcome.reason != "duplicate":
        return await repeated(services, caller, asked.job, fact.task, fact.epoch, said)
    after = await services.engine.query(caller.tenant, asked.job)
    return _standing(after, fact.task, fact.epoch, changed=outcome.changed)


async def repeated(
    services: ApiServices, caller: Caller, job: str, task: int, epoch: int, said: Answer
) -> Answered:
    """The answer to one that comes after the question was closed: as before, if this very person had said so."""
    last = 0
    while events := await services.engine.events(caller.tenant, job, after=last, limit=_PAGE):
        for stored in events:
            last, event = stored.number, stored.event
            if not isinstance(event, QuestionAnswered) or (event.task, event.epoch) != (task, epoch):
                continue
            if event.by == caller.name and _same(event, said):
                snapshot = await services.engine.query(caller.tenant, job)
                return _standing(snapshot, task, epoch, changed=False)
    raise Conflict(
        "this question is not open any more",
        field="question_id",
        value=question_id(job, task, epoch),
        remedy=f"GET /questions lists the open ones, GET /jobs/{job}/events what came of this one",
    )


def _fact(services: ApiServices, caller: Caller, asked: Question, said: Answer) -> QuestionAnswered:
    _, task, epoch = asked.id.split(".")
    given = None
    if asked.kind == "input":
        given = _form(asked, said)
    else:
        _check_decision(asked, said)
    return QuestionAnswered(
        time=services.clock.now_ms(),
        task=int(task),
        epoch=int(epoch),
        yes=bool(said.yes) if given is None else True,
        by=caller.name,
        note=said.note,
        digest=said.digest or asked.digest,
        answer=given,
    )


def _form(asked: Question, said: Answer) -> dict[str, Any] | None:
    """What the form asks for; None for `I will not say`."""
    form = asked.form or {}
    if said.answer is not None and said.yes is not False:
        return check(form, said.answer)
    if said.answer is None and said.yes is False:
        return None
    raise InvalidDocument(
        "either say what is asked for, or that you will not",
        field="answer",
        remedy=f"give `answer` with {', '.join(fields(form))}; or `yes`: false",
    )


def _check_decision(asked: Question, said: Answer) -> None:
    if said.answer is not None:
        raise InvalidDocument(
            f"this {asked.kind} is answered with yes or no",
            field="answer",
            remedy="give `yes`, true or false",
        )
    if said.yes is None:
        raise InvalidDocument(
            "this must be said", field="yes", remedy="give true or false; `text` of the question says to what"
        )
    if said.yes and asked.digest and not said.digest:
        raise InvalidDocument(
            "a yes names the exact action it is given for",
            field="digest",
            remedy=f"give the `digest` that GET /questions/{asked.id} shows beside the action",
        )


def _not_theirs(caller: Caller, asked: Question, reason: str) -> Forbidden:
    if reason == "own_request":
        return Forbidden(
            "who asked for the job, or corrected what this task does, cannot allow it",
            field="question_id",
            value=asked.id,
            remedy="have somebody else answer, with a key of their own (`cpa keys add NAME`); on a server with "
            "CPA_APPROVE_OWN=true requesters may",
        )
    return Forbidden(
        f"this question is not for {caller.name}",
        field="question_id",
        value=asked.id,
        remedy=f"it is for {', '.join(asked.approvers)}",
    )


def _same(event: QuestionAnswered, said: Answer) -> bool:
    if said.digest not in ("", event.digest):
        return False
    if said.answer is None:
        return event.yes is said.yes and event.answer is None
    if event.answer is None:
        return False  # An answer that says nothing is no refusal to say.
    filled = {name: value for name, value in event.answer.items() if value is not None}
    return filled == {name: value for name, value in said.answer.items() if value not in (None, "")}


def _standing(snapshot: Snapshot, task: int, epoch: int, *, changed: bool) -> Answered:
    question = question_id(snapshot.head.id, task, epoch)
    asked = next((each for each in questions(snapshot) if each.id == question), None)
    given = list(snapshot.tasks[task].approvals) if asked is None else asked.given
    return Answered(
        id=question,
        changed=changed,
        open=asked is not None,
        needed=needed(snapshot.spec.tasks[task]),
        given=given,
    )
