"""Every error is a problem document with correlation id and remedy, and shows nothing of the inside."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.api.conftest import ORIGIN, Door, noop
from tests.api.test_schedule import lam

from cpa.api.bodies import Body, parsed
from cpa.api.problems import Invalid
from cpa.core.job import Snapshot
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, InternalError, QuotaExceeded, Unavailable
from cpa.ports.agents import Acknowledgement
from cpa.ports.keys import Caller, Scope

JSON = {"Content-Type": "application/json"}


def checked(response: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem in a response that has the right shape."""
    problem: dict[str, Any] = response.json()

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert problem["status"] == status
    assert problem["correlation_id"] == response.headers["x-correlation-id"]
    assert {"type", "title", "detail", "code", "actor", "retryable", "instance"} <= set(problem)
    assert code in (None, problem["code"])
    return problem


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nirgends", 404),
        ("GET", "/jobs/", 404),
        ("PUT", "/jobs", 405),
        ("POST", "/health", 405),
        ("GET", "/schedule", 405),
        ("DELETE", "/audit", 405),
        ("TRACE", "/jobs", 405),
        ("GET", "/ws/jobs/x", 404),
    ],
)
async def test_a_wrong_path_or_method_is_a_problem(
    method: str, path: str, status: int, api: httpx2.AsyncClient
) -> None:
    response = await api.request(method, path)

    assert checked(response, status)["remedy"]
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/jobs", "/questions", "/audit", "/artifacts/x", "/jobs/x/events"])
@pytest.mark.parametrize("key", ["", "falsch", "cpa_" + "0" * 49])
async def test_without_a_good_key_every_answer_is_401(path: str, key: str, door: Door) -> None:
    async with door.client(key) as stranger:
        response = await stranger.get(path)

    assert checked(response, 401, "unauthorized")["field"] == "X-API-Key"
    assert response.headers["www-authenticate"].startswith("ApiKey")


@pytest.mark.parametrize(
    ("scope", "method", "path", "allowed"),
    [
        (Scope.READ, "GET", "/jobs", True),
        (Scope.READ, "POST", "/jobs", False),
        (Scope.READ, "POST", "/schedule", False),
        (Scope.READ, "POST", "/artifacts", False),
        (Scope.READ, "POST", "/lam/message", False),
        (Scope.READ, "GET", "/audit", True),
        (Scope.SUBMIT, "GET", "/jobs", True),
        (Scope.SUBMIT, "POST", "/jobs", True),
        (Scope.SUBMIT, "GET", "/audit/verify", False),
        (Scope.SUBMIT, "POST", "/lam/message", True),
        (Scope.AGENT, "GET", "/jobs", False),
        (Scope.AGENT, "POST", "/jobs", False),
        (Scope.AGENT, "GET", "/audit", False),
        (Scope.AGENT, "POST", "/questions/x", False),
        (Scope.AGENT, "POST", "/lam/message", True),
        (Scope.AGENT, "POST", "/artifacts", True),
        (Scope.SUBMIT, "GET", "/metrics", False),
        (Scope.METRICS, "GET", "/metrics", True),
        (Scope.METRICS, "GET", "/jobs", False),
        (Scope.METRICS, "POST", "/lam/message", False),
        (Scope.ADMIN, "GET", "/metrics", True),
        (Scope.ADMIN, "GET", "/audit/verify", True),
        (Scope.ADMIN, "POST", "/jobs", True),
    ],
)
async def test_a_scope_opens_its_routes_and_no_others(
    scope: Scope, method: str, path: str, allowed: bool, door: Door
) -> None:
    async with door.client(await door.key(scope)) as client:
        response = await client.request(method, path)

    assert (response.status_code != 403) is allowed
    if not allowed:
        checked(response, 403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'text': 1}",
        b'{"text": NaN}',
        b'{"priority": Infinity}',
        b'{"priority": 1e999}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"a\\u0000": 1}',
        b'{"priority": 123456789012345678901234567890}',
        b'{"priority": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"text": "x"} {}',
    ],
)
async def test_what_is_no_clean_json_is_refused(body: bytes, api: httpx2.AsyncClient) -> None:
    response = await api.post("/schedule", content=body, headers=JSON)

    assert checked(response, 400, "bad_input")["remedy"]


@pytest.mark.parametrize("body", ["[]", "1", '"x"', "null", "true"])
async def test_json_of_another_shape_is_refused(body: str, api: httpx2.AsyncClient) -> None:
    for path in (
        "/schedule",
        "/jobs",
        "/lam/message",
        "/questions/" + "0" * 8 + "-0000-7000-8000-000000000000.0.1",
    ):
        checked(await api.post(path, content=body, headers=JSON), 422, "invalid_document")


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "Käse"]
)
async def test_another_media_type_is_refused(media_type: str, api: httpx2.AsyncClient) -> None:
    headers = {b"Content-Type": media_type.encode("latin-1")}
    response = await api.post("/jobs", content=b'{"description": "Rechnung"}', headers=headers)

    assert checked(response, 415, "wrong_media_type")["field"] == "Content-Type"


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.cpa+json"]
)
async def test_json_under_its_other_names_is_taken(media_type: str, api: httpx2.AsyncClient) -> None:
    body = json.dumps({"task_graph": [noop()]})
    response = await api.post("/jobs", content=body, headers={"Content-Type": media_type})

    assert response.status_code == 201


async def test_an_announced_flood_is_refused_before_reading(api: httpx2.AsyncClient) -> None:
    read = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 65536

    headers = {**JSON, "Content-Length": str(10**12)}
    response = await api.post("/jobs", content=flood(), headers=headers)

    checked(response, 413, "too_large")
    assert read <= 1


async def test_an_unannounced_flood_is_cut(api: httpx2.AsyncClient) -> None:
    async def flood() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    checked(await api.post("/jobs", content=flood(), headers=JSON), 413, "too_large")


async def test_every_broken_place_is_listed(api: httpx2.AsyncClient) -> None:
    response = await api.post("/jobs", json={"priority": "hoch", "cron": 1, "dry_run": "ja", "x": 1})
    problem = checked(response, 422, "invalid_document")

    assert {error["field"] for error in problem["errors"]} == {"priority", "cron", "dry_run", "x"}


@pytest.mark.parametrize("graph", ["x", 5, True])
async def test_what_may_be_one_of_several_forms_is_named_as_it_was_written(
    graph: Any, api: httpx2.AsyncClient
) -> None:
    problem = checked(await api.post("/jobs", json={"task_graph": graph}), 422, "invalid_document")

    assert (problem["field"], problem["value"]) == ("task_graph", str(graph))
    assert problem["detail"] == "Input should be an object or a valid array"
    assert problem["remedy"] == "correct task_graph; /openapi.json has the schema"
    assert [error["field"] for error in problem["errors"]] == ["task_graph"]


def test_no_form_of_a_body_is_named_by_its_type() -> None:
    """Whatever unions there are, or will be: a step of a place is one that was written, or that is missing."""

    class Part(Body):
        name: str

    class Whole(Body):
        either: Part | list[int | str] | dict[str, int | list[int]]

    def places(raw: str) -> list[Any]:
        with pytest.raises(Invalid) as caught:
            parsed(raw.encode(), Whole)
        return [error["field"] for error in caught.value.errors]

    assert places('{"either": 1}') == ["either"]
    assert places('{"either": [1, {}]}') == ["either", "either[1]"]
    assert places('{"either": {"str": [1, "x"]}}') == ["either.name", "either.str", "either", "either.str[1]"]
    assert places('{"either": {"name": true}}') == ["either.name", "either"]
    assert places("{}") == ["either"]
    assert places("1") == ["body"]


async def test_a_rule_between_fields_is_told_in_our_words_alone(api: httpx2.AsyncClient) -> None:
    problem = checked(await api.post("/schedule", json={}), 422, "invalid_document")

    assert (problem["field"], problem["detail"]) == ("body", "give either text or message")


async def test_a_defect_shows_nothing_but_the_correlation_id(
    door: Door, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, lines: io.StringIO
) -> None:
    async def broken(tenant: str, job: str) -> Snapshot:
        raise RuntimeError("table jobs at /var/lib/geheim is gone")

    monkeypatch.setattr(door.engine, "query", broken)
    response = await api.get(
        "/jobs/01930000-0000-7000-8000-000000000000", headers={"X-Correlation-ID": "spur-1"}
    )

    assert checked(response, 500, "internal")["correlation_id"] == "spur-1"
    assert "geheim" not in response.text
    defect = next(line for line in map(json.loads, lines.getvalue().splitlines()) if "exception" in line)
    assert "table jobs at /var/lib/geheim is gone" in defect["exception"]
    assert (defect["level"], defect["correlation"]) == ("error", "spur-1")


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), QuotaExceeded("no room")], ids=repr)
async def test_what_an_operator_knows_is_logged_without_a_traceback(
    error: CPAError,
    door: Door,
    api: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    lines: io.StringIO,
) -> None:
    async def full(message: BaseMessage, caller: Caller) -> Acknowledgement:
        raise error

    monkeypatch.setattr(door.messages, "handle", full)
    assert (await api.post("/lam/message", json=lam())).status_code == error.status

    (line,) = [each for each in map(json.loads, lines.getvalue().splitlines()) if each["level"] == "error"]
    assert (line["event"], line["code"], line["error"]) == ("request_failed", error.code, error.message)
    assert "exception" not in line


async def test_a_refusal_leaves_one_line_with_its_correlation_id(
    api: httpx2.AsyncClient, lines: io.StringIO
) -> None:
    await api.get("/jobs/x", headers={"X-Correlation-ID": "spur-3"})
    await api.get("/jobs")

    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert (line["correlation"], line["path"], line["status"]) == ("spur-3", "/jobs/x", 404)


async def test_a_broken_invariant_shows_nothing_of_the_inside(
    door: Door, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(tenant: str, job: str) -> Snapshot:
        raise InternalError("row 7 of geheim", field="geheim", value="geheim", remedy="geheim")

    monkeypatch.setattr(door.engine, "query", broken)
    response = await api.get("/jobs/01930000-0000-7000-8000-000000000000")

    checked(response, 500, "internal")
    assert "geheim" not in response.text


@pytest.mark.parametrize("offered", ["spur-2", "A.b_c-9"])
async def test_a_harmless_correlation_id_comes_back(offered: str, api: httpx2.AsyncClient) -> None:
    response = await api.get("/jobs", headers={"X-Correlation-ID": offered})

    assert response.headers["x-correlation-id"] == offered


@pytest.mark.parametrize("offered", [b"x" * 65, b"a b", b"\xff", b""])
async def test_another_correlation_id_is_replaced(offered: bytes, api: httpx2.AsyncClient) -> None:
    response = await api.get("/jobs", headers={b"X-Correlation-ID": offered})

    assert len(response.headers["x-correlation-id"]) == 32


async def test_every_answer_forbids_guessing_its_type(api: httpx2.AsyncClient) -> None:
    answers = [await api.get(path) for path in ("/jobs", "/health", "/nirgends", "/openapi.json")]

    assert {response.headers["x-content-type-options"] for response in answers} == {"nosniff"}


async def test_a_configured_origin_may_call(api: httpx2.AsyncClient) -> None:
    asking = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    preflight = await api.options("/jobs", headers=asking)
    answered = await api.get("/nirgends", headers={"Origin": ORIGIN})

    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert answered.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Correlation-ID" in answered.headers["access-control-expose-headers"]


async def test_another_origin_is_told_why_not(api: httpx2.AsyncClient) -> None:
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = await api.options("/jobs", headers=asking)
    answered = await api.get("/jobs", headers={"Origin": "https://evil.example"})

    assert (preflight.status_code, preflight.headers["content-type"]) == (403, "application/problem+json")
    assert "access-control-allow-origin" not in answered.headers
