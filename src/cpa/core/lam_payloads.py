"""What the types of LAM messages carry.

Fields that a payload does not know are kept and passed on at its top, and refused anywhere deeper. Durations
are seconds, wire names as written here (`class` is the one that Python needs another name for).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from cpa.core.classes import EffectClass, FailureClass

JOB_ENDED = "job_ended"
"""The `message` of an `inform` by which a scheduler says that nothing of a job is kept any more."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _moment(value: Any) -> datetime:
    """An RFC 3339 text or an aware datetime, as UTC with microseconds."""
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        value = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.upper()))
    if not isinstance(value, datetime) or (offset := value.utcoffset()) is None:
        raise ValueError("a time is an RFC 3339 text with a zone, such as 2026-11-24T09:30:00Z")
    try:
        return (value.replace(tzinfo=None) - offset).replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None


def _reference(value: Any) -> Any:
    return {"artifact": value} if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A point in time, UTC."""
Number = Annotated[float, Strict()]
Count = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Strict(), Field(ge=0)]
Text = Annotated[str, Strict(), Field(max_length=200)]
"""A word, name or id."""
Object = dict[str, Any]


class _Checked(BaseModel):
    # What is not finite is refused, also on the way out: silently it would become null.
    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants", validate_by_name=True
    )


class Part(_Checked):
    """A piece of a message: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ArtifactReference(Part):
    """A stored file; on the wire its bare digest is accepted too."""

    artifact: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: Count | None = None
    name: str | None = Field(default=None, max_length=255)
    media_type: Text | None = None


Artifacts = tuple[Annotated[ArtifactReference, BeforeValidator(_reference)], ...]


class TaskPart(Part):
    """A task for an agent to perform once."""

    action: Text = Field(min_length=1)
    arguments: Object = {}
    timeout: Seconds | None = None
    effect: EffectClass | None = None
    tainted: tuple[Text, ...] = ()
    """Arguments whose value came from outside."""
    run: Count | None = None


class Payload(_Checked):
    """What a message carries: unknown fields are kept and passed on."""

    model_config = ConfigDict(extra="allow")


P = TypeVar("P", bound=Payload)


def _needs(payload: P, *names: str) -> P:
    if all(getattr(payload, name) is None for name in names):
        raise ValueError(f"needs at least one of {', '.join(names)}")
    return payload


class RequestPayload(Payload):
    """Words of a person (`text`), or an action with its arguments."""

    text: str | None = None
    action: Text | None = Field(default=None, min_length=1)
    arguments: Object = {}
    timeout: Seconds | None = None
    effect: EffectClass | None = None
    tainted: tuple[Text, ...] = ()
    run: Count | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        return _needs(self, "text", "action")


class DiscoverPayload(Payload):
    """Who can do this?"""

    action: Text = Field(min_length=1)
    arguments: Object = {}
    constraints: Object = {}


class OfferPayload(Payload):
    """Capabilities (actions and free tags), or a bid on a `discover`."""

    capabilities: tuple[Text, ...] | None = None
    cost: Seconds | None = None
    load: Seconds | None = None
    """1.0 is fully busy."""
    eta: Seconds | None = None
    """Seconds until it would be done."""
    confidence: Number | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _offers_something(self) -> Self:
        return _needs(self, "capabilities", "cost", "load", "eta", "confidence")


class ProposePayload(Payload):
    """The same with other arguments, or at another time."""

    arguments: Object | None = None
    run_at: Moment | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _proposes_something(self) -> Self:
        return _needs(self, "arguments", "run_at")


class AgreePayload(Payload):
    estimate: Seconds | None = None
    """Seconds it will probably take."""


class RefusePayload(Payload):
    failure_class: FailureClass = Field(alias="class")
    reason: str = ""


class AssignPayload(Payload):
    """The bid that won."""

    task: TaskPart
    lease: Number = Field(gt=0)
    """Seconds without a sign of life after which the task is taken away."""


class InformPayload(Payload):
    progress: Number | None = Field(default=None, ge=0, le=1)
    message: str | None = None
    result: Object | None = None
    """What is there so far."""
    artifacts: Artifacts = ()


class ConfirmPayload(Payload):
    """What is now certain."""

    what: Text = Field(min_length=1)
    """`approval`, `effect`, or another word."""
    verdict: Text = ""
    evidence: str = ""
    by: Text = ""
    result: Object | None = None


class DonePayload(Payload):
    result: Object = {}
    artifacts: Artifacts = ()
    execution_time: Seconds | None = None


class FailurePayload(Payload):
    failure_class: FailureClass = Field(alias="class")
    error: Text = Field(min_length=1)
    """Stable and machine-readable, such as `login_refused`."""
    message: str = ""
    remedy: str = ""
    details: Object = {}
    retry_after: Seconds | None = None
    artifacts: Artifacts = ()
    execution_time: Seconds | None = None


class CancelPayload(Payload):
    reason: str = ""


class NotUnderstoodPayload(Payload):
    what: str = Field(min_length=1)
    """The part that was not understood."""
    why: str = ""
