from __future__ import annotations

import asyncio
import time

import pytest
import sqlalchemy as sa
from tests.contracts.queue import ME, Enter, JobQueueContract, MakeQueue, names
from tests.repository.shell import Shell

from cpa.ports.queue import JobQueue, Lease
from cpa.queue.sql import SqlJobQueue
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository


class TestSqlJobQueue(JobQueueContract):
    @pytest.fixture
    def make_queue(self, database: Database) -> MakeQueue:
        return lambda jobs, send, clock: SqlJobQueue(database, jobs, send, clock)

    async def test_a_job_submitted_in_one_step_stands_in_line(self, shell: Shell, queue: JobQueue) -> None:
        shell.submit(ME, "a", priority=4)
        [lease] = await queue.dequeue("w1")
        assert (lease.job, lease.priority, lease.enqueued) == ("a", 4, shell.clock.now)

    async def test_the_step_that_starts_a_job_takes_it_out_of_the_line(
        self, shell: Shell, queue: JobQueue
    ) -> None:
        shell.submit(ME, "a")
        [lease] = await queue.dequeue("w1")
        await shell.run(ME, "a")
        assert await queue.size(ME) == 0
        assert not await queue.release(lease)

    async def test_the_line_survives_its_process(
        self, shell: Shell, queue: JobQueue, enter: Enter, database: Database, make_queue: MakeQueue
    ) -> None:
        await enter("a")
        await enter("b", priority=1)
        await queue.dequeue("w1", 1, 100)
        await queue.close()
        other = make_queue(SqlJobRepository(database), shell.send, shell.clock)
        await other.connect()
        assert names(await other.dequeue("w2", 5)) == ["a"]
        shell.clock.now += 100
        assert names(await other.dequeue("w2", 5)) == ["b"]

    async def test_workers_never_get_the_same_job(
        self, shell: Shell, queue: JobQueue, enter: Enter, database: Database, make_queue: MakeQueue
    ) -> None:
        for number in range(90):
            await enter(f"j{number:02}")
        second = make_queue(SqlJobRepository(database), shell.send, shell.clock)
        await second.connect()

        async def drain(line: JobQueue, owner: str) -> list[Lease]:
            mine: list[Lease] = []
            while leases := await line.dequeue(owner, 7):
                mine += leases
            return mine

        found = await asyncio.gather(drain(queue, "w1"), drain(second, "w2"), drain(queue, "w3"))
        jobs = [lease.job for mine in found for lease in mine]
        assert sorted(jobs) == [f"j{number:02}" for number in range(90)]

    async def test_an_idle_line_is_only_read(self, queue: JobQueue, enter: Enter, shell: Shell) -> None:
        await enter("later", not_before=shell.clock.now + 1000)
        wal = queue._store.path.with_name("cpa.db-wal")  # type: ignore[attr-defined]
        before = wal.stat().st_size
        for _ in range(50):
            assert await queue.dequeue("w1", 10) == ()
        assert wal.stat().st_size == before

    async def test_a_flood_that_becomes_due_at_once_is_moved_in_short_steps(
        self, shell: Shell, queue: JobQueue, database: Database
    ) -> None:
        crowd(database, 12_345, not_before=shell.clock.now + 10, priority=0)
        crowd(database, 3, not_before=shell.clock.now + 11, priority=5, prefix="vip")
        shell.clock.now += 11
        leases = await queue.dequeue("w1", 1000)
        assert names(leases)[:4] == ["vip0000000", "vip0000001", "vip0000002", "j0000000"]
        assert len(leases) == 1000

    async def test_taking_a_hundred_costs_the_same_beside_a_hundred_thousand_for_later(
        self, shell: Shell, queue: JobQueue, database: Database
    ) -> None:
        """At most 2 ms each on an idle machine; measured in processor time, for others may be at work."""
        crowd(database, 100_000, not_before=shell.clock.now + 10**6, priority=9, prefix="later")
        crowd(database, 100_000, not_before=0, priority=1)
        spent = []
        for _ in range(20):
            start = time.process_time()
            leases = await queue.dequeue("w1", 100)
            spent.append(time.process_time() - start)
            assert len(leases) == 100
            assert leases[0].job.startswith("j")
        assert sorted(spent)[10] < 0.004

    async def test_every_statement_walks_the_index_made_for_it(
        self, queue: JobQueue, enter: Enter, database: Database, shell: Shell
    ) -> None:
        plans: list[str] = []

        def explain(
            _c: object, _k: object, statement: str, parameters: tuple[object, ...], *_: object
        ) -> None:
            if "queue" in statement and not statement.startswith("INSERT"):
                connection = database.connect(query_only=True)
                rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                plans.extend(row[3] for row in rows)
                connection.close()

        for engine in (database._reader, database._writer):
            sa.event.listen(engine, "before_cursor_execute", explain)
        await enter("a")
        [lease] = await queue.dequeue("w1")
        await queue.renew(lease, 5)
        await queue.release(lease)
        assert any("queue_line" in plan for plan in plans)
        assert any("queue_later" in plan for plan in plans)
        assert any("queue_leased" in plan for plan in plans)
        assert [plan for plan in plans if plan == "SCAN queue" or "ORDER BY" in plan] == []


def crowd(database: Database, count: int, *, not_before: int, priority: int, prefix: str = "j") -> None:
    """Rows in line, without jobs behind them."""
    row = sa.text(
        "INSERT INTO queue (tenant, job, priority, not_before, enqueued)"
        " VALUES ('acme', :job, :priority, :not_before, 1)"
    )
    rows = [
        {"job": f"{prefix}{number:07}", "priority": priority, "not_before": not_before}
        for number in range(count)
    ]
    database.write_now(lambda c: c.execute(row, rows) and None)
