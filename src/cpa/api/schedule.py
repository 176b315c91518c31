"""A sentence, a named intent or a whole task graph becomes a job: `POST /schedule` and `POST /jobs`.

Both plan first and store then; a plan that fails its checks never becomes a job. `Idempotency-Key` is the
client's name for the request: the engine remembers it in the same transaction that stores the job, together
with the SHA-256 of what was asked. The same again gives the same answer, another request under the same key
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import Header, Request, Response
from pydantic import AwareDatetime, BaseModel, Field, JsonValue, model_validator

from cpa.api.bodies import Body, read
from cpa.api.caller import Submitter
from cpa.api.problems import KeyReused, NotOffered
from cpa.api.render import answer, body_schema, problems
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.api.times import milliseconds
from cpa.core.display import displayed
from cpa.core.lam_protocol import RequestMessage, parse
from cpa.core.views import rfc3339
from cpa.errors import BadInput, Conflict, InvalidDocument
from cpa.orchestrator.approvers import in_plan
from cpa.orchestrator.planning import Plan, PlanRequest
from cpa.ports.engine import Receipt, Submission
from cpa.ports.keys import Caller
from cpa.security.auth import require_tenant

router = DirectRouter(tags=["requests"])

_LONGEST_TEXT: Final = 200_000
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
_GRAPH: Final[dict[str, Any]] = {
    "tasks": [
        {"id": "open", "action": "web.goto", "arguments": {"url": "http://127.0.0.1:8800/"}},
        {"id": "note", "action": "flow.noop", "arguments": {"value": "Grüße"}, "depends_on": ["open"]},
    ]
}
_SENTENCE: Final = "Get ACME's latest invoice from the portal and mail it to billing@kunde.example"


class _When(Body):
    """What both ways of asking share."""

    run_at: AwareDatetime | None = Field(
        default=None, description="Not before this time; RFC 3339 with zone."
    )
    cron: str | None = Field(default=None, max_length=200, description="Not offered yet; refused.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher goes first.")
    deadline: AwareDatetime | None = Field(default=None, description="The job fails after it.")
    dry_run: bool = Field(default=False, description="Plan and check only; nothing is stored or run.")
    context: dict[str, str] = Field(
        default_factory=dict, max_length=50, description="user, domain, locale, channel; kept with the job."
    )


class ScheduleRequest(_When):
    """A request in a person's words, or a LAM request."""

    text: str | None = Field(default=None, max_length=_LONGEST_TEXT, examples=[_SENTENCE])
    replies: dict[str, str] = Field(
        default_factory=dict,
        max_length=50,
        description="Replies to what was asked back, in the person's words, by argument: when the answer was "
        '`unknown_intent` with the field `arguments.to`, repeat the text with `{"to": "…"}`.',
    )
    message: dict[str, JsonValue] | None = Field(default=None, description="A LAM message of type request.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.message is None):
            raise ValueError("give either text or message")
        return self


class JobRequest(_When):
    """An intent with its arguments, a sentence, or a whole plan."""

    intent: str = Field(
        default="", max_length=200, description="Name of a known intent; empty lets the router find it."
    )
    description: str = Field(
        default="",
        max_length=_LONGEST_TEXT,
        description="The request in the person's words; a task graph without any is called after its first "
        "actions.",
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="Of the intent's template.")
    task_graph: dict[str, JsonValue] | list[JsonValue] | None = Field(
        default=None, description="A list of tasks, a mapping of them by name, or either under `tasks`."
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.task_graph is None and not self.intent and not self.description.strip():
            raise ValueError("give an intent, a description or a task_graph")
        return self


class Accepted(BaseModel):
    job_id: str
    status: str = Field(description="When it was accepted: pending.", examples=["pending"])
    created_at: str = Field(examples=["2026-11-24T08:30:00.000Z"])


class DryRun(BaseModel):
    """What would be done."""

    dry_run: bool = True
    intent: str
    understood: dict[str, Any] | None = Field(
        description="The intent with its arguments; null for a task graph."
    )
    tasks: list[dict[str, Any]]
    batches: list[list[str]] = Field(description="Tasks that can run side by side, in order.")
    approvals: list[str] = Field(description="Tasks that would wait for a person's yes.")
    risks: list[str] = Field(
        description="Effects that are not simply repeated, and tasks that would wait for an agent nobody has "
        "started or a person without a key."
    )
    secrets: list[str] = Field(description="Names of the secrets it would use.")
    values: list[str] = Field(description="Workspace values it would read.")
    cost: dict[str, Any] = Field(description="Model money and tokens; empty when no model is asked.")


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Your name for this request, at most 255 visible characters. The same key with the same "
        "body gives the same answer and no second job; with another body it is refused (422).",
    ),
]
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": DryRun, "description": "A dry run: what would be done."},
    **problems(400, 408, 409, 413, 415, 422),
}


@router.post(
    "/schedule",
    status_code=201,
    summary="Ask for something in your own words",
    response_model=Accepted,
    responses=_ANSWERS,
    openapi_extra=body_schema(
        ScheduleRequest,
        sentence={"text": _SENTENCE},
        reply={"text": "Hole die neueste Rechnung aus dem Portal", "replies": {"customer": "von ACME"}},
        later={"text": "Schick mir die letzte Rechnung von ACME", "run_at": "2026-12-24T08:00:00+01:00"},
        dry_run={"text": _SENTENCE, "dry_run": True},
    ),
)
async def schedule(
    request: Request, services: Services, caller: Submitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """The sentence is understood by rules first. One that is not understood is answered with what is known;
    it is never guessed at."""
    body, digest = await read(request, ScheduleRequest)
    text, context = body.text or "", _own(body.context, caller)
    if body.message is not None:
        message = _request(body.message)
        text = message.payload.text or ""
        context = _spoken(message, caller) | context
    wanted = PlanRequest(
        tenant=caller.tenant, text=text, replies=body.replies, context=context, requester=caller.name
    )
    return await _accept(services, caller, body, wanted, idempotency_key, digest)


@router.post(
    "/jobs",
    status_code=201,
    summary="Create a job from an intent, a sentence or a task graph",
    response_model=Accepted,
    responses=_ANSWERS,
    openapi_extra=body_schema(
        JobRequest,
        task_graph={"description": "Zwei Schritte", "task_graph": _GRAPH},
        sentence={"description": _SENTENCE},
    ),
)
async def create_job(
    request: Request, services: Services, caller: Submitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answers once the job is durable: it survives whatever happens to the server from then on."""
    body, digest = await read(request, JobRequest)
    plan = PlanRequest(
        tenant=caller.tenant,
        text=body.description,
        intent=body.intent,
        arguments=body.arguments,
        task_graph=body.task_graph,
        context=_own(body.context, caller),
        requester=caller.name,
    )
    return await _accept(services, caller, body, plan, idempotency_key, digest)


async def _accept(
    services: ApiServices, caller: Caller, when: _When, wanted: PlanRequest, key: str | None, digest: str
) -> Response:
    dedupe = _dedupe(key)
    if dedupe and not when.dry_run:
        # Before anything is judged: by now the deadline may be over, or an intent gone.
        with _telling_reuse(dedupe):
            before = await services.engine.recall(caller.tenant, caller.key, dedupe, digest)
        if before is not None:
            return _accepted(before)
    not_before, due = _times(services, when)
    plan = await services.planner.plan(wanted)
    if when.dry_run:
        people = await services.keys.people(caller.tenant)
        return answer(_shown(plan, in_plan(plan.spec, people)))
    submission = Submission(
        tenant=caller.tenant,
        spec=plan.spec,
        priority=when.priority,
        not_before=not_before,
        due=due,
        by=caller.name,
        sender=caller.key,
        dedupe=dedupe,
        body_digest=digest if dedupe else "",
    )
    with _telling_reuse(dedupe):
        return _accepted(await services.engine.submit(submission))


@contextmanager
def _telling_reuse(dedupe: str) -> Iterator[None]:
    """A conflict under a key is one about the key."""
    try:
        yield
    except Conflict as error:
        if not dedupe:
            raise
        raise KeyReused(
            "this Idempotency-Key was used for another request",
            field="Idempotency-Key",
            value=dedupe,
            remedy="use a fresh key for each request; repeat a request with exactly the same body",
        ) from error


def _accepted(receipt: Receipt) -> Response:
    # The status told is the one at acceptance, so that a repeated request gets the same answer for ever.
    response = answer(
        {"job_id": receipt.job, "status": "pending", "created_at": rfc3339(receipt.created)}, 201
    )
    response.headers["Location"] = f"/jobs/{receipt.job}"
    if not receipt.new:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _request(document: dict[str, Any]) -> RequestMessage:
    """The LAM request inside the body; errors name their place in the body."""
    try:
        message = parse(document)
    except InvalidDocument as error:
        error.field = f"message.{error.field}" if error.field else "message"
        raise
    if not isinstance(message, RequestMessage) or not message.payload.text:
        raise InvalidDocument(
            "only a request with payload.text can be scheduled",
            field="message.type",
            value=message.type,
            remedy="hand other messages in at POST /lam/message",
        )
    return message


def _spoken(message: RequestMessage, caller: Caller) -> dict[str, str]:
    """What the message says about where it comes from."""
    said = message.context
    require_tenant(caller, said.tenant or None, "message.context.tenant")
    found = {"user": said.user, "domain": said.domain, "locale": said.locale}
    return {name: value for name, value in found.items() if value}


def _times(services: ApiServices, when: _When) -> tuple[int, int]:
    """(not before, due) in milliseconds, 0 for none."""
    if when.cron is not None:
        raise NotOffered(
            "repeating schedules are not offered yet",
            field="cron",
            value=when.cron,
            remedy="send run_at for one run, and schedule the next when it has ended",
        )
    now = services.clock.now_ms()
    start, due = _moment(when.run_at, "run_at"), _moment(when.deadline, "deadline")
    if due and due <= max(start, now):
        raise InvalidDocument(
            "the deadline is over before the job could start",
            field="deadline",
            value=rfc3339(due),
            remedy="give a later deadline, or an earlier run_at",
        )
    return (start if start > now else 0), due


def _moment(moment: datetime | None, field: str) -> int:
    return 0 if moment is None else milliseconds(moment, field)


def _dedupe(key: str | None) -> str:
    """The client's key as the engine keeps it; a structured-field string loses its quotes."""
    if key is None:
        return ""
    bare = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not _PRINTABLE.fullmatch(bare):
        raise BadInput(
            "an Idempotency-Key has 1 to 255 visible characters",
            field="Idempotency-Key",
            value=key,
            remedy="use a UUID",
        )
    return bare


def _own(context: dict[str, str], caller: Caller) -> dict[str, str]:
    """The context without a tenant: that follows from the key, and must not be another."""
    require_tenant(caller, context.get("tenant"), "context.tenant")
    return {name: value for name, value in context.items() if name != "tenant"}


def _shown(plan: Plan, keyless: Iterable[str]) -> dict[str, Any]:
    """A plan for a person who asks what would happen; `keyless` tells of who is to answer and cannot."""
    spec, intent = plan.spec, plan.intent
    return {
        "dry_run": True,
        "intent": spec.intent,
        "understood": None if intent is None else {"name": intent.name, "arguments": intent.values()},
        "tasks": [
            {
                "id": task.id,
                "action": task.action,
                "arguments": displayed(task.action, task.arguments),
                "depends_on": [spec.tasks[need].id for need in task.needs],
                "when": task.when,
                "timeout": task.timeout / 1000,
                "effect": task.effect.value,
                "approval": task.approval,
                "tainted": list(task.tainted),
            }
            for task in spec.tasks
        ],
        "batches": plan.batches,
        "approvals": plan.approvals,
        "risks": [*plan.risks, *keyless],
        "secrets": plan.secrets,
        "values": plan.values,
        "cost": {},
    }
