"""LAM on the wire: round trips, refusals that name the field, legal answers, and hostile input."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core import lam_protocol as lam
from cpa.core.documents import MAX_BYTES
from cpa.core.lam_payloads import RequestPayload
from cpa.core.lam_protocol import REPLIES, TYPES, BaseMessage, MessageFactory, RequestMessage, parse, schema
from cpa.errors import CPAError, InvalidDocument, TooLarge

SCHEDULER = "agent://scheduler/main"
WEB = "agent://web/eins"
DIGEST = "sha256:" + "0" * 64
ID = "018f6b1e-0000-7000-8000-000000000001"

PAYLOADS: dict[str, dict[str, Any]] = {
    "request": {
        "action": "web.goto",
        "arguments": {"url": "x", "n": None},
        "timeout": 8,
        "tainted": ["text"],
    },
    "discover": {"action": "web.goto", "constraints": {"locale": "de"}},
    "offer": {"cost": 0.5, "load": 0, "eta": 3, "confidence": 0.9},
    "propose": {"run_at": "2026-11-24T10:00:00+01:00"},
    "agree": {"estimate": 3.5},
    "refuse": {"class": "environment", "reason": "gesperrt"},
    "assign": {"task": {"action": "web.goto", "arguments": {"url": "x"}}, "lease": 30},
    "inform": {"progress": 0.5, "message": "halb fertig", "artifacts": [DIGEST]},
    "confirm": {"what": "approval", "verdict": "yes", "by": "müller"},
    "done": {
        "result": {"url": "x"},
        "artifacts": [{"artifact": DIGEST, "name": "ä.pdf"}],
        "execution_time": 1.5,
    },
    "failure": {"class": "unknown_outcome", "error": "timeout", "details": {"a": [1]}},
    "cancel": {"reason": "nicht mehr nötig"},
    "not_understood": {"what": "payload.action", "why": "unbekannt"},
}


def envelope(type: str = "request", **changes: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "ts": "2026-11-24T09:30:00.5Z",
        "type": type,
        "sender": SCHEDULER,
        "to": [WEB],
        "payload": PAYLOADS.get(type, {}),
    } | changes


def factory(sender: str = SCHEDULER, sequence: Callable[[str], int] | None = None) -> MessageFactory:
    numbers = count(1)
    return MessageFactory(sender, lambda: UUID(int=next(numbers)), lambda: 1_790_000_000_123, sequence)


def refused(document: Any) -> CPAError:
    with pytest.raises(CPAError) as caught:
        parse(document)
    assert caught.value.remedy
    assert caught.value.status in (413, 422)
    return caught.value


# -- round trips -----------------------------------------------------------------------------------------------


def test_every_type_of_the_wire_has_its_model() -> None:
    assert set(PAYLOADS) == set(TYPES)
    names = [f"{''.join(word.capitalize() for word in type.split('_'))}Message" for type in TYPES]
    for name, type in zip(names, TYPES, strict=True):
        assert name == parse(envelope(type)).__class__.__name__
        assert issubclass(getattr(lam, name), BaseMessage)


@pytest.mark.parametrize("type", TYPES)
def test_what_is_read_is_written_again(type: str) -> None:
    document = envelope(
        type,
        intent="Überweisung",
        context={"tenant": "default", "user": "müller", "domain": "", "locale": "de"},
        correlation={
            "conversationId": "c",
            "inReplyTo": ID,
            "jobId": "j",
            "taskId": "lösche",
            "epoch": 3,
            "seq": 0,
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        },
        expected={
            "deadline": "2026-11-24T10:00:00Z",
            "replyBy": None,
            "format": "json",
            "schema": {"type": "object"},
        },
        status={"code": "ok", "message": "gut"},
        security={"keyId": "k", "nonce": "n", "signature": "s"},
    )

    message = parse(document)

    assert message == parse(message.to_json())
    assert message == parse(message.to_json().decode())
    assert message == BaseMessage.from_dict(message.to_dict())
    assert message == type_of(message).from_json(message.to_json())
    assert message.to_dict() == parse(message.to_dict()).to_dict()
    assert document["correlation"] == message.to_dict()["correlation"]
    assert document["context"] == message.to_dict()["context"]


def type_of(message: BaseMessage) -> type[BaseMessage]:
    return type(message)


def test_python_names_are_snake_case() -> None:
    message = parse(envelope("refuse", correlation={"jobId": "j", "inReplyTo": ID}, expected={"schema": {}}))

    assert isinstance(message, lam.RefuseMessage)
    assert ("j", UUID(ID)) == (message.correlation.job_id, message.correlation.in_reply_to)
    assert message.payload.failure_class == "environment"
    assert message.expected.result_schema == {}


def test_a_message_made_in_python_says_its_type() -> None:
    message = RequestMessage(
        id=UUID(ID),
        ts=datetime(2026, 1, 1, tzinfo=UTC),
        sender=SCHEDULER,
        to=(WEB,),
        payload=RequestPayload(text="Grüße"),
        correlation=lam.Correlation(job_id="j"),
    )

    assert message.to_dict() == {
        "id": ID,
        "ts": "2026-01-01T00:00:00Z",
        "type": "request",
        "sender": SCHEDULER,
        "to": [WEB],
        "payload": {"text": "Grüße"},
        "correlation": {"jobId": "j"},
    }


def test_a_single_recipient_becomes_a_list() -> None:
    assert parse(envelope(to=WEB)).to == (WEB,)


def test_a_bare_digest_becomes_a_reference() -> None:
    assert parse(envelope("inform")).to_dict()["payload"]["artifacts"] == [{"artifact": DIGEST}]


@pytest.mark.parametrize(
    ("ts", "moment"),
    [
        ("2026-11-24T09:30:00Z", datetime(2026, 11, 24, 9, 30, tzinfo=UTC)),
        ("2026-11-24t09:30:00z", datetime(2026, 11, 24, 9, 30, tzinfo=UTC)),
        ("2026-11-24 10:30:00+01:00", datetime(2026, 11, 24, 9, 30, tzinfo=UTC)),
        ("2026-11-24T09:30:00.123456789Z", datetime(2026, 11, 24, 9, 30, 0, 123456, tzinfo=UTC)),
        (
            datetime(2026, 11, 24, 10, 30, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        ),
    ],
)
def test_times_are_utc(ts: object, moment: datetime) -> None:
    message = parse(envelope(ts=ts))

    assert moment == message.ts
    assert message.ts.utcoffset() == timedelta(0)


def test_unknown_fields_are_passed_on_at_the_top_of_the_payload() -> None:
    extra = {"x-trace": [1, None, {"ü": 1}], "note": None}

    assert extra.items() <= parse(envelope(payload=PAYLOADS["request"] | extra)).to_dict()["payload"].items()


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "x"}, "type"),
        ({"type": None}, "type"),
        ({"type": [1]}, "type"),
        ({"id": "1"}, "id"),
        ({"id": None}, "id"),
        ({"ts": "gestern"}, "ts"),
        ({"ts": 1_790_000_000}, "ts"),
        ({"ts": "2026-11-24T09:30:00"}, "ts"),
        ({"ts": "2026-13-24T09:30:00Z"}, "ts"),
        ({"ts": "0001-01-01T00:00:00+05:00"}, "ts"),
        ({"ts": datetime(2026, 1, 1)}, "ts"),
        ({"to": []}, "to"),
        ({"to": [WEB] * 101}, "to"),
        ({"to": ["agent://web"]}, "to[0]"),
        ({"to": [WEB + "\n"]}, "to[0]"),
        ({"sender": "web/eins"}, "sender"),
        ({"sender": "agent://web/" + "x" * 300}, "sender"),
        ({"sender": 5}, "sender"),
        ({"foo": 1}, "foo"),
        ({"intent": 5}, "intent"),
        ({"intent": "\ud800"}, "intent"),
        ({"payload": None}, "payload"),
        ({"payload": {}}, "payload"),
        ({"payload": {"arguments": []}}, "payload.arguments"),
        ({"payload": {"text": "x", "timeout": "8"}}, "payload.timeout"),
        ({"payload": {"text": "x", "timeout": float("nan")}}, "payload.timeout"),
        ({"payload": {"text": "x", "a": {"b": float("inf")}}}, "payload.a.b"),
        ({"payload": {"text": "x", "effect": "none"}}, "payload.effect"),
        ({"context": {"x": 1}}, "context.x"),
        ({"context": {"tenant": None}}, "context.tenant"),
        ({"correlation": {"conversation_id": "a"}}, "correlation.conversation_id"),
        ({"correlation": {"epoch": "1"}}, "correlation.epoch"),
        ({"correlation": {"epoch": True}}, "correlation.epoch"),
        ({"correlation": {"epoch": -1}}, "correlation.epoch"),
        ({"correlation": {"seq": 2**63}}, "correlation.seq"),
        ({"correlation": {"inReplyTo": "x"}}, "correlation.inReplyTo"),
        ({"correlation": {"traceparent": "x"}}, "correlation.traceparent"),
        ({"expected": {"replyBy": "x"}}, "expected.replyBy"),
        ({"status": {"code": 5}}, "status.code"),
        ({"security": {"key": "x"}}, "security.key"),
        ({"type": "discover", "payload": {}}, "payload.action"),
        ({"type": "offer", "payload": {"x": 1}}, "payload"),
        ({"type": "offer", "payload": {"confidence": 1.5}}, "payload.confidence"),
        ({"type": "offer", "payload": {"cost": -1}}, "payload.cost"),
        ({"type": "propose", "payload": {}}, "payload"),
        ({"type": "refuse", "payload": {}}, "payload.class"),
        ({"type": "refuse", "payload": {"failure_class": "policy"}}, "payload.class"),
        ({"type": "assign", "payload": {"task": {"action": "a", "x": 1}, "lease": 1}}, "payload.task.x"),
        ({"type": "assign", "payload": {"task": {"action": "a"}, "lease": 0}}, "payload.lease"),
        ({"type": "inform", "payload": {"progress": 1.01}}, "payload.progress"),
        ({"type": "inform", "payload": {"progress": -0.01}}, "payload.progress"),
        ({"type": "inform", "payload": {"artifacts": ["x"]}}, "payload.artifacts[0].artifact"),
        (
            {"type": "inform", "payload": {"artifacts": [{"artifact": DIGEST, "x": 1}]}},
            "payload.artifacts[0].x",
        ),
        ({"type": "done", "payload": {"execution_time": -1}}, "payload.execution_time"),
        ({"type": "failure", "payload": {"class": "technical"}}, "payload.error"),
        ({"type": "failure", "payload": {"class": "bad luck", "error": "x"}}, "payload.class"),
        ({"type": "not_understood", "payload": {"what": ""}}, "payload.what"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    assert field == refused(envelope() | changes).field


@pytest.mark.parametrize("field", ["id", "ts", "type", "sender", "to", "payload"])
def test_a_missing_field_is_named(field: str) -> None:
    document = envelope()
    del document[field]

    assert field == refused(document).field


def test_an_unknown_type_lists_those_there_are() -> None:
    assert ", ".join(TYPES) in str(refused(envelope("inquire")).remedy)


def test_a_message_over_a_mebibyte_is_refused_in_both_directions() -> None:
    message = parse(envelope(payload={"text": "x" * (MAX_BYTES - 100)}))

    with pytest.raises(TooLarge):
        message.to_json()
    assert refused(json.dumps(message.to_dict()).encode()).status == 413


def test_a_named_model_refuses_other_types() -> None:
    with pytest.raises(InvalidDocument, match="expected 'done'") as caught:
        lam.DoneMessage.from_dict(envelope())

    assert (caught.value.field, caught.value.value) == ("type", "request")


@pytest.mark.parametrize("value", [object(), float("nan"), "\ud800", 2**70, {1: object()}])
def test_what_is_no_json_is_not_sent(value: object) -> None:
    message = RequestMessage(
        id=UUID(ID),
        ts=datetime(2026, 1, 1, tzinfo=UTC),
        sender=SCHEDULER,
        to=(WEB,),
        payload=RequestPayload(action="a", arguments={"x": value}),
    )

    with pytest.raises(InvalidDocument) as caught:
        message.to_json()
    assert str(caught.value.field).startswith("payload")


# -- the factory and the rules ---------------------------------------------------------------------------------


def test_a_request_opens_its_conversation() -> None:
    message = factory().request(
        WEB, {"text": "Grüße"}, intent="greet", correlation={"jobId": "j", "epoch": 2}
    )

    assert str(message.id) == message.correlation.conversation_id
    assert (message.correlation.job_id, message.correlation.epoch, message.correlation.seq) == ("j", 2, None)
    assert datetime(2026, 9, 21, 14, 13, 20, 123000, tzinfo=UTC) == message.ts
    assert (message.to, message.sender, message.intent) == ((WEB,), SCHEDULER, "greet")


def test_a_request_may_go_to_several() -> None:
    assert factory().make("discover", [WEB, SCHEDULER], {"action": "a"}).to == (WEB, SCHEDULER)


def test_a_reply_goes_back_with_everything_that_identifies() -> None:
    asked = factory().request(
        WEB,
        {"text": "x"},
        intent="ü",
        context={"tenant": "t"},
        correlation={
            "jobId": "j",
            "taskId": "k",
            "epoch": 4,
            "seq": 9,
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        },
    )

    answer = factory(WEB).reply_to(asked).done(result={"a": 1})

    assert (asked.id, "j", "k", 4, None) == (
        answer.correlation.in_reply_to,
        answer.correlation.job_id,
        answer.correlation.task_id,
        answer.correlation.epoch,
        answer.correlation.seq,
    )
    assert asked.correlation.conversation_id == answer.correlation.conversation_id
    assert asked.correlation.traceparent == answer.correlation.traceparent
    assert (answer.to, answer.sender, answer.intent, answer.context.tenant) == ((SCHEDULER,), WEB, "ü", "t")


def test_a_reply_to_a_bare_message_starts_from_its_id() -> None:
    assert factory(WEB).reply_to(parse(envelope())).agree().correlation.conversation_id == ID


def test_messages_are_numbered_per_conversation() -> None:
    seen: dict[str, int] = {}

    def following(conversation: str) -> int:
        seen[conversation] = seen.get(conversation, 0) + 1
        return seen[conversation]

    reply = factory(WEB, following).reply_to(parse(envelope(correlation={"conversationId": "c"})))

    assert [reply.inform(progress=each).correlation.seq for each in (0, 0.5, 1)] == [1, 2, 3]
    assert seen == {"c": 3}


def test_every_answer_has_its_short_form() -> None:
    reply = factory(WEB).reply_to(parse(envelope()))
    answers: list[BaseMessage] = [
        reply.agree(estimate=3),
        reply.refuse("environment", "gesperrt"),
        reply.inform(progress=0.5),
        reply.done(result={}),
        reply.failure("business", "login_refused", "Falsches Passwort", details={"a": 1}),
        reply.not_understood("payload", "warum"),
    ]

    assert [each.type for each in answers] == [
        "agree",
        "refuse",
        "inform",
        "done",
        "failure",
        "not_understood",
    ]
    assert all(each == parse(each.to_json()) for each in answers)


@pytest.mark.parametrize("asked", TYPES)
@pytest.mark.parametrize("answer", [*TYPES, "x"])
def test_only_legal_answers_are_made(asked: str, answer: str) -> None:
    reply = factory(WEB).reply_to(parse(envelope(asked)))

    if answer in REPLIES[asked]:
        assert answer == reply.make(answer, PAYLOADS[answer]).type
    else:
        with pytest.raises(InvalidDocument) as caught:
            reply.make(answer, PAYLOADS.get(answer, {}))
        assert ("type", answer) == (caught.value.field, caught.value.value)


def test_not_understood_is_never_answered() -> None:
    assert REPLIES["not_understood"] == ()
    assert all("not_understood" in REPLIES[type] for type in TYPES[:-1])


def test_a_factory_checks_what_it_is_given() -> None:
    with pytest.raises(InvalidDocument) as caught:
        factory().request(WEB, {})

    assert caught.value.field == "payload"


# -- the schema ------------------------------------------------------------------------------------------------


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    validator = jsonschema.Draft202012Validator(schema())

    validator.check_schema(schema())
    for type in TYPES:
        message = parse(envelope(type, correlation={"jobId": "j"}))
        assert list(validator.iter_errors(message.to_dict())) == []
    assert list(validator.iter_errors(envelope(foo=1)))
    assert list(validator.iter_errors(envelope("inform", payload={"progress": 2})))


# -- hostile input ---------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.just(ID)
)
JSONISH = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
CLEAN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    type=st.sampled_from([*TYPES, "x"]),
    changes=st.dictionaries(st.sampled_from([*BaseMessage.model_fields, "x"]), JSONISH, max_size=3),
    payload=st.dictionaries(
        st.sampled_from(
            ["text", "action", "arguments", "progress", "artifacts", "class", "task", "run_at", "ü"]
        ),
        JSONISH,
        max_size=4,
    ),
)
def test_a_damaged_message_is_refused_or_can_be_written_again(
    type: str, changes: dict[str, Any], payload: dict[str, Any]
) -> None:
    document = envelope(type) | {"payload": PAYLOADS.get(type, {}) | payload} | changes
    try:
        message = parse(document)
    except CPAError:
        return

    assert message == parse(message.to_json())


@given(data=st.binary(max_size=200) | st.text(max_size=200))
def test_noise_is_refused(data: bytes | str) -> None:
    refused(data)


@given(
    arguments=st.dictionaries(st.text(), CLEAN, max_size=4),
    extra=st.dictionaries(st.text(min_size=1).map(lambda name: f"x-{name}"), CLEAN, max_size=3),
)
def test_every_content_survives_the_way(arguments: dict[str, Any], extra: dict[str, Any]) -> None:
    message = factory().request(WEB, {"action": "a.b", "arguments": arguments} | extra)

    payload = RequestMessage.from_json(message.to_json()).to_dict()["payload"]

    assert {"action": "a.b", "arguments": arguments} | extra == payload
