"""The door of an agent that listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.agents.process import Running, agent
from tests.agents.scheduler import CALLBACK, FakeScheduler, scheduling

from cpa.agents.listener import Door, bound_to, listening, url_of
from cpa.errors import BadInput, Unavailable

DO = "x.test.do"


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


@pytest.fixture
async def tester(scheduler: FakeScheduler, tmp_path: Path) -> AsyncIterator[Running]:
    async with agent(scheduler, tmp_path, listens=True) as running:
        yield running


@pytest.fixture
async def door(tester: Running, scheduler: FakeScheduler) -> AsyncIterator[httpx2.AsyncClient]:
    url = scheduler.registrations[-1]["endpoint"]
    async with httpx2.AsyncClient(base_url=url, headers={"X-CPA-Key": CALLBACK}, trust_env=False) as client:
        yield client


async def test_a_task_is_taken_and_can_be_stopped_by_its_id(
    tester: Running, scheduler: FakeScheduler, door: httpx2.AsyncClient
) -> None:
    request = scheduler.request(DO, arguments={"wait": True})
    taken = await door.post("/tasks", content=request.to_json())
    assert taken.status_code == 202
    assert taken.json() == {"task_id": str(request.id), "estimated_duration": None}
    await scheduler.until(lambda: tester.hands.began, "beginning")
    assert (await door.delete(f"/tasks/{taken.json()['task_id']}")).status_code == 202
    await scheduler.until(lambda: tester.hands.stopped, "stopping")
    assert (await door.delete("/tasks/unknown")).status_code == 404


async def test_a_look_can_be_stopped_by_its_id(
    tester: Running, scheduler: FakeScheduler, door: httpx2.AsyncClient
) -> None:
    request = scheduler.request(DO, verify=True, arguments={"wait": True})
    await door.post("/tasks", content=request.to_json())
    await scheduler.until(lambda: tester.hands.looked, "looking")
    assert (await door.delete(f"/tasks/{request.id}")).status_code == 202
    await scheduler.until(lambda: "confirm" in scheduler.types(), "saying so")
    assert tester.hands.stopped == ["t"]


async def test_it_tells_how_long_a_task_usually_takes(
    scheduler: FakeScheduler, door: httpx2.AsyncClient
) -> None:
    await door.post("/tasks", content=scheduler.request(DO, task="a").to_json())
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    told = (await door.post("/tasks", content=scheduler.request(DO, task="b").to_json())).json()
    assert told["estimated_duration"] == pytest.approx(0.01)


@pytest.mark.parametrize("key", ["", "wrong", CALLBACK + "x", "schlüssel"])
async def test_nobody_else_hands_it_tasks(
    tester: Running, scheduler: FakeScheduler, door: httpx2.AsyncClient, key: str
) -> None:
    request = scheduler.request(DO)
    headers = {"X-CPA-Key": key.encode("latin-1")}
    refused = await door.post("/tasks", content=request.to_json(), headers=headers)  # type: ignore[arg-type]
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert (await door.delete(f"/tasks/{request.id}", headers=headers)).status_code == 401  # type: ignore[arg-type]
    assert tester.hands.began == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"\xff\xfe", 422),
        (b"{}", 422),
        (b'{"type": "dance"}', 422),
        (b"[" * 100_000, 422),
        (b" " * (1024 * 1024 + 1), 413),
    ],
)
async def test_bad_bodies_are_refused_with_a_reason(
    tester: Running, door: httpx2.AsyncClient, body: bytes, status: int
) -> None:
    refused = await door.post("/tasks", content=body)
    assert refused.status_code == status
    assert refused.json()["detail"]
    assert tester.hands.began == []


async def test_its_health_is_for_everybody(
    tester: Running, scheduler: FakeScheduler, door: httpx2.AsyncClient
) -> None:
    await door.post("/tasks", content=scheduler.request(DO, arguments={"wait": True}).to_json())
    await scheduler.until(lambda: tester.hands.began, "beginning")
    told = (await door.get("/health", headers={"X-CPA-Key": ""})).json()
    assert told == {"name": "tester", "type": "DATA", "status": "healthy", "slots": 2, "busy": 1}


async def test_before_it_is_registered_nobody_is_let_in() -> None:
    bound = bound_to("127.0.0.1:0")
    url = url_of(bound)
    async with (
        listening(Door(lambda: {"status": "starting"}).app(), bound),
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        assert (await client.post("/tasks", content=b"{}", headers={"X-CPA-Key": ""})).status_code == 503
        assert (await client.get("/health")).json() == {"status": "starting"}


@pytest.mark.parametrize(
    ("called", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("localhost:1234", 200),
        ("Agent-1.example:80", 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("agent-1.example.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
async def test_a_name_that_was_made_to_lead_here_learns_nothing(called: str, status: int) -> None:
    bound = bound_to("127.0.0.1:0")
    url = url_of(bound)
    door = Door(lambda: {"status": "starting"}, "https://agent-1.example")
    async with (
        listening(door.app(), bound),
        httpx2.AsyncClient(base_url=url, trust_env=False, headers={"Host": called}) as client,
    ):
        told = await client.get("/health")
        assert told.status_code == status
        assert ("starting" in told.text) is (status == 200)
        assert (await client.post("/tasks", content=b"{}")).status_code == (503 if status == 200 else 403)
        assert (await client.delete("/tasks/x")).status_code == (503 if status == 200 else 403)


@pytest.mark.parametrize("address", ["", "8000", "localhost", "127.0.0.1:x", "127.0.0.1:70000", ":1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadInput):
        bound_to(address)


def test_a_port_that_is_taken_is_said_so() -> None:
    bound = bound_to("127.0.0.1:0")
    with bound, pytest.raises(Unavailable):
        bound_to(f"127.0.0.1:{bound.getsockname()[1]}")


async def test_ending_lets_answers_finish(tester: Running, scheduler: FakeScheduler) -> None:
    await asyncio.wait_for(tester.stop(), 20)
    assert scheduler.beats[-1]["status"] == "offline"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_every_address_is_none_to_be_called_at(address: str) -> None:
    bound = bound_to(address)
    with bound, pytest.raises(BadInput, match="--endpoint"):
        url_of(bound)
