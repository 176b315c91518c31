"""A request becomes a job exactly once, at the right time, or a clear refusal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.api.conftest import Door, noop

from cpa.ports.keys import Scope

SENTENCE = "Schick mir die letzte Rechnung von ACME"


def at(**ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def lam(**changed: Any) -> dict[str, Any]:
    message = {
        "id": str(uuid4()),
        "ts": "2026-11-24T08:30:00Z",
        "type": "request",
        "sender": "agent://user/anna",
        "to": "agent://scheduler/cpa",
        "payload": {"text": SENTENCE},
        "context": {"user": "anna", "locale": "de"},
    }
    return message | changed


async def test_a_sentence_becomes_a_job(door: Door, api: httpx2.AsyncClient) -> None:
    answered = await api.post("/schedule", json={"text": SENTENCE, "context": {"user": "anna"}})
    job = (await api.get(answered.headers["location"])).json()["job"]

    assert (answered.status_code, set(answered.json())) == (201, {"job_id", "status", "created_at"})
    assert (job["description"], job["context"]) == (SENTENCE, {"user": "anna"})


async def test_a_lam_request_becomes_a_job(door: Door, api: httpx2.AsyncClient) -> None:
    answered = await api.post("/schedule", json={"message": lam()})
    job = (await api.get(answered.headers["location"])).json()["job"]

    assert (job["description"], job["context"]) == (SENTENCE, {"user": "anna", "locale": "de"})


async def test_a_dry_run_shows_the_plan_and_stores_nothing(api: httpx2.AsyncClient) -> None:
    risky = {
        "id": "mail",
        "action": "mail.send",
        "effect": "unsafe",
        "approval": True,
        "depends_on": ["echo"],
    }
    risky["arguments"] = {"to": "billing@kunde.example", "subject": "Rechnung", "text": "anbei"}

    answered = await api.post("/jobs", json={"task_graph": [noop(), risky], "dry_run": True})
    shown = answered.json()

    assert (answered.status_code, shown["dry_run"], shown["approvals"]) == (200, True, ["mail"])
    assert [task["depends_on"] for task in shown["tasks"]] == [[], ["echo"]]
    assert shown["risks"][0].startswith("mail: mail.send")
    assert (await api.get("/jobs")).json()["total"] == 0


async def test_a_dry_run_tells_who_is_to_answer_and_has_no_key(door: Door, api: httpx2.AsyncClient) -> None:
    await door.key(Scope.SUBMIT, name="berta")
    await door.key(Scope.SUBMIT, name="conny", tenant="nord")
    tasks = [
        noop() | {"id": "pay", "approval": {"needed": 1, "approvers": ["berta", "conny"]}},
        {"id": "ask", "action": "person.ask", "arguments": {"question": "Wie viel?", "for": "niemand"}},
    ]
    shown = (await api.post("/jobs", json={"task_graph": tasks, "dry_run": True})).json()

    assert shown["risks"] == [
        "pay: nobody has a key by the name of conny; make one with `cpa keys add conny`",
        "ask: nobody has a key by the name of niemand; make one with `cpa keys add niemand`",
    ]


async def test_start_deadline_and_priority_reach_the_job(api: httpx2.AsyncClient) -> None:
    body = {"task_graph": [noop()], "run_at": at(hours=1), "deadline": at(hours=2), "priority": 7}
    answered = await api.post("/jobs", json=body)
    job = (await api.get(answered.headers["location"])).json()["job"]

    assert (job["status"], job["priority"]) == ("pending", 7)
    assert datetime.fromisoformat(job["deadline"]) - datetime.fromisoformat(body["deadline"]) < timedelta(
        seconds=1
    )


async def test_a_start_in_the_past_is_at_once(api: httpx2.AsyncClient) -> None:
    answered = await api.post("/jobs", json={"task_graph": [noop()], "run_at": at(days=-1)})

    assert (await api.get(answered.headers["location"], params={"wait": 5})).json()["status"] == "done"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": SENTENCE, "cron": "0 8 * * *"}, "cron"),
        ({"text": SENTENCE, "deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"text": SENTENCE, "run_at": at(hours=2), "deadline": at(hours=1)}, "deadline"),
        ({"text": SENTENCE, "run_at": "2026-12-24T08:00:00"}, "run_at"),
        ({"text": SENTENCE, "run_at": "9999-12-31T23:59:59Z"}, "run_at"),
        ({"text": SENTENCE, "run_at": "1969-01-01T00:00:00Z"}, "run_at"),
        ({"text": SENTENCE, "run_at": 5}, "run_at"),
        ({"text": SENTENCE, "priority": True}, "priority"),
        ({"text": SENTENCE, "priority": "5"}, "priority"),
        ({"text": SENTENCE, "priority": 1001}, "priority"),
        ({"text": SENTENCE, "priorität": 1}, "priorität"),
        ({"text": SENTENCE, "context": {"a": 1}}, "context.a"),
        ({"text": 7}, "text"),
        ({"text": None}, "body"),
        ({}, "body"),
        ({"text": SENTENCE, "message": {}}, "body"),
        ({"message": lam(type="done")}, "message.type"),
        ({"message": lam(type="dance")}, "message.type"),
        ({"message": lam(sender="anna")}, "message.sender"),
        ({"message": {}}, "message.type"),
    ],
)
async def test_a_wrong_request_names_its_field_and_remedy(
    body: dict[str, Any], field: str, api: httpx2.AsyncClient
) -> None:
    answered = await api.post("/schedule", json=body)
    problem = answered.json()

    assert (answered.status_code, problem["field"]) == (422, field)
    assert problem["remedy"]
    assert (await api.get("/jobs")).json()["total"] == 0


@pytest.mark.parametrize("text", ["", "   ", "Guten Tag!"])
async def test_a_sentence_nobody_understands_is_no_job(text: str, api: httpx2.AsyncClient) -> None:
    answered = await api.post("/schedule", json={"text": text})

    assert answered.status_code in (400, 422)
    assert (await api.get("/jobs")).json()["total"] == 0


@pytest.mark.parametrize(
    "graph",
    [
        [],
        {},
        [noop("a", depends_on=["b"]), noop("b", depends_on=["a"])],
        [noop("a", value="{{ tasks.nowhere.result.value }}")],
        [noop("a"), noop("a")],
        [{"id": "a", "action": "web.fly"}],
        [{"id": "a"}],
        ["a"],
        [noop("a", timeout="bald")],
    ],
)
async def test_a_plan_that_fails_its_checks_is_no_job(graph: Any, api: httpx2.AsyncClient) -> None:
    answered = await api.post("/jobs", json={"task_graph": graph})

    assert answered.status_code in (400, 422), answered.text
    assert answered.json()["remedy"]
    assert (await api.get("/jobs")).json()["total"] == 0


@pytest.mark.parametrize("path", ["/schedule", "/jobs"])
@pytest.mark.parametrize("where", ["context", "message"])
async def test_another_tenant_in_the_body_is_forbidden(
    path: str, where: str, api: httpx2.AsyncClient
) -> None:
    body: dict[str, Any] = {"text" if path == "/schedule" else "description": SENTENCE}
    body["context"] = {"tenant": "nord"}
    if where == "message":
        path, body = "/schedule", {"message": lam(context={"tenant": "nord"})}

    answered = await api.post(path, json=body)

    assert (answered.status_code, answered.json()["code"]) == (403, "forbidden")
    assert (
        await api.post("/schedule", json={"text": SENTENCE, "context": {"tenant": "default"}})
    ).status_code == 201


async def test_the_same_key_and_body_gives_the_same_answer_and_one_job(api: httpx2.AsyncClient) -> None:
    body = {"text": SENTENCE, "priority": 3}
    first = await api.post("/schedule", json=body, headers={"Idempotency-Key": "k-1"})
    await api.get(first.headers["location"], params={"wait": 5})
    second = await api.post(
        "/schedule", json=dict(reversed(body.items())), headers={"Idempotency-Key": '"k-1"'}
    )

    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (
        False,
        "true",
    )
    assert (await api.get("/jobs")).json()["total"] == 1


async def test_a_request_is_repeated_after_its_deadline(
    door: Door, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"text": SENTENCE, "deadline": "2200-01-01T00:00:00Z"}
    first = await api.post("/schedule", json=body, headers={"Idempotency-Key": "k-1"})
    monkeypatch.setattr(type(door.services.clock), "now_ms", lambda clock: 8_000_000_000_000)
    again = await api.post("/schedule", json=body, headers={"Idempotency-Key": "k-1"})
    late = await api.post("/schedule", json=body, headers={"Idempotency-Key": "k-2"})

    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert (late.status_code, late.json()["field"]) == (422, "deadline")


async def test_the_same_key_with_another_body_is_refused(api: httpx2.AsyncClient) -> None:
    await api.post("/schedule", json={"text": SENTENCE}, headers={"Idempotency-Key": "k-1"})
    other = await api.post("/schedule", json={"text": SENTENCE + "!"}, headers={"Idempotency-Key": "k-1"})

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["field"] == "Idempotency-Key"


async def test_the_same_key_of_another_caller_is_another_request(door: Door, api: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await api.post("/schedule", json={"text": SENTENCE}, headers=headers)
    async with door.client(await door.key(Scope.SUBMIT)) as other:
        second = await other.post("/schedule", json={"text": SENTENCE + "!"}, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["job_id"] != second.json()["job_id"]


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "ä".encode().decode("latin-1")])
async def test_a_senseless_idempotency_key_is_refused(key: str, api: httpx2.AsyncClient) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answered = await api.post("/schedule", json={"text": SENTENCE}, headers=headers)

    assert (answered.status_code, answered.json()["field"]) == (400, "Idempotency-Key")


async def test_a_draining_engine_says_when_to_come_back(door: Door, api: httpx2.AsyncClient) -> None:
    await door.engine.drain(0)

    answered = await api.post("/schedule", json={"text": SENTENCE})

    assert (answered.status_code, answered.headers["retry-after"]) == (503, "2")
    assert answered.json()["retryable"] is True
