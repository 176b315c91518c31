"""Files go in and out byte-equal, and a hostile one does nothing in a browser."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import httpx2
import pytest
from tests.api.conftest import MAX_ARTIFACT, Door, problem

from cpa.api import bodies
from cpa.api.uploads import HOUR, Uploads
from cpa.errors import QuotaExceeded
from cpa.ports.keys import Caller, Scope

ABSENT = "sha256:" + "0" * 64


async def test_a_file_comes_back_byte_equal(api: httpx2.AsyncClient) -> None:
    content = os.urandom(50_000)
    stored = await api.post(
        "/artifacts",
        params={"name": "Rechnung März.pdf"},
        content=content,
        headers={"Content-Type": "application/pdf"},
    )
    fetched = await api.get(stored.headers["location"])

    assert stored.json() == {
        "artifact": "sha256:" + hashlib.sha256(content).hexdigest(),
        "size": 50_000,
        "name": "Rechnung März.pdf",
        "media_type": "application/pdf",
    }
    assert (fetched.status_code, fetched.content, fetched.headers["content-type"]) == (
        200,
        content,
        "application/pdf",
    )
    assert fetched.headers["content-length"] == "50000"
    assert "filename*=UTF-8''Rechnung%20M%C3%A4rz.pdf" in fetched.headers["content-disposition"]


async def test_a_hostile_page_is_only_ever_a_download(api: httpx2.AsyncClient) -> None:
    stored = await api.post(
        "/artifacts",
        params={"name": '../../"x\r\nSet-Cookie: a=b.html'},
        content=b"<script>alert(1)</script>",
        headers={"Content-Type": "text/html"},
    )
    fetched = await api.get(stored.headers["location"])

    assert fetched.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in fetched.headers["content-security-policy"]
    assert fetched.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in fetched.headers


async def test_who_has_a_file_already_gets_no_bytes(api: httpx2.AsyncClient) -> None:
    where = (await api.post("/artifacts", content=b"Inhalt")).headers["location"]
    etag = (await api.get(where)).headers["etag"]

    again = await api.get(where, headers={"If-None-Match": etag})

    assert (again.status_code, again.content) == (304, b"")


async def test_a_file_too_large_by_announcement_is_refused(api: httpx2.AsyncClient) -> None:
    response = await api.post("/artifacts", content=b"x" * (MAX_ARTIFACT + 1))

    assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_a_file_that_grows_too_large_is_cut(api: httpx2.AsyncClient) -> None:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * (MAX_ARTIFACT // 4)

    response = await api.post("/artifacts", content=content())

    assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_an_agent_sends_so_much_in_a_day_and_no_more(door: Door, api: httpx2.AsyncClient) -> None:
    async def grows() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield b"z" * (MAX_ARTIFACT // 4)

    async with door.client(await door.key(Scope.AGENT, name="agent://web/eins")) as agent:
        for content in (b"x" * MAX_ARTIFACT, b"y" * (MAX_ARTIFACT * 3 // 4)):
            assert (await agent.post("/artifacts", content=content)).status_code == 201
        for much in (b"z" * (MAX_ARTIFACT // 2), grows()):
            refused = await agent.post("/artifacts", content=much)
            problem = refused.json()
            assert (refused.status_code, problem["code"], problem["field"]) == (
                507,
                "quota_exceeded",
                "content",
            )
            assert "agent://web/eins" in problem["detail"]
            assert "CPA_MAX_AGENT_BYTES" in problem["remedy"]
        async with door.client(await door.key(Scope.AGENT, name="agent://web/zwei")) as other:
            assert (await other.post("/artifacts", content=b"klein")).status_code == 201
        assert (await api.post("/artifacts", content=b"z" * (MAX_ARTIFACT // 2))).status_code == 201


async def test_a_file_that_drips_in_does_not_hold_the_door(
    api: httpx2.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.5)

    async def drips() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    async with asyncio.timeout(20):
        refused = await api.post("/artifacts", content=drips())

    told = problem(refused, 408, "request_timeout", "body")
    assert told["retryable"]
    assert f"{door.services.settings.min_upload_rate} bytes" in told["detail"]
    assert "CPA_MIN_UPLOAD_RATE" in told["remedy"]


async def test_a_large_file_may_take_its_time(
    api: httpx2.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.3)

    async def steady() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * (door.services.settings.min_upload_rate // 4)
            await asyncio.sleep(0.1)

    assert (await api.post("/artifacts", content=steady())).status_code == 201


async def test_a_file_of_which_nothing_more_comes_is_given_up(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.2)

    async def stops() -> AsyncIterator[bytes]:
        yield b"x" * MAX_ARTIFACT
        await asyncio.sleep(60)

    async with asyncio.timeout(20):
        refused = await api.post("/artifacts", content=stops())

    assert "nothing more" in problem(refused, 408, "request_timeout", "body")["detail"]


def test_an_agent_may_send_again_the_next_day() -> None:
    now = 0
    uploads = Uploads(100, lambda: now)
    agent = Caller(tenant="acme", key="k", name="agent://web/eins", scopes=frozenset({Scope.AGENT}))

    uploads.take(agent, 90)
    for hour in (0, 23):
        now = hour * HOUR
        with pytest.raises(QuotaExceeded):
            uploads.take(agent, 20)
    now = 24 * HOUR
    uploads.take(agent, 100)


async def test_a_tenant_keeps_so_much_and_no_more(api: httpx2.AsyncClient) -> None:
    for letter in b"abcd":
        stored = await api.post("/artifacts", content=bytes([letter]) * MAX_ARTIFACT)
        assert stored.status_code == 201

    refused = await api.post("/artifacts", content=b"e" * MAX_ARTIFACT)

    assert (refused.status_code, refused.json()["code"]) == (507, "quota_exceeded")
    assert "CPA_MAX_TENANT_BYTES" in refused.json()["remedy"]


async def test_a_form_is_refused_with_the_way_to_do_it(api: httpx2.AsyncClient) -> None:
    response = await api.post("/artifacts", files={"file": ("a.txt", b"a")})

    assert response.status_code == 415
    assert "--data-binary" in response.json()["remedy"]


@pytest.mark.parametrize(
    ("digest", "status"),
    [
        (ABSENT, 404),
        ("sha256:abc", 400),
        ("%00", 400),
        ("..%2f..%2fadmin.key", 404),
        ("sha256:" + "Ä" * 64, 400),
    ],
)
async def test_what_is_not_there_is_a_problem(digest: str, status: int, api: httpx2.AsyncClient) -> None:
    response = await api.get(f"/artifacts/{digest}")

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_a_file_of_another_tenant_is_not_there(door: Door, api: httpx2.AsyncClient) -> None:
    where = (await api.post("/artifacts", content=b"Inhalt")).headers["location"]
    async with door.client(await door.key(Scope.READ, tenant="nord")) as stranger:
        assert (await stranger.get(where)).status_code == 404
