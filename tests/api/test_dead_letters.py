"""Failed jobs wait for a person, who corrects, skips, does by hand, takes up, or discards with a reason."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from tests.api.conftest import Door, noop
from tests.api.test_jobs import create

from cpa.core.classes import FailureClass
from cpa.core.events import JobDiscarded, JobReopened, TaskFailed
from cpa.ports.keys import Scope

PLAN = (
    noop("first"),
    {"id": "write", "action": "file.write", "arguments": {"path": "/a", "text": ""}, "depends_on": ["first"]},
    {"id": "last", "action": "flow.noop", "arguments": {"value": "{{ tasks.write.result.path }}"}},
)


async def failed(api: httpx2.AsyncClient, door: Door, *, runs: int = 4) -> str:
    """A job that failed in its second task as often; the fourth time makes it a dead letter."""
    job = await create(api, *PLAN)
    for run in range(runs):
        if run:
            await door.engine.reopen("default", job, JobReopened(time=0, by="anna"))
        await fail(api, door, job)
    return job


async def fail(api: httpx2.AsyncClient, door: Door, job: str) -> None:
    async with asyncio.timeout(20):
        while True:
            task = (await api.get(f"/jobs/{job}/tasks")).json()["tasks"][1]
            if task["status"] == "assigned":
                break
            await asyncio.sleep(0)
    fact = TaskFailed(
        time=0, task=1, epoch=task["epoch"], failure=FailureClass.BUSINESS, code="disk_full", message="voll"
    )
    assert (await door.engine.send("default", job, fact)).changed


async def test_what_failed_is_listed_with_its_arguments(door: Door, api: httpx2.AsyncClient) -> None:
    young = await failed(api, door, runs=1)
    old = await failed(api, door)

    page = (await api.get("/dead-letters")).json()

    [letter] = page["dead_letters"]
    assert (page["total"], page["page"], letter["job"]["id"]) == (1, 1, old)
    assert letter["job"]["dead_letter"] is True
    [task] = letter["failed"]
    assert (task["id"], task["arguments"], task["error"]["code"]) == (
        "write",
        {"path": "/a", "text": ""},
        "disk_full",
    )
    assert letter["left"] == ["last"]
    assert young not in str(page)


async def test_it_is_taken_up_with_other_arguments(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(api, door)
    assert (await api.post(f"/jobs/{job}/retry")).status_code == 409

    body = {"run": 3, "fixes": {"write": {"path": "/b", "text": ""}}}
    taken = [await api.post(f"/dead-letters/{job}/retry", json=body) for _ in range(2)]

    assert [each.status_code for each in taken] == [200, 200]
    assert [each.json()["changed"] for each in taken] == [True, False]
    detail = (await api.get(f"/jobs/{job}")).json()
    assert detail["job"]["retry_count"] == 4
    assert detail["tasks"][0]["status"] == "done"
    assert detail["tasks"][1]["arguments"] == {"path": "/b", "text": ""}
    assert (await api.get("/dead-letters")).json()["total"] == 0


async def test_what_is_said_for_a_run_counts_for_no_later_one_however_slow_it_is(
    door: Door, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await failed(api, door)
    where, body = f"/dead-letters/{job}/retry", {"run": 3, "fixes": {"write": {"path": "/b", "text": ""}}}
    real, arrived, go_on = door.engine.reopen, asyncio.Event(), asyncio.Event()

    async def reopen(*what: Any, **more: Any) -> Any:
        if not arrived.is_set():
            arrived.set()
            await go_on.wait()
        return await real(*what, **more)

    monkeypatch.setattr(door.engine, "reopen", reopen)
    slow = asyncio.create_task(api.post(where, json=body))
    await arrived.wait()
    assert (await api.post(where, json=body)).json()["changed"] is True
    await fail(api, door, job)
    go_on.set()

    late = (await slow).json()
    assert (late["changed"], late["reason"]) == (False, "duplicate")
    assert (await api.get(f"/jobs/{job}")).json()["job"]["retry_count"] == 4


async def test_what_was_done_by_hand_and_what_is_left_out(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(api, door, runs=1)
    body = {"done": {"write": {"path": "/c"}}, "restart": ["first"]}

    assert (await api.post(f"/dead-letters/{job}/retry", json=body)).json()["changed"] is True

    detail = (await api.get(f"/jobs/{job}", params={"wait": 5})).json()
    assert [task["status"] for task in detail["tasks"]] == ["done"] * 3
    assert detail["tasks"][1]["result"] == {"path": "/c"}


async def test_who_asks_for_more_to_be_done_again_is_not_told_that_it_was(
    door: Door, api: httpx2.AsyncClient
) -> None:
    job = await failed(api, door, runs=1)
    url, body = f"/dead-letters/{job}/retry", {"run": 0, "done": {"write": {"path": "/c"}}}
    assert (await api.post(url, json=body | {"restart": ["first"]})).json()["changed"] is True
    assert (await api.post(url, json=body | {"restart": ["first"]})).json()["reason"] == "duplicate"
    assert (await api.post(url, json=body)).json()["reason"] == "duplicate"
    more = await api.post(url, json=body | {"restart": ["first", "last"]})
    assert (more.status_code, more.json()["field"]) == (409, "run")


async def test_what_was_done_by_hand_names_only_files_that_are_there(
    door: Door, api: httpx2.AsyncClient
) -> None:
    job = await failed(api, door, runs=1)
    kept = (await api.post("/artifacts", content="Größe".encode())).json()
    absent = kept | {"artifact": "sha256:" + 64 * "0"}

    def body(file: dict[str, object]) -> dict[str, object]:
        return {"done": {"write": {"path": "/c", "scans": [{"first": file}]}}}

    refused = await api.post(f"/dead-letters/{job}/retry", json=body(absent))
    problem = refused.json()
    assert (refused.status_code, problem["field"], problem["value"]) == (
        422,
        "done.write",
        absent["artifact"],
    )
    assert "POST /artifacts" in problem["remedy"]
    assert (await api.get(f"/jobs/{job}")).json()["job"]["status"] == "failed"
    assert (await api.post(f"/dead-letters/{job}/retry", json=body(kept))).json()["changed"] is True


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"fixes": {"write": {"pfad": "/b", "text": ""}}}, 422, "fixes.write"),
        ({"fixes": {"write": {"text": ""}}}, 422, "fixes.write.path"),
        ({"fixes": {"größe": {}}}, 422, "fixes.größe"),
        ({"done": {"nobody": {}}}, 422, "done.nobody"),
        ({"done": {"write": {"wo": "/c"}}}, 422, "done.write.path"),
        ({"skip": ["last", "nobody"]}, 422, "skip[1]"),
        ({"restart": ["nobody"]}, 422, "restart[0]"),
        ({"restart": ["first"], "skip": ["first"]}, 422, "restart[0]"),
        ({"restart": ["first"], "done": {"first": {}}}, 422, "restart[0]"),
        ({"skip": "last"}, 422, "skip"),
        ({"skip": ["first"]}, 409, "job"),
        ({"skip": ["write"], "done": {"write": {"path": ""}}}, 409, "job"),
        ({"run": 2}, 409, "run"),
        ({"run": 9}, 409, "run"),
        ({"run": -1}, 422, "run"),
        ({"nochmal": True}, 422, "nochmal"),
    ],
)
async def test_what_cannot_be_is_named_and_changes_nothing(
    body: dict[str, Any], status: int, field: str, door: Door, api: httpx2.AsyncClient
) -> None:
    job = await failed(api, door)
    where = f"/dead-letters/{job}"

    for refused in (
        await api.post(f"{where}/retry", json=body),
        await api.post(where, json={"do": "retry"} | body),
    ):
        assert refused.status_code == status
        assert refused.json()["field"].startswith(field)
        assert refused.json()["remedy"]
    assert (await api.get(f"/jobs/{job}")).json()["job"]["retry_count"] == 3


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({}, "do", None),
        ({"skip": ["write"]}, "do", None),
        ({"do": "requeue"}, "do", "requeue"),
        ({"do": "Retry"}, "do", "Retry"),
        ({"do": None}, "do", "None"),
        ({"do": ["retry"]}, "do", "['retry']"),
        ({"do": "discard"}, "note", None),
        ({"do": "discard", "note": ""}, "note", ""),
        ({"do": "discard", "note": " \t"}, "note", " \t"),
        ({"do": "discard", "note": "storniert", "skip": ["write"]}, "skip", None),
        ({"do": "retry", "note": "storniert"}, "note", "storniert"),
        ({"do": "retry", "retry": "größe"}, "retry", "größe"),
        ([{"do": "retry"}], "body", None),
    ],
)
async def test_who_does_not_say_what_to_do_is_told_the_words_for_it(
    body: Any, field: str, value: str | None, door: Door, api: httpx2.AsyncClient
) -> None:
    job = await failed(api, door)

    refused = await api.post(f"/dead-letters/{job}", json=body)

    told = refused.json()
    assert (refused.status_code, told["field"], told.get("value")) == (422, field, value)
    assert field in told["remedy"]
    if value is not None and field == "do":
        assert told["detail"] == "Input should be 'retry' or 'discard'"
    detail = (await api.get(f"/jobs/{job}")).json()["job"]
    assert (detail["retry_count"], detail["discarded"]) == (3, False)


async def test_a_job_that_has_not_failed_is_no_dead_letter(door: Door, api: httpx2.AsyncClient) -> None:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})

    assert (await api.post(f"/dead-letters/{job}/retry", json={})).status_code == 409
    assert (await api.post(f"/dead-letters/{job}/discard", json={"note": "x"})).status_code == 409
    unknown = job.replace(job[:4], "ffff")
    assert (await api.post(f"/dead-letters/{unknown}/discard", json={"note": "x"})).status_code == 404


async def test_it_is_discarded_once_with_a_reason(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(api, door)
    where = f"/dead-letters/{job}/discard"

    assert (await api.post(where, json={})).status_code == 422
    assert (await api.post(where, json={"note": ""})).status_code == 422
    discarded = [await api.post(where, json={"note": "der Kunde hat storniert"}) for _ in range(2)]

    assert [each.json()["changed"] for each in discarded] == [True, False]
    assert discarded[1].json()["reason"] == "duplicate"
    assert (await api.get("/dead-letters")).json()["dead_letters"] == []
    assert (await api.get(f"/jobs/{job}")).json()["job"]["discarded"] is True
    [entry] = [
        each
        for each in (await api.get("/audit", params={"job": job})).json()["entries"]
        if each["what"] == "job_discarded"
    ]
    assert (entry["by"], entry["text"]) == ("anna", "anna discarded the job: der Kunde hat storniert")
    assert (await api.post(f"/dead-letters/{job}/retry", json={})).json()["changed"] is True


async def test_one_path_takes_up_and_gives_up_by_what_the_body_says(
    door: Door, api: httpx2.AsyncClient
) -> None:
    """It is the same as the two below it: what was said there is known here, and the other way round."""
    job = await failed(api, door)
    where, body = f"/dead-letters/{job}", {"run": 3, "fixes": {"write": {"path": "/b", "text": "Grüße"}}}

    taken = [await api.post(where, json={"do": "retry"} | body), await api.post(f"{where}/retry", json=body)]
    assert [each.json() for each in taken] == [
        {"job_id": job, "status": "pending", "changed": True, "reason": ""},
        {"job_id": job, "status": "pending", "changed": False, "reason": "duplicate"},
    ]
    tasks = (await api.get(f"/jobs/{job}")).json()["tasks"]
    assert (tasks[0]["status"], tasks[1]["arguments"]) == ("done", {"path": "/b", "text": "Grüße"})
    running = await api.post(where, json={"do": "discard", "note": "zu früh"})
    assert (running.status_code, running.json()["field"]) == (409, "job_id")

    await fail(api, door, job)
    note = {"note": "der Kunde hat storniert"}
    gone = [
        await api.post(where, json={"do": "discard"} | note),
        await api.post(f"{where}/discard", json=note),
    ]
    assert [each.json()["changed"] for each in gone] == [True, False]
    assert (await api.get(f"/jobs/{job}")).json()["job"]["discarded"] is True


async def test_only_the_same_said_again_is_no_conflict(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(api, door)
    where = f"/dead-letters/{job}/retry"
    await api.post(where, json={"run": 3, "fixes": {"write": {"path": "/b", "text": ""}}})

    other = await api.post(where, json={"run": 3, "fixes": {"write": {"path": "/c", "text": ""}}})

    assert (other.status_code, other.json()["field"]) == (409, "run")


async def test_reading_keys_and_other_tenants_take_nothing_up(door: Door, api: httpx2.AsyncClient) -> None:
    job = await failed(api, door)
    async with door.client(await door.key(Scope.READ)) as reader:
        assert (await reader.get("/dead-letters")).json()["total"] == 1
        for verb in ("retry", "discard"):
            assert (await reader.post(f"/dead-letters/{job}/{verb}", json={"note": "x"})).status_code == 403
            said = {"do": verb, "note": "x"}
            assert (await reader.post(f"/dead-letters/{job}", json=said)).status_code == 403
    async with door.client(await door.key(Scope.ADMIN, tenant="acme")) as stranger:
        assert (await stranger.get("/dead-letters")).json()["total"] == 0
        assert (await stranger.post(f"/dead-letters/{job}/retry", json={})).status_code == 404
        assert (await stranger.post(f"/dead-letters/{job}", json={"do": "retry"})).status_code == 404
    assert not any(isinstance(each.event, JobDiscarded) for each in door.engine.stored("default"))
