"""Agents in processes of their own: work done, killed, stopped and continued, and a scheduler that is restarted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2
from tests.e2e.agents.client import Client
from tests.e2e.agents.process import World, agent_process
from tests.servers.ports import free_port, wait_until
from tests.servers.scheduler import Scheduler, serving

WAYS = pytest.mark.parametrize("listens", [False, True], ids=["channel", "http"])
BEAT = 1.0
REVOKED = 2.0
"""Seconds within which an agent that was revoked does nothing more."""


@contextmanager
def scheduling(folder: Path, **more: Any) -> Iterator[tuple[Scheduler, Client]]:
    environment = {
        "CPA_HEARTBEAT_SECONDS": str(BEAT),
        "CPA_ALLOW_PRIVATE": '["127.0.0.1"]',
        "CPA_SHUTDOWN_SECONDS": "1",
    }
    with serving(folder, **environment | more) as scheduler:
        client = Client(scheduler)
        try:
            yield scheduler, client
        finally:
            client.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.release()


def count(number: int, action: str = "count", **more: Any) -> dict[str, Any]:
    effect = {"count": "idempotent", "book": "unsafe"}.get(action, "verifiable")
    task = {"id": "t", "action": f"x.world.{action}", "arguments": {"number": number}, "effect": effect}
    return task | {"timeout": 60} | more


def said(scheduler: Scheduler, job: str, direction: str = "in") -> list[tuple[str, str]]:
    """(type, effect) of what crossed the border about this job, as the store has it; read by a stranger."""
    with closing(dbapi2.connect(f"file:{scheduler.data / 'cpa.db'}?mode=ro", uri=True)) as store:
        query = "SELECT type, effect FROM messages WHERE job = ? AND direction = ? ORDER BY seq"
        return [(row[0], row[1]) for row in store.execute(query, (job, direction)).fetchall()]


@WAYS
def test_a_job_is_done_by_an_agent_process(tmp_path: Path, world: World, listens: bool) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "rechner", listens=listens),
    ):
        first = {"id": "a", "action": "x.calculator.add", "arguments": {"a": 2, "b": 3}, "outputs": ["sum"]}
        then = {"a": "{{ tasks.a.result.sum }}", "b": 4}
        second = {"id": "b", "action": "x.calculator.add", "arguments": then}
        job = client.submit(first | {"effect": "idempotent"}, second | {"effect": "idempotent"})
        assert client.end(job)["status"] == "done"
        assert client.results(job) == [{"sum": 5.0}, {"sum": 9.0}]
        assert len(client.events(job, "task_started")) == 2
        once = [("agree", "task_started"), ("done", "task_succeeded")]
        wait_until(lambda: said(scheduler, job) == once * 2, "the log of what came in")
        wait_until(lambda: len(said(scheduler, job, "out")) == 3, "all that was said")
        assert [type for type, _ in said(scheduler, job, "out")] == ["request", "request", "inform"]


@WAYS
def test_what_a_killed_agent_had_is_done_by_another(tmp_path: Path, world: World, listens: bool) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens) as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7))
        world.wait("begun 7 eins")
        with agent_process(scheduler, world, "zwei", listens=listens):
            one.kill()
            assert client.end(job)["status"] == "done"
        assert client.results(job) == [{"number": 7, "by": "zwei"}]
        assert len(client.events(job, "lease_lost")) == 1


@WAYS
def test_an_agent_that_is_started_again_goes_on(tmp_path: Path, world: World, listens: bool) -> None:
    with scheduling(tmp_path) as (scheduler, client):
        with agent_process(scheduler, world, "eins", listens=listens) as one:
            world.hold(7, "eins")
            job = client.submit(count(7))
            world.wait("begun 7 eins")
            one.kill()
        world.release()
        with agent_process(scheduler, world, "eins", listens=listens):
            assert client.end(job)["status"] == "done"
            assert client.results(job) == [{"number": 7, "by": "eins"}]
        assert client.get("/agents")["total"] == 2, "it is the same agent, beside the server's own"


@WAYS
def test_where_signatures_are_a_duty_agents_sign_all_they_say(
    tmp_path: Path, world: World, listens: bool
) -> None:
    with (
        scheduling(tmp_path, CPA_SIGNED_MESSAGES="required") as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens),
    ):
        job = client.submit(count(7))
        assert client.end(job)["status"] == "done"


def test_what_a_killed_agent_did_perhaps_is_asked_about(tmp_path: Path, world: World) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins") as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7, "book"))
        world.wait("begun 7 eins")
        with agent_process(scheduler, world, "zwei"):
            one.kill()
            client.wait_event(job, "lease_lost")
            wait_until(lambda: len(client.get("/questions")["questions"]) == 1, "the question")
            assert client.get(f"/jobs/{job}")["status"] == "running"
        assert world.log() == ["begun 7 eins"], "nobody did it a second time"


def test_what_a_killed_agent_did_is_found_by_looking(tmp_path: Path, world: World) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins") as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7, "send"))
        world.wait("begun 7 eins")
        with agent_process(scheduler, world, "zwei"):
            one.kill()
            assert client.end(job, seconds=60)["status"] == "done"
        assert world.log() == ["begun 7 eins"], "it was done once, and found"
        found = ("confirm", "task_verified")
        wait_until(lambda: found in said(scheduler, job), "the word of who looked is logged")


@WAYS
def test_a_stopped_agent_loses_its_lease_and_its_late_answer_is_fenced(
    tmp_path: Path, world: World, listens: bool
) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens) as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7))
        world.wait("begun 7 eins")
        with agent_process(scheduler, world, "zwei", listens=listens):
            one.pause()
            assert client.end(job)["status"] == "done"
            assert client.results(job) == [{"number": 7, "by": "zwei"}]
            one.go_on()
            wait_until(lambda: len(late(scheduler, job)) == 1, "the late answer")
        assert late(scheduler, job)[0][1] in ("stale_epoch", "ended")
        assert len(client.events(job, "task_succeeded")) == 1
        wait_until(lambda: client.get("/agents", status="online")["total"] >= 2, "its return")


def test_what_a_stopped_agent_does_in_a_thread_ends_at_its_checkpoint(tmp_path: Path, world: World) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins") as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7, "post"))
        world.wait("begun 7 eins")
        with agent_process(scheduler, world, "zwei"):
            one.pause()
            assert client.end(job)["status"] == "done"
            assert client.results(job) == [{"number": 7, "by": "zwei"}]
            world.release()
            one.go_on()
            world.wait("stopped 7 eins")
        assert world.log() == ["begun 7 eins", "begun 7 zwei", "done 7 zwei", "stopped 7 eins"]


def late(scheduler: Scheduler, job: str) -> list[tuple[str, str]]:
    """Ends that changed nothing."""
    ends = [each for each in said(scheduler, job) if each[0] in ("done", "failure")]
    return [each for each in ends if each[1] not in ("task_succeeded", "task_failed")]


@WAYS
def test_a_scheduler_that_is_killed_and_comes_back_gets_the_answer(
    tmp_path: Path, world: World, listens: bool
) -> None:
    port = free_port()
    with (
        scheduling(tmp_path, port=port) as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens),
    ):
        world.hold(7, "eins")
        job = client.submit(count(7, "book"))
        world.wait("begun 7 eins")
        scheduler.process.kill()
        scheduler.process.wait()
        world.release()
        world.wait("done 7 eins")
        with scheduling(tmp_path, port=port) as (_, second):
            assert second.end(job)["status"] == "done"
            assert second.results(job) == [{"number": 7, "by": "eins"}]
            assert world.log() == ["begun 7 eins", "done 7 eins"]


@WAYS
def test_agents_bid_for_a_task_that_asks_for_bids(tmp_path: Path, world: World, listens: bool) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens),
        agent_process(scheduler, world, "zwei", listens=listens),
    ):
        job = client.submit(count(7, bids=20))
        assert client.end(job)["status"] == "done", "it was not waited for 20 s"
        wait_until(lambda: len(said(scheduler, job)) == 4, "the log of what came in")
        assert Counter(said(scheduler, job)) == {
            ("offer", "bid_counted"): 2,
            ("agree", "task_started"): 1,
            ("done", "task_succeeded"): 1,
        }
        out = [type for type, _ in said(scheduler, job, "out")]
        assert out[:3] == ["discover", "discover", "assign"]


def test_an_agent_nobody_can_reach_keeps_nothing(tmp_path: Path, world: World) -> None:
    with scheduling(tmp_path) as (scheduler, client):
        nowhere = f"http://127.0.0.1:{free_port()}"
        about = {"name": "fort", "type": "DATA", "capabilities": ["x.world.book"], "endpoint": nowhere}
        lost = client.post("/agents/register", about).json()["agent_id"]
        job = client.submit(count(7, "book"))
        wait_until(lambda: client.get(f"/agents/{lost}")["trouble"] != "", "the trouble")
        assert "cannot be reached" in client.get(f"/agents/{lost}")["trouble"]
        client.wait_event(job, "task_refused")
        with agent_process(scheduler, world, "eins"):
            assert client.end(job, seconds=60)["status"] == "done"
        assert world.log() == ["begun 7 eins", "done 7 eins"], "nothing was in doubt"


@WAYS
def test_a_revoked_agent_is_stopped_within_two_seconds_and_its_work_goes_to_another(
    tmp_path: Path, world: World, listens: bool
) -> None:
    """Long before its next beat."""
    with (
        scheduling(tmp_path, CPA_HEARTBEAT_SECONDS="60") as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens) as one,
    ):
        world.hold(7, "eins")
        job = client.submit(count(7))
        world.wait("begun 7 eins")
        agents = client.get("/agents")["agents"]
        (id,) = [agent["id"] for agent in agents if agent["address"] == one.address]
        with agent_process(scheduler, world, "zwei", listens=listens):
            revoked = time.monotonic()
            assert client.post(f"/agents/{id}/state", {"state": "revoked"}).status_code == 200
            assert client.end(job)["status"] == "done"
            assert time.monotonic() - revoked < REVOKED
            assert one.process.wait(30) == 1, "it ends by itself, and says why"
            assert time.monotonic() - revoked < REVOKED
        assert client.results(job) == [{"number": 7, "by": "zwei"}]
        assert world.log() == ["begun 7 eins", "begun 7 zwei", "done 7 zwei"]


@WAYS
def test_a_cancelled_job_stops_its_agent(tmp_path: Path, world: World, listens: bool) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        agent_process(scheduler, world, "eins", listens=listens),
    ):
        world.hold(7, "eins")
        job = client.submit(count(7))
        world.wait("begun 7 eins")
        assert client.delete(f"/jobs/{job}").status_code in (200, 202)
        assert client.end(job)["status"] == "cancelled"
        wait_until(lambda: client.get("/agents", status="online")["agents"][-1]["busy"] == 0, "a free slot")
        assert world.log() == ["begun 7 eins"]
