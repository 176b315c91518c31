"""What agents are asked, how often, and what follows when they do not take it, do not answer, or are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import BEAT, FarAgent, SchedulerLife, life, live

from cpa.core.classes import EffectClass
from cpa.core.job import JobStatus, TaskStatus
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Conflict, Unavailable
from cpa.orchestrator.wording import conversation_of, message_id
from cpa.ports.agents import AgentStatus, Beat
from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt
from cpa.testing.virtual import VirtualLoop
from cpa.transport.channel import ChannelDelivery

IDEMPOTENT, VERIFIABLE, UNSAFE = EffectClass.IDEMPOTENT, EffectClass.VERIFIABLE, EffectClass.UNSAFE


def busy(agent: FarAgent) -> int:
    return agent.view.busy


def types(agent: FarAgent) -> list[str]:
    return [message.type for message in agent.got]


def test_an_agent_is_asked_with_all_it_needs(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(UNSAFE, tainted=("n",))
        request = await agent.next("request")
        attempt = Attempt(TENANT, job, 0, 1)
        assert request.id == message_id(attempt, "request")
        about = request.correlation
        assert (about.conversation_id, about.job_id, about.task_id, about.epoch) == (
            conversation_of(attempt),
            job,
            "t0",
            1,
        )
        assert (request.sender, request.to, request.context.tenant) == (
            "agent://scheduler/cpa",
            (agent.address,),
            TENANT,
        )
        payload = request.to_dict()["payload"]
        assert payload == {
            "action": "x.a.b",
            "arguments": {"n": 1},
            "timeout": 60.0,
            "effect": "unsafe",
            "tainted": ["n"],
            "run": 0,
            "lease": 3 * BEAT,
            "idempotencyKey": payload["idempotencyKey"],
        }
        assert request.expected.reply_by is not None
        assert request.expected.reply_by.timestamp() - request.ts.timestamp() == 2 * BEAT

    live(tmp_path, story)


async def silence(scheduler: SchedulerLife, effect: EffectClass) -> tuple[FarAgent, FarAgent, str]:
    """An agent took a request and never says a word about it, though it lives; another one could."""
    first = scheduler.agent("eins")
    job = await scheduler.submit(effect)
    await first.next("request")
    other = scheduler.agent("zwei")

    async def live_on() -> None:
        while True:
            await asyncio.sleep(BEAT)
            other.beat(*[message for message in other.got if message.type == "request"])
            scheduler.presence.sign(first.view)

    scheduler.group.create_task(_until_end(scheduler, job, live_on))
    return first, other, job


async def _until_end(scheduler: SchedulerLife, job: str, work: object) -> None:
    task = asyncio.ensure_future(work())  # type: ignore[operator]
    await scheduler.engine.wait(TENANT, job, 200)
    task.cancel()


def test_who_says_nothing_in_time_has_refused_what_can_be_done_twice(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first, other, job = await silence(scheduler, IDEMPOTENT)
        await other.next("request")
        assert 2 * BEAT <= asyncio.get_running_loop().time() <= 2 * BEAT + 6
        assert types(first) == ["request", "cancel"]
        await other.say("done", other.got[0])
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        assert (busy(first), busy(other)) == (0, 0)

    live(tmp_path, story)


def test_who_says_nothing_in_time_may_have_begun_what_must_not_be_done_twice(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first, other, job = await silence(scheduler, UNSAFE)
        await asyncio.sleep(14)
        assert types(first) == ["request", "cancel"], "it is told to stop, and its lease goes on"
        assert (await scheduler.task(job)).status is TaskStatus.ASSIGNED
        await asyncio.sleep(10)
        assert (await scheduler.task(job)).status is TaskStatus.IN_DOUBT
        assert other.got == []
        await scheduler.engine.cancel(TENANT, job, by="anna")

    live(tmp_path, story)


async def stand_still(seconds: float) -> None:
    """The scheduler does; what came in meanwhile is read a few turns after it goes on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.stand_still(seconds)
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seconds", [5.5, 14, 60])
def test_who_answers_while_the_scheduler_stands_still_has_answered_in_time(
    tmp_path: Path, seconds: float
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        await scheduler.submit()
        request = await agent.next("request")
        await asyncio.sleep(2 * BEAT - 1)
        await stand_still(seconds)
        assert (await agent.say("agree", request)).effect == "task_started"
        assert types(agent) == ["request"]

    live(tmp_path, story)


def test_what_a_beat_names_needs_no_agreement(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit()
        request = await agent.next("request")
        for _ in range(8):
            await asyncio.sleep(BEAT)
            assert agent.beat(request) == ()
        assert (await scheduler.task(job)).epoch == 1
        assert types(agent) == ["request"]

    live(tmp_path, story)


@pytest.mark.parametrize("effect", [IDEMPOTENT, UNSAFE])
def test_what_never_left_goes_to_another(tmp_path: Path, effect: EffectClass) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first = scheduler.agent("eins")
        first.disconnect()
        job = await scheduler.submit(effect)
        await asyncio.sleep(1)
        other = scheduler.agent("zwei")
        scheduler.presence.beat(first.view, Beat(status=AgentStatus.BUSY))
        request = await other.next("request")
        assert request.correlation.epoch == 2
        first.connect()
        await asyncio.sleep(1)
        assert first.got == [], "what is over is not handed over any more"
        await other.say("done", request)
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE

    live(tmp_path, story)


def test_what_never_left_is_not_in_doubt_when_its_agent_falls_silent(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        agent.disconnect()
        await asyncio.sleep(3 * BEAT - 1)
        job = await scheduler.submit(UNSAFE)
        await asyncio.sleep(3)
        assert not agent.view.online
        assert (await scheduler.task(job)).status in (TaskStatus.READY, TaskStatus.HELD)
        assert busy(agent) == 0

    live(tmp_path, story)


def test_a_job_cancelled_before_its_agent_had_it_ends_at_once(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        agent.disconnect()
        job = await scheduler.submit(UNSAFE)
        await asyncio.sleep(1)
        await scheduler.engine.cancel(TENANT, job, by="anna")
        assert (await scheduler.engine.wait(TENANT, job, 1)).status is JobStatus.CANCELLED
        assert busy(agent) == 0
        agent.connect()
        await asyncio.sleep(1)
        assert types(agent) in ([], ["inform"])

    live(tmp_path, story)


def test_a_cancelled_attempt_is_told_to_stop_and_answers(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(UNSAFE)
        request = await agent.next("request")
        await agent.say("agree", request)
        await scheduler.engine.cancel(TENANT, job, by="anna")
        cancel = await agent.next("cancel")
        assert cancel.correlation.conversation_id == request.correlation.conversation_id
        assert busy(agent) == 1
        failure = {"class": "environment", "error": "cancelled", "message": "gestoppt"}
        await agent.say("failure", request, failure)
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.CANCELLED
        assert busy(agent) == 0
        ended = await agent.next("inform")
        assert (ended.to_dict()["payload"], ended.correlation.job_id) == ({"message": "job_ended"}, job)

    live(tmp_path, story)


def test_everything_open_is_said_again_to_who_comes_back_with_another_stream(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        await scheduler.submit(tasks=2)
        await agent.next("request")
        await asyncio.sleep(1)
        first = [message.id for message in agent.got]
        assert len(first) == 2
        await agent.say("done", agent.got[0])
        agent.disconnect()
        agent.connect()
        await asyncio.sleep(1)
        assert [message.id for message in agent.got[2:]] == first[1:]

    live(tmp_path, story)


def test_a_new_process_of_an_agent_is_asked_to_look_where_the_old_one_was(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        await scheduler.submit(VERIFIABLE)
        await agent.say("done", await agent.next("request"))
        look = await agent.next("request", after=1)
        agent.disconnect()
        scheduler.requests.moved(agent.record)
        agent.connect()
        again = await agent.next("request", after=2)
        assert again.id == look.id

    live(tmp_path, story)


@pytest.mark.parametrize(
    ("effect", "certain", "agreed", "refused"),
    [
        (IDEMPOTENT, False, False, True),
        (IDEMPOTENT, True, False, True),
        (UNSAFE, True, False, True),
        (UNSAFE, False, False, False),
        (VERIFIABLE, False, False, False),
        (IDEMPOTENT, True, True, False),
    ],
)
def test_a_message_that_is_not_taken_is_a_refusal_only_if_nothing_can_have_begun(
    tmp_path: Path, effect: EffectClass, certain: bool, agreed: bool, refused: bool
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(effect)
        request = await agent.next("request")
        if agreed:
            await agent.say("agree", request)
        scheduler.requests.refused(agent.record, request, Conflict("voll"), certain=certain)
        await asyncio.sleep(0.1)
        status = (await scheduler.task(job)).status
        assert (status is TaskStatus.HELD) is refused
        assert busy(agent) == (0 if refused else 1)

    live(tmp_path, story)


def test_a_look_that_is_not_taken_proves_nothing(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await agent.say("done", await agent.next("request"))
        look = await agent.next("request", after=1)
        scheduler.requests.refused(agent.record, look, Conflict("voll"), certain=True)
        assert scheduler.requests.standing(agent.record) == [], "it is not asked for again on a new channel"
        await agent.next("request", after=2)
        assert (await scheduler.task(job)).status is TaskStatus.IN_DOUBT

    live(tmp_path, story)


def test_when_who_looks_is_gone_another_one_is_asked(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await first.say("done", await first.next("request"))
        await first.next("request", after=1)
        other = scheduler.agent("zwei")

        async def live_on() -> None:
            while True:
                await asyncio.sleep(BEAT)
                other.beat()

        beats = scheduler.group.create_task(live_on())
        look = await other.next("request")
        assert (look.payload.model_extra or {})["verify"] is True
        assert asyncio.get_running_loop().time() < 50
        found = {"what": "effect", "verdict": "happened"}
        assert (await other.say("confirm", look, found)).effect == "task_verified"
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        beats.cancel()

    live(tmp_path, story)


def test_when_who_looks_is_removed_the_look_is_over_whoever_has_its_address_next(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        first = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await first.say("done", await first.next("request"))
        look = await first.next("request", after=1)
        scheduler.registry.unregister(first.address, TENANT)
        scheduler.requests.gone(first.record)
        first.disconnect()
        next_one = scheduler.agent("eins")
        again = await next_one.next("request")
        assert asyncio.get_running_loop().time() < 3 * BEAT, "it is not waited for a lease"
        assert again.id != look.id
        found = {"what": "effect", "verdict": "happened"}
        assert (await next_one.say("confirm", again, found)).effect == "task_verified"
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE

    live(tmp_path, story)


async def beating(*agents: FarAgent) -> None:
    while True:
        for agent in agents:
            agent.beat()
        await asyncio.sleep(BEAT)


def test_who_is_asked_to_look_and_says_nothing_is_not_the_first_to_be_asked_again(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        mute = scheduler.agent("eins")
        jobs = [await scheduler.submit(VERIFIABLE), await scheduler.submit(VERIFIABLE)]
        found = {"what": "effect", "verdict": "happened"}
        for number in range(2):
            await mute.say("done", await mute.next("request", after=number))
        other = scheduler.agent("zwei")
        beats = scheduler.group.create_task(beating(mute, other))
        asked = [await mute.next("request", after=number) for number in (2, 3)]
        await asyncio.sleep(60 + 2 * BEAT)
        assert other.got == [], "an agent may look for as long as the task may take"
        looks = [await other.next("request", after=number) for number in range(2)]
        assert asyncio.get_running_loop().time() < 60 + 8 * BEAT
        assert {look.correlation.job_id for look in looks} == set(jobs)
        assert mute.view.mute
        assert (await mute.say("confirm", asked[0], found)).effect == "not_asked"
        for look in looks:
            assert (await other.say("confirm", look, found)).effect == "task_verified"
        beats.cancel()

    live(tmp_path, story)


@pytest.mark.parametrize("seconds", [5.5, 14])
def test_who_tells_what_it_found_while_the_scheduler_stands_still_is_heard(
    tmp_path: Path, seconds: float
) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await agent.say("done", await agent.next("request"))
        beats = scheduler.group.create_task(beating(agent))
        look = await agent.next("request", after=1)
        await asyncio.sleep(60 + 3 * BEAT - 1)
        await stand_still(seconds)
        found = {"what": "effect", "verdict": "happened"}
        assert (await agent.say("confirm", look, found)).effect == "task_verified"
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        assert not agent.view.mute
        beats.cancel()

    live(tmp_path, story)


def test_who_alone_can_look_is_asked_again_and_is_heard(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await agent.say("done", await agent.next("request"))
        beats = scheduler.group.create_task(beating(agent))
        await agent.next("request", after=1)
        await asyncio.sleep(60 + 2 * BEAT)
        again = await agent.next("request", after=2)
        found = {"what": "effect", "verdict": "happened"}
        assert (await agent.say("confirm", again, found)).effect == "task_verified"
        assert not agent.view.mute
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        beats.cancel()

    live(tmp_path, story)


def test_who_looks_for_long_is_waited_for(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(VERIFIABLE)
        await agent.say("done", await agent.next("request"))
        look = await agent.next("request", after=1)
        for _ in range(12):
            await asyncio.sleep(BEAT)
            agent.beat()
        assert [message.id for message in agent.got[1:]] == [look.id]
        assert (await scheduler.task(job)).status is TaskStatus.IN_DOUBT

    live(tmp_path, story)


def test_a_task_that_fits_into_no_message_fails_and_says_so(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        job = await scheduler.submit(arguments={"n": "x" * 1_100_000})
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.FAILED
        error = (await scheduler.task(job)).error
        assert error is not None
        assert error.code == "request_too_large"
        assert "request" not in types(agent)
        assert busy(agent) == 0

    live(tmp_path, story)


def test_trouble_on_the_way_is_kept_for_people(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins")
        assert agent.view.trouble == ""
        agent.disconnect()
        assert agent.view.trouble == "its channel is closed"
        agent.connect()
        assert agent.view.trouble == ""
        scheduler.requests.troubled(agent.record, str(Unavailable("weg")))
        assert "weg" in agent.view.trouble

    live(tmp_path, story)


def test_a_scheduler_that_comes_back_asks_again_for_the_same(tmp_path: Path) -> None:
    async def whole() -> None:
        first: list[BaseMessage] = []
        job = ""
        async with life(tmp_path) as scheduler:
            agent = scheduler.agent("eins")
            job = await scheduler.submit(UNSAFE)
            first.append(await agent.next("request"))
            await agent.say("agree", first[0])

        found: list[FarAgent] = []
        async with life(tmp_path, lambda running: found.append(running.agent("eins"))) as scheduler:
            again = await found[0].next("request")
            assert again.id == first[0].id
            await asyncio.sleep(3)
            found[0].beat(again)
            await asyncio.sleep(12)
            assert (await scheduler.task(job)).epoch == 1, "silence after a restart tells nothing"
            told = await found[0].say("done", again, {"result": {"n": 3}})
            assert told.effect == "task_succeeded"
            assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
            assert busy(found[0]) == 0

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_an_agent_that_listens_and_is_out_is_told_to_stop_what_it_may_be_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what never left, nor a look, nor one whose channel was closed."""
    last: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        ChannelDelivery,
        "forget",
        lambda _, agent, words=(): last.append((agent.endpoint, [each.correlation.job_id for each in words])),
    )

    async def story(scheduler: SchedulerLife) -> None:
        agent = scheduler.agent("eins", slots=3)
        job = await scheduler.submit()
        await agent.say("agree", await agent.next("request"))
        agent.disconnect()
        await scheduler.submit()
        look = ActionRequest(tenant=TENANT, job="gesehen", task="t0", action="x.a.b")
        scheduler.requests.verify(agent.address, Attempt(TENANT, "gesehen", 0, 1), look)
        assert len(scheduler.requests.standing(agent.record)) == 3
        scheduler.requests.gone(agent.record)
        scheduler.requests.gone(replace(agent.record, endpoint="http://agent.example"))
        await asyncio.sleep(1)
        assert last == [("", []), ("http://agent.example", [job])]
        assert [each.type for each in await scheduler.logged(job)].count("cancel") == 1
        await scheduler.engine.cancel(TENANT, job, by="anna")

    live(tmp_path, story)
