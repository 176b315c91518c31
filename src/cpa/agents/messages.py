"""Between LAM messages and the values that executors work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.documents import MAX_BYTES
from cpa.core.lam_payloads import AssignPayload, RequestPayload, TaskPart
from cpa.core.lam_protocol import BaseMessage, MessageFactory
from cpa.errors import BadInput, CPAError, InvalidDocument, TooLarge
from cpa.ports.agents import named_in
from cpa.ports.executor import ActionRequest, ExecutionResult
from cpa.ports.transport import Answer

DEFAULT_TENANT: Final = "default"
DEFAULT_TIMEOUT: Final = 60.0
LARGEST: Final = MAX_BYTES - 1024
"""Bytes of the largest answer: it must still fit into a frame."""


def is_look(message: BaseMessage) -> bool:
    """Whether the message asks to look for an attempt's effect, and not to perform it."""
    return isinstance(message.payload, RequestPayload) and extra(message).get("verify") is True


def extra(message: BaseMessage) -> Mapping[str, Any]:
    """What the payload holds beside the fields of its type."""
    return message.payload.model_extra or {}


def request_in(message: BaseMessage) -> ActionRequest:
    """The work that a request or an assignment hands over. `InvalidDocument` when it names no action."""
    about, payload, more = named_in(message), message.payload, extra(message)
    asked = payload.task if isinstance(payload, AssignPayload) else payload
    if not isinstance(asked, TaskPart | RequestPayload) or not asked.action:
        raise InvalidDocument(
            "an agent takes actions, not words", field="payload.action", remedy="send words to the scheduler"
        )
    return ActionRequest(
        tenant=message.context.tenant or DEFAULT_TENANT,
        job=about.job,
        task=about.task,
        action=asked.action,
        arguments=asked.arguments,
        timeout=asked.timeout or DEFAULT_TIMEOUT,
        run=asked.run or 0,
        epoch=about.epoch,
        effect=asked.effect or EffectClass.UNSAFE,
        tainted=frozenset(asked.tainted),
        look=int(number(more.get("look"))),
        age=number(more.get("age")),
    )


def number(value: Any) -> float:
    """A number that is not negative; anything else counts as 0."""
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


class Speaker:
    """Words one agent's answers."""

    def __init__(self, address: str, ids: Callable[[], UUID], now_ms: Callable[[], int]) -> None:
        self.address = address
        self._factory = MessageFactory(address, ids, now_ms)

    def reply(self, message: BaseMessage, type: str, payload: Mapping[str, Any]) -> BaseMessage:
        """Raises `InvalidDocument` for what JSON cannot hold, `TooLarge` for what no frame can."""
        said = self._factory.reply_to(message).make(type, payload)
        if (size := len(said.to_json())) > LARGEST:
            raise TooLarge(
                "the answer does not fit into a message",
                field="payload",
                value=f"{size} bytes",
                remedy="pass large values as files, by reference",
            )
        return said

    def answer(self, message: BaseMessage, answer: Answer) -> BaseMessage:
        """The final answer to a request. A result that cannot be sent becomes a failure that says so; as it would
        be the same the next time, nobody tries again."""
        type, payload = _worded(answer)
        try:
            return self.reply(message, type, payload)
        except (InvalidDocument, TooLarge) as error:
            return self.reply(message, *_unsayable(answer, error))


def _worded(answer: Answer) -> tuple[str, dict[str, Any]]:
    if not isinstance(answer, ExecutionResult):
        payload: dict[str, Any] = {
            "what": "effect",
            "verdict": answer.verdict.value,
            "evidence": answer.evidence,
            "result": dict(answer.result) or None,
        }
        if answer.look_again is not None:
            payload["look_again"] = answer.look_again
        return "confirm", payload
    common = {"artifacts": list(answer.artifacts), "execution_time": max(answer.duration, 0.0)}
    error = answer.error
    if error is None:
        return "done", {"result": dict(answer.result)} | common
    payload = {
        "class": error.failure.value,
        "error": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "details": dict(error.details),
    }
    if error.retry_after is not None:
        payload["retry_after"] = error.retry_after
    return "failure", payload | common


def _unsayable(answer: Answer, error: CPAError) -> tuple[str, dict[str, Any]]:
    """What to say instead of an answer that cannot be sent."""
    if not isinstance(answer, ExecutionResult):
        told = f"what was found cannot be told: {error.message}"
        return "confirm", {"what": "effect", "verdict": answer.verdict.value, "evidence": told}
    if answer.error is not None:
        failure, code = answer.error.failure, answer.error.code
        return "failure", {
            "class": failure.value,
            "error": _plain(code),
            "message": _plain(answer.error.message),
        }
    too_large = isinstance(error, TooLarge)
    return "failure", {
        "class": FailureClass.BUSINESS.value,
        "error": "result_too_large" if too_large else "result_invalid",
        "message": f"it was done, but its result cannot be sent: {error.message}",
        "remedy": "store large results as artifacts" if too_large else "return what JSON can hold",
    }


def _plain(text: str) -> str:
    """A text that fits into every message."""
    return text[:200].encode("utf-8", "replace").decode()


def check_addressed(message: BaseMessage, address: str) -> None:
    """A message of a scheduler, and for this agent; `BadInput` otherwise."""
    if not message.sender.startswith("agent://scheduler/"):
        raise BadInput(
            "agents take messages of the scheduler only",
            field="sender",
            value=message.sender,
            remedy="hand it in at the scheduler; it tells the agent",
        )
    if address not in message.to:
        raise BadInput(
            "this message is for somebody else", field="to", value=message.to[0], remedy=f"this is {address}"
        )
