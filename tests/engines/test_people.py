"""Questions, their time, and runs taken up by hand, on the real store and over restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cpa.core.commands import AskPerson
from cpa.core.events import JobDiscarded, JobReopened, QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, RetryPolicy, Snapshot, TaskSpec, TaskStatus
from cpa.engines.local.engine import LocalEngine
from cpa.errors import Conflict
from cpa.ports.engine import Outcome, Submission
from tests.engines.world import life

TENANT = "default"
FORM = {"x": {"type": "number"}}
ASK = TaskSpec(
    id="ask", action="person.ask", arguments={"question": "Wie viel?", "form": FORM}, timeout=600_000
)
USE = TaskSpec(
    id="use",
    action="flow.noop",
    arguments={"value": "{{ tasks.ask.result.x }}"},
    needs=(0,),
    references=(0,),
    approval=True,
    approvals=2,
)
BROKEN = TaskSpec(
    id="broken",
    action="flow.noop",
    arguments={"value": "{{ tasks.first.result.nothing }}"},
    needs=(0,),
    references=(0,),
    retry=RetryPolicy(max_attempts=1),
)
FAILS = JobSpec(
    (
        TaskSpec(id="first", action="flow.noop", arguments={"value": 1}),
        BROKEN,
        TaskSpec(id="last", action="flow.noop", needs=(1,)),
    ),
    max_retries=0,
)


async def submitted(engine: LocalEngine, spec: JobSpec) -> str:
    return (await engine.submit(Submission(tenant=TENANT, spec=spec))).job


async def answered(engine: LocalEngine, job: str, by: str, **more: Any) -> Outcome:
    """The answer to the only open question."""
    snapshot = await engine.query(TENANT, job)
    [asked] = (command for command in snapshot.commands if isinstance(command, AskPerson))
    place = {"time": 0, "task": asked.task, "epoch": asked.epoch, "digest": asked.digest}
    return await engine.send(TENANT, job, QuestionAnswered(**place, yes=True, by=by, **more))


async def ended(engine: LocalEngine, job: str) -> Snapshot:
    await engine.wait(TENANT, job, 10)
    return await engine.query(TENANT, job)


async def test_what_people_say_survives_every_restart(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, JobSpec((ASK, USE), requester="jörg"))
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await answered(engine, job, "anna", answer={"x": 7})).changed
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await answered(engine, job, "jörg")).reason == "own_request"
        assert (await answered(engine, job, "anna")).changed
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await answered(engine, job, "anna")).reason == "duplicate"
        assert (await answered(engine, job, "uwe")).changed
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert [run.result for run in done.tasks] == [{"x": 7}, {"value": 7}]
    assert done.tasks[1].approvals == ("anna", "uwe")


async def test_another_action_than_was_allowed_keeps_no_agent_busy(tmp_path: Path) -> None:
    spec = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1)
    async with life(tmp_path, Counter(), slots=1) as (engine, _, agents):
        job = await submitted(engine, JobSpec((spec,)))
        state = await engine.jobs.load(TENANT, job)
        state.tasks[0] = replace(state.tasks[0], digest="00")
        state.open["ask:0:0"] = replace(state.open["ask:0:0"], digest="00")
        assert (await answered(engine, job, "anna")).changed

        [agent] = agents.list(TENANT)
        assert (agent.busy, list(state.open)) == (0, ["ask:0:1"])
        assert (await answered(engine, job, "uwe")).changed
        assert (await ended(engine, job)).tasks[0].approvals == ("uwe",)


async def test_a_question_expires_also_while_nobody_runs(tmp_path: Path) -> None:
    spec = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=1)
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, JobSpec((spec,)))
    async with life(tmp_path, Counter()) as (engine, _, _):
        failed = await ended(engine, job)

    assert failed.tasks[0].error is not None
    assert failed.tasks[0].error.code == "approval_expired"


async def test_a_failed_job_is_taken_up_by_hand(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, FAILS)
        assert (await ended(engine, job)).dead
        fixed = JobReopened(
            time=0, by="anna", dead_letter=True, fixes={"1": {"value": "{{ tasks.first.result.value }}!"}}
        )
        await engine.reopen(TENANT, job, fixed)
        done = await ended(engine, job)

    assert done.head.status is JobStatus.DONE
    assert done.tasks[1].result == {"value": "1!"}


async def test_done_tasks_are_done_again_after_a_restart_too(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, FAILS)
        await ended(engine, job)
    async with life(tmp_path, Counter()) as (engine, _, _):
        again = JobReopened(
            time=0, by="anna", dead_letter=True, restart=(0,), done={"1": {"value": 2}}, skip=(2,)
        )
        await engine.reopen(TENANT, job, again)
    async with life(tmp_path, Counter()) as (engine, _, _):
        done = await ended(engine, job)

    assert [run.status for run in done.tasks] == [TaskStatus.DONE, TaskStatus.DONE, TaskStatus.SKIPPED]
    assert [run.epoch for run in done.tasks] == [2, 1, 0]


async def test_a_discarded_job_leaves_the_dead_letters_once(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, FAILS)
        await ended(engine, job)
        discard = [JobDiscarded(time=0, by="anna", note="erledigt") for _ in range(2)]

        outcomes = [await engine.send(TENANT, job, event) for event in discard]

        assert [outcome.reason for outcome in outcomes] == ["", "duplicate"]
        with pytest.raises(Conflict, match="was discarded"):
            await engine.retry(TENANT, job, by="anna")
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert not (await engine.query(TENANT, job)).dead
        await engine.reopen(TENANT, job, JobReopened(time=0, by="anna", dead_letter=True, skip=(1, 2)))
        assert (await ended(engine, job)).head.status is JobStatus.DONE


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"skip": (3,)}, "no such task"),
        ({"skip": (1,), "done": {"1": {}}}, "two things"),
        ({"skip": (0,)}, "stays done"),
    ],
)
async def test_a_run_that_cannot_be_opened_so_is_refused(tmp_path: Path, more: Any, said: str) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, FAILS)
        await ended(engine, job)

        with pytest.raises(Conflict, match=said):
            await engine.reopen(TENANT, job, JobReopened(time=0, by="anna", dead_letter=True, **more))


@pytest.mark.parametrize("refused", ["discarded twice", "run again", "went on"])
async def test_a_refused_change_of_an_ended_job_leaves_it_at_rest(tmp_path: Path, refused: str) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = await submitted(engine, FAILS)
        await ended(engine, job)

        if refused == "discarded twice":
            for _ in range(2):
                await engine.send(TENANT, job, JobDiscarded(time=0, by="anna", note="erledigt"))
        else:
            run = 7 if refused == "went on" else None
            with pytest.raises(Conflict):
                await engine.reopen(TENANT, job, JobReopened(time=0, by="anna"), run=run)

        assert engine.loaded == 0
        async with asyncio.timeout(5):
            assert (await engine.wait(TENANT, job, 60)).status is JobStatus.FAILED


async def test_a_refused_run_does_not_keep_what_is_erased_later(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        job = await submitted(engine, FAILS)
        await ended(engine, job)
        with pytest.raises(Conflict, match="is a dead letter"):
            await engine.retry(TENANT, job, by="anna")
        await steps.kept.erase(TENANT, job)

        with pytest.raises(Conflict, match="was erased"):
            await engine.reopen(TENANT, job, JobReopened(time=0, by="anna", dead_letter=True))
