"""A job is watched live over a real socket: nothing missed, nothing leaked, nothing left open."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from structlog.testing import capture_logs
from tests.api.conftest import ORIGIN, Door, Served, noop
from tests.api.test_jobs import HANGING, create, settle
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cpa.api import live, server
from cpa.api.server import listen
from cpa.core.events import TaskStarted
from cpa.errors import BadInput
from cpa.ports.engine import LiveUpdate
from cpa.ports.keys import Scope


def watch(served: Served, job: str, key: str = "", query: str = "", **more: Any) -> connect:
    headers = {"X-API-Key": key} if key else {}
    return connect(f"{served.socket}/ws/jobs/{job}{query}", additional_headers=headers, proxy=None, **more)


async def frames(socket: ClientConnection) -> list[dict[str, Any]]:
    """Everything up to the close."""
    found = []
    try:
        async with asyncio.timeout(10):
            while True:
                found.append(json.loads(await socket.recv()))
    except ConnectionClosed:
        return found


async def watched(door: Door, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while door.engine.watchers != count:
            await asyncio.sleep(0.001)


async def left(served: Served) -> None:
    """Once the server holds no WebSocket any more."""
    async with asyncio.timeout(5):
        while any(isinstance(each, server.Socket) for each in served.server.server_state.connections):
            await asyncio.sleep(0.01)


async def hanging(door: Door, api: httpx2.AsyncClient) -> str:
    job = await create(api, HANGING)
    await settle(door, job)
    return job


async def test_an_ended_job_is_told_whole_and_the_stream_closes(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})
    async with watch(served, job, await door.key(Scope.READ)) as socket:
        *events, end = await frames(socket)

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["type"] for event in events} == {"event"}
    assert events[-1]["event"] == "task_succeeded"
    assert end == {"type": "end", "status": "done", "last_seq": len(events)}
    assert socket.close_code == 1000


@pytest.mark.parametrize("query", ["?after=2", "?last_seq=2"])
async def test_a_reconnect_resumes_after_the_last_seen(
    query: str, door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})
    async with watch(served, job, await door.key(Scope.READ), query) as socket:
        found = await frames(socket)

    assert found[0]["seq"] == 3


async def test_events_and_progress_come_live(door: Door, api: httpx2.AsyncClient, served: Served) -> None:
    job = await hanging(door, api)
    async with watch(served, job, await door.key(Scope.READ), "?after=3") as socket:
        await watched(door)
        await door.engine.send("default", job, TaskStarted(time=0, task=0, epoch=1))
        started = json.loads(await socket.recv())
        door.engine.progress("default", LiveUpdate(job, "wait", 1, 0.5, "öffne Seite"))
        progress = json.loads(await socket.recv())
        looked = (await api.get(f"/jobs/{job}")).json()["tasks"][0]["progress"]
        listed = (await api.get(f"/jobs/{job}/tasks")).json()["tasks"][0]["progress"]
        await door.engine.cancel("default", job, by="anna")
        cancelled = json.loads(await socket.recv())

    assert (started["event"], started["task"], started["seq"]) == ("task_started", "wait", 4)
    assert progress == {
        "type": "progress",
        "task": "wait",
        "epoch": 1,
        "progress": 0.5,
        "message": "öffne Seite",
    }
    assert looked == listed == {"share": 0.5, "message": "öffne Seite"}
    assert cancelled["event"] == "cancel_requested"


async def test_a_client_without_headers_says_who_it_is_first(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})
    async with watch(served, job) as socket:
        await socket.send(json.dumps({"key": await door.key(Scope.READ), "last_seq": 2}))
        found = await frames(socket)

    assert (found[0]["seq"], found[-1]["type"], socket.close_code) == (3, "end", 1000)


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        ('{"key": "falsch"}', 4401),
        ('{"key": 1}', 4422),
        ("{}", 4422),
        ("[]", 4422),
        ("hallo", 4400),
        ('{"key": "x", "last_seq": -1}', 4422),
        ('{"key": "x", "more": 1}', 4422),
        (b"\x00", 4400),
    ],
)
async def test_a_wrong_greeting_is_answered_and_closed(
    greeting: str | bytes, code: int, door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    async with watch(served, job) as socket:
        await socket.send(greeting)
        (problem,) = await frames(socket)

    assert (socket.close_code, problem["status"]) == (code, code - 4000)
    assert problem["remedy"]


async def test_a_client_that_never_says_who_it_is_is_closed(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GREETING", 0.05)
    job = await create(api, noop())
    async with watch(served, job) as socket:
        await frames(socket)

    assert socket.close_code == 4401


@pytest.mark.parametrize(
    ("job", "scope", "query", "headers", "status"),
    [
        ("01930000-0000-7000-8000-000000000000", Scope.READ, "", {}, 404),
        ("x", Scope.READ, "", {}, 404),
        ("", Scope.READ, "?after=999", {}, 400),
        ("", Scope.READ, "?after=-1", {}, 422),
        ("", Scope.READ, "?after=viel", {}, 422),
        ("", Scope.AGENT, "", {}, 403),
        ("", None, "", {}, 401),
        ("", Scope.READ, "", {"Origin": "https://evil.example"}, 403),
        ("", Scope.READ, "", {"Origin": "http://["}, 403),
    ],
)
async def test_a_refusal_before_the_handshake_is_a_problem(
    job: str,
    scope: Scope | None,
    query: str,
    headers: dict[str, str],
    status: int,
    door: Door,
    api: httpx2.AsyncClient,
    served: Served,
) -> None:
    job = job or await create(api, noop())
    key = "cpa_falsch" if scope is None else await door.key(scope)
    where = f"{served.socket}/ws/jobs/{job}{query}"
    with pytest.raises(InvalidStatus) as refused:
        await connect(where, additional_headers={"X-API-Key": key, **headers}, proxy=None)
    response = refused.value.response

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body or b"")["status"] == status


@pytest.mark.parametrize("origin", [ORIGIN, "same"])
async def test_an_allowed_origin_may_watch(
    origin: str, door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    headers = {"X-API-Key": await door.key(Scope.READ), "Origin": served.url if origin == "same" else origin}
    async with connect(f"{served.socket}/ws/jobs/{job}", additional_headers=headers, proxy=None) as socket:
        assert (await frames(socket))[-1]["type"] == "end"


async def test_an_unknown_stream_is_a_problem(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{served.socket}/ws/nirgends", proxy=None)

    assert json.loads(refused.value.response.body or b"")["code"] == "not_found"


async def test_a_job_of_another_tenant_cannot_be_watched(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await create(api, noop())
    with pytest.raises(InvalidStatus) as refused:
        await watch(served, job, await door.key(Scope.ADMIN, tenant="nord"))

    assert refused.value.response.status_code == 404


async def test_a_revoked_key_ends_its_streams_within_two_seconds(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await hanging(door, api)
    key = await door.key(Scope.READ)
    async with watch(served, job, key) as socket:
        await watched(door)
        await door.store.revoke("default", door.store.kept[-1].id, 1)
        async with asyncio.timeout(2):
            *_, problem = await frames(socket)

    assert (socket.close_code, problem["code"]) == (4401, "unauthorized")


async def test_a_client_that_leaves_leaves_nothing_behind(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await hanging(door, api)
    async with watch(served, job, await door.key(Scope.READ)):
        await watched(door)

    async with asyncio.timeout(20):
        while door.engine.watchers or door.services.shutdown.waiting:
            await asyncio.sleep(0.001)


async def test_a_client_that_takes_nothing_is_cut_off(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STALLED", 0.2)
    monkeypatch.setattr(server, "_CLOSING", 0.2)
    job = await hanging(door, api)
    with capture_logs() as logs:
        async with watch(served, job, await door.key(Scope.READ), max_queue=1) as socket:
            await watched(door)
            for _ in range(400):
                door.engine.progress("default", LiveUpdate(job, "wait", 1, 0.5, "x" * 60_000))
            await watched(door, 0)
            # It has read nothing yet, and what waits for it is gone.
            await left(served)
            assert len(await frames(socket)) < 400

    [told] = [line for line in logs if line["log_level"] != "info"]
    assert (told["event"], told["log_level"]) == ("client_reads_nothing", "warning")


async def test_stopping_does_not_wait_for_a_client_that_takes_nothing(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CLOSING", 0.2)
    job = await hanging(door, api)
    async with watch(served, job, await door.key(Scope.READ), max_queue=1) as socket:
        await watched(door)
        for _ in range(400):
            door.engine.progress("default", LiveUpdate(job, "wait", 1, 0.5, "x" * 60_000))
        async with asyncio.timeout(3):
            await served.stop()
        assert len(await frames(socket)) < 400


async def test_stopping_ends_open_streams_with_going_away(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await hanging(door, api)
    key = await door.key(Scope.READ)
    sockets = [await watch(served, job, key) for _ in range(5)]
    await watched(door, 5)
    async with asyncio.timeout(3):
        await served.stop()
    for socket in sockets:
        await frames(socket)

    assert {socket.close_code for socket in sockets} == {1001}
    assert door.engine.watchers == 0


async def test_stopping_answers_who_waits_instead_of_cutting_them(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    job = await hanging(door, api)
    headers = {"X-API-Key": await door.key(Scope.READ)}
    async with httpx2.AsyncClient(base_url=served.url, headers=headers) as client:
        waiting = [
            asyncio.create_task(client.get(f"/jobs/{job}", params={"wait": 60})),
            asyncio.create_task(client.get(f"/jobs/{job}/events", params={"wait": 60, "after": 4})),
        ]
        await watched(door, 2)
        async with asyncio.timeout(3):
            await served.stop()
        answers = [await answer for answer in waiting]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_stopping_does_not_wait_for_a_body_that_never_ends(door: Door, served: Served) -> None:
    key = await door.key(Scope.ADMIN)
    head = f"Host: 127.0.0.1\r\nX-API-Key: {key}\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n"
    opened = []
    for path in ("/jobs", "/artifacts"):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(served.url).port)
        writer.write(f"POST {path} HTTP/1.1\r\n{head}{{".encode())
        opened.append((reader, writer))
    async with asyncio.timeout(20):
        while len(door.services.shutdown.waiting) < 2:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(4):
        await served.stop()
    for reader, writer in opened:
        assert (await reader.readline()).split()[1] == b"503"
        writer.close()


async def test_a_client_that_never_ends_its_request_line_is_cut_off(door: Door, served: Served) -> None:
    served.server.silence = 0.5
    port = urlsplit(served.url).port
    for said in (
        b"",
        b"GET /health HTTP/1.1\r\nHo",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /he",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(20):
            answer = await reader.read()  # to the end: the server closes
        assert answer.startswith(b"HTTP/1.1 200") == (b"\r\n\r\n" in said)
        writer.close()


async def test_there_must_be_an_address_to_listen_on() -> None:
    for host in (" ", "999.1.1.1"):
        with pytest.raises(BadInput) as refused:
            listen(host, 0)
        assert refused.value.field == "host"


async def test_a_flood_is_refused_so_that_the_client_hears_it(door: Door, served: Served) -> None:
    """Over a real socket an early answer must reach a client that is still sending."""
    headers = {"X-API-Key": await door.key(Scope.ADMIN)}
    async with httpx2.AsyncClient(base_url=served.url, headers=headers) as client:
        response = await client.post("/artifacts", content=b"x" * 20_000_000)
        again = await client.get("/jobs")

    assert (response.status_code, response.json()["code"], again.status_code) == (413, "too_large", 200)
