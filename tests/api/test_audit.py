"""The trail can be read in pages, narrowed, and checked, by whoever may."""

from __future__ import annotations

import httpx2
import pytest
from tests.api.conftest import Door, noop
from tests.api.test_jobs import create

from cpa.ports.keys import Scope


async def ended(api: httpx2.AsyncClient) -> str:
    job = await create(api, noop())
    await api.get(f"/jobs/{job}", params={"wait": 5})
    return job


async def test_pages_join_to_the_whole_trail_newest_first(api: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await ended(api)
    whole = (await api.get("/audit", params={"limit": 500})).json()
    paged: list[dict[str, object]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await api.get("/audit", params={"limit": 4, "cursor": cursor})).json()
        paged += page["entries"]
        cursor = page["next"]

    assert paged == whole["entries"]
    assert (len(paged) > 4, whole["next"]) == (True, None)
    assert [entry["time"] for entry in paged] == sorted((entry["time"] for entry in paged), reverse=True)


async def test_entries_can_be_narrowed(api: httpx2.AsyncClient) -> None:
    first, second = await ended(api), await ended(api)

    of_job = (await api.get("/audit", params={"job": first})).json()["entries"]
    of_task = (await api.get("/audit", params={"job": first, "task": "echo"})).json()["entries"]
    of_agent = (await api.get("/audit", params={"actor": "agent://fake/hands"})).json()["entries"]
    later = (await api.get("/audit", params={"since": "2100-01-01T00:00:00+01:00"})).json()["entries"]

    assert {entry["job"] for entry in of_job} == {first}
    assert {entry["task"] for entry in of_task} == {"echo"}
    assert {entry["job"] for entry in of_agent} == {first, second}
    assert later == []
    assert all(len(entry["leaf"]) == 64 and entry["text"] for entry in of_job)


@pytest.mark.parametrize("path", ["/jobs", "/schedule"])
async def test_the_trail_says_who_asked_for_a_job_also_where_everybody_may_allow_it(
    path: str, door: Door, api: httpx2.AsyncClient
) -> None:
    door.services.planner.approve_own = True
    body = (
        {"task_graph": [noop()]} if path == "/jobs" else {"text": "Schick mir die letzte Rechnung von ACME"}
    )
    async with door.client(await door.key(Scope.SUBMIT, name="jörg")) as joerg:
        asked = await joerg.post(path, json=body | {"context": {"user": "anna"}})
    job = asked.json()["job_id"]
    snapshot = await door.engine.query("default", job)

    found = (await api.get("/audit", params={"actor": "jörg"})).json()["entries"]

    assert snapshot.spec.requester == ""
    assert [(entry["what"], entry["by"], entry["job"]) for entry in found] == [("job_submitted", "jörg", job)]


@pytest.mark.parametrize(
    ("params", "status", "field"),
    [
        ({"cursor": "x"}, 400, "cursor"),
        ({"task": "echo"}, 400, "task"),
        ({"since": "gestern"}, 422, "query.since"),
        ({"since": "2026-01-01T00:00:00"}, 422, "query.since"),
        ({"limit": "0"}, 422, "query.limit"),
        ({"limit": "501"}, 422, "query.limit"),
    ],
)
async def test_a_wrong_filter_names_itself(
    params: dict[str, str], status: int, field: str, api: httpx2.AsyncClient
) -> None:
    response = await api.get("/audit", params=params)

    assert (response.status_code, response.json()["field"]) == (status, field)


async def test_a_sound_trail_is_said_to_be_sound(door: Door, api: httpx2.AsyncClient) -> None:
    await ended(api)

    assert (await api.get("/audit/verify")).json() == {
        "sound": True,
        "leaves": len(door.engine.stored("default")),
        "jobs": 1,
        "broken": None,
    }


async def test_of_a_job_that_was_taken_up_it_says_what_was_corrected(
    api: httpx2.AsyncClient, door: Door
) -> None:
    headers = {"Authorization": "Bearer a", "Accept": "text/plain"}
    url = "https://shop.example/?token=abc"
    asked = {
        "id": "ask",
        "action": "http.request",
        "arguments": {"url": url, "headers": headers, "save": True},
    }
    job = await create(api, noop("first"), asked)
    assert (await api.delete(f"/jobs/{job}")).json()["changed"]

    new = {"url": url, "headers": headers | {"Accept": "*/*"}, "method": "PUT"}
    fixes = {"first": {}, "ask": new}
    taken = await api.post(f"/dead-letters/{job}/retry", json={"fixes": fixes})
    assert taken.json()["changed"], taken.text

    entries = (await api.get("/audit", params={"job": job, "limit": 500})).json()["entries"]
    [reopened] = [entry for entry in entries if entry["what"] == "job_reopened"]
    hidden = {"Authorization": "[hidden]", "Accept": "[hidden]"}
    assert reopened["details"] == {
        "fixes": {
            "first": {"value": {"planned": 1}},
            "ask": {
                "headers": {"planned": hidden, "now": hidden},
                "save": {"planned": True},
                "method": {"now": "PUT"},
            },
        }
    }
    assert "Bearer" not in str(entries)
    assert "abc" not in str(entries)


async def test_of_a_job_that_was_taken_up_as_it_is_nothing_is_corrected(
    api: httpx2.AsyncClient,
) -> None:
    job = await create(api, noop())
    assert (await api.delete(f"/jobs/{job}")).json()["changed"]
    assert (await api.post(f"/dead-letters/{job}/retry", json={})).json()["changed"]

    entries = (await api.get("/audit", params={"job": job, "limit": 500})).json()["entries"]
    assert [entry["details"] for entry in entries if entry["what"] == "job_reopened"] == [None]
