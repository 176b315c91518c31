"""An agent and the wire: what it says, when, and what it never does twice."""

from __future__ import annotations

import asyncio
import gc
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs
from tests.agents.process import Hands, Running, agent
from tests.agents.scheduler import ADMIN, CALLBACK, KEY, LEASE, FakeScheduler, scheduling
from tests.servers.ports import free_port

from cpa.agents.agent import SystemClock
from cpa.agents.session import Options, Session
from cpa.agents.work import Work
from cpa.core.classes import FailureClass
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import (
    BadInput,
    CPAError,
    Forbidden,
    InternalError,
    QuotaExceeded,
    Unauthorized,
    Unavailable,
    first_error,
)
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import Readiness
from cpa.ports.executor import ExecutionResult

DO = "x.test.do"


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


@pytest.fixture(params=["channel", "http"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def tester(scheduler: FakeScheduler, tmp_path: Path, way: str) -> AsyncIterator[Running]:
    async with agent(scheduler, tmp_path, listens=way == "http") as running:
        yield running


async def hand_over(scheduler: FakeScheduler, *messages: BaseMessage) -> list[int]:
    """As the scheduler would; the statuses, where it is called by HTTP."""
    endpoint = scheduler.registrations[-1]["endpoint"]
    if not endpoint:
        await scheduler.push(*messages)
        return []
    statuses = []
    async with httpx2.AsyncClient(trust_env=False) as client:
        for message in messages:
            response = await client.post(
                f"{endpoint}/tasks", content=message.to_json(), headers={"X-CPA-Key": CALLBACK}
            )
            statuses.append(response.status_code)
    return statuses


def named(beat: dict[str, Any]) -> list[str]:
    return sorted(each["task"] for each in beat["running"])


# -- registering -------------------------------------------------------------------------------------------


async def test_it_registers_with_what_it_can_do(tester: Running, scheduler: FakeScheduler, way: str) -> None:
    [said] = scheduler.registrations
    assert (said["name"], said["type"], said["slots"]) == ("tester", "DATA", 2)
    assert said["capabilities"] == [DO, "x.test.look"]
    assert bool(said["endpoint"]) == (way == "http")
    assert {"version", "platform", "hostname"} <= set(said["metadata"])
    assert said["instance"] == tester.session.life
    assert scheduler.beats[0]["instance"] == tester.session.life
    assert tester.lines[0].startswith("agent://data/tester via ")


async def test_it_keeps_its_own_key_and_comes_back_with_it(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with agent(scheduler, tmp_path) as first:
        pass
    path = tmp_path / "agent" / "agent.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["key"] == KEY

    async with agent(scheduler, tmp_path, key="") as second:
        assert [each["instance"] for each in scheduler.registrations] == [
            first.session.life,
            second.session.life,
        ]
        older, newer = (each["incarnation"] for each in scheduler.registrations)
        assert 0 < older < newer


async def test_an_enrolment_token_will_do(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with agent(scheduler, tmp_path, key="", token="token"):
        assert len(scheduler.registrations) == 1


async def test_who_did_not_hear_the_answer_registers_again_with_the_same_words(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    scheduler.unregistered = 2
    async with agent(scheduler, tmp_path, key="", token="token") as running:
        first, *more = scheduler.registrations
        assert more == [first, first]
        assert first["instance"] == running.session.life
        assert len(first["instance"]) >= 22
        assert "instance" not in (tmp_path / "agent" / "agent.json").read_text()


async def test_who_has_no_key_is_told_so_and_ends(scheduler: FakeScheduler, tmp_path: Path) -> None:
    with pytest.raises(Unauthorized):
        async with agent(scheduler, tmp_path, key="wrong"):
            pass


async def test_who_starts_it_reads_what_it_may_do_and_what_hinders_it(
    scheduler: FakeScheduler, tmp_path: Path, way: str
) -> None:
    scheduler.withheld, scheduler.state = ("x.test.look",), "draining"
    async with agent(scheduler, tmp_path, listens=way == "http") as running:
        (line,) = running.lines
    assert line.endswith(", x.test.do (not x.test.look: for that it was not enrolled); it is draining")


async def test_an_agent_that_is_revoked_while_it_works_learns_what_to_do(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    scheduler.key = "another"
    scheduler.beat_problem = Unauthorized("this API key is not accepted", field="X-API-Key")
    if scheduler.channel is not None:
        await scheduler.channel.close()
    with pytest.raises((Unauthorized, ExceptionGroup)) as refused:
        async with asyncio.timeout(20):
            await tester.life
    error = refused.value
    found = first_error(error) if isinstance(error, ExceptionGroup) else error
    assert "was revoked or removed; remove" in str(found)


async def test_a_revoked_agent_learns_what_to_do(scheduler: FakeScheduler, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    kept = tmp_path / "agent" / "agent.json"
    kept.write_text(
        json.dumps({"id": "ag_1", "address": "agent://data/tester", "key": "old", "url": scheduler.url})
    )
    kept.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        async with agent(scheduler, tmp_path):
            pass
    kept.chmod(0o600)
    with pytest.raises(Unauthorized) as refused:
        async with agent(scheduler, tmp_path):
            pass
    assert "remove" in str(refused.value)


async def test_it_waits_for_a_scheduler_that_is_not_there_yet(tmp_path: Path) -> None:
    async with scheduling() as away:
        url = away.url
    late = FakeScheduler(url=url)
    life = asyncio.create_task(_once_ready(late, tmp_path))
    await asyncio.sleep(0.3)
    async with scheduling(int(url.rpartition(":")[2]), late):
        await life
    assert len(late.registrations) == 1


async def _once_ready(scheduler: FakeScheduler, folder: Path, **more: Any) -> None:
    async with agent(scheduler, folder, **more):
        pass


# -- working -----------------------------------------------------------------------------------------------


async def test_a_task_is_agreed_to_done_and_told(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"name": "Größe"}, tainted=["name"], run=1))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")

    assert scheduler.types() == ["agree", "inform", "done"]
    agreed, informed, done = scheduler.messages
    assert done.payload.model_dump()["result"] == {"got": {"name": "Größe"}}
    assert informed.payload.model_dump()["progress"] == 0.5
    for message in (agreed, informed, done):
        about = message.correlation
        assert (about.job_id, about.task_id, about.epoch) == ("job-1", "t", 1)
        assert message.sender == "agent://data/tester"
    [request] = tester.hands.began
    assert (request.tainted, request.run, request.timeout) == (frozenset({"name"}), 1, 20.0)


async def test_of_what_is_over_nothing_stays_in_memory(tester: Running, scheduler: FakeScheduler) -> None:
    for number in (1, 2, 3):
        await hand_over(scheduler, scheduler.request(DO, task=f"t{number}", effect="idempotent"))
        await scheduler.until(lambda number=number: scheduler.types().count("done") == number, "done")
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > count + 1, "acknowledging")
    tester.hands.began.clear()
    gc.collect()
    assert [each for each in gc.get_objects() if type(each) is Work] == []


async def test_what_runs_is_named_in_beats_until_it_was_acknowledged(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.unacknowledged = True
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}, effect="idempotent"))
    await scheduler.until(lambda: named(scheduler.beats[-1]) == ["t"], "naming")
    assert scheduler.beats[-1]["available_slots"] == 1
    tester.hands.go.set()
    await scheduler.until(lambda: "done" in scheduler.types(), "done") if _pipelined(scheduler) else None
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > count + 2, "beats")
    assert named(scheduler.beats[-1]) == ["t"]
    assert scheduler.beats[-1]["available_slots"] == 2
    await tester.die()


def _pipelined(scheduler: FakeScheduler) -> bool:
    return not scheduler.registrations[-1]["endpoint"]


async def test_an_acknowledged_attempt_is_not_named_any_more(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > count + 2, "beats")
    assert named(scheduler.beats[-1]) == []


async def test_the_same_request_again_is_done_once_and_answered_the_same(
    tester: Running, scheduler: FakeScheduler
) -> None:
    request = scheduler.request(DO, arguments={"wait": True})
    await hand_over(scheduler, request, request)
    await scheduler.until(lambda: tester.hands.began, "beginning")
    count = len(scheduler.of_type("agree"))
    await hand_over(scheduler, request)
    await scheduler.until(lambda: len(scheduler.of_type("agree")) == count + 1, "agreeing again")
    tester.hands.go.set()
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    await hand_over(scheduler, request)
    await scheduler.until(lambda: len(scheduler.of_type("done")) == 2, "done again")

    first, second = scheduler.of_type("done")
    assert first == second
    assert len(tester.hands.began) == 1


async def test_an_older_attempt_that_comes_late_does_not_begin(
    tester: Running, scheduler: FakeScheduler
) -> None:
    statuses = await hand_over(
        scheduler, scheduler.request(DO, epoch=3), scheduler.request(DO, epoch=2, arguments={"late": True})
    )
    if statuses:
        assert statuses == [202, 409]
    else:
        await scheduler.until(lambda: "refuse" in scheduler.types(), "refusing")
        assert scheduler.of_type("refuse")[0].payload.model_dump()["reason"] == "stale"
    await scheduler.until(lambda: tester.hands.began, "beginning")
    assert [request.epoch for request in tester.hands.began] == [3]


async def test_full_slots_and_unknown_actions_are_refused(tester: Running, scheduler: FakeScheduler) -> None:
    for name in ("a", "b"):
        await hand_over(scheduler, scheduler.request(DO, task=name, arguments={"wait": True}))
    await scheduler.until(lambda: len(tester.hands.began) == 2, "beginning")
    statuses = await hand_over(
        scheduler,
        scheduler.request(DO, task="c"),
        scheduler.request("x.test.unknown", task="d"),
        scheduler.request("x.other", task="e"),
    )
    if statuses:
        assert statuses == [409, 409, 409]
        return
    await scheduler.until(lambda: len(scheduler.of_type("refuse")) == 3, "refusing")
    said = {each.correlation.task_id: each.payload.model_dump() for each in scheduler.of_type("refuse")}
    assert said["c"]["reason"] == "busy"
    assert said["c"]["failure_class"] is FailureClass.ENVIRONMENT
    assert said["d"]["reason"] == said["e"]["reason"] == "unknown_action"


async def test_what_was_refused_does_not_begin_when_a_copy_of_it_comes(
    tester: Running, scheduler: FakeScheduler
) -> None:
    for name in ("a", "b"):
        await hand_over(scheduler, scheduler.request(DO, task=name, arguments={"wait": True}))
    await scheduler.until(lambda: len(tester.hands.began) == 2, "beginning")
    late = scheduler.request(DO, task="c")
    statuses = await hand_over(scheduler, late)
    await hand_over(scheduler, scheduler.cancel(task="a"))
    await scheduler.until(lambda: scheduler.of_type("failure"), "stopping")
    statuses += await hand_over(scheduler, late)
    if statuses:
        assert statuses == [409, 409]
    else:
        await scheduler.until(lambda: len(scheduler.of_type("refuse")) == 2, "refusing again")
    assert [request.task for request in tester.hands.began] == ["a", "b"]


async def test_what_stands_in_the_way_is_told_in_beats_and_refused_with_its_reason(
    scheduler: FakeScheduler, tmp_path: Path, way: str
) -> None:
    facts = Readiness(session_locked=True, applications={"outlook": "16"})
    async with agent(
        scheduler,
        tmp_path,
        listens=way == "http",
        readiness=lambda: facts,
        refuses=lambda request: "der Bildschirm ist gesperrt" if request.task == "a" else "",
    ) as tester:
        assert scheduler.beats[-1]["readiness"] == {"session_locked": True, "applications": {"outlook": "16"}}
        statuses = await hand_over(
            scheduler, scheduler.request(DO, task="a"), scheduler.request(DO, task="b")
        )
        await scheduler.until(lambda: "done" in scheduler.types(task="b"), "the other one")
        assert tester.hands.done == ["b"]
        if statuses:
            assert statuses == [409, 202]
        else:
            said = scheduler.of_type("refuse")[0].to_dict()["payload"]
            assert (said["class"], said["reason"]) == ("environment", "not_ready")


async def test_failures_keep_their_class_and_all_they_say(tester: Running, scheduler: FakeScheduler) -> None:
    tester.hands.answer = ExecutionResult.failed(
        FailureClass.TECHNICAL,
        "smtp_451",
        "später",
        remedy="warten",
        retry_after=3.5,
        details={"zeile": 4},
        duration=0.25,
        artifacts=("sha256:" + "0" * 64,),
    )
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: "failure" in scheduler.types(), "failing")
    said = scheduler.of_type("failure")[0].to_dict()["payload"]
    assert said == {
        "class": "technical",
        "error": "smtp_451",
        "message": "später",
        "remedy": "warten",
        "details": {"zeile": 4},
        "retry_after": 3.5,
        "artifacts": [{"artifact": "sha256:" + "0" * 64}],
        "execution_time": 0.25,
    }


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"file": b"\xff"}, "result_invalid"),
        ({"half": "\ud800"}, "result_invalid"),
        ({"number": float("nan")}, "result_invalid"),
        ({"text": "x" * 1_100_000}, "result_too_large"),
    ],
)
async def test_a_result_that_cannot_be_sent_fails_once_and_for_good(
    tester: Running, scheduler: FakeScheduler, result: dict[str, Any], code: str
) -> None:
    tester.hands.result = result
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: "failure" in scheduler.types(), "failing")
    said = scheduler.of_type("failure")[0].to_dict()["payload"]
    assert (said["error"], said["class"]) == (code, "business")


async def test_effects_are_looked_for_on_request(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.request(DO, verify=True, look=2, age=7.5))
    await scheduler.until(lambda: "confirm" in scheduler.types(), "confirming")
    said = scheduler.of_type("confirm")[0].to_dict()["payload"]
    assert said == {
        "what": "effect",
        "verdict": "unknown",
        "evidence": "noch nicht da",
        "result": None,
        "look_again": 2.5,
    }
    assert [(each.look, each.age) for each in tester.hands.looked] == [(2, 7.5)]
    assert all(named(beat) == [] for beat in scheduler.beats), "looking needs no lease"


async def test_a_look_that_is_cancelled_stops_and_says_that_nothing_is_known(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, verify=True, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.looked, "looking")
    await hand_over(scheduler, scheduler.cancel())
    await scheduler.until(lambda: "confirm" in scheduler.types(), "confirming")
    said = scheduler.of_type("confirm")[0].to_dict()["payload"]
    assert (said["verdict"], said["evidence"]) == ("unknown", "stopped while looking")
    assert tester.hands.stopped == ["t"]
    assert scheduler.types() == ["confirm"], "of the attempt itself nothing is said"
    await hand_over(scheduler, scheduler.request(DO))
    await asyncio.sleep(0.1)
    assert tester.hands.began == [], "what was cancelled before it came does not begin"


async def test_a_cancel_stops_an_attempt_and_the_look_for_it(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await hand_over(scheduler, scheduler.request(DO, verify=True, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began and tester.hands.looked, "beginning")
    await hand_over(scheduler, scheduler.cancel())
    await scheduler.until(lambda: {"confirm", "failure"} <= set(scheduler.types()), "stopping")
    assert tester.hands.stopped == ["t", "t"]


async def test_a_cancelled_attempt_stops_and_says_so(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    await hand_over(scheduler, scheduler.cancel())
    await scheduler.until(lambda: "failure" in scheduler.types(), "failing")
    said = scheduler.of_type("failure")[0].to_dict()["payload"]
    assert (said["class"], said["error"]) == ("unknown_outcome", "cancelled")
    assert tester.hands.stopped == ["t"]


async def test_a_cancel_that_comes_before_its_request_keeps_it_from_beginning(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.cancel())
    await scheduler.until(lambda: "failure" in scheduler.types(), "failing")
    assert scheduler.of_type("failure")[0].to_dict()["payload"]["class"] == "environment"
    await hand_over(scheduler, scheduler.request(DO))
    await asyncio.sleep(0.1)
    assert tester.hands.began == []


@pytest.mark.parametrize("effect", ["stale_epoch", "ended", "not_expected", "quarantined"])
async def test_what_another_agent_has_by_now_does_not_begin(
    tester: Running, scheduler: FakeScheduler, effect: str
) -> None:
    scheduler.agree = effect
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: "failure" in scheduler.types(), "saying so")
    said = scheduler.of_type("failure")[0].to_dict()["payload"]
    assert (said["class"], said["error"]) == ("environment", "cancelled")
    await scheduler.until(lambda: named(scheduler.beats[-1]) == [], "not naming")
    assert tester.hands.began == []


async def test_an_agreement_that_is_refused_begins_nothing(tester: Running, scheduler: FakeScheduler) -> None:
    scheduler.problem = Forbidden("another agent holds this task")
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: scheduler.types() == ["agree", "failure"], "saying so")
    assert tester.hands.began == []


async def test_what_can_be_done_twice_does_not_wait_to_be_heard(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.agree = "stale_epoch"
    await hand_over(scheduler, scheduler.request(DO, effect="idempotent"))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")


async def test_an_attempt_that_waits_to_be_heard_is_named_and_can_be_stopped(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.unacknowledged = True
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: named(scheduler.beats[-1]) == ["t"], "naming")
    await hand_over(scheduler, scheduler.request(DO), scheduler.cancel())
    await scheduler.until(lambda: scheduler.beats[-1]["available_slots"] == 2, "stopping")
    scheduler.unacknowledged = False
    scheduler.released.set()
    await scheduler.until(lambda: "failure" in scheduler.types(), "saying so")
    assert scheduler.types() == ["agree", "failure"]
    await scheduler.until(lambda: named(scheduler.beats[-1]) == [], "not naming")
    assert tester.hands.began == []


async def test_executors_hear_of_the_end_of_a_job(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    await hand_over(scheduler, scheduler.job_ended())
    await scheduler.until(lambda: tester.hands.ended == ["job-1"], "ending")


async def test_a_call_for_bids_is_answered(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.discover(DO), scheduler.discover("x.test.unknown"))
    await scheduler.until(lambda: {"offer", "refuse"} <= set(scheduler.types()), "bidding")
    assert scheduler.of_type("offer")[0].to_dict()["payload"] == {"load": 0.0}


async def test_what_is_for_somebody_else_is_not_done(tester: Running, scheduler: FakeScheduler) -> None:
    strange = scheduler.request(DO).to_dict() | {"to": ["agent://data/other"]}
    forged = scheduler.request(DO, task="u").to_dict() | {"sender": "agent://user/mallory"}
    await hand_over(scheduler, *(BaseMessage.from_dict(each) for each in (strange, forged)))
    await hand_over(scheduler, scheduler.request(DO, task="last"))
    await scheduler.until(lambda: "last" in tester.hands.done, "the last one")
    assert tester.hands.done == ["last"]


# -- trouble -----------------------------------------------------------------------------------------------


async def test_a_lost_attempt_is_stopped_and_not_named_again(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: named(scheduler.beats[-1]) == ["t"], "naming")
    scheduler.lost = [{"job": "job-1", "task": "t", "epoch": 1}, {"job": "other", "task": "t", "epoch": 1}]
    await scheduler.until(lambda: tester.hands.stopped == ["t"], "stopping")
    await scheduler.until(lambda: "failure" in scheduler.types(), "telling")
    await scheduler.until(lambda: named(scheduler.beats[-1]) == [], "not naming")


async def test_without_answered_beats_nothing_goes_on_that_cannot_be_repeated(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    scheduler.beat_problem = Unavailable("not now")
    await asyncio.sleep(LEASE + 0.2)
    tester.hands.go.set()
    await asyncio.sleep(0.2)
    assert tester.hands.done == []
    scheduler.beat_problem = None
    await scheduler.until(lambda: tester.hands.done == ["t"], "going on")


async def test_the_lease_is_that_of_the_scheduler_that_answered_the_beat(
    tester: Running, scheduler: FakeScheduler
) -> None:
    """One that was started again with other times."""
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    scheduler.lease = 100 * LEASE
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) >= count + 2, "being told")
    scheduler.beat_problem = Unavailable("not now")
    await asyncio.sleep(LEASE + 0.2)
    tester.hands.go.set()
    await scheduler.until(lambda: tester.hands.done == ["t"], "going on")


async def test_what_can_be_repeated_goes_on_meanwhile(tester: Running, scheduler: FakeScheduler) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}, effect="idempotent"))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    scheduler.beat_problem = Unavailable("not now")
    await asyncio.sleep(LEASE + 0.1)
    tester.hands.go.set()
    await scheduler.until(lambda: tester.hands.done == ["t"], "going on")


async def test_a_beat_that_meets_trouble_takes_nothing_away(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}, effect="idempotent"))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    scheduler.beat_problem = InternalError("a defect")
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) >= count + 2, "beating on")
    scheduler.beat_problem = None
    tester.hands.go.set()
    await scheduler.until(lambda: tester.hands.done == ["t"], "going on")


async def test_an_answer_is_said_until_it_is_taken(tester: Running, scheduler: FakeScheduler) -> None:
    scheduler.problem = InternalError("broken just now")
    await hand_over(scheduler, scheduler.request(DO))
    await scheduler.until(lambda: len(scheduler.messages) >= 2, "trying")
    scheduler.problem = None
    count = len(scheduler.messages)
    await scheduler.until(lambda: any(m.type == "done" for m in scheduler.messages[count:]), "being taken")
    assert len(tester.hands.began) == 1


@pytest.mark.parametrize("way", ["http"])
async def test_what_it_says_is_kept_while_its_key_is_not_accepted(
    tester: Running, scheduler: FakeScheduler
) -> None:
    """On a channel the key is looked at when it is opened."""
    await scheduler.until(lambda: scheduler.beats, "beats")
    scheduler.problem = Unauthorized("not now")
    await hand_over(scheduler, scheduler.request(DO, effect="idempotent"))
    await scheduler.until(lambda: len(scheduler.messages) >= 2, "trying")
    scheduler.problem = None
    await scheduler.until(lambda: "done" in scheduler.types(), "being taken")


async def test_an_answer_that_is_refused_is_not_said_again(tester: Running, scheduler: FakeScheduler) -> None:
    scheduler.problem = Forbidden("another agent holds this task")
    await hand_over(scheduler, scheduler.request(DO, effect="idempotent"))
    await scheduler.until(lambda: "done" in scheduler.types(), "done")
    await scheduler.until(lambda: named(scheduler.beats[-1]) == [], "not naming")
    count = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > count + 3, "beats")
    assert len(scheduler.of_type("done")) == 1


async def test_a_beat_that_is_forbidden_ends_the_agent(
    tester: Running, scheduler: FakeScheduler, way: str
) -> None:
    if way == "channel":
        await scheduler.until(lambda: scheduler.channel, "channel")
        assert scheduler.channel is not None
        await scheduler.channel.close(4401, "revoked")
    else:
        scheduler.beat_problem = Unauthorized("revoked")
    with pytest.raises(BaseExceptionGroup) as ended:
        await tester.life
    assert ended.group_contains(CPAError)


# -- across lives ------------------------------------------------------------------------------------------


async def test_what_an_earlier_process_did_is_said_before_registering(
    scheduler: FakeScheduler, tmp_path: Path, way: str
) -> None:
    hands = Hands()
    async with agent(scheduler, tmp_path, listens=way == "http", hands=hands) as first:
        scheduler.unacknowledged = True
        await hand_over(scheduler, scheduler.request(DO, effect="idempotent"))
        await scheduler.until(lambda: hands.done, "done")
        await asyncio.sleep(0.1)
        await first.die()
    scheduler.unacknowledged = False
    scheduler.messages.clear()
    scheduler.order.clear()
    async with agent(scheduler, tmp_path, listens=way == "http"):
        pass
    assert scheduler.order[:2] == ["done", "register"]
    assert scheduler.types() == ["done"]


@pytest.mark.parametrize("trouble", [InternalError("a defect"), QuotaExceeded("no room")])
async def test_what_an_earlier_process_did_is_said_until_it_is_taken(
    scheduler: FakeScheduler, tmp_path: Path, way: str, trouble: CPAError
) -> None:
    """A scheduler, or what stands before it, that is not well just now has not said no."""
    async with agent(scheduler, tmp_path, listens=way == "http") as first:
        scheduler.unacknowledged = True
        await hand_over(scheduler, scheduler.request(DO, effect="idempotent"))
        conversations = first.session._conversations
        assert conversations is not None
        await scheduler.until(lambda: conversations._by_answer, "keeping the answer")
        await first.die()
    scheduler.unacknowledged = False
    scheduler.messages.clear()
    scheduler.problem = trouble
    registered = len(scheduler.registrations)
    second = asyncio.create_task(_once_ready(scheduler, tmp_path, listens=way == "http"))
    await scheduler.until(lambda: len(scheduler.of_type("done")) >= 2, "trying")
    assert len(scheduler.registrations) == registered
    scheduler.problem = None
    await second
    assert len(scheduler.registrations) == registered + 1


async def test_after_a_restart_the_same_request_is_answered_from_memory(
    scheduler: FakeScheduler, tmp_path: Path, way: str
) -> None:
    async with agent(scheduler, tmp_path, listens=way == "http"):
        await hand_over(scheduler, scheduler.request(DO))
        await scheduler.until(lambda: "done" in scheduler.types(), "done")
    first = scheduler.of_type("done")[0]
    async with agent(scheduler, tmp_path, listens=way == "http") as second:
        await hand_over(scheduler, scheduler.request(DO))
        await scheduler.until(lambda: len(scheduler.of_type("done")) == 2, "done again")
        assert scheduler.of_type("done")[1] == first
        assert second.hands.began == []


@pytest.mark.parametrize(
    ("effect", "again"), [("unsafe", False), ("verifiable", False), ("idempotent", True)]
)
async def test_what_began_in_an_earlier_life_is_begun_again_only_where_that_is_harmless(
    scheduler: FakeScheduler, tmp_path: Path, way: str, effect: str, again: bool
) -> None:
    async with agent(scheduler, tmp_path, listens=way == "http") as first:
        request = scheduler.request(DO, arguments={"wait": True}, effect=effect)
        await hand_over(scheduler, request)
        await scheduler.until(lambda: first.hands.began, "beginning")
        scheduler.unacknowledged = True
        await _kill(first)
    scheduler.unacknowledged = False
    scheduler.messages.clear()
    hands = Hands()
    hands.go.set()
    async with agent(scheduler, tmp_path, listens=way == "http", hands=hands):
        assert named(scheduler.beats[-1]) == []
        await hand_over(scheduler, request)
        wanted = "done" if again else "failure"
        await scheduler.until(lambda: wanted in scheduler.types(), wanted)
        assert bool(hands.began) == again
        if not again:
            said = scheduler.of_type("failure")[0].to_dict()["payload"]
            assert (said["class"], said["error"]) == ("unknown_outcome", "agent_restarted")
            await hand_over(scheduler, scheduler.cancel())


async def _kill(running: Running) -> None:
    """As kill -9: what runs gets no chance to be answered."""
    conversations = running.session._conversations
    assert conversations is not None
    conversations.answered = lambda *_: None  # type: ignore[method-assign]
    conversations.runtime._reply = lambda *_: None
    await running.die()


# -- leaving -----------------------------------------------------------------------------------------------


async def test_who_leaves_ends_what_runs_and_takes_nothing_new(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, task="a", arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    tester.session.stop()
    await scheduler.until(lambda: scheduler.beats[-1]["status"] == "busy", "draining")
    assert scheduler.beats[-1]["available_slots"] == 0
    statuses = await hand_over(scheduler, scheduler.request(DO, task="b"))
    if statuses:
        assert statuses == [409]
    else:
        await scheduler.until(lambda: "refuse" in scheduler.types(), "refusing")
    tester.hands.go.set()
    await tester.life
    assert scheduler.types(task="a")[-1] == "done"
    assert (scheduler.beats[-1]["status"], scheduler.beats[-1]["running"]) == ("offline", [])


async def test_who_is_told_twice_leaves_at_once_and_gives_back(
    tester: Running, scheduler: FakeScheduler
) -> None:
    await hand_over(scheduler, scheduler.request(DO, arguments={"wait": True}))
    await scheduler.until(lambda: tester.hands.began, "beginning")
    tester.session.stop()
    tester.session.stop()
    await asyncio.wait_for(tester.life, 15)
    assert tester.hands.stopped == ["t"]
    assert scheduler.types()[-1] == "failure"
    await scheduler.until(lambda: scheduler.beats[-1]["status"] == "offline", "saying goodbye")


async def test_an_agent_can_leave_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    options = Options(name="a", type="DATA", url=f"http://127.0.0.1:{free_port()}", key=ADMIN, data=tmp_path)
    session = Session(options, ExecutorRegistry([Hands()]), SystemClock())
    life = asyncio.create_task(session.run())
    await asyncio.sleep(0.2)
    session.stop()
    await asyncio.wait_for(life, 20)


async def test_files_that_the_scheduler_does_not_keep_stand_in_the_agents_log(
    tester: Running, scheduler: FakeScheduler
) -> None:
    scheduler.left_out = ("sha256:" + "0" * 64,)
    with capture_logs() as logs:
        await hand_over(scheduler, scheduler.request(DO, task="bild", effect="idempotent"))

        def told() -> list[tuple[str, list[str]]]:
            return [(line["task"], line["files"]) for line in logs if line["event"] == "files_left_out"]

        await scheduler.until(told, "telling")
    assert told() == [("bild", list(scheduler.left_out))]
