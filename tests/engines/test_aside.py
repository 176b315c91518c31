"""One job that cannot be gone on with is set aside; the process and all other jobs go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from pysqlite3 import dbapi2

from cpa.bootstrap import SystemClock
from cpa.core.events import QuestionAnswered, TaskSucceeded
from cpa.core.job import LOGIC, JobSpec, JobStatus, TaskSpec
from cpa.engines.local.engine import LocalEngine
from cpa.errors import CPAError, Unavailable
from cpa.ports.engine import Outcome, Receipt, StoredEvent, Submission
from cpa.ports.steps import Unreadable
from cpa.repository.database import Database
from tests.engines.world import life

TENANT = "default"
ONE = JobSpec((TaskSpec(id="a", action="flow.noop"),))
RUNS = JobSpec((TaskSpec(id="a", action="mark.unsafe"),))
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))
EXPIRES = JobSpec(
    (TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=600_000),)
)
DUE = "UPDATE outbox SET due = 1 WHERE due > 0"
"""Brings timers to their time between two lives."""
WHOLE = Submission(tenant=TENANT, spec=ONE)


def altered(folder: Path, *statements: str) -> None:
    database = Database.open(folder / "cpa.db")
    connection = database.connect()
    for statement in statements:
        assert connection.execute(statement).rowcount > 0, statement
    connection.close()
    database.close()


async def works(engine: LocalEngine) -> None:
    """A new job runs to its end."""
    job = (await engine.submit(WHOLE)).job
    assert (await engine.wait(TENANT, job, 20)).status is JobStatus.DONE


async def aside(engine: LocalEngine) -> None:
    """Return once a job was set aside."""
    deadline = asyncio.get_running_loop().time() + 20
    while not engine.aside:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET head = x'7b7d'",
        "UPDATE job_specs SET spec = x'7b7b'",
        "DELETE FROM job_specs",
        "UPDATE outbox SET body = x'00'",
        "UPDATE task_runs SET body = replace(CAST(body AS TEXT), '\"index\":0', '\"index\":7')",
        "DELETE FROM jobs",
        "UPDATE jobs SET head = x'7b2274656e616e74223a22ff227d'",
        "UPDATE job_specs SET spec = CAST('{\"tasks\":[{\"id\":\"' || x'ff' || '\"}]}' AS BLOB)",
        "UPDATE outbox SET key = CAST(x'71ff' AS TEXT)",
        "UPDATE outbox SET key = 'of nothing'",
        'UPDATE jobs SET head = replace(CAST(head AS TEXT), \'"id":"\', \'"id":"x\')',
    ],
    ids=[
        "head",
        "spec",
        "no-spec",
        "commands",
        "task-of-nowhere",
        "no-job",
        "head-not-utf8",
        "spec-not-utf8",
        "key-not-utf8",
        "key-of-nothing",
        "head-of-another",
    ],
)
async def test_a_damaged_row_ends_nothing_but_its_job(tmp_path: Path, statement: str) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job
    altered(tmp_path, DUE, statement)

    async with life(tmp_path, Counter()) as (engine, _, _):
        await works(engine)
        await aside(engine)
        with pytest.raises(Unreadable, match=job):
            await engine.query(TENANT, job)
        assert job in {head.id for head, _, _ in (await engine.list(TENANT)).jobs} or "FROM jobs" in statement
        await works(engine)
        assert engine.aside == 1


OTHERWISE = (
    "5",
    "9223372036854775807",
    "1.5",
    "'text'",
    "CAST(x'ff' AS TEXT)",
    "NULL",
    "x''",
    "CAST(replace(printf('%9999s', ''), ' ', '[') AS BLOB)",
)
"""Values of other types than the program writes."""


def holding(folder: Path, column: str, values: dict[str, str]) -> None:
    """By job: what its row holds; the store's own rule, which keeps NULL out, is gone."""
    table, _, name = column.partition(".")
    job = "id" if table == "jobs" else "job"
    with closing(dbapi2.connect(folder / "cpa.db")) as store:
        store.execute("PRAGMA writable_schema = ON")
        rule = f"replace(sql, '{name} BLOB NOT NULL', '{name} BLOB')"
        store.execute(f"UPDATE sqlite_schema SET sql = {rule} WHERE name = ?", (table,))
        store.commit()
    with closing(dbapi2.connect(folder / "cpa.db")) as store:
        for id, value in values.items():
            assert store.execute(f"UPDATE {table} SET {name} = {value} WHERE {job} = ?", (id,)).rowcount
        store.commit()


@pytest.mark.parametrize("column", ["jobs.head", "job_specs.spec", "task_runs.body", "outbox.body"])
async def test_values_of_another_type_end_nothing_but_their_jobs(tmp_path: Path, column: str) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        odd = [(await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job for _ in OTHERWISE]
        sound = (await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job
    holding(tmp_path, column, dict(zip(odd, OTHERWISE, strict=True)))
    altered(tmp_path, DUE)

    async with life(tmp_path, Counter()) as (engine, _, _):
        await works(engine)
        assert (await engine.wait(TENANT, sound, 20)).status is JobStatus.FAILED, "nobody answered in time"
        for job in odd:
            with pytest.raises(Unreadable, match=job):
                await engine.query(TENANT, job)
        shown = {head.id: head for head, _, _ in (await engine.list(TENANT)).jobs}
        assert shown.keys() >= {*odd, sound}
        assert column != "jobs.head" or all("cannot be read" in shown[job].reason for job in odd)
        await works(engine)
        assert engine.aside == len(odd)


async def test_a_job_in_line_that_cannot_be_read_lets_others_pass(tmp_path: Path) -> None:
    async with life(tmp_path, Counter(), max_running=0) as (engine, _, _):
        await engine.submit(WHOLE)
    altered(tmp_path, "UPDATE jobs SET head = x'7b7d'")

    async with life(tmp_path, Counter()) as (engine, _, _):
        await works(engine)
        assert engine.aside == 1


async def test_who_follows_a_job_whose_last_event_lost_its_number_waits(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(WHOLE)).job
        assert (await engine.wait(TENANT, job, 20)).status is JobStatus.DONE
    altered(tmp_path, "UPDATE events SET number = 'drei' WHERE number = 3")

    async with life(tmp_path, Counter()) as (engine, steps, _):
        looks, read = 0, steps.events

        def counted(tenant: str, job: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
            nonlocal looks
            looks += 1
            return read(tenant, job, after, limit)

        steps.events = counted  # type: ignore[method-assign]
        seen: list[int] = []

        async def follow() -> None:
            async for update in engine.follow(TENANT, job):
                assert isinstance(update, StoredEvent)
                seen.append(update.number)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follow(), 0.3)
        assert (seen, looks) == ([1, 2], 2)


ELSEWHERE = "CAST(x'ff' AS TEXT)"
"""A job's name that is no UTF-8."""


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO outbox SELECT tenant, {ELSEWHERE}, key, kind, 1, body FROM outbox",
        f"INSERT INTO outbox SELECT {ELSEWHERE}, job, key, kind, 1, body FROM outbox",
        f"INSERT INTO outbox SELECT tenant, {ELSEWHERE}, key, 'verify_task', 0, body FROM outbox",
        f"INSERT INTO queue(tenant, job, priority, not_before, enqueued, lease_until) "
        f"SELECT tenant, {ELSEWHERE}, 9, 0, 1, 0 FROM jobs",
    ],
    ids=["timer", "tenant", "look", "line"],
)
async def test_a_row_of_a_job_whose_name_is_no_text_holds_nobody_up(tmp_path: Path, statement: str) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job
    altered(tmp_path, statement, DUE)

    async with life(tmp_path, Counter()) as (engine, _, _):
        await aside(engine)
        assert (await engine.wait(TENANT, job, 20)).status is JobStatus.FAILED, "nobody answered in time"
        later = Submission(tenant=TENANT, spec=ONE, not_before=SystemClock().now_ms() + 200)
        job = (await engine.submit(later)).job
        assert (await engine.wait(TENANT, job, 20)).status is JobStatus.DONE
        assert engine.aside == 1


async def test_a_timer_that_becomes_illegible_while_its_job_is_in_memory_sets_it_aside(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job
        with closing(dbapi2.connect(tmp_path / "cpa.db")) as store:
            store.execute("UPDATE outbox SET key = CAST(x'ff' AS TEXT), due = 1")
            store.commit()
        soon = JobSpec((replace(EXPIRES.tasks[0], approval_expires=100),))

        job = (await engine.submit(Submission(tenant=TENANT, spec=soon))).job

        assert (await engine.wait(TENANT, job, 20)).status is JobStatus.FAILED, "nobody answered in time"
        assert engine.aside == 1
        with pytest.raises(Unreadable, match=odd):
            await engine.query(TENANT, odd)


async def test_a_job_of_newer_logic_is_left_alone(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        job = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
    newer = f"UPDATE jobs SET head = replace(CAST(head AS TEXT), '\"logic\":{LOGIC}', '\"logic\":99')"
    altered(tmp_path, newer)

    async with life(tmp_path, Counter()) as (engine, _, _):
        with pytest.raises(Unreadable, match="needs logic 99") as caught:
            await engine.send(TENANT, job, QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna"))
        assert "newer version" in (caught.value.remedy or "")
        await works(engine)


async def test_what_the_store_refuses_of_one_job_is_written_of_the_others(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, agents):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        before = (await engine.query(TENANT, odd)).head
        steps.refused = {odd}
        yes = QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna")

        answer, *others = await asyncio.gather(
            engine.send(TENANT, odd, yes),
            *(engine.submit(WHOLE) for _ in range(9)),
            return_exceptions=True,
        )

        assert isinstance(answer, Unreadable)
        for receipt in others:
            assert not isinstance(receipt, BaseException)
            assert (await engine.wait(TENANT, receipt.job, 20)).status is JobStatus.DONE
        assert engine.aside == 1
        with pytest.raises(Unreadable):
            await engine.cancel(TENANT, odd, by="anna")
        assert [agent.busy for agent in agents.list(TENANT)] == [0]
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await engine.query(TENANT, odd)).head == before, "it stands where it stood"
        assert (await engine.send(TENANT, odd, yes)).changed
        assert (await engine.wait(TENANT, odd, 20)).status is JobStatus.DONE


async def test_a_disk_that_is_full_meanwhile_keeps_what_was_written_before(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        steps.refused, steps.room = {odd}, 1
        yes = QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna")

        told = await asyncio.gather(
            *(engine.submit(WHOLE) for _ in range(9)),
            engine.send(TENANT, odd, yes),
            return_exceptions=True,
        )
        receipts = [each for each in told if isinstance(each, Receipt)]
        assert receipts
        assert all(isinstance(each, Receipt | Unavailable) for each in told), told
        assert isinstance(told[-1], Unavailable)
        steps.refused, steps.room = set(), -1

        for receipt in receipts:
            assert (await engine.wait(TENANT, receipt.job, 20)).status is JobStatus.DONE
        assert (await engine.list(TENANT)).total == len(receipts) + 1, "what was refused is nowhere"
        assert engine.aside == 0
        async with asyncio.timeout(20):
            while isinstance(await asked(engine, odd, yes), Unavailable):
                await asyncio.sleep(0.05)
        assert (await engine.wait(TENANT, odd, 20)).status is JobStatus.DONE
        await works(engine)


async def asked(engine: LocalEngine, job: str, event: QuestionAnswered) -> Outcome | Unavailable:
    """What comes of it; the store may not write yet."""
    try:
        return await engine.send(TENANT, job, event)
    except Unavailable as error:
        return error


async def test_a_new_job_that_the_store_refuses_was_never_accepted(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, steps, _):
        steps.refused = {"odd"}
        with pytest.raises(CPAError, match="too large"):
            await engine.submit(Submission(tenant=TENANT, spec=ONE, job="odd"))
        assert engine.aside == 0
        await works(engine)
        assert (await engine.list(TENANT)).total == 1


async def test_a_step_that_cannot_be_made_sets_its_job_aside(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=ASKS))).job
        (await engine.jobs.load(TENANT, odd)).open = None  # type: ignore[assignment]

        with pytest.raises(Unreadable, match="unforeseen"):
            await engine.send(TENANT, odd, QuestionAnswered(time=0, task=0, epoch=0, yes=True, by="anna"))

        await works(engine)
        assert engine.aside == 1


async def test_a_job_that_is_set_aside_while_the_disk_is_full_takes_no_room_from_others(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, Counter(), max_running=1, gate=asyncio.Event()) as (engine, steps, _):
        odd = (await engine.submit(Submission(tenant=TENANT, spec=RUNS))).job
        job = await engine.jobs.load(TENANT, odd)
        assert (engine._stepper.busy, job.head.busy) == (1, 1)
        steps.full, before = True, job.head
        cancelled = asyncio.create_task(engine.cancel(TENANT, odd, by="anna"))
        while job.head is before:
            await asyncio.sleep(0)
        assert job.head.busy == 1, "its agent is still at it"
        job.open = None  # type: ignore[assignment]

        ended = TaskSucceeded(time=0, task=0, epoch=1, result={}, duration=1)
        assert engine._stepper.step(job, ended).reason == "set_aside"
        with pytest.raises(Unavailable):
            await cancelled

        assert engine._stepper.busy == 0
        steps.full = False


async def test_a_new_job_that_the_store_refuses_leaves_its_room(tmp_path: Path) -> None:
    async with life(tmp_path, Counter(), gate=asyncio.Event()) as (engine, steps, _):
        steps.refused = {"odd"}
        with pytest.raises(CPAError, match="too large"):
            await engine.submit(Submission(tenant=TENANT, spec=RUNS, job="odd"))
        assert engine._stepper.busy == 0


async def test_a_job_that_cannot_be_started_keeps_its_place_in_line(tmp_path: Path) -> None:
    async with life(tmp_path, Counter()) as (engine, _, _):
        later = Submission(tenant=TENANT, spec=ONE, not_before=SystemClock().now_ms() + 400)
        odd = (await engine.submit(later)).job
        (await engine.jobs.load(TENANT, odd)).waiting = None  # type: ignore[assignment]
        await aside(engine)
    async with life(tmp_path, Counter()) as (engine, _, _):
        assert (await engine.wait(TENANT, odd, 20)).status is JobStatus.DONE
