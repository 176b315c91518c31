"""Jobs move between the engines with all they wait for, and a move that breaks anywhere is gone on with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cpa.bootstrap.system import SystemClock
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import CancelAttempt, RequestTask, StartTimer, VerifyTask
from cpa.core.events import TaskFailed, TaskSucceeded
from cpa.core.job import JobSpec, JobStatus, RetryPolicy, Snapshot, TaskSpec
from cpa.engines import moving
from cpa.engines.moving import check_holders
from cpa.engines.temporal import workflow
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.keyring import KeyRing
from cpa.engines.temporal.moving import TemporalSide
from cpa.errors import BadInput
from cpa.ports.engine import Engine
from cpa.ports.moving import LOCAL, LOST_START, TEMPORAL, Holder
from cpa.ports.nonces import Nonce, Replayed
from cpa.ports.steps import StoredJob
from cpa.repository.database import Database
from cpa.repository.holders import SqlHolders
from cpa.repository.steps import SqlSteps
from tests.contracts.engine import (
    ASKS,
    TENANT,
    answered,
    asking,
    ended,
    submission,
    submitted,
    until,
)
from tests.engines.temporal.both import Both, Newcomer, check_history, corrupted, forgotten, other
from tests.engines.temporal.test_codec import Secrets
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer

STATE = ("jobs", "job_counts", "job_specs", "task_runs", "events", "outbox", "inbox", "nonces")
BOTH = pytest.mark.parametrize("source", [LOCAL, TEMPORAL])
FAR = JobSpec((TaskSpec(id="r", action="x.far.work", timeout=3_600_000),))
LOOKS = JobSpec((TaskSpec(id="v", action="look.later", effect=EffectClass.VERIFIABLE),))
NEW = JobSpec((TaskSpec(id="n", action="new.work"),))
HOUR = 3_600_000


def retried(delay: int) -> JobSpec:
    """Fails once, and is tried again after so many milliseconds."""
    policy = RetryPolicy(max_attempts=2, first_delay=delay)
    return JobSpec((TaskSpec(id="f", action="fail.times", arguments={"times": 1}, retry=policy),))


def second() -> JobSpec:
    """Fails once for good; the second run asks."""
    once = TaskSpec(id="f", action="fail.times", arguments={"times": 1}, retry=RetryPolicy(max_attempts=1))
    return JobSpec((once, TaskSpec(id="a", action="flow.noop", needs=(0,), approval=True)))


async def may_begin(engine: str, database: Database) -> None:
    """Raises where a scheduler on this engine would not begin."""
    steps = SqlSteps(database, engine)
    try:
        await check_holders(engine, SqlHolders(database), steps.load)
    finally:
        steps.close()


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def both(temporal: TemporalServer, tmp_path: Path) -> Both:
    return Both(temporal, tmp_path)


async def has(engine: Engine, job: str, kind: type[Any]) -> Snapshot:
    """The job once a command of this kind is open."""
    found: list[Snapshot] = []

    async def seen() -> bool:
        found[:] = [await engine.query(TENANT, job)]
        return any(type(each) is kind for each in found[0].commands)

    await until(seen)
    return found[0]


async def begun(both: Both, source: str) -> dict[str, str]:
    """A job in every situation there is, by its name; nothing of them is under way in this process any more."""
    async with both.life(source) as engine:
        jobs = {
            "asks": await submitted(engine, ASKS, sender="k", dedupe="1", body_digest="x"),
            "far": await submitted(engine, FAR),
            "stopping": await submitted(engine, FAR),
            "looks": await submitted(engine, LOOKS),
            "held": await submitted(engine, NEW),
            "retried": await submitted(engine, retried(HOUR)),
            "later": await submitted(engine, not_before=now() + HOUR, priority=7),
            "second": await submitted(engine, second()),
            "due": await submitted(engine, ASKS, due=now() + HOUR),
        }
        await until(lambda: len(both.remote.sent) == 2)
        await until(lambda: both.outside.effects[jobs["looks"], "v"])
        await has(engine, jobs["retried"], StartTimer)
        await has(engine, jobs["held"], StartTimer)
        await ended(engine, jobs["second"])
        await engine.retry(TENANT, jobs["second"], by="anna")
        for name in ("asks", "second", "due"):
            await asking(engine, jobs[name])
        await engine.send(TENANT, jobs["asks"], None, message=("m", "1"), nonce=Nonce("k", "n", 2**52))
    async with both.life(source) as engine:
        # The attempt of the first life is lost, and looked for without an end.
        await has(engine, jobs["looks"], VerifyTask)
        await has(engine, jobs["far"], RequestTask)
        await engine.cancel(TENANT, jobs["stopping"], by="anna")
        await has(engine, jobs["stopping"], CancelAttempt)
    return jobs


def at_rest(jobs: dict[str, str], tables: dict[str, list[Any]]) -> list[Any]:
    """What is not of those of which something can happen at any moment: an answer has a short time, and who looks
    says on the way out of the process that nothing was found."""
    moved = {jobs["stopping"], jobs["looks"]}
    rows = [(table, *row) for table, found in tables.items() for row in found if table != "job_counts"]
    return [row for row in rows if moved.isdisjoint(row)]


async def finished(both: Both, engine: Engine, jobs: dict[str, str]) -> dict[str, Snapshot]:
    """Everybody answers, and all jobs end."""
    stopped = TaskFailed(time=0, task=0, epoch=1, failure=FailureClass.BUSINESS, code="cancelled")
    # Its time to answer is short: it may be over by now.
    outcome = await engine.send(TENANT, jobs["stopping"], stopped, message=("fern", "2"))
    assert outcome.changed or outcome.reason == "ended"
    assert (await answered(engine, jobs["asks"], "anna")).changed
    assert (await answered(engine, jobs["second"], "anna")).changed
    said = TaskSucceeded(time=0, task=0, epoch=1, result={"größe": 1})
    assert (await engine.send(TENANT, jobs["far"], said, message=("fern", "1"))).changed
    assert (await engine.send(TENANT, jobs["far"], said, message=("fern", "1"))).reason == "duplicate"
    for name in ("later", "retried", "due"):
        assert (await engine.cancel(TENANT, jobs[name], by="anna")).changed
    both.may_look.set()
    return {name: await ended(engine, job) for name, job in jobs.items()}


@BOTH
async def test_every_kind_of_job_goes_on_at_the_other_engine(both: Both, source: str) -> None:
    jobs = await begun(both, source)
    before = at_rest(jobs, both.rows(*STATE))

    report = await both.move(other(source))

    assert (report.moved + report.ended, report.resumed, report.problems) == (len(jobs), 0, [])
    after = at_rest(jobs, both.rows(*STATE))
    assert [row for row in after if row not in before] == [], "nothing changed but who holds them"
    assert len(after) == len(before)
    again = await both.move(other(source))
    assert (again.moved, again.problems) == (0, [])
    async with both.life(other(source), [Newcomer()]) as engine:
        later = await engine.query(TENANT, jobs["later"])
        assert (later.head.status, later.head.priority) == (JobStatus.PENDING, 7)
        same = await engine.submit(submission(ASKS, sender="k", dedupe="1", body_digest="x"))
        assert (same.job, same.new) == (jobs["asks"], False)
        assert (await engine.send(TENANT, jobs["asks"], None, message=("m", "1"))).reason == "duplicate"
        with pytest.raises(Replayed):
            await engine.remember(TENANT, nonce=Nonce("k", "n", 2**52))

        done = await finished(both, engine, jobs)

        states = {name: snapshot.head.status.value for name, snapshot in done.items()}
        cancelled = dict.fromkeys(("later", "retried", "due", "stopping"), "cancelled")
        assert states == dict.fromkeys(jobs, "done") | cancelled
        assert done["far"].tasks[0].result == {"größe": 1}
        assert (done["second"].head.run, done["second"].tasks[0].epoch) == (1, 2)
        for job in jobs.values():
            await check_history(engine, job)
    one = {(jobs[name], 0) for name in ("far", "stopping")}
    assert sorted((each.job, each.task) for each in both.remote.sent) == sorted(one)
    effects = {(jobs["looks"], "v"): 1, (jobs["retried"], "f"): 1, (jobs["second"], "f"): 2}
    assert both.outside.effects == effects
    assert both.rows("outbox", "queue", "job_engines") == {"outbox": [], "queue": [], "job_engines": []}


@BOTH
async def test_times_pass_on_the_way_and_count(both: Both, source: str) -> None:
    async with both.life(source) as engine:
        start = now() + 1_500
        jobs = {
            "later": await submitted(engine, not_before=start),
            "retried": await submitted(engine, retried(1_500)),
            "due": await submitted(engine, ASKS, due=start),
        }
        await has(engine, jobs["retried"], StartTimer)
        await asking(engine, jobs["due"])

    report = await both.move(other(source))

    assert (report.moved + report.ended, report.problems) == (3, [])
    async with both.life(other(source)) as engine:
        done = {name: await ended(engine, job) for name, job in jobs.items()}
        assert done["later"].head.status is JobStatus.DONE
        assert done["later"].head.started >= start
        assert done["retried"].head.status is JobStatus.DONE
        assert (done["due"].head.status, done["due"].head.cause) == (JobStatus.FAILED, "deadline")
        assert done["due"].head.ended >= start
        for job in jobs.values():
            await check_history(engine, job)
    assert both.outside.effects == {(jobs["retried"], "f"): 2}


async def test_who_stands_in_the_line_need_not_wait_there(both: Both) -> None:
    async with both.life(LOCAL, max_running=1) as engine:
        first = await submitted(engine, FAR)
        await has(engine, first, RequestTask)
        waiting = await submitted(engine)
        assert (await engine.query(TENANT, waiting)).head.status is JobStatus.PENDING

    assert (await both.move(TEMPORAL)).moved == 2

    assert both.rows("queue") == {"queue": []}
    async with both.life(TEMPORAL) as engine:
        assert (await ended(engine, waiting)).head.status is JobStatus.DONE


async def test_there_and_back_and_there_again(both: Both) -> None:
    """An execution follows those that ended under its id, and an old one is none of its business."""
    async with both.life(LOCAL) as engine:
        job, later = await submitted(engine, ASKS), await submitted(engine, not_before=now() + HOUR)
        await asking(engine, job)
    before = both.rows(*STATE, "queue")
    for _ in range(2):
        assert (await both.move(TEMPORAL)).moved == 2
        assert both.rows("queue") == {"queue": []}
        assert (await both.move(LOCAL)).moved == 2
        after = both.rows(*STATE, "queue")
        assert after == before
    await both.move(TEMPORAL)
    async with both.life(TEMPORAL) as engine:
        assert (await answered(engine, job, "anna")).changed
        assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert (await engine.query(TENANT, later)).head.status is JobStatus.PENDING


# -- what breaks ---------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The mover ends here."""


class Breaks:
    """A side of the move: the n-th change, of both sides together, is the last that is made, or is not made."""

    def __init__(self, side: Any, count: list[int], at: int, after: bool) -> None:
        self._side, self._count, self._at, self._after = side, count, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._side, name)
        return self._breaking(found) if name in ("mark", "release", "receive", "begin", "leave") else found

    def _breaking(self, change: Callable[..., Any]) -> Callable[..., Any]:
        async def changed(*arguments: Any) -> Any:
            self._count[0] += 1
            here = self._count[0] == self._at
            if self._count[0] > self._at or (here and not self._after):
                raise Crash
            made = await change(*arguments)
            if here:
                raise Crash
            return made

        return changed


@BOTH
async def test_a_move_that_breaks_at_any_point_is_gone_on_with(both: Both, source: str) -> None:
    """It breaks at its first change, then at its second, and so on: what came before is done again every time."""
    async with both.life(source) as engine:
        jobs = [await submitted(engine, spec) for spec in (ASKS, ASKS, FAR)]
        jobs.append(await submitted(engine, not_before=now() + HOUR))
        for job in jobs[:2]:
            await asking(engine, job)
        await has(engine, jobs[2], RequestTask)
    before, breaks = both.rows(*STATE), 0
    for at in range(1, 100):
        for after in (False, True):
            try:
                report = await both.move(other(source), Breaks, [0], at, after)
            except Crash:
                breaks += 1
                database = Database.open(both.folder / "cpa.db", readonly=True)
                try:
                    found = await SqlHolders(database).holders()
                    if at > 1 and Holder(other(source)) not in found:
                        for engine_name in (LOCAL, TEMPORAL):
                            with pytest.raises(BadInput, match="migrate engine --to"):
                                await may_begin(engine_name, database)
                finally:
                    database.close()
            else:
                break
        else:
            continue
        break

    assert breaks >= 2 * len(jobs)
    assert (report.problems, report.ended) == ([], 0)
    assert both.rows(*STATE) == before
    async with both.life(other(source)) as engine:
        for job in jobs[:2]:
            assert (await answered(engine, job, "anna")).changed
        assert (await engine.send(TENANT, jobs[2], TaskSucceeded(time=0, task=0, epoch=1))).changed
        assert (await engine.cancel(TENANT, jobs[3], by="anna")).changed
        for job in jobs:
            await ended(engine, job)
            await check_history(engine, job)
    assert len(both.remote.sent) == 1


@BOTH
async def test_an_interrupted_move_is_ended_before_it_goes_back(both: Both, source: str) -> None:
    async with both.life(source) as engine:
        job = await submitted(engine, ASKS)
        await asking(engine, job)
    with pytest.raises(Crash):
        await both.move(other(source), Breaks, [0], 2, True)

    report = await both.move(source)

    assert (report.moved, report.problems) == (1, [])
    async with both.life(source) as engine:
        assert (await answered(engine, job, "anna")).changed
        assert (await ended(engine, job)).head.status is JobStatus.DONE
        await check_history(engine, job)


async def test_an_execution_that_somebody_ended_does_not_hold_its_job(both: Both) -> None:
    async with both.life(TEMPORAL) as engine:
        jobs = [await submitted(engine, ASKS), await submitted(engine, not_before=now() + HOUR)]
        await asking(engine, jobs[0])
    client = await connect(both.server.address, "default")
    for job in jobs:
        await client.get_workflow_handle(job).terminate()

    assert (await both.move(LOCAL)).moved == 2

    [(_, late, _, start, *_)] = both.rows("queue")["queue"]
    assert late == jobs[1]
    assert start > now()
    async with both.life(LOCAL) as engine:
        assert (await answered(engine, jobs[0], "anna")).changed
        assert (await ended(engine, jobs[0])).head.status is JobStatus.DONE


async def test_what_cannot_move_stays_and_says_why(both: Both) -> None:
    """Another workflow has the job's id; the store cannot be read; the others move."""
    async with both.life(LOCAL) as engine:
        jobs = [await submitted(engine, ASKS) for _ in range(3)]
        for job in jobs:
            await asking(engine, job)
    taken, broken, fine = jobs
    client = await connect(both.server.address, "default")
    await client.start_workflow("cpa.other", id=taken, task_queue="nobody")
    await corrupted(both.folder / "cpa.db", broken)
    before = both.rows(*STATE)

    async with both.mover(readonly=True) as mover:
        rehearsed = await mover.rehearse(TEMPORAL)
    moved = await both.move(TEMPORAL)

    for report in (rehearsed, moved):
        assert report.moved == 1
        said = {each.key[1]: str(each.error) for each in report.problems}
        assert set(said) == {taken, broken}
        assert f"temporal workflow terminate --workflow-id {taken}" in said[taken]
        assert "cannot be read" in said[broken]
    assert both.rows(*STATE) == before
    assert both.rows("job_engines")["job_engines"] == [(TENANT, fine, TEMPORAL, "")]


async def test_a_rehearsal_says_which_executions_cannot_be_read(both: Both) -> None:
    secrets = Secrets()
    secrets.add("old")
    async with temporal_life(
        both.server, both.folder, codec=Codec(KeyRing("old", secrets.resolve))
    ) as engine:
        sealed = await submitted(engine, ASKS)
        await asking(engine, sealed)
    async with temporal_life(both.server, both.folder) as engine:
        plain = await submitted(engine, ASKS)
        await asking(engine, plain)

    async with both.mover(readonly=True) as mover:
        report = await mover.rehearse(LOCAL)

    [problem] = report.problems
    assert (report.moved, problem.key) == (1, (TENANT, sealed))
    assert "the key 'old'" in problem.error.message


async def test_jobs_that_cannot_be_read_do_not_bar_the_other_engine(both: Both) -> None:
    async with both.life(LOCAL) as engine:
        jobs = [await submitted(engine, ASKS) for _ in range(3)]
        for job in jobs:
            await asking(engine, job)
    await corrupted(both.folder / "cpa.db", jobs[0])
    assert len((await both.move(TEMPORAL)).problems) == 1

    database = Database.open(both.folder / "cpa.db")
    try:
        await may_begin(TEMPORAL, database)
        with pytest.raises(BadInput, match="2 open jobs are with engine temporal"):
            await may_begin(LOCAL, database)
        # One on its way does not either, but for one that can be read.
        holders, way = SqlHolders(database), Holder(LOCAL, TEMPORAL)
        await holders.mark([(TENANT, jobs[0])], way)
        await may_begin(TEMPORAL, database)
        await holders.mark([(TENANT, jobs[1])], way)
        with pytest.raises(BadInput, match="2 open jobs are on the way"):
            await may_begin(TEMPORAL, database)
        await holders.mark([(TENANT, jobs[1])], Holder(TEMPORAL))
    finally:
        database.close()
    async with both.life(TEMPORAL) as engine:
        for job in jobs[1:]:
            assert (await answered(engine, job, "anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.DONE


async def test_a_postponed_job_whose_execution_was_forgotten_moves_without_its_time(both: Both) -> None:
    async with both.life(TEMPORAL) as engine:
        job = await submitted(engine, not_before=now() + HOUR)
    await forgotten(await connect(both.server.address, "default"), job)

    report = await both.move(LOCAL)

    assert (report.moved, report.problems) == (1, [])
    [said] = report.undated
    assert (said.key, said.error.remedy) == ((TENANT, job), "cancel it and submit it anew")
    assert [row[3] for row in both.rows("queue")["queue"]] == [LOST_START]
    for target in (TEMPORAL, LOCAL):
        report = await both.move(target)
        assert (report.moved, report.problems, report.undated) == (1, [], [])
    async with both.life(LOCAL) as engine:
        assert (await engine.query(TENANT, job)).head.status is JobStatus.PENDING
        assert (await engine.cancel(TENANT, job, by="anna")).changed
        assert (await ended(engine, job)).head.status is JobStatus.CANCELLED


class Slow(SqlSteps):
    """Reads once it may, and says that it is asked to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, TEMPORAL)
        self.asked, self.may = threading.Event(), threading.Event()

    def load(self, tenant: str, job: str) -> StoredJob:
        self.asked.set()
        assert self.may.wait(20)
        return super().load(tenant, job)


async def test_who_stops_fetching_jobs_still_stores_what_is_under_way(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time had passed when the mover began to work. That is being published, for so long that the worker gave up
    on it, when the mover is through."""
    monkeypatch.setattr(workflow, "ONE_TRY", timedelta(seconds=0.5))
    async with both.life(LOCAL) as engine:
        job = await submitted(engine, retried(500))
        await has(engine, job, StartTimer)
    assert (await both.move(TEMPORAL)).moved == 1
    database = Database.open(both.folder / "cpa.db")
    steps = Slow(database)
    try:
        side = TemporalSide(await connect(both.server.address, "default"), both.queue, steps, SystemClock())
        before = steps.events(TENANT, job, 0, 100)
        async with side.leaving():
            await until(steps.asked.is_set)
            asyncio.get_running_loop().call_later(5.0, steps.may.set)

        assert len(steps.events(TENANT, job, 0, 100)) > len(before)
    finally:
        steps.may.set()
        steps.close()
        database.close()


@BOTH
async def test_a_rehearsal_changes_nothing(both: Both, source: str) -> None:
    async with both.life(source) as engine:
        jobs = [await submitted(engine, ASKS), await submitted(engine, not_before=now() + HOUR)]
        await asking(engine, jobs[0])
    before, rows = (both.folder / "cpa.db").read_bytes(), both.rows(*STATE, "queue", "job_engines")

    async with both.mover(readonly=True) as mover:
        report = await mover.rehearse(other(source))

    assert (report.moved, report.problems) == (2, [])
    assert (both.folder / "cpa.db").read_bytes() == before
    assert both.rows(*STATE, "queue", "job_engines") == rows
    async with both.life(source) as engine:
        assert (await answered(engine, jobs[0], "anna")).changed


async def test_many_jobs_move_in_parts_and_progress_is_told(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "CHUNK", 4)
    many = 10
    async with both.life(LOCAL) as engine:
        wishes = [submission(not_before=now() + HOUR) for _ in range(many)]
        await engine.submit_many(wishes)
    for target in (TEMPORAL, LOCAL):
        told: list[tuple[int, int]] = []
        async with both.mover() as mover:
            mover.told = lambda done, all_: told.append((done, all_))  # noqa: B023
            assert (await mover.move(target)).moved == many
        assert told == [(4, many), (8, many), (many, many)]
