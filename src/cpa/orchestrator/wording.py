"""What the scheduler says to agents outside its process: LAM messages, worded by pure functions.

    request    do this task                        id from (tenant, job, task, epoch, "request")
    assign     the same, to who won it by a bid     "assign"
    request    with `verify`: look for its effect   "verify" and how often was looked
    cancel     stop                                 "cancel"
    discover   who bids for this task?              "discover" and the agent
    inform     `job_ended`                          (tenant, job, run, "job_ended", agent)

An id follows from its cause, so a message may be worded and sent again at any time: it is the same one. All that is
said about one attempt is one conversation. Times are milliseconds since 1970 UTC, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from cpa.core.ids import derived_id
from cpa.core.lam_payloads import JOB_ENDED
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.core.views import rfc3339
from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt

SCHEDULER: Final = "agent://scheduler/cpa"


def message_id(attempt: Attempt, kind: str, *more: str | int) -> UUID:
    """The id of what is said about this attempt."""
    return derived_id(attempt.tenant, attempt.job, attempt.task, attempt.epoch, kind, *more)


def conversation_of(attempt: Attempt) -> str:
    return str(message_id(attempt, "conversation"))


def task_request(
    agent: str,
    attempt: Attempt,
    request: ActionRequest,
    *,
    won: bool = False,
    lease: float,
    reply_by: float,
    now: int,
) -> BaseMessage:
    """`lease`: seconds without a sign of life after which the task is taken away; `reply_by`: seconds within which
    agree or refuse is due. Raises `TooLarge` and `InvalidDocument` for arguments that fit into no message."""
    task = _task(request)
    extra = {"lease": lease, "idempotencyKey": request.idempotency_key}
    expected = {
        "replyBy": rfc3339(now + int(reply_by * 1000)),
        "deadline": rfc3339(now + int(request.timeout * 1000)),
    }
    kind, payload = ("assign", {"task": task}) if won else ("request", task)
    return _worded(
        agent, attempt, request.task, message_id(attempt, kind), kind, payload | extra, now, expected=expected
    )


def look_request(agent: str, attempt: Attempt, request: ActionRequest, *, now: int) -> BaseMessage:
    """Look for the attempt's effect. Raises as `task_request`."""
    extra = {"verify": True, "look": request.look, "age": request.age}
    id = message_id(attempt, f"verify{request.look}")
    return _worded(agent, attempt, request.task, id, "request", _task(request) | extra, now)


def cancellation(agent: str, attempt: Attempt, task: str, reason: str, *, now: int) -> BaseMessage:
    return _worded(agent, attempt, task, message_id(attempt, "cancel"), "cancel", {"reason": reason}, now)


def discovery(
    agent: str,
    attempt: Attempt,
    task: str,
    action: str,
    arguments: Mapping[str, Any],
    capability: str,
    *,
    reply_by: float,
    now: int,
) -> BaseMessage:
    """Ask for a bid within `reply_by` seconds. Raises as `task_request`."""
    constraints = {"capability": capability} if capability else {}
    payload = {"action": action, "arguments": dict(arguments), "constraints": constraints}
    expected = {"replyBy": rfc3339(now + int(reply_by * 1000))}
    id = message_id(attempt, "discover", agent)
    return _worded(agent, attempt, task, id, "discover", payload, now, expected=expected)


def job_over(agent: str, tenant: str, job: str, run: int, *, now: int) -> BaseMessage:
    """Nothing of the job is kept any more."""
    envelope = {
        "id": str(derived_id(tenant, job, run, JOB_ENDED, agent)),
        "ts": rfc3339(now),
        "type": "inform",
        "sender": SCHEDULER,
        "to": [agent],
        "payload": {"message": JOB_ENDED},
        "context": {"tenant": tenant},
        "correlation": {"conversationId": str(derived_id(tenant, job, "conversation")), "jobId": job},
    }
    return parse(envelope)


def not_taken(agent: str, why: str) -> str:
    """Why an attempt is refused on an agent's behalf: the agent is named, as it is not the one who says so."""
    return f"{agent} did not take it: {why}"


def not_answered(agent: str, seconds: float, trouble: str) -> str:
    """The same. `trouble`: why it cannot be reached, as far as is known."""
    if trouble:
        return f"{agent} did not answer within {seconds:g} s: {trouble}"
    return f"{agent} did not answer within {seconds:g} s"


def _task(request: ActionRequest) -> dict[str, Any]:
    task: dict[str, Any] = {
        "action": request.action,
        "arguments": dict(request.arguments),
        "timeout": request.timeout,
        "effect": request.effect.value,
        "run": request.run,
    }
    return task | {"tainted": sorted(request.tainted)} if request.tainted else task


def _worded(
    agent: str,
    attempt: Attempt,
    task: str,
    id: UUID,
    type: str,
    payload: Mapping[str, Any],
    now: int,
    **more: Any,
) -> BaseMessage:
    correlation = {
        "conversationId": conversation_of(attempt),
        "jobId": attempt.job,
        "taskId": task,
        "epoch": attempt.epoch,
    }
    envelope = {
        "id": str(id),
        "ts": rfc3339(now),
        "type": type,
        "sender": SCHEDULER,
        "to": [agent],
        "intent": str((payload.get("task") or payload).get("action", "")),
        "payload": payload,
        "context": {"tenant": attempt.tenant},
        "correlation": correlation,
    }
    return parse(envelope | more)
