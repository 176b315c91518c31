"""Agents outside the scheduler: who falls silent is noticed in time, and nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cpa.core.commands import RequestTask
from cpa.core.events import AgentChosen, DispatchDeferred, LeaseLost, TaskSucceeded, TimerFired
from cpa.core.job import JobStatus, TaskStatus
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Unavailable
from cpa.orchestrator.agent_registry import Applicant
from cpa.ports.agents import Named
from cpa.ports.steps import StepBatch
from cpa.repository.steps import SqlSteps
from tests.engines.fleet import BEAT, LEASE, TENANT, Fleet, Worker, job, live


def now() -> float:
    return asyncio.get_running_loop().time()


async def events(engine: LocalEngine, name: str) -> list[object]:
    return [stored.event for stored in await engine.events(TENANT, name)]


def busy(fleet: Fleet, worker: Worker) -> int:
    agent = fleet.registry.get(worker.record.address, TENANT)
    assert agent is not None
    return agent.busy


def test_work_goes_out_and_comes_back_and_slots_with_it(tmp_path: Path) -> None:
    worker = Worker("eins", slots=3)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(20))).job
            await asyncio.sleep(0.5)
            assert (busy(fleet, worker), fleet.registry.waiting) == (3, 17)
            assert (await engine.wait(TENANT, name, 60)).status is JobStatus.DONE
            assert (busy(fleet, worker), fleet.registry.waiting) == (0, 0)
            assert now() < BEAT + 8
            assert worker.cancelled == []

    live(story, worker)


def test_what_a_dead_agent_had_goes_to_another_within_a_lease_and_two_seconds(tmp_path: Path) -> None:
    first, second = Worker("eins", seconds=300), Worker("zwei", seconds=1, alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(2))).job
            await asyncio.sleep(7)
            assert len(first.running) == 2
            second.alive = True
            await asyncio.sleep(BEAT)
            died, first.alive = now(), False
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            assert len(second.got) == 2
            assert all(when - died <= LEASE + 2 for when, _ in second.got)
            lost = [event for event in await events(engine, name) if isinstance(event, LeaseLost)]
            assert [event.epoch for event in lost] == [1, 1]
            assert busy(fleet, first) == 0

            first.alive = True
            await asyncio.sleep(2 * BEAT)
            assert {named.epoch for named in first.told_lost} == {1}
            assert {named.job for named in first.told_lost} == {name}

    live(story, first, second)


def test_a_zombie_s_answer_changes_nothing(tmp_path: Path) -> None:
    zombie, other = Worker("eins", deaf=True), Worker("zwei", seconds=60, alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job())).job
            await asyncio.sleep(1)
            other.alive, zombie.alive = True, False
            await asyncio.sleep(LEASE + 5)
            [attempt] = zombie.running
            zombie.alive = True
            assert await fleet.answer(zombie, attempt) == "stale_epoch"
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            task = (await engine.query(TENANT, name)).tasks[0]
            assert (task.result, task.epoch) == ({"by": "zwei"}, 2)
            assert busy(fleet, zombie) == 0

    live(story, zombie, other)


def test_an_agent_that_lives_and_forgot_the_attempt_loses_it_with_its_next_beat(tmp_path: Path) -> None:
    worker = Worker("eins", seconds=30)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job())).job
            await asyncio.sleep(BEAT + 1)
            [(attempt, (_, work))] = worker.running.items()
            assert work is not None
            work.cancel()
            del worker.running[attempt]
            await asyncio.sleep(BEAT + 3)
            assert [each.epoch for _, each in worker.got] == [1, 2]
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE

    live(story, worker)


def test_a_slow_agent_that_beats_is_never_given_up(tmp_path: Path) -> None:
    worker = Worker("eins", seconds=3_000)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(timeout=4_000_000))).job
            assert (await engine.wait(TENANT, name, 3_100)).status is JobStatus.DONE
            assert len(worker.got) == 1

    live(story, worker)


def test_an_attempt_whose_time_is_up_is_cancelled_at_its_agent_and_its_slot_is_free(tmp_path: Path) -> None:
    worker = Worker("eins", deaf=True, slots=1)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            await engine.submit(job(timeout=20_000))
            await asyncio.sleep(34)
            assert (busy(fleet, worker), worker.cancelled) == (1, [])
            await asyncio.sleep(1.5)
            assert busy(fleet, worker) == 0
            [attempt] = worker.cancelled
            assert attempt.epoch == 1

    live(story, worker)


def test_a_cancelled_attempt_keeps_its_slot_until_it_has_stopped(tmp_path: Path) -> None:
    worker = Worker("eins", seconds=4, slots=1)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job())).job
            await asyncio.sleep(1)
            await engine.cancel(TENANT, name, by="anna")
            await asyncio.sleep(1)
            assert busy(fleet, worker) == 1
            assert [attempt.epoch for attempt in worker.cancelled] == [1]
            await asyncio.sleep(3)
            assert busy(fleet, worker) == 0
            assert len(worker.cancelled) == 1

    live(story, worker)


def test_after_a_restart_the_agent_keeps_what_it_names(tmp_path: Path) -> None:
    worker = Worker("eins", seconds=40)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(2))).job
            await asyncio.sleep(3)
        await asyncio.sleep(7)
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(1)
            assert busy(fleet, worker) == 2
            assert sum(worker.early.values()) == 2, "what is open is handed out again"
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            assert len(worker.got) == 2
            assert worker.told_lost == []
            assert busy(fleet, worker) == 0

    live(story, worker)


def test_after_a_restart_what_nobody_names_is_lost_after_one_lease(tmp_path: Path) -> None:
    first, second = Worker("eins", deaf=True), Worker("zwei", alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(timeout=300_000))).job
            await asyncio.sleep(3)
        first.alive, second.alive = False, True
        await asyncio.sleep(100)
        async with fleet.scheduler(tmp_path) as engine:
            began = now()
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            [(when, attempt)] = second.got
            assert attempt.epoch == 2
            assert LEASE <= when - began <= LEASE + 2

    live(story, first, second)


def test_an_attempt_of_an_agent_that_is_no_more_is_lost_at_the_start(tmp_path: Path) -> None:
    first = Worker("eins", deaf=True)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job())).job
            await asyncio.sleep(3)
        del fleet.workers[first.record.address]
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(1)
            snapshot = await engine.query(TENANT, name)
            assert snapshot.tasks[0].status is TaskStatus.HELD
            assert snapshot.tasks[0].reason == "no_agent"
            assert not any(isinstance(command, RequestTask) for command in snapshot.commands)

    live(story, first)


def test_a_task_waits_for_its_agent_and_goes_to_it_when_it_comes(tmp_path: Path) -> None:
    late = Worker("eins", alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            name = (await engine.submit(job())).job
            await asyncio.sleep(1)
            assert (await engine.query(TENANT, name)).tasks[0].reason == "agents_offline"
            late.alive = True
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            [(when, _)] = late.got
            assert when <= BEAT + 5
            [waited] = [each for each in await events(engine, name) if isinstance(each, DispatchDeferred)]
            assert 0 < waited.after <= 5_000

    live(story, late)


def test_who_waits_long_for_an_agent_waits_without_a_word_and_is_served_at_once(tmp_path: Path) -> None:
    late = Worker("eins", alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            name = (await engine.submit(job())).job
            await asyncio.sleep(10)
            written = len(await events(engine, name))
            await asyncio.sleep(60 * 3600)
            assert len(await events(engine, name)) == written == 3
            assert fleet.registry.why(Applicant(TENANT, name, 0, 2, "x.a.b")) == "agents_offline"
            late.alive = True
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            [(when, _)] = late.got
            assert when % BEAT == 0, "with the very beat that made it known"

    live(story, late)


def test_after_a_restart_who_waited_waits_on(tmp_path: Path) -> None:
    late = Worker("eins", alive=False)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            name = (await engine.submit(job())).job
            await asyncio.sleep(100)
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(100)
            late.alive = True
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            assert fleet.registry.waiting == 0

    live(story, late)


def test_a_cancelled_job_does_not_keep_its_place(tmp_path: Path) -> None:
    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            names = [(await engine.submit(job())).job for _ in range(3)]
            await asyncio.sleep(10)
            assert fleet.registry.waiting == 3
            await engine.cancel(TENANT, names[1], by="anna")
            assert (await engine.wait(TENANT, names[1], 10)).status is JobStatus.CANCELLED
            assert fleet.registry.waiting == 2

    live(story, Worker("eins", alive=False))


def test_a_line_whose_agents_fall_silent_is_told_and_served_when_one_returns(tmp_path: Path) -> None:
    worker = Worker("eins", deaf=True, slots=1)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job(3))).job
            await asyncio.sleep(1)
            assert fleet.registry.waiting == 2
            worker.alive = False
            await asyncio.sleep(LEASE + 1)
            assert fleet.registry.waiting == 0
            reasons = {task.reason for task in (await engine.query(TENANT, name)).tasks}
            assert reasons == {"agents_offline"}
            worker.alive, worker.deaf = True, False
            worker.running.clear()
            assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE

    live(story, worker)


def test_two_answers_to_one_attempt_give_its_slot_back_once(tmp_path: Path) -> None:
    worker = Worker("eins", deaf=True, slots=2)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            names = [(await engine.submit(job())).job for _ in range(2)]
            await asyncio.sleep(1)
            attempt = next(each for each in worker.running if each.job == names[0])
            assert await fleet.answer(worker, attempt) == ""
            twice = TaskSucceeded(time=0, task=0, epoch=1)
            assert not (await engine.send(TENANT, names[0], twice)).changed
            assert busy(fleet, worker) == 1
            agent = fleet.registry.get(worker.record.address, TENANT)
            assert agent is not None
            assert [each.job for _, each, _ in fleet.orchestrator.presence.running(agent)] == [names[1]]  # type: ignore[union-attr]

    live(story, worker)


def test_a_slot_is_given_on_once_the_end_of_its_attempt_is_stored(tmp_path: Path) -> None:
    worker = Worker("eins", slots=1, deaf=True)

    class Full(SqlSteps):
        full = 2
        """So often there is no room for the end of an attempt."""

        def commit(self, batch: StepBatch) -> None:
            events = [event for rows in batch.jobs.values() for event, _ in rows.events]
            if self.full and any(isinstance(event, LeaseLost) for event in events):
                assert not any(isinstance(event, AgentChosen) for event in events)
                Full.full -= 1
                raise Unavailable("the disk is full", remedy="free some space")
            super().commit(batch)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path, Full) as engine:
            await asyncio.sleep(BEAT)
            names = [(await engine.submit(job())).job for _ in range(2)]
            await asyncio.sleep(2 * BEAT)
            worker.running.clear()
            worker.deaf = False
            while Full.full:
                assert busy(fleet, worker) == 1
                await asyncio.sleep(0.1)
            for name in names:
                assert (await engine.wait(TENANT, name, 100)).status is JobStatus.DONE
            assert (busy(fleet, worker), fleet.registry.waiting) == (0, 0)

    live(story, worker)


def test_the_history_of_a_lost_lease_says_what_happened(tmp_path: Path) -> None:
    worker = Worker("eins", deaf=True)

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            name = (await engine.submit(job())).job
            await asyncio.sleep(1)
            agent = fleet.registry.get(worker.record.address, TENANT)
            assert agent is not None
            assert fleet.orchestrator is not None
            fleet.orchestrator.presence.leave(agent, "its agent was restarted")
            await asyncio.sleep(1)
            told = [type(each) for each in await events(engine, name)]
            assert told[1:4] == [AgentChosen, LeaseLost, TimerFired]
            task = (await engine.query(TENANT, name)).tasks[0]
            assert task.error is not None
            assert (task.error.code, task.error.message) == ("lease_lost", "its agent was restarted")
            assert worker.cancelled[0].job == name
            assert Named(name, "t0", 1) not in worker.told_lost

    live(story, worker)
