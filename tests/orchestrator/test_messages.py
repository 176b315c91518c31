"""What each type of message does, to which attempt, by whom, and how often."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import FarAgent, SchedulerLife, caller, live, word

from cpa.core.audit import entry
from cpa.core.classes import EffectClass
from cpa.core.documents import MAX_BYTES
from cpa.core.events import TaskSucceeded, TaskVerified
from cpa.core.intent_router import IntentRouter
from cpa.core.job import JobStatus, TaskStatus
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.errors import (
    CPAError,
    Forbidden,
    InvalidDocument,
    NotFound,
    TooLarge,
    Unavailable,
    UnknownIntent,
)
from cpa.orchestrator.answers import in_order
from cpa.ports.keys import Scope
from cpa.ports.nonces import Nonce, Replayed
from cpa.ports.repository import StoredMessage
from cpa.repository.jobs import SqlJobRepository
from cpa.repository.tables import inbox

T = TaskStatus
FAILURE = {"class": "business", "error": "kaputt", "message": "so nicht"}
SAID: list[tuple[str, dict[str, Any], str, TaskStatus]] = [
    ("agree", {"estimate": 2.0}, "task_started", T.RUNNING),
    ("inform", {"progress": 0.5, "message": "halb"}, "progress", T.ASSIGNED),
    ("inform", {"message": "noch da"}, "progress", T.ASSIGNED),
    ("done", {"result": {"n": 2}, "execution_time": 0.5}, "task_succeeded", T.DONE),
    ("failure", FAILURE, "task_failed", T.FAILED),
    ("propose", {"run_at": "2023-11-14T22:20:00Z", "reason": "später"}, "task_proposed", T.HELD),
    ("refuse", {"class": "environment", "reason": "keine Lust"}, "task_refused", T.HELD),
    ("not_understood", {"what": "payload.arguments", "why": "rätselhaft"}, "task_refused", T.HELD),
]


async def asked(
    scheduler: SchedulerLife, *, effect: EffectClass = EffectClass.IDEMPOTENT
) -> tuple[FarAgent, BaseMessage]:
    """An agent that was asked to do a task."""
    agent = scheduler.agent("eins")
    await scheduler.submit(effect)
    return agent, await agent.next("request")


@pytest.mark.parametrize(("type", "payload", "effect", "status"), SAID, ids=lambda value: str(value)[:20])
def test_what_is_said_of_an_attempt_has_its_effect_once(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str, status: TaskStatus
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        said = word(type, agent.address, request, payload)
        first = await scheduler.handle(said, caller(agent.address))
        job = request.correlation.job_id
        assert (first.new, first.effect, first.job) == (True, effect, job)
        assert (await scheduler.task(job)).status is status
        number = (await scheduler.engine.query(TENANT, job)).head.number
        again = await scheduler.handle(said, caller(agent.address))
        assert (again.new, again.effect) == (False, "duplicate")
        assert (await scheduler.engine.query(TENANT, job)).head.number == number
        lines = [(line.type, line.effect) for line in await scheduler.logged(job) if line.direction == "in"]
        assert lines == [(type, effect), (type, "duplicate")]

    live(tmp_path, story)


@pytest.mark.parametrize(("type", "payload", "effect", "status"), SAID, ids=lambda value: str(value)[:20])
def test_nobody_answers_for_another(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str, status: TaskStatus
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        other = scheduler.agent("zwei")
        with pytest.raises(Forbidden) as refused:
            await other.say(type, request, payload)
        assert refused.value.field == "sender"
        with pytest.raises(Forbidden):
            await scheduler.handle(word(type, agent.address, request, payload), caller(other.address))
        job = request.correlation.job_id
        assert (await scheduler.task(job)).status is T.ASSIGNED

    live(tmp_path, story)


@pytest.mark.parametrize(("type", "payload", "effect", "status"), SAID, ids=lambda value: str(value)[:20])
def test_only_the_key_of_the_registration_answers(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str, status: TaskStatus
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        said = word(type, agent.address, request, payload)
        other = dataclasses.replace(caller(agent.address), key="key_2")
        with pytest.raises(Forbidden, match="not the key that") as refused:
            await scheduler.handle(said, other)
        assert (refused.value.field, refused.value.value) == ("X-API-Key", "key_2")
        job = request.correlation.job_id
        assert (await scheduler.task(job)).status is T.ASSIGNED

        # Its next process registers with that key, and says what this one could not.
        assert agent.view.record is not None
        agent.view.record = replace(agent.view.record, key="key_2")
        assert (await scheduler.handle(said, other)).effect == effect
        assert (await scheduler.task(job)).status is status

    live(tmp_path, story)


@pytest.mark.parametrize(("type", "payload", "effect", "status"), SAID, ids=lambda value: str(value)[:20])
def test_an_agent_in_quarantine_is_heard_and_changes_nothing(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str, status: TaskStatus
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        scheduler.quarantine(agent)
        told = await agent.say(type, request, payload)
        job = request.correlation.job_id
        assert (told.new, told.effect, told.job) == (True, "quarantined", job)
        assert (await scheduler.task(job)).status is T.ASSIGNED
        assert [line.effect for line in await scheduler.logged(job) if line.direction == "in"] == [
            "quarantined"
        ]

    live(tmp_path, story)


@pytest.mark.parametrize(("type", "payload", "effect", "status"), SAID, ids=lambda value: str(value)[:20])
def test_after_the_end_the_truth_is_told_and_nothing_changes(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str, status: TaskStatus
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        await agent.say("done", request, {"result": {"n": 1}})
        job = request.correlation.job_id
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        number = (await scheduler.engine.query(TENANT, job)).head.number
        told = await agent.say(type, request, payload)
        assert told.effect == "ended"
        snapshot = await scheduler.engine.query(TENANT, job)
        assert (snapshot.head.number, snapshot.tasks[0].result) == (number, {"n": 1})

    live(tmp_path, story)


LONG = "größer " * 1000
WHOLE = [
    ("inform", {"message": LONG}, "progress"),
    ("done", {"result": {"text": LONG}}, "task_succeeded"),
    ("failure", FAILURE | {"message": LONG}, "task_failed"),
    ("refuse", {"class": "environment", "reason": LONG}, "task_refused"),
    ("not_understood", {"what": "payload.arguments", "why": LONG}, "task_refused"),
    ("propose", {"run_at": "2023-11-14T22:20:00Z", "reason": LONG}, "task_proposed"),
    ("agree", {"noch": LONG}, "task_started"),
]


@pytest.mark.parametrize(("type", "payload", "effect"), WHOLE, ids=lambda value: str(value)[:20])
def test_a_long_message_is_logged_whole_once_and_its_copies_without_what_they_carry(
    tmp_path: Path, type: str, payload: dict[str, Any], effect: str
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        said = word(type, agent.address, request, payload)
        for _ in range(2):
            await scheduler.handle(said, caller(agent.address))
        first, again = await heard(scheduler, request)
        assert (first.effect, first.body) == (effect, said.written())
        assert (again.effect, again.id, again.task) == ("duplicate", first.id, first.task)
        sent = json.loads(first.body)
        about = {name: sent[name] for name in ("id", "ts", "type", "sender", "correlation")}
        assert json.loads(again.body) == about | {"payload": {"not_kept": len(first.body)}}

    live(tmp_path, story)


@pytest.mark.parametrize("type", ["inform", "done", "failure"])
@pytest.mark.parametrize("why", ["quarantined", "ended", "stale_epoch", "not_expected"])
def test_what_changes_nothing_does_not_fill_the_store(tmp_path: Path, type: str, why: str) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        more: dict[str, Any] = {}
        if why == "quarantined":
            scheduler.quarantine(agent)
        elif why == "not_expected":
            more = {"correlation": {"epoch": (request.correlation.epoch or 0) + 1}}
        else:
            effect = {"class": "technical", "error": "x"} if why == "stale_epoch" else {"result": {}}
            await agent.say("failure" if why == "stale_epoch" else "done", request, effect)
            if why == "stale_epoch":
                await agent.next("request", after=1)
            else:
                await scheduler.engine.wait(TENANT, request.correlation.job_id, 10)
        payload = next(payload for each, payload, _ in WHOLE if each == type)
        status = {"code": "x", "message": LONG}
        told = await agent.say(type, request, payload, status=status, **more)
        assert told.effect == why
        line = (await heard(scheduler, request))[-1]
        assert (line.type, line.effect, len(line.body) < 1000) == (type, why, True)
        assert json.loads(line.body)["payload"]["not_kept"] > len(LONG)

    live(tmp_path, story)


async def heard(scheduler: SchedulerLife, request: BaseMessage) -> list[StoredMessage]:
    """What was logged of what came in about this request."""
    logged = await scheduler.logged(request.correlation.job_id)
    return [line for line in logged if line.direction == "in"]


@pytest.mark.parametrize("type", ["agree", "inform", "done", "failure", "refuse"])
def test_words_about_an_older_attempt_are_stale(tmp_path: Path, type: str) -> None:
    payload = {"failure": FAILURE, "refuse": {"class": "environment"}}.get(type, {})

    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        await agent.say("refuse", request, {"class": "environment"})
        second = await agent.next("request", after=1)
        assert second.correlation.epoch == 2
        told = await agent.say(type, request, payload)
        assert told.effect == "stale_epoch"
        assert (await scheduler.task(request.correlation.job_id)).status is T.ASSIGNED

    live(tmp_path, story)


def test_an_answer_from_the_future_is_not_expected(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        told = await agent.say("done", request, correlation={"epoch": 7})
        assert told.effect == "not_expected"
        assert (await scheduler.task(request.correlation.job_id)).status is T.ASSIGNED

    live(tmp_path, story)


def test_progress_of_what_is_not_under_way_keeps_nothing_alive(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        told = await agent.say("inform", request, {"progress": 0.5}, correlation={"epoch": 2})
        assert told.effect == "not_expected"

    live(tmp_path, story)


@pytest.mark.parametrize(
    ("correlation", "error", "field"),
    [
        ({"jobId": ""}, InvalidDocument, "correlation.jobId"),
        ({"taskId": ""}, InvalidDocument, "correlation.taskId"),
        ({"epoch": None}, InvalidDocument, "correlation.epoch"),
        ({"taskId": "anders"}, NotFound, "correlation.taskId"),
        ({"jobId": "0198c2a0-0000-7000-8000-000000000000"}, NotFound, "job"),
    ],
)
def test_an_answer_names_its_place(
    tmp_path: Path, correlation: dict[str, Any], error: type[CPAError], field: str
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        with pytest.raises(error) as refused:
            await agent.say("done", request, correlation=correlation)
        assert field in str(refused.value.field)

    live(tmp_path, story)


def test_a_tenant_s_jobs_are_no_business_of_another_s_agents(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        with pytest.raises(NotFound):
            await scheduler.handle(
                word("done", agent.address, request), caller(agent.address, tenant="globex")
            )

    live(tmp_path, story)


def test_what_an_agent_found_is_taken_from_who_was_asked_to_look(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first = scheduler.agent("eins", slots=1)
        job = await scheduler.submit(EffectClass.VERIFIABLE)
        request = await first.next("request")
        happened = {"what": "effect", "verdict": "happened", "evidence": "es liegt da"}
        assert (await first.say("confirm", request, happened)).effect == "not_asked"
        await first.say("done", request, {"result": {"n": 1}})
        assert (await scheduler.task(job)).status is T.IN_DOUBT
        look = await first.next("request", after=1)
        assert (look.payload.model_extra or {})["verify"] is True
        other = scheduler.agent("zwei")
        assert (await other.say("confirm", look, happened)).effect == "not_asked"
        for wrong in ({"verdict": "vielleicht"}, {"verdict": "absent", "look_again": -1}):
            with pytest.raises(InvalidDocument):
                await first.say("confirm", look, {"what": "effect"} | wrong)
        assert (await scheduler.task(job)).status is T.IN_DOUBT
        assert (await first.say("confirm", look, happened)).effect == "task_verified"
        assert (await scheduler.task(job)).status is T.DONE
        assert (await first.say("confirm", look, happened)).effect == "not_asked"

    live(tmp_path, story)


def test_what_was_found_counts_for_the_look_it_answers(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler, effect=EffectClass.VERIFIABLE)
        job = request.correlation.job_id
        await agent.say("failure", request, FAILURE | {"class": "unknown_outcome"})
        first = await agent.next("request", after=1)
        later = {"what": "effect", "verdict": "unknown", "look_again": 0.5}
        assert (await agent.say("confirm", first, later)).effect == "task_verified"
        second = await agent.next("request", after=2)
        absent = {"what": "effect", "verdict": "absent"}
        assert (await agent.say("confirm", first, absent)).effect == "not_asked"
        assert (await scheduler.task(job)).status is T.IN_DOUBT
        assert (await agent.say("confirm", second, absent)).effect == "task_verified"

    live(tmp_path, story)


def test_what_was_found_and_names_no_look_counts_for_the_one_that_is_open(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler, effect=EffectClass.VERIFIABLE)
        await agent.say("done", request)
        look = await agent.next("request", after=1)
        happened = {"what": "effect", "verdict": "happened"}
        told = await agent.say("confirm", look, happened, correlation={"inReplyTo": None})
        assert told.effect == "task_verified"

    live(tmp_path, story)


@pytest.mark.parametrize("type", ["refuse", "not_understood"])
def test_who_does_not_look_is_no_proof(tmp_path: Path, type: str) -> None:
    payload = {"refuse": {"class": "technical"}, "not_understood": {"what": "verify"}}[type]

    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler, effect=EffectClass.VERIFIABLE)
        job = request.correlation.job_id
        await agent.say("done", request, {"result": {"n": 1}})
        look = await agent.next("request", after=1)
        assert (await agent.say(type, look, payload)).effect == "task_verified"
        assert (await scheduler.task(job)).status is T.IN_DOUBT
        second = await agent.next("request", after=2)
        assert (second.payload.model_extra or {})["look"] == 1
        assert second.id != look.id

    live(tmp_path, story)


def test_what_is_not_understood_later_ends_no_attempt(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        job = request.correlation.job_id
        await scheduler.engine.cancel(TENANT, job, by="anna")
        cancel = await agent.next("cancel")
        told = await agent.say("not_understood", cancel, {"what": "cancel"})
        assert told.effect == "noted"
        assert (await agent.say("failure", request, FAILURE)).effect == "task_failed"
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.CANCELLED

    live(tmp_path, story)


def test_a_request_from_outside_makes_a_job_once_and_needs_a_key_that_may(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        said = word("request", "agent://user/anna", None, {"action": "x.a.b", "arguments": {"n": 1}})
        submitter = caller("anna", Scope.SUBMIT)
        first, again = await scheduler.handle(said, submitter), await scheduler.handle(said, submitter)
        assert (first.new, first.effect) == (True, "job_created")
        assert (again.new, again.effect, again.job) == (False, "duplicate", first.job)
        # Whoever asked is who may not allow it, whatever the message says of its sender.
        assert (await scheduler.engine.query(TENANT, first.job)).spec.requester == "anna"
        [submitted, *_] = await scheduler.engine.events(TENANT, first.job)
        assert entry(submitted).by == "anna"
        agent = scheduler.agent("eins")
        with pytest.raises(Forbidden) as refused:
            await agent.say("request", None, {"action": "x.a.b"})
        assert refused.value.field == "type"

    live(tmp_path, story)


def shortest(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def test_what_the_border_took_is_done_and_logged_where_it_is_written_longer_than_it_came(
    tmp_path: Path,
) -> None:
    """Else its sender reads a refusal of what has happened, and nothing of it is kept."""

    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        payload = {"result": {"n": 2}, "artifacts": [f"sha256:{number:064x}" for number in range(13_000)]}
        done = word("done", agent.address, request, payload)
        order: dict[str, Any] = {
            "id": str(uuid4()),
            "ts": "2026-11-24T09:30:00Z",
            "type": "request",
            "sender": "agent://user/anna",
            "to": "agent://scheduler/cpa",
            "payload": {"action": "x.a.b", "arguments": {"n": 1}, "more": ""},
        }
        order["payload"]["more"] = "x" * (MAX_BYTES - len(shortest(order)))
        anna = caller("anna", Scope.SUBMIT)
        for said, by in ((done, caller(agent.address)), (parse(shortest(order)), anna)):
            with pytest.raises(TooLarge):
                said.to_json()
            first, again = await scheduler.handle(said, by), await scheduler.handle(said, by)
            assert (first.new, again.new, again.effect) == (True, False, "duplicate")
            came = [line for line in await scheduler.logged(first.job) if line.direction == "in"]
            assert [line.effect for line in came] == [first.effect, "duplicate"]
            assert parse(json.loads(came[0].body)) == said
        assert (await scheduler.task(request.correlation.job_id)).result == {"n": 2}

    live(tmp_path, story)


def test_a_request_that_comes_again_is_known_before_anything_is_planned(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        signed = [
            dataclasses.replace(caller("anna", Scope.SUBMIT), nonce=Nonce("k", value, 2**60))
            for value in "abc"
        ]
        wanted = {"text": "Schick mir die letzte Rechnung von ACME"}
        said = word("request", "agent://user/anna", None, wanted)
        job = (await scheduler.handle(said, signed[0])).job
        scheduler.planner.router = IntentRouter(())
        again = await scheduler.handle(said, signed[1])
        assert (again.new, again.effect, again.job) == (False, "duplicate", job)
        for used in signed[:2]:
            with pytest.raises(Replayed):
                await scheduler.handle(said, used)
        with pytest.raises(UnknownIntent):
            await scheduler.handle(word("request", said.sender, None, wanted), signed[2])

    live(tmp_path, story)


def test_who_agrees_to_what_has_ended_is_told_that_it_is_over(tmp_path: Path) -> None:
    """`duplicate` would mean that it was heard before: then the agent begins."""

    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(EffectClass.UNSAFE, tasks=2)
        requests = [await agent.next("request", after=number) for number in range(2)]
        first = next(request for request in requests if request.correlation.task_id == "t0")
        await agent.say("failure", first, FAILURE)
        assert (await scheduler.task(job)).status is T.FAILED
        assert (await agent.say("agree", first)).effect == "not_expected"

    live(tmp_path, story)


def test_who_agrees_again_to_what_is_in_doubt_by_now_is_not_told_to_begin(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler, effect=EffectClass.VERIFIABLE)
        agreed = word("agree", agent.address, request)
        assert (await scheduler.handle(agreed, caller(agent.address))).effect == "task_started"
        assert (await scheduler.handle(agreed, caller(agent.address))).effect == "duplicate"
        await agent.say("failure", request, FAILURE | {"class": "unknown_outcome"})
        assert (await scheduler.task(request.correlation.job_id)).status is T.IN_DOUBT
        assert (await scheduler.handle(agreed, caller(agent.address))).effect == "not_expected"
        assert (await agent.say("agree", request)).effect == "not_expected"

    live(tmp_path, story)


def test_a_cancel_stops_the_job_it_names_for_who_may(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        with pytest.raises(Forbidden):
            await agent.say("cancel", request)
        submitter = caller("anna", Scope.SUBMIT)
        with pytest.raises(InvalidDocument):
            await scheduler.handle(word("cancel", "agent://user/anna", None), submitter)
        said = word("cancel", "agent://user/anna", request, {"reason": "doch nicht"})
        assert (await scheduler.handle(said, submitter)).effect == "cancel_requested"
        assert (await scheduler.handle(said, submitter)).new is False
        assert (await agent.next("cancel")).correlation.epoch == 1

    live(tmp_path, story)


def test_a_cancel_that_comes_again_does_not_stop_the_next_run(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        job, submitter = request.correlation.job_id, caller("anna", Scope.SUBMIT)
        said = word("cancel", "agent://user/anna", request, {"reason": "doch nicht"})
        assert (await scheduler.handle(said, submitter)).effect == "cancel_requested"
        await agent.next("cancel")
        await agent.say("failure", request, FAILURE | {"class": "environment"})
        await scheduler.engine.wait(TENANT, job, 10)
        await scheduler.engine.retry(TENANT, job, by="anna")
        await agent.next("request", after=len(agent.got))
        again = await scheduler.handle(said, submitter)
        assert (again.new, again.effect, again.job) == (False, "duplicate", job)
        assert (await scheduler.engine.query(TENANT, job)).head.ending is None
        other = word("cancel", "agent://user/anna", request)
        assert (await scheduler.handle(other, submitter)).effect == "cancel_requested"

    live(tmp_path, story)


def test_an_offer_of_capabilities_is_taken_once(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        said = word("offer", agent.address, None, {"capabilities": ["x.a.b", "büro"]})
        scheduler.offers.trouble = Unavailable("the disk is full", remedy="free some space")
        with pytest.raises(Unavailable):
            await scheduler.handle(said, caller(agent.address))
        scheduler.offers.trouble = None  # and nothing was remembered: the same message counts now
        assert (await scheduler.handle(said, caller(agent.address))).effect == "capabilities_noted"
        assert (await scheduler.handle(said, caller(agent.address))).effect == "duplicate"
        assert scheduler.offers.said == [(agent.address, ("x.a.b", "büro"))]
        scheduler.quarantine(agent)
        later = await agent.say("offer", None, {"capabilities": ["x.more"]})
        assert (later.effect, len(scheduler.offers.said)) == ("quarantined", 1)

    live(tmp_path, story)


@pytest.mark.parametrize(
    ("type", "payload"),
    [
        ("discover", {"action": "x.a.b"}),
        ("assign", {"task": {"action": "x.a.b"}, "lease": 5}),
    ],
)
def test_what_only_a_scheduler_says_is_not_taken(tmp_path: Path, type: str, payload: dict[str, Any]) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        with pytest.raises(InvalidDocument) as refused:
            await agent.say(type, None, payload)
        assert refused.value.field == "type"

    live(tmp_path, story)


def test_progress_is_shown_to_who_follows(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        job = request.correlation.job_id
        shown: list[tuple[float, str]] = []

        async def follow() -> None:
            async for update in scheduler.engine.follow(TENANT, job):
                if hasattr(update, "progress"):
                    shown.append((update.progress, update.message))

        following = scheduler.group.create_task(follow())
        await asyncio.sleep(0.1)
        await agent.say("inform", request, {"progress": 0.5, "message": "halb"})
        await agent.say("done", request)
        await following
        assert shown == [(0.5, "halb")]

    live(tmp_path, story)


def test_what_is_said_of_an_attempt_keeps_its_lease(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        await agent.say("agree", request)
        for _ in range(4):
            await asyncio.sleep(10)
            await agent.say("inform", request, {"message": "noch da"})
        assert (await scheduler.task(request.correlation.job_id)).epoch == 1
        await asyncio.sleep(20)
        assert (await scheduler.task(request.correlation.job_id)).epoch > 1

    live(tmp_path, story)


GONE = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"file": "rechnung.pdf"}, "file is of the wrong type"),
        ({"file": {"artifact": "../../etc/passwd"}}, "file is of the wrong type"),
        ({"file": {"artifact": GONE, "name": "x"}}, f"there is no file {GONE}"),
        ({"url": "u", "more": [{"artifact": GONE}]}, f"there is no file {GONE}"),
        ({"text": "x" * 300_000}, "262144"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_result_that_breaks_its_form_fails_its_task_and_says_so(
    tmp_path: Path, result: dict[str, Any], why: str
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins", "web.download")
        await scheduler.submit(action="web.download")
        request = await agent.next("request")
        said = word("done", agent.address, request, {"result": result})
        assert (await scheduler.handle(said, caller(agent.address))).effect == "task_failed"
        run = await scheduler.task(request.correlation.job_id)
        assert run.status is T.FAILED
        assert run.result is None
        assert run.error is not None
        assert run.error.code == "result_invalid"
        assert why in run.error.message
        assert (await scheduler.handle(said, caller(agent.address))).effect == "duplicate"

    live(tmp_path, story)


def test_files_that_are_there_are_taken_and_pictures_that_are_not_left_out_and_told(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins", "web.download")
        kept = await scheduler.artifacts.put(TENANT, "größe".encode(), name="größe.txt")
        other = await scheduler.artifacts.put("andere", b"x")
        await scheduler.submit(action="web.download")
        request = await agent.next("request")
        payload = {"result": {"file": kept.as_reference()}, "artifacts": [kept.digest, GONE, other.digest]}
        said = word("done", agent.address, request, payload)
        told = await scheduler.handle(said, caller(agent.address))
        assert (told.effect, told.left_out) == ("task_succeeded", (GONE, other.digest))
        job = request.correlation.job_id
        assert (await scheduler.task(job)).result == {"file": kept.as_reference()}
        (event,) = [
            each.event
            for each in await scheduler.engine.events(TENANT, job, after=0, limit=100)
            if isinstance(each.event, TaskSucceeded)
        ]
        assert event.artifacts == (kept.digest,)
        again = await scheduler.handle(said, caller(agent.address))
        assert (again.effect, again.left_out) == ("duplicate", (GONE, other.digest))

    live(tmp_path, story)


def test_a_found_effect_stands_without_a_result_that_breaks_its_form(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        event = TaskVerified(time=0, task=0, epoch=1, verdict="happened", evidence="da", result={"file": 7})

        async def there(digest: str) -> bool:
            return True

        told = await in_order(event, "web.download", there)
        assert isinstance(told, TaskVerified)
        assert (told.verdict, told.result) == ("happened", None)
        assert "file is of the wrong type" in told.evidence

    live(tmp_path, story)


def test_of_a_job_that_is_purged_nothing_stays_that_was_said_of_it(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent, request = await asked(scheduler)
        await agent.say("agree", request)
        for share in (0.3, 0.6):
            await agent.say("inform", request, {"progress": share})
        await agent.say("done", request, {"result": {}})
        await scheduler.engine.wait(TENANT, request.correlation.job_id, 10)
        count = sa.select(sa.func.count()).select_from(inbox)
        assert await scheduler.database.read(lambda c: c.execute(count).scalar()) == 4
        later = scheduler.clock.now_ms() + 10**9
        assert await SqlJobRepository(scheduler.database).purge(TENANT, ended_before=later) == 1
        assert await scheduler.database.read(lambda c: c.execute(count).scalar()) == 0

    live(tmp_path, story)
