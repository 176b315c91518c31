"""Lumina Agent Messages: the envelope, the thirteen types, and who may answer what.

    request → (agree | refuse | propose | not_understood) → inform* → (done | failure)
    discover → offer* until `replyBy` → assign → as above

`parse` takes what came over the wire and gives a message or raises `InvalidDocument` (`TooLarge` over 1 MiB);
nothing else, whatever comes in. What it gives can always be `written` again, and be a bit longer then.
`MessageFactory` makes messages that obey the rules; ids and time are passed in, as everything here is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias, cast
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, to_json

from cpa.core import lam_payloads as payloads
from cpa.core.documents import check_json, check_size, invalid, loaded
from cpa.core.lam_payloads import Count, Moment, Object, Part, Payload, Text
from cpa.errors import InvalidDocument

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Address = Annotated[str, Strict(), Field(max_length=280, pattern=r"^agent://[\w-]+/[\w.@+:~%-]+$")]
"""`agent://<kind>/<name>`"""


class Envelope(Part):
    """Parts of the envelope: camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel)


class Context(Envelope):
    tenant: Text = ""
    user: Text = ""
    domain: Text = ""
    locale: Text = ""


class Correlation(Envelope):
    conversation_id: Text = ""
    in_reply_to: UUID | None = None
    job_id: Text = ""
    task_id: Text = ""
    epoch: Count | None = None
    seq: Count | None = None
    """Counts per conversation and sender."""
    traceparent: str = Field(default="", pattern=r"^([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$")


class Expected(Envelope):
    deadline: Moment | None = None
    reply_by: Moment | None = None
    format: Text = ""
    result_schema: Object | None = Field(default=None, alias="schema")


class Status(Envelope):
    code: Text = ""
    message: str = ""


class Security(Envelope):
    key_id: Text = ""
    nonce: Text = ""
    signature: str = Field(default="", max_length=10_000)


class BaseMessage(Envelope):
    """The envelope. Equal messages have equal fields; a re-send keeps its id."""

    id: UUID
    ts: Moment
    type: str
    sender: Address
    to: Annotated[tuple[Address, ...], BeforeValidator(_listed), Field(min_length=1, max_length=100)]
    intent: str = Field(default="", max_length=1_000)
    payload: Payload
    context: Context = Context()
    correlation: Correlation = Correlation()
    expected: Expected = Expected()
    status: Status = Status()
    security: Security = Security()

    def to_dict(self) -> dict[str, Any]:
        """The wire form, without what was never set. Raises `InvalidDocument` for what is no JSON value."""
        try:
            found = self.model_dump(mode="json", by_alias=True, exclude_unset=True) | {"type": self.type}
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidDocument(
                "the message holds something that is no JSON value",
                field="payload",
                remedy="Use texts, numbers, true, false, null, lists and objects.",
            ) from error
        check_json(found)
        return found

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """As `parse`; called on a type, other types are refused."""
        message = parse(document)
        if not isinstance(message, cls):
            raise InvalidDocument(
                f"expected {cls.model_fields['type'].default!r}",
                field="type",
                value=message.type,
                remedy="Send this type here, or use the general entrance.",
            )
        return message

    def to_json(self) -> bytes:
        """The wire form. Raises `TooLarge` over 1 MiB."""
        data = self.written()
        check_size(data)
        return data

    def written(self) -> bytes:
        """The wire form to be kept, whatever its size: one that came in with less than 1 MiB may need more as it is
        written here."""
        return to_json(self.to_dict())

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """As `from_dict`."""
        return cls.from_dict(loaded(data))


class RequestMessage(BaseMessage):
    type: Literal["request"] = "request"
    payload: payloads.RequestPayload


class DiscoverMessage(BaseMessage):
    type: Literal["discover"] = "discover"
    payload: payloads.DiscoverPayload


class OfferMessage(BaseMessage):
    type: Literal["offer"] = "offer"
    payload: payloads.OfferPayload


class ProposeMessage(BaseMessage):
    type: Literal["propose"] = "propose"
    payload: payloads.ProposePayload


class AgreeMessage(BaseMessage):
    type: Literal["agree"] = "agree"
    payload: payloads.AgreePayload = payloads.AgreePayload()


class RefuseMessage(BaseMessage):
    type: Literal["refuse"] = "refuse"
    payload: payloads.RefusePayload


class AssignMessage(BaseMessage):
    type: Literal["assign"] = "assign"
    payload: payloads.AssignPayload


class InformMessage(BaseMessage):
    type: Literal["inform"] = "inform"
    payload: payloads.InformPayload = payloads.InformPayload()


class ConfirmMessage(BaseMessage):
    type: Literal["confirm"] = "confirm"
    payload: payloads.ConfirmPayload


class DoneMessage(BaseMessage):
    type: Literal["done"] = "done"
    payload: payloads.DonePayload = payloads.DonePayload()


class FailureMessage(BaseMessage):
    type: Literal["failure"] = "failure"
    payload: payloads.FailurePayload


class CancelMessage(BaseMessage):
    type: Literal["cancel"] = "cancel"
    payload: payloads.CancelPayload = payloads.CancelPayload()


class NotUnderstoodMessage(BaseMessage):
    type: Literal["not_understood"] = "not_understood"
    payload: payloads.NotUnderstoodPayload


Message: TypeAlias = Annotated[
    RequestMessage
    | DiscoverMessage
    | OfferMessage
    | ProposeMessage
    | AgreeMessage
    | RefuseMessage
    | AssignMessage
    | InformMessage
    | ConfirmMessage
    | DoneMessage
    | FailureMessage
    | CancelMessage
    | NotUnderstoodMessage,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)

REPLIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "request": ("agree", "refuse", "propose", "inform", "done", "failure", "confirm", "not_understood"),
        "discover": ("offer", "refuse", "not_understood"),
        "offer": ("assign", "propose", "refuse", "confirm", "not_understood"),
        "propose": ("agree", "refuse", "propose", "not_understood"),
        "agree": ("confirm", "cancel", "not_understood"),
        "refuse": ("not_understood",),
        "assign": ("agree", "refuse", "inform", "done", "failure", "not_understood"),
        "inform": ("confirm", "cancel", "not_understood"),
        "confirm": ("not_understood",),
        "done": ("confirm", "not_understood"),
        "failure": ("confirm", "not_understood"),
        "cancel": ("inform", "done", "failure", "not_understood"),
        "not_understood": (),
    }
)
"""Type → the types that may answer it. `done` and `failure` without `agree` imply it."""

TYPES = tuple(REPLIES)


def parse(data: bytes | str | Mapping[str, Any]) -> Message:
    """The message in a body or frame, or loaded already. Raises only `InvalidDocument` and `TooLarge`."""
    document = loaded(data) if isinstance(data, bytes | str) else dict(data)
    check_json(document)
    try:
        return _ADAPTER.validate_python(document, by_alias=True, by_name=False)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] in ("union_tag_invalid", "union_tag_not_found"):
            raise InvalidDocument(
                "unknown message type" if "type" in document else "a message says its type",
                field="type",
                value=document.get("type"),
                remedy=f"Use one of: {', '.join(TYPES)}.",
            ) from error
        raise invalid(error, union=TYPES) from error


def schema() -> dict[str, Any]:
    """JSON Schema of every message on the wire."""
    return _ADAPTER.json_schema(by_alias=True)


class MessageFactory:
    """Makes one sender's messages.

    `ids` draws a fresh id per call, `clock` gives milliseconds since 1970 UTC, `sequence` the next number of
    this sender in a conversation (without it, messages are not numbered).
    """

    def __init__(
        self,
        sender: str,
        ids: Callable[[], UUID],
        clock: Callable[[], int],
        sequence: Callable[[str], int] | None = None,
    ) -> None:
        self.sender, self._ids, self._clock, self._sequence = sender, ids, clock, sequence

    def make(self, type: str, to: str | Iterable[str], payload: Mapping[str, Any], **fields: Any) -> Message:
        """A message that opens a conversation unless `fields` carry a correlation with one.

        `payload` and `fields` (intent, context, correlation, expected, status, security) take wire names.
        Raises `InvalidDocument`.
        """
        id = self._ids()
        correlation: dict[str, Any] = {"conversationId": str(id)} | dict(fields.pop("correlation", {}))
        if self._sequence is not None:
            correlation.setdefault("seq", self._sequence(str(correlation["conversationId"])))
        envelope = {
            "id": str(id),
            "ts": _EPOCH + timedelta(milliseconds=self._clock()),
            "type": type,
            "sender": self.sender,
            "to": [to] if isinstance(to, str) else list(to),
            "payload": dict(payload),
            "correlation": correlation,
        }
        return parse(envelope | fields)

    def request(self, to: str | Iterable[str], payload: Mapping[str, Any], **fields: Any) -> RequestMessage:
        """Ask for something: `payload` holds `text`, or `action` and `arguments`."""
        return cast(RequestMessage, self.make("request", to, payload, **fields))

    def reply_to(self, message: BaseMessage) -> Reply:
        """Answers to `message`: to its sender, in its conversation, about its job, task and epoch."""
        return Reply(self, message)


class Reply:
    """Makes the answers to one message; those the rules do not know raise `InvalidDocument`."""

    __slots__ = ("_factory", "_message")

    def __init__(self, factory: MessageFactory, message: BaseMessage) -> None:
        self._factory, self._message = factory, message

    def make(self, type: str, payload: Mapping[str, Any], **fields: Any) -> Message:
        """An answer of any legal type."""
        asked = self._message
        if type not in REPLIES[asked.type]:
            legal = ", ".join(REPLIES[asked.type]) or "nothing"
            raise InvalidDocument(
                f"{asked.type} is not answered with {type[:100]!r}",
                field="type",
                value=type,
                remedy=f"It may be answered with: {legal}.",
            )
        correlation = asked.correlation.model_dump(mode="json", by_alias=True, exclude_unset=True)
        correlation.pop("seq", None)
        correlation["conversationId"] = asked.correlation.conversation_id or str(asked.id)
        correlation["inReplyTo"] = str(asked.id)
        taken = {
            "intent": asked.intent,
            "context": asked.context.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "correlation": correlation,
        }
        return self._factory.make(type, asked.sender, payload, **(taken | fields))

    def agree(self, **payload: Any) -> AgreeMessage:
        return cast(AgreeMessage, self.make("agree", payload))

    def refuse(self, failure_class: str, reason: str = "") -> RefuseMessage:
        return cast(RefuseMessage, self.make("refuse", {"class": failure_class, "reason": reason}))

    def inform(self, **payload: Any) -> InformMessage:
        return cast(InformMessage, self.make("inform", payload))

    def done(self, **payload: Any) -> DoneMessage:
        return cast(DoneMessage, self.make("done", payload))

    def failure(self, failure_class: str, error: str, message: str = "", **payload: Any) -> FailureMessage:
        said = {"class": failure_class, "error": error, "message": message} | payload
        return cast(FailureMessage, self.make("failure", said))

    def not_understood(self, what: str, why: str = "") -> NotUnderstoodMessage:
        return cast(NotUnderstoodMessage, self.make("not_understood", {"what": what, "why": why}))
