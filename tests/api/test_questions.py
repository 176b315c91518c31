"""What waits for a person is listed, answered once, and then moves the job."""

from __future__ import annotations

import httpx2
import pytest
from tests.api.conftest import Door, noop
from tests.api.test_jobs import create


async def asking(api: httpx2.AsyncClient, door: Door) -> str:
    """A job that waits for an approval."""
    job = await create(api, noop(approval=True))
    await api.get(f"/jobs/{job}/events", params={"after": 1, "wait": 1})
    return job


async def test_an_approval_is_asked_for_and_lets_the_job_go_on(door: Door, api: httpx2.AsyncClient) -> None:
    job = await asking(api, door)
    (question,) = (await api.get("/questions")).json()["questions"]

    answered = await api.post(f"/questions/{question['id']}", json={"yes": True, "note": "geprüft"})

    assert (question["job"], question["task"], question["kind"]) == (job, "echo", "approval")
    assert (answered.status_code, answered.json()) == (200, {"id": question["id"], "changed": True})
    assert (await api.get(f"/jobs/{job}", params={"wait": 5})).json()["status"] == "done"
    assert (await api.get("/questions")).json() == {"questions": [], "next": None}


async def test_a_no_ends_the_job(door: Door, api: httpx2.AsyncClient) -> None:
    job = await asking(api, door)
    (question,) = (await api.get("/questions")).json()["questions"]

    await api.post(f"/questions/{question['id']}", json={"yes": False})

    assert (await api.get(f"/jobs/{job}", params={"wait": 5})).json()["status"] == "failed"


async def test_a_second_answer_is_a_conflict(door: Door, api: httpx2.AsyncClient) -> None:
    await asking(api, door)
    (question,) = (await api.get("/questions")).json()["questions"]
    await api.post(f"/questions/{question['id']}", json={"yes": True})

    again = await api.post(f"/questions/{question['id']}", json={"yes": False})

    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_pages_of_questions_join(door: Door, api: httpx2.AsyncClient) -> None:
    jobs = {await asking(api, door) for _ in range(3)}
    first = (await api.get("/questions", params={"limit": 2})).json()
    rest = (await api.get("/questions", params={"limit": 2, "after": first["next"]})).json()

    assert {question["job"] for page in (first, rest) for question in page["questions"]} == jobs
    assert rest["next"] is None


@pytest.mark.parametrize(
    "tail", [".9.1", ".0.99", ".-1.1", ".0", "", ".0.1.1", ".x.y", ".²0.1", "." + "9" * 5000 + ".1"]
)
async def test_an_unknown_question_is_not_found(tail: str, door: Door, api: httpx2.AsyncClient) -> None:
    job = await asking(api, door)

    response = await api.post(f"/questions/{job}{tail}", json={"yes": True})

    assert response.status_code == 404


@pytest.mark.parametrize("body", [{}, {"yes": "ja"}, {"yes": 1}, {"yes": True, "note": "x" * 5000}])
async def test_a_wrong_answer_is_refused(
    body: dict[str, object], door: Door, api: httpx2.AsyncClient
) -> None:
    await asking(api, door)
    (question,) = (await api.get("/questions")).json()["questions"]

    response = await api.post(f"/questions/{question['id']}", json=body)

    assert response.status_code == 422
    assert len((await api.get("/questions")).json()["questions"]) == 1
