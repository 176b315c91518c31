"""What every line of jobs must keep. A line's test module subclasses `JobQueueContract` and gives the fixture
`make_queue`: a function of (repository reader, send, clock) that gives a line, not yet connected.

The jobs behind it are real: stored by the hot step, stepped by the core.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.repository.shell import Shell, SteppedClock, plan

from cpa.core.job import JobStatus
from cpa.errors import BadInput, Conflict, NotFound, Unavailable
from cpa.ports.queue import JobQueue, Lease
from cpa.ports.repository import JobRepository
from cpa.queue.control import Send
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository

MakeQueue = Callable[[JobRepository, Send, SteppedClock], JobQueue]
Enter = Callable[..., Awaitable[None]]
"""(job, tenant=, priority=, not_before=): submit it and put it in line."""
ME, OTHER = "acme", "globex"


def names(leases: tuple[Lease, ...]) -> list[str]:
    return [lease.job for lease in leases]


class JobQueueContract:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database.open(tmp_path / "cpa.db")
        yield database
        database.close()

    @pytest.fixture
    def shell(self, database: Database) -> Iterator[Shell]:
        shell = Shell(database)
        yield shell
        shell.close()

    @pytest.fixture
    def idle(self, make_queue: MakeQueue, database: Database, shell: Shell) -> JobQueue:
        """A line that is not connected yet."""
        return make_queue(SqlJobRepository(database), shell.send, shell.clock)

    @pytest.fixture
    async def queue(self, idle: JobQueue) -> AsyncIterator[JobQueue]:
        await idle.connect()
        yield idle
        await idle.close()

    @pytest.fixture
    def enter(self, shell: Shell, queue: JobQueue) -> Enter:
        """Submit a job and put it in line."""

        async def enter(job: str, *, tenant: str = ME, priority: int = 0, not_before: int = 0) -> None:
            shell.submit(tenant, job, lined=False)
            assert await queue.enqueue(tenant, job, priority=priority, not_before=not_before)

        return enter

    # -- eligibility and order ----------------------------------------------------------------------------

    async def test_an_empty_line_gives_nothing(self, queue: JobQueue) -> None:
        assert await queue.dequeue("w1", 10) == ()

    async def test_first_come_first_served(self, shell: Shell, queue: JobQueue, enter: Enter) -> None:
        for job in ("c", "a", "b"):
            await enter(job)
            shell.clock.now += 1
        assert names(await queue.dequeue("w1", 2)) == ["c", "a"]
        assert names(await queue.dequeue("w1", 2)) == ["b"]

    async def test_priority_goes_first_then_time_then_id(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        await enter("low", priority=-5)
        await enter("b")
        await enter("a")
        shell.clock.now += 1
        await enter("0")
        await enter("high", priority=9)
        assert names(await queue.dequeue("w1", 10)) == ["high", "a", "b", "0", "low"]

    async def test_a_job_waits_for_its_time_and_keeps_its_place(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        start = shell.clock.now
        await enter("later", not_before=start + 1000)
        shell.clock.now += 1
        await enter("second")
        shell.clock.now = start + 999
        first = await queue.dequeue("w1", 10)
        assert names(first) == ["second"]
        assert await queue.release(first[0])
        shell.clock.now = start + 1000
        assert names(await queue.dequeue("w1", 10)) == ["later", "second"]

    async def test_a_not_before_in_the_past_is_now(self, shell: Shell, queue: JobQueue, enter: Enter) -> None:
        await enter("a", not_before=shell.clock.now - 5)
        assert names(await queue.dequeue("w1")) == ["a"]

    async def test_all_tenants_share_one_line(self, queue: JobQueue, enter: Enter) -> None:
        await enter("same", tenant=OTHER)
        await enter("same", tenant=ME)
        leases = await queue.dequeue("w1", 10)
        assert [(lease.tenant, lease.job) for lease in leases] == [(ME, "same"), (OTHER, "same")]
        assert await queue.acknowledge(leases[0])
        assert (await queue.size(ME), await queue.size(OTHER)) == (0, 1)

    async def test_whatever_the_order_of_arrival_the_line_is_sorted(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        draw = random.Random(7)
        expected = []
        for number in range(60):
            shell.clock.now += draw.randrange(3)
            priority, job = draw.randrange(-2, 3), f"{draw.randrange(10**6):06}-{number}"
            await enter(job, priority=priority)
            expected.append((-priority, shell.clock.now, job))
        seen: list[str] = []
        while leases := await queue.dequeue("w1", draw.randrange(1, 9)):
            seen += names(leases)
        assert seen == [job for _, _, job in sorted(expected)]

    # -- entering -----------------------------------------------------------------------------------------

    async def test_entering_twice_is_entering_once(self, queue: JobQueue, enter: Enter) -> None:
        await enter("a", priority=3)
        assert not await queue.enqueue(ME, "a", priority=7)
        assert await queue.size(ME) == 1
        [lease] = await queue.dequeue("w1", 10)
        assert lease.priority == 3
        assert not await queue.enqueue(ME, "a")
        assert await queue.dequeue("w1", 10) == ()

    async def test_only_a_pending_job_of_the_tenant_may_enter(self, shell: Shell, queue: JobQueue) -> None:
        shell.submit(ME, "done", lined=False)
        await shell.run(ME, "done")
        with pytest.raises(Conflict, match="is done"):
            await queue.enqueue(ME, "done")
        with pytest.raises(NotFound):
            await queue.enqueue(OTHER, "done")
        with pytest.raises(NotFound):
            await queue.enqueue(ME, "größe")
        assert await queue.size(ME) == 0

    # -- leases -------------------------------------------------------------------------------------------

    async def test_what_is_leased_is_nobody_elses_until_the_lease_runs_out(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        await enter("a")
        [lease] = await queue.dequeue("w1", 1, 1000)
        assert (lease.owner, lease.until) == ("w1", shell.clock.now + 1000)
        shell.clock.now += 999
        assert await queue.dequeue("w2", 10) == ()
        shell.clock.now += 1
        [again] = await queue.dequeue("w2", 10)
        assert (again.job, again.owner) == ("a", "w2")
        assert again.token != lease.token

    async def test_an_expired_lease_comes_back_to_its_old_place(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        for job in ("a", "b", "c"):
            await enter(job)
            shell.clock.now += 1
        await queue.dequeue("w1", 1, 100)
        shell.clock.now += 100
        assert names(await queue.dequeue("w2", 3)) == ["a", "b", "c"]

    async def test_an_older_token_changes_nothing(self, shell: Shell, queue: JobQueue, enter: Enter) -> None:
        await enter("a")
        [old] = await queue.dequeue("w1", 1, 100)
        shell.clock.now += 100
        held: tuple[Lease, ...] = ()
        for _ in range(2):  # after it ran out, and after another took the job
            assert not await queue.acknowledge(old)
            assert not await queue.release(old)
            assert await queue.renew(old, 1000) is None
            held += await queue.dequeue("w1", 1, 1000)
        [new] = held
        assert await queue.acknowledge(new)
        assert await queue.size(ME) == 0

    async def test_a_token_does_not_fit_the_next_stay_in_line(self, queue: JobQueue, enter: Enter) -> None:
        await enter("a")
        [old] = await queue.dequeue("w1")
        assert await queue.acknowledge(old)
        assert not await queue.acknowledge(old)
        assert await queue.enqueue(ME, "a")
        [new] = await queue.dequeue("w1")
        assert not await queue.acknowledge(old)
        assert not await queue.release(old)
        assert await queue.acknowledge(new)

    async def test_a_renewed_lease_lasts_longer(self, shell: Shell, queue: JobQueue, enter: Enter) -> None:
        await enter("a")
        [lease] = await queue.dequeue("w1", 1, 100)
        shell.clock.now += 99
        renewed = await queue.renew(lease, 1000)
        assert renewed is not None
        assert renewed.until == shell.clock.now + 1000
        shell.clock.now += 999
        assert await queue.dequeue("w2", 1) == ()
        assert await queue.acknowledge(renewed)

    async def test_what_is_given_back_can_be_put_off(
        self, shell: Shell, queue: JobQueue, enter: Enter
    ) -> None:
        await enter("a")
        [lease] = await queue.dequeue("w1")
        assert await queue.release(lease, not_before=shell.clock.now + 50)
        assert await queue.dequeue("w1") == ()
        shell.clock.now += 50
        assert names(await queue.dequeue("w1")) == ["a"]

    @pytest.mark.parametrize(
        ("owner", "limit", "lease_ms", "field"),
        [("w1", 0, 1, "limit"), ("w1", 1, 0, "lease_ms"), ("", 1, 1, "owner")],
    )
    async def test_a_senseless_lease_is_refused(
        self, queue: JobQueue, owner: str, limit: int, lease_ms: int, field: str
    ) -> None:
        with pytest.raises(BadInput) as caught:
            await queue.dequeue(owner, limit, lease_ms)
        assert caught.value.field == field

    # -- status -------------------------------------------------------------------------------------------

    async def test_status_and_job_are_read_from_the_repository(self, shell: Shell, queue: JobQueue) -> None:
        shell.submit(ME, "a")
        assert await queue.get_status(ME, "a") is JobStatus.PENDING
        await shell.run(ME, "a")
        assert await queue.get_status(ME, "a") is JobStatus.DONE
        assert await queue.get_job(ME, "a") == shell.load(ME, "a").snapshot()
        with pytest.raises(NotFound):
            await queue.get_status(OTHER, "a")
        with pytest.raises(NotFound):
            await queue.get_job(OTHER, "a")

    async def test_a_status_is_reached_by_the_event_that_leads_there(
        self, shell: Shell, queue: JobQueue
    ) -> None:
        shell.submit(ME, "a")
        assert (await queue.update_status(ME, "a", JobStatus.RUNNING, by="key_1")).changed
        assert await queue.get_status(ME, "a") is JobStatus.RUNNING
        again = await queue.update_status(ME, "a", JobStatus.RUNNING, by="key_1")
        assert (again.changed, again.reason) == (False, "not_pending")
        assert (await queue.update_status(ME, "a", JobStatus.CANCELLED, by="key_1")).changed
        assert await queue.get_status(ME, "a") is JobStatus.CANCELLED
        assert (await queue.update_status(ME, "a", JobStatus.PENDING, by="key_1")).changed
        assert await queue.get_status(ME, "a") is JobStatus.PENDING

    @pytest.mark.parametrize("status", [JobStatus.DONE, JobStatus.FAILED])
    async def test_nobody_can_declare_a_job_done_or_failed(
        self, shell: Shell, queue: JobQueue, status: JobStatus
    ) -> None:
        shell.submit(ME, "a")
        with pytest.raises(Conflict, match="only its work leads there"):
            await queue.update_status(ME, "a", status, by="key_1")
        assert await queue.get_status(ME, "a") is JobStatus.PENDING

    async def test_a_cancel_of_what_has_ended_is_no_error(self, shell: Shell, queue: JobQueue) -> None:
        shell.submit(ME, "a")
        assert (await queue.cancel(ME, "a", by="key_1", reason="Irrtum")).changed
        outcome = await queue.cancel(ME, "a", by="key_1")
        assert (outcome.changed, outcome.reason) == (False, "ended")
        with pytest.raises(NotFound):
            await queue.cancel(OTHER, "a", by="key_1")

    async def test_a_failed_job_is_retried_until_it_is_a_dead_letter(
        self, shell: Shell, queue: JobQueue
    ) -> None:
        shell.submit(ME, "a", plan(max_retries=1))
        with pytest.raises(Conflict, match="not ended"):
            await queue.retry(ME, "a", by="key_1")
        await shell.run(ME, "a", fail=("t0",))
        assert (await queue.dead_letters(ME)).total == 0
        assert (await queue.retry(ME, "a", by="key_1")).changed
        assert await queue.get_status(ME, "a") is JobStatus.PENDING
        await shell.run(ME, "a", fail=("t0",))
        with pytest.raises(Conflict, match="retries used up") as caught:
            await queue.retry(ME, "a", by="key_1")
        assert caught.value.remedy
        assert [head.id for head, _, _ in (await queue.dead_letters(ME)).jobs] == ["a"]
        assert (await queue.dead_letters(OTHER)).total == 0

    # -- life ---------------------------------------------------------------------------------------------

    async def test_before_connect_and_after_close_nothing_works(self, idle: JobQueue, shell: Shell) -> None:
        lease = Lease(ME, "a", 0, 0, "w1", "t", 1)
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: idle.enqueue(ME, "a"),
            lambda: idle.dequeue("w1"),
            lambda: idle.acknowledge(lease),
            lambda: idle.release(lease),
            lambda: idle.renew(lease, 1),
            lambda: idle.size(ME),
            lambda: idle.get_status(ME, "a"),
            lambda: idle.get_job(ME, "a"),
            lambda: idle.update_status(ME, "a", JobStatus.CANCELLED, by="k"),
            lambda: idle.retry(ME, "a", by="k"),
            lambda: idle.cancel(ME, "a", by="k"),
            lambda: idle.dead_letters(ME),
        )
        shell.submit(ME, "a")
        for _ in range(2):
            for call in calls:
                with pytest.raises(Unavailable, match="not connected"):
                    await call()
            await idle.connect()
            await idle.connect()
            assert await idle.get_status(ME, "a") is JobStatus.PENDING
            await idle.close()
            await idle.close()
