"""Contract nets: who is asked, whose bid counts, and what follows when nobody bids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.orchestrator.fleet import TENANT
from tests.orchestrator.scheduler import FarAgent, SchedulerLife, live

from cpa.core.job import JobStatus, TaskStatus
from cpa.core.lam_protocol import BaseMessage
from cpa.orchestrator.wording import message_id
from cpa.ports.transport import Attempt


async def called(
    scheduler: SchedulerLife, *names: str, **more: Any
) -> tuple[str, list[FarAgent], list[BaseMessage]]:
    """A task that asks for bids for two seconds, agents that were asked, and how."""
    agents = [scheduler.agent(name) for name in names]
    job = await scheduler.submit(bids=2_000, **more)
    return job, agents, [await agent.next("discover") for agent in agents]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_best_bid_gets_the_task(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two, three), (first, second, third) = await called(scheduler, "eins", "zwei", "drei")
        assert first.to_dict()["payload"] == {"action": "x.a.b", "arguments": {"n": 1}, "constraints": {}}
        assert first.id == message_id(Attempt(TENANT, job, 0, 1), "discover", one.address)
        assert first.expected.reply_by is not None
        assert (await scheduler.task(job)).status is TaskStatus.READY
        assert (await one.say("offer", first, {"cost": 3.0})).effect == "bid_counted"
        assert (await two.say("offer", second, {"cost": 1.0, "eta": 5.0})).effect == "bid_counted"
        assert (await three.say("refuse", third, {"class": "environment"})).effect == "noted"
        assert now() < 1, "nobody waits when all have answered"
        assign = await two.next("assign")
        assert assign.to_dict()["payload"]["task"]["action"] == "x.a.b"
        assert assign.id == message_id(Attempt(TENANT, job, 0, 1), "assign")
        assert (one.view.busy, two.view.busy) == (0, 1)
        assert (await two.say("done", assign, {"result": {"n": 1}})).effect == "task_succeeded"
        assert (await scheduler.engine.wait(TENANT, job, 10)).status is JobStatus.DONE
        assert [message.type for message in one.got] == ["discover"]
        assert two.view.busy == 0

    live(tmp_path, story)


def test_bids_are_waited_for_as_long_as_the_task_says_and_later_ones_do_not_count(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        await one.say("offer", first, {"cost": 3.0})
        await asyncio.sleep(1.9)
        assert (await scheduler.task(job)).status is TaskStatus.READY
        await one.next("assign")
        assert 2 <= now() < 2.5
        told = await two.say("offer", second, {"cost": 0.0})
        assert (told.new, told.effect) == (True, "bid_late")

    live(tmp_path, story)


def test_without_a_bid_the_choice_is_the_usual_one(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        await one.say("refuse", first, {"class": "environment"})
        await two.say("not_understood", second, {"what": "discover"})
        assign = await one.next("assign")
        assert assign.correlation.job_id == job

    live(tmp_path, story)


def test_a_winner_without_room_leaves_the_task_to_the_next(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        await one.say("offer", first, {"cost": 1.0})
        one.view.slots = 0
        await two.say("offer", second, {"cost": 2.0})
        assert (await two.next("assign")).correlation.job_id == job

    live(tmp_path, story)


def test_a_bid_counts_once_and_only_of_who_was_asked(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        stranger = scheduler.agent("drei")
        assert (await stranger.say("offer", second, {"cost": 0.0})).effect == "not_asked"
        assert (await one.say("offer", first, {"cost": 2.0})).effect == "bid_counted"
        assert (await one.say("offer", first, {"cost": 0.0})).effect == "bid_late", "the first word counts"
        await two.say("offer", second, {"cost": 1.0})
        assert (await two.next("assign")).correlation.job_id == job

    live(tmp_path, story)


def test_an_answer_to_a_call_is_a_bid_whatever_else_it_names(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        told = await one.say("offer", first, {"cost": 2.0, "capabilities": ["x.more"]})
        assert (told.effect, scheduler.offers.said) == ("bid_counted", [])
        await two.say("offer", second, {"capabilities": ["x.a.b"]})
        assert (await two.next("assign")).correlation.job_id == job, "it asks for nothing"
        # What answers no call says anew what the agent can do, wherever it points.
        told = await one.say("offer", second, {"cost": 2.0, "capabilities": ["x.more"]})
        assert (told.effect, scheduler.offers.said) == (
            "capabilities_noted",
            [(one.address, ("x.more",))],
        )

    live(tmp_path, story)


def test_a_cancelled_job_takes_no_bids(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job, (one,), (first,) = await called(scheduler, "eins")
        await scheduler.engine.cancel(TENANT, job, by="anna")
        assert (await scheduler.engine.wait(TENANT, job, 1)).status is JobStatus.CANCELLED
        assert (await one.say("offer", first, {"cost": 1.0})).effect == "bid_late"
        broken: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, why: broken.append(why))
        await asyncio.sleep(5)
        assert broken == [], "nothing is closed that nobody waits for"
        assert one.view.busy == 0
        assert "assign" not in [message.type for message in one.got]

    live(tmp_path, story)


def test_who_refuses_after_all_is_followed_by_the_usual_choice(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        _, (one, two), (first, second) = await called(scheduler, "eins", "zwei")
        await one.say("offer", first, {"cost": 1.0})
        await two.say("offer", second, {"cost": 2.0})
        assign = await one.next("assign")
        await one.say("refuse", assign, {"class": "environment", "reason": "doch nicht"})
        again = await two.next("discover", after=1)
        assert again.correlation.epoch == 2
        assert (await two.say("offer", again, {"cost": 2.0})).effect == "bid_counted"

    live(tmp_path, story)


def test_where_nobody_can_be_asked_nothing_is_waited_for(tmp_path: Path) -> None:
    async def story(scheduler: SchedulerLife) -> None:
        job = await scheduler.submit(bids=2_000)
        await asyncio.sleep(1)
        assert (await scheduler.task(job)).status is TaskStatus.HELD

    live(tmp_path, story)
