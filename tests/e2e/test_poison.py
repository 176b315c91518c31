"""Tasks that harm whoever does them: each ends after exactly as many attempts as it may have, for a reason that a
person understands, and the scheduler, the other agents and their work go on.

What ends its agent is given up once as many ended over it, one after the other, as `max_losses` says. On a busy
machine an agent may fall silent for a moment, as others do: that is a lost lease, and counts for nobody's end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pysqlite3 import dbapi2
from tests.e2e.agents.client import Client
from tests.e2e.agents.poison import WITNESS, Supervisor, supervised
from tests.e2e.agents.raw import raw_agent
from tests.e2e.test_agents import scheduling
from tests.servers.ports import wait_until
from tests.servers.scheduler import Scheduler

from cpa.agents.watchdog import EXIT
from cpa.bootstrap import open_engine
from cpa.core.classes import EffectClass
from cpa.core.job import JobSpec, RetryPolicy, TaskSpec
from cpa.ports.engine import Submission
from cpa.settings import Settings

ENDLESS = ("exit", "loop")
"""What ends its agent."""
LOSSES = RetryPolicy().max_losses
SECONDS = 200.0
"""An agent that stands still ends itself after ten seconds; and the machine may be busy."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Place:
    scheduler: Scheduler
    client: Client
    agents: tuple[Supervisor, ...]
    waiting: dict[str, str]
    """By what it does: the job that waits for a yes, or ran."""

    def began(self, what: str) -> int:
        """How often the agents were given this."""
        return sum(agent.began(what) for agent in self.agents)

    @property
    def codes(self) -> list[int]:
        """How processes of agents ended."""
        return [code for agent in self.agents for code in agent.codes]

    def run(self, what: str) -> str:
        """Have what ends its agent done until it is given up, and the agents come back; the job. Before, alone: it
        takes with it what else its agent has."""
        job = self.waiting[what]
        asked = [each for each in self.client.get("/questions")["questions"] if each["job"] == job]
        for question in asked:
            yes = {"yes": True, "digest": question["digest"]}
            assert self.client.post(f"/questions/{question['id']}", yes).status_code == 200
        self.failed(job)
        code = {"exit": 3, "loop": EXIT}[what]
        wait_until(lambda: self.codes.count(code) >= self.began(what), f"ends with {code}", seconds=SECONDS)
        self.works()
        return job

    def lost(self, job: str) -> list[int]:
        """Of each lost lease, how many attempts its agent had when it ended (0: nothing says that it did), as the
        store has it; read by a stranger."""
        with closing(dbapi2.connect(f"file:{self.scheduler.data / 'cpa.db'}?mode=ro", uri=True)) as store:
            query = "SELECT body FROM events WHERE job = ? AND type = 'lease_lost' ORDER BY number"
            rows = store.execute(query, (job,)).fetchall()
        return [json.loads(body).get("among", 0) for (body,) in rows]

    def works(self) -> None:
        """A job of harmless tasks is done, by agents that are not harmed."""
        tasks = [poison("none", id=f"t{number}", arguments={"number": number}) for number in range(20)]
        job = self.client.submit(*tasks)
        assert self.client.end(job, seconds=SECONDS)["status"] == "done"
        assert self.client.results(job) == [{"number": number} for number in range(20)]

    def failed(self, job: str) -> dict[str, Any]:
        """The error of a job's only task, once the job has ended in failure."""
        assert self.client.end(job, seconds=SECONDS)["status"] == "failed"
        (task,) = self.client.get(f"/jobs/{job}/tasks")["tasks"]
        assert task["status"] == "failed"
        error: dict[str, Any] = task["error"]
        return error


def poison(what: str, **more: Any) -> dict[str, Any]:
    return {"id": "gift", "action": f"x.poison.{what}", "effect": "idempotent", "timeout": 60} | more


async def begun(folder: Path) -> dict[str, str]:
    """Jobs that are dead letters when they have failed once; no plan from outside can say that."""
    found: dict[str, str] = {}
    async with open_engine(Settings(data=folder)) as scheduler:
        for what in ENDLESS:
            task = TaskSpec(
                id="gift",
                action=f"x.poison.{what}",
                effect=EffectClass.IDEMPOTENT,
                approval=True,
                approvals=1,
            )
            spec = JobSpec((task,), max_retries=0)
            found[what] = (await scheduler.engine.submit(Submission(tenant="default", spec=spec))).job
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("poison")
    waiting = asyncio.run(begun(folder / "cpa-data"))
    with (
        scheduling(folder) as (scheduler, client),
        supervised(scheduler, folder, "eins") as one,
        supervised(scheduler, folder, "zwei") as two,
        supervised(scheduler, folder, "zeuge", WITNESS),
    ):
        yield Place(scheduler, client, (one, two), waiting)


@pytest.mark.parametrize("what", ["exit", pytest.param("loop", marks=pytest.mark.soak)])
def test_what_ends_its_agent_is_given_up_after_so_many(place: Place, what: str) -> None:
    job = place.run(what)
    error = place.failed(job)
    assert error["code"] == "agents_lost"
    assert error["message"]
    assert error["remedy"]
    lost = place.lost(job)
    assert [among for among in lost if among] == [1] * LOSSES
    assert 1 <= place.began(what) <= len(lost), "one that was on its way to a dead agent was lost too"
    letters = place.client.get("/dead-letters", limit=100)["dead_letters"]
    assert job in [letter["job"]["id"] for letter in letters]


@pytest.mark.soak
def test_the_log_of_an_agent_that_stood_still_says_where(place: Place) -> None:
    place.run("loop")
    logs = [agent.log() for agent in place.agents]
    assert sum(log.count("agent_stands_still") for log in logs) == place.began("loop")
    assert any("agent.py" in line and "in loop" in line for log in logs for line in log.splitlines())


def test_what_takes_all_memory_is_given_up_after_its_attempts(place: Place) -> None:
    job = place.client.submit(poison("memory", retry={"max_attempts": 3, "first_delay": 0.1}))
    error = place.failed(job)
    assert error["code"] == "executor_defect"
    assert "MemoryError" in error["message"]
    assert (place.began("memory"), len(place.client.events(job, "task_failed"))) == (3, 3)
    place.works()


def test_a_thread_that_never_ends_is_cut_off_after_its_attempts(place: Place) -> None:
    job = place.client.submit(poison("thread", timeout=1, retry={"max_attempts": 2, "first_delay": 0.1}))
    error = place.failed(job)
    assert error["code"] == "timeout"
    assert error["remedy"]
    assert (place.began("thread"), len(place.client.events(job, "task_failed"))) == (2, 2)
    place.works()


@pytest.mark.parametrize("size", [200_000, 3_000_000], ids=["too-large-to-keep", "too-large-to-send"])
def test_a_huge_result_ends_its_task_at_once(place: Place, size: int) -> None:
    before = place.began("huge")
    job = place.client.submit(poison("huge", arguments={"size": size}))
    error = place.failed(job)
    assert error["code"] in ("result_invalid", "result_too_large")
    assert error["remedy"]
    assert place.began("huge") == before + 1
    place.works()


def test_a_result_that_is_no_text_ends_its_task_or_is_mended(place: Place) -> None:
    job = place.client.submit(poison("halves"))
    error = place.failed(job)
    assert error["code"] == "result_invalid"
    assert error["remedy"]
    assert place.began("halves") == 1
    place.works()


def test_bytes_that_are_no_utf8_are_refused_and_change_nothing(place: Place) -> None:
    """An agent that is not ours, with a JSON of its own."""
    with raw_agent(place.scheduler, "roh", "x.raw.do") as agent:
        job = place.client.submit({"id": "t", "action": "x.raw.do", "effect": "idempotent", "timeout": 60})
        request = agent.take("request")
        done = {
            "id": "7f1f7a3e-1111-4222-8333-944445555666",
            "ts": request["ts"],
            "type": "done",
            "sender": agent.address,
            "to": ["agent://scheduler/cpa"],
            "payload": {"result": {"text": "??"}},
            "correlation": request["correlation"] | {"inReplyTo": request["id"]},
        }
        whole = json.dumps(done).encode()
        headers = {"X-API-Key": agent.key, "Content-Type": "application/json"}
        for wrong in (b"\xff\xfe", rb"half a pair: \ud800"):
            url, raw = f"{place.scheduler.url}/lam/message", whole.replace(b"??", wrong)
            answer = httpx2.post(url, content=raw, headers=headers, timeout=60, trust_env=False)
            assert answer.status_code in (400, 422), answer.text
            assert "JSON" in answer.text or "UTF-8" in answer.text
            assert place.client.get(f"/jobs/{job}")["status"] == "running"
        agent.beat(request)
        agent.say("done", request, {"result": {"text": "Grüße"}})
        assert place.client.end(job, seconds=SECONDS)["status"] == "done"
    place.works()
