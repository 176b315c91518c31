"""Jobs over HTTP: made once, found at once, waited for, explained, cancelled, retried."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from tests.api.conftest import Door, noop

from cpa.core.classes import FailureClass
from cpa.core.events import TaskFailed, TaskSucceeded
from cpa.core.job import JobStatus
from cpa.core.views import rfc3339
from cpa.errors import Unavailable
from cpa.ports.keys import Scope

HANGING = {"id": "wait", "action": "file.read", "arguments": {"path": "/daten/x"}}


async def create(api: httpx2.AsyncClient, *tasks: dict[str, Any], **body: Any) -> str:
    response = await api.post("/jobs", json={"task_graph": list(tasks), **body})
    assert response.status_code == 201, response.text
    job: str = response.json()["job_id"]
    return job


async def failed(door: Door, api: httpx2.AsyncClient, times: int = 1) -> str:
    """A job whose one task failed for good."""
    job = await create(api, HANGING)
    await settle(door, job)
    for _ in range(times):
        run = (await door.engine.query("default", job)).tasks[0]
        fact = TaskFailed(
            time=0, task=0, epoch=run.epoch, failure=FailureClass.BUSINESS, code="nein", message="Nö"
        )
        assert (await door.engine.send("default", job, fact)).changed
    return job


async def settle(door: Door, job: str) -> None:
    """Until the fake has given the first task to its agent."""
    async with asyncio.timeout(20):
        while not (await door.engine.query("default", job)).tasks[0].agent:
            await asyncio.sleep(0)


async def begun(door: Door, job: str) -> None:
    """Until its first tasks ask for agents."""
    async with asyncio.timeout(20):
        while (await door.engine.query("default", job)).head.status is JobStatus.PENDING:
            await asyncio.sleep(0)


async def test_a_created_job_is_found_at_once_and_ends(api: httpx2.AsyncClient) -> None:
    created = await api.post("/jobs", json={"task_graph": [noop(value="Grüße")], "description": "Grüß mich"})
    body = created.json()

    assert created.status_code == 201
    assert (body["status"], created.headers["location"]) == ("pending", f"/jobs/{body['job_id']}")
    detail = (await api.get(created.headers["location"], params={"wait": 5})).json()
    assert (detail["status"], detail["job"]["status"], detail["job"]["description"]) == (
        "done",
        "done",
        "Grüß mich",
    )
    assert detail["job"]["created_at"] == body["created_at"]
    assert [task["result"] for task in detail["tasks"]] == [{"value": "Grüße"}]


async def test_waiting_ends_after_its_time_with_the_job_as_it_is(api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING)

    detail = (await api.get(f"/jobs/{job}", params={"wait": 0.05})).json()

    assert (detail["status"], detail["tasks"][0]["status"]) == ("running", "assigned")


async def test_waiting_ends_with_the_run(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING)
    await settle(door, job)
    waiting = asyncio.create_task(api.get(f"/jobs/{job}", params={"wait": 60}))
    async with asyncio.timeout(20):
        while not door.engine.watchers:
            await asyncio.sleep(0)
    fact = TaskSucceeded(time=0, task=0, epoch=1, result={"text": "x"})
    assert (await door.engine.send("default", job, fact)).changed

    assert (await waiting).json()["status"] == "done"


@pytest.mark.parametrize("path", ["", "/events"])
async def test_who_waits_is_told_nothing_once_the_key_is_revoked(
    door: Door, api: httpx2.AsyncClient, path: str
) -> None:
    job = await create(api, HANGING)
    await settle(door, job)
    last = (await api.get(f"/jobs/{job}/events")).json()["last_seq"]
    async with door.client(await door.key(Scope.READ, name="leser")) as reader:
        waiting = asyncio.create_task(reader.get(f"/jobs/{job}{path}", params={"after": last, "wait": 60}))
        async with asyncio.timeout(20):
            while not door.engine.watchers:
                await asyncio.sleep(0)
        await door.store.revoke("default", door.store.kept[-1].id, 1)
        door.services.keys.forget()
        fact = TaskSucceeded(time=0, task=0, epoch=1, result={"text": "geheim"})
        assert (await door.engine.send("default", job, fact)).changed

        told = await waiting

    assert (told.status_code, told.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("wait", ["-1", "301", "nan", "inf", "viel"])
async def test_a_senseless_wait_is_refused(wait: str, api: httpx2.AsyncClient) -> None:
    job = await create(api, noop())

    response = await api.get(f"/jobs/{job}", params={"wait": wait})

    assert (response.status_code, response.json()["field"]) == (422, "query.wait")


async def test_a_list_is_paged_newest_first_and_filtered(api: httpx2.AsyncClient) -> None:
    jobs = [await create(api, noop()) for _ in range(5)]
    await api.get(f"/jobs/{jobs[-1]}", params={"wait": 5})

    page = (await api.get("/jobs", params={"limit": 2, "offset": 2})).json()
    done = (await api.get("/jobs", params={"status": "done"})).json()

    assert [job["id"] for job in page["jobs"]] == [jobs[2], jobs[1]]
    assert (page["total"], page["page"], page["page_size"]) == (5, 2, 2)
    assert {job["status"] for job in done["jobs"]} == {"done"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("offset", "-1"),
        ("offset", str(10**30)),
        ("status", "fertig"),
        ("limit", "x"),
    ],
)
async def test_a_wrong_page_names_the_parameter(name: str, value: str, api: httpx2.AsyncClient) -> None:
    response = await api.get("/jobs", params={name: value})

    assert (response.status_code, response.json()["field"]) == (422, f"query.{name}")


@pytest.mark.parametrize("job", ["x", "%00", "01930000-0000-7000-8000-000000000000", "a" * 5000, "ü" * 36])
@pytest.mark.parametrize("part", ["", "/tasks", "/events", "/explain"])
async def test_an_unknown_job_is_not_found_whatever_it_looks_like(
    job: str, part: str, api: httpx2.AsyncClient
) -> None:
    response = await api.get(f"/jobs/{job}{part}")

    assert response.status_code == 404
    assert response.json()["remedy"]


async def test_a_job_of_another_tenant_is_not_found(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, noop())
    async with door.client(await door.key(Scope.ADMIN, tenant="nord")) as stranger:
        answers = [
            await stranger.get(f"/jobs/{job}"),
            await stranger.get(f"/jobs/{job}/events"),
            await stranger.get(f"/jobs/{job}/explain"),
            await stranger.get(f"/jobs/{job}/tasks"),
            await stranger.delete(f"/jobs/{job}"),
            await stranger.post(f"/jobs/{job}/cancel"),
            await stranger.post(f"/jobs/{job}/retry"),
            await stranger.post(f"/questions/{job}.0.1", json={"yes": True}),
        ]
        listed = (await stranger.get("/jobs")).json()

    assert [response.status_code for response in answers] == [404] * 8
    assert listed["total"] == 0


@pytest.mark.parametrize("way", ["delete", "post"])
async def test_cancelling_ends_the_job_and_again_changes_nothing(
    way: str, door: Door, api: httpx2.AsyncClient
) -> None:
    job = await create(api, HANGING)
    await settle(door, job)

    async def cancel() -> httpx2.Response:
        return await (api.delete(f"/jobs/{job}") if way == "delete" else api.post(f"/jobs/{job}/cancel"))

    first, second = (await cancel()).json(), (await cancel()).json()

    assert (first["job_id"], first["changed"], second["changed"]) == (job, True, False)
    assert second["reason"] == "duplicate"


async def test_a_failed_job_tells_why_and_can_be_retried(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(door, api)
    detail = (await api.get(f"/jobs/{job}", params={"wait": 5})).json()

    assert detail["status"] == "failed"
    said = {"failure": "business", "code": "nein", "message": "Nö"}
    assert detail["job"]["error"] == {**said, "remedy": "Mend the cause, then `cpa retry`."}

    retried = (await api.post(f"/jobs/{job}/retry")).json()
    assert (retried["changed"], (await api.get(f"/jobs/{job}")).json()["job"]["retry_count"]) == (True, 1)


async def test_retrying_what_has_not_failed_is_a_conflict(api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING)

    response = await api.post(f"/jobs/{job}/retry")

    assert (response.status_code, response.json()["code"]) == (409, "conflict")


async def test_tasks_are_paged_in_the_order_of_the_plan(api: httpx2.AsyncClient) -> None:
    job = await create(api, noop("a"), noop("b", depends_on=["a"]), noop("c", depends_on=["b"]))

    page = (await api.get(f"/jobs/{job}/tasks", params={"limit": 2, "offset": 1})).json()

    assert ([task["id"] for task in page["tasks"]], page["total"]) == (["b", "c"], 3)
    assert [task["depends_on"] for task in page["tasks"]] == [["a"], ["b"]]


async def test_every_task_that_does_not_run_is_explained(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING, noop("after", depends_on=["wait"]))
    await settle(door, job)

    told = (await api.get(f"/jobs/{job}/explain")).json()

    assert told["job"] == job
    assert "after" in {entry["task"] for entry in told["tasks"]}
    assert all(entry["reason"] for entry in told["tasks"])


async def test_agents_that_stand_differently_are_told_one_by_one(door: Door, api: httpx2.AsyncClient) -> None:
    for name in ("eins", "zwei"):
        about = {"name": name, "type": "DATA", "capabilities": ["x.rechner.add"]}
        told = (await api.post("/agents/register", json=about)).json()
        if name == "eins":
            await api.post(f"/agents/{told['agent_id']}/state", json={"state": "draining"})
        else:
            async with door.client(told["key"]) as agent:
                await agent.post(f"/agents/{told['agent_id']}/heartbeat", json={"status": "offline"})
    door.engine.staffed = False
    job = await create(api, {"id": "add", "action": "x.rechner.add"})
    await begun(door, job)

    [found] = (await api.get(f"/jobs/{job}/explain")).json()["tasks"]

    assert (found["reason"], found["actor"]) == ("agents_offline", "operator")
    assert found["evidence"].endswith("none takes it now: eins is draining, zwei is offline.")
    assert found["remedy"].startswith("Let eins work again with `cpa agents activate eins`, or start zwei;")


async def test_a_postponed_job_says_when_it_starts_until_then(door: Door, api: httpx2.AsyncClient) -> None:
    door.engine.starts = door.services.clock.now_ms() + 60_000
    job = await create(api, HANGING)
    [told] = (await api.get(f"/jobs/{job}/explain")).json()["tasks"]

    assert (told["reason"], told["starts"]) == ("job_pending", rfc3339(door.engine.starts))
    assert told["evidence"] == f"The job is to start at {told['starts']}."
    door.engine.starts -= 120_000
    [late] = (await api.get(f"/jobs/{job}/explain")).json()["tasks"]
    assert (late["reason"], late["starts"]) == ("job_pending", None)


async def test_what_hinders_every_job_is_no_matter_of_one_that_has_ended(
    door: Door, api: httpx2.AsyncClient
) -> None:
    open_one, ended = await create(api, HANGING), await create(api, noop())
    await settle(door, open_one)
    await api.get(f"/jobs/{ended}", params={"wait": 5})
    door.engine.hinders = Unavailable("the server is away", remedy="start it")

    told = (await api.get(f"/jobs/{open_one}/explain")).json()["hindrance"]
    assert (told["evidence"], told["remedy"]) == ("the server is away", "start it")
    assert (await api.get(f"/jobs/{ended}/explain")).json()["hindrance"] is None


async def test_events_are_numbered_and_resume_after_the_last_seen(api: httpx2.AsyncClient) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})

    whole = (await api.get(f"/jobs/{job}/events")).json()
    rest = (await api.get(f"/jobs/{job}/events", params={"after": 2})).json()

    assert [event["seq"] for event in whole["events"]] == list(range(1, whole["last_seq"] + 1))
    assert rest["events"] == whole["events"][2:]
    assert (whole["ended"], whole["events"][0]["type"], whole["events"][-1]["task"]) == (
        True,
        "job_submitted",
        "echo",
    )
    assert all(len(event["leaf"]) == 64 and event["summary"] for event in whole["events"])


async def test_of_an_ended_job_nothing_more_comes_although_its_last_event_is_lost(
    door: Door, api: httpx2.AsyncClient
) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})
    lost = door.engine._jobs["default", job].stored.pop()

    told = (await api.get(f"/jobs/{job}/events")).json()
    part = (await api.get(f"/jobs/{job}/events", params={"limit": 1})).json()

    assert (told["last_seq"], told["ended"]) == (lost.number - 1, True)
    assert part["ended"] is False


async def test_waiting_for_an_event_ends_with_the_next_one(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING)
    await settle(door, job)
    last = (await api.get(f"/jobs/{job}/events")).json()["last_seq"]
    waiting = asyncio.create_task(api.get(f"/jobs/{job}/events", params={"after": last, "wait": 60}))
    async with asyncio.timeout(20):
        while not door.engine.watchers:
            await asyncio.sleep(0)
    await api.delete(f"/jobs/{job}")
    news = (await waiting).json()

    assert [event["type"] for event in news["events"]] == ["cancel_requested"]
    assert door.engine.watchers == 0


async def test_waiting_for_an_event_that_does_not_come_ends_empty(
    door: Door, api: httpx2.AsyncClient
) -> None:
    job = await create(api, HANGING)
    await settle(door, job)
    last = (await api.get(f"/jobs/{job}/events")).json()["last_seq"]

    news = (await api.get(f"/jobs/{job}/events", params={"after": last, "wait": 0.05})).json()

    assert (news["events"], news["last_seq"], news["ended"]) == ([], last, False)
    assert door.engine.watchers == 0


async def test_a_stopping_server_answers_who_waits(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, HANGING)
    waiting = asyncio.create_task(api.get(f"/jobs/{job}", params={"wait": 60}))
    async with asyncio.timeout(20):
        while not door.engine.watchers:
            await asyncio.sleep(0)
    door.services.shutdown.begin()

    async with asyncio.timeout(20):
        answered = await waiting
    assert (answered.status_code, answered.json()["status"]) == (200, "running")
