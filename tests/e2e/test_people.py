"""People against a real `cpa serve` that is killed (-9) between their answers: each counts once, nothing is lost,
nothing is allowed that nobody looked at."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.servers.scheduler import Scheduler, clean_environment, serving

PEOPLE = ("rita", "anna", "jörg", "uwe")
PAY = {
    "id": "pay",
    "action": "flow.noop",
    "arguments": {"value": "119,00 EUR an Büro Süd"},
    "approval": {"needed": 2, "approvers": ["anna", "jörg", "uwe"]},
}
FORM = {"amount": {"type": "number"}, "way": {"type": "choice", "choices": ["Post", "Mail"]}}


class House:
    """One folder, served again and again, and the people with their keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, str] = {}
        self.server: Scheduler | None = None

    @contextmanager
    def open(self) -> Iterator[Scheduler]:
        with serving(self.folder) as self.server:
            if not self.keys:
                self.keys = {name: self._key(name) for name in PEOPLE}
            yield self.server

    def kill(self) -> None:
        assert self.server is not None
        self.server.process.kill()
        self.server.process.wait()

    def ask(self, who: str, method: str, path: str, body: Any = None, **params: Any) -> httpx2.Response:
        assert self.server is not None
        return httpx2.request(
            method,
            self.server.url + path,
            json=body,
            params=params,
            headers={"X-API-Key": self.keys[who]},
            timeout=60,
        )

    def submit(self, *tasks: dict[str, Any]) -> str:
        created = self.ask("rita", "POST", "/jobs", {"task_graph": list(tasks)})
        assert created.status_code == 201, created.text
        return str(created.json()["job_id"])

    def question(self, job: str) -> dict[str, Any]:
        def asked() -> list[dict[str, Any]]:
            page = self.ask("rita", "GET", "/questions", limit=200).json()
            return [each for each in page["questions"] if each["job"] == job]

        return dict(until(asked)[0])

    def say(self, who: str, question: dict[str, Any], **more: Any) -> httpx2.Response:
        body = {"yes": True, "digest": question["digest"]} | more
        return self.ask(who, "POST", f"/questions/{question['id']}", body)

    def ended(self, job: str) -> dict[str, Any]:
        found = self.ask("rita", "GET", f"/jobs/{job}", wait=30).json()
        assert found["status"] in ("done", "failed"), found
        return dict(found)

    def trail(self, job: str, what: str) -> list[dict[str, Any]]:
        page = self.ask("rita", "GET", "/audit", job=job, limit=500).json()
        return [each for each in page["entries"] if each["what"] == what]

    def _key(self, name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cpa", "keys", "add", name],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("not in time")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


def test_two_of_three_allow_it_over_two_kills(house: House) -> None:
    with house.open():
        job = house.submit(PAY)
        question = house.question(job)
        own = house.say("rita", question)
        assert (own.status_code, own.json()["code"]) == (403, "forbidden")
        assert house.say("anna", question).json()["given"] == ["anna"]
        house.kill()
    with house.open():
        assert house.question(job) == question | {"given": ["anna"]}
        again = house.say("anna", question)
        assert (again.status_code, again.json()["changed"], again.json()["given"]) == (200, False, ["anna"])
        last = house.say("uwe", question)
        assert (last.status_code, last.json()["open"]) == (200, False)
        house.kill()
    with house.open():
        detail = house.ended(job)
        assert detail["tasks"][0]["result"] == {"value": "119,00 EUR an Büro Süd"}
        votes = house.trail(job, "question_answered")
        said = {(each["by"], each["details"]["digest"]) for each in votes}
        assert (len(votes), said) == (2, {(who, question["digest"]) for who in ("anna", "uwe")})
        assert house.say("uwe", question).json()["changed"] is False
        assert house.say("jörg", question).status_code == 409


def test_a_yes_to_what_it_was_before_does_not_allow_what_it_is_now(house: House) -> None:
    with house.open():
        job = house.submit(PAY)
        before = house.question(job)
        assert house.say("anna", before, yes=False, note="zu teuer").status_code == 200
        assert house.ended(job)["job"]["error"]["code"] == "approval_denied"
        cheaper = {"fixes": {"pay": {"value": "99,00 EUR an Büro Süd"}}}
        assert house.ask("rita", "POST", f"/dead-letters/{job}/retry", cheaper).json()["changed"] is True
        now = house.question(job)
        assert now["id"] != before["id"]
        assert now["digest"] != before["digest"]

        stale = house.say("jörg", now, digest=before["digest"])

        assert (stale.status_code, stale.json()["code"]) == (409, "other_action")
        assert (
            stale.json()["remedy"] == f"look at it with GET /questions/{now['id']} and answer with its digest"
        )
        assert house.question(job)["given"] == []
        for who in ("jörg", "anna"):
            assert house.say(who, now).status_code == 200
        assert house.ended(job)["tasks"][0]["result"] == {"value": "99,00 EUR an Büro Süd"}


def test_a_form_with_wrong_values_stays_open_and_its_answer_survives(house: House) -> None:
    ask = {"id": "ask", "action": "person.ask", "arguments": {"question": "Wie viel?", "form": FORM}}
    use = {"id": "use", "action": "flow.noop", "arguments": {"value": "{{ tasks.ask.result.amount }}"}}
    with house.open():
        job = house.submit(ask, use)
        question = house.question(job)
        where = f"/questions/{question['id']}"
        wrong = house.ask("uwe", "POST", where, {"answer": {"amount": "viel", "way": "Fax"}})
        assert wrong.status_code == 422
        assert [each["field"] for each in wrong.json()["errors"]] == ["answer.amount", "answer.way"]
        right = house.ask("uwe", "POST", where, {"answer": {"amount": 7.5, "way": "Post"}})
        assert right.json()["changed"] is True
        house.kill()
    with house.open():
        assert [task["result"] for task in house.ended(job)["tasks"]] == [
            {"amount": 7.5, "way": "Post"},
            {"value": 7.5},
        ]


def test_a_dead_letter_is_corrected_and_ends_well_over_a_kill(house: House) -> None:
    first = {"id": "first", "action": "flow.noop", "arguments": {"value": "Grüße"}}
    broken = {"id": "use", "action": "flow.noop", "arguments": {"value": "{{ tasks.first.result.value.x }}"}}
    with house.open():
        job = house.submit(first, broken)
        for _ in range(3):
            house.ended(job)
            assert house.ask("rita", "POST", f"/jobs/{job}/retry").status_code == 200
        house.ended(job)
        assert house.ask("rita", "POST", f"/jobs/{job}/retry").status_code == 409
        house.kill()
    body = {"run": 3, "fixes": {"use": {"value": "{{ tasks.first.result.value }}!"}}}
    with house.open():
        letters = house.ask("uwe", "GET", "/dead-letters").json()["dead_letters"]
        [letter] = [each for each in letters if each["job"]["id"] == job]
        assert [task["error"]["code"] for task in letter["failed"]] == ["reference_missing"]
        taken = house.ask("uwe", "POST", f"/dead-letters/{job}/retry", body)
        assert taken.json()["changed"] is True
        house.kill()
    with house.open():
        assert house.ended(job)["tasks"][1]["result"] == {"value": "Grüße!"}
        again = house.ask("uwe", "POST", f"/dead-letters/{job}/retry", body)
        assert (again.status_code, again.json()["changed"]) == (200, False)
        reopened = house.trail(job, "job_reopened")
        assert reopened[0]["by"] == "uwe"
        assert house.ask("rita", "GET", "/dead-letters").json()["total"] == 0
