from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.repository.shell import Shell, plan

from cpa.core import events as facts
from cpa.core.audit import entry, kind, verify
from cpa.core.job import SCHEMA, JobHead, JobSpec, JobStatus, TaskStatus
from cpa.errors import BadInput, Conflict, InternalError, NotFound, Unavailable
from cpa.ports.engine import JobPage
from cpa.ports.repository import StoredMessage
from cpa.ports.steps import Unreadable
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository, SqlTaskRepository
from cpa.repository.loading import load_many
from cpa.repository.messages import SqlMessageRepository
from cpa.repository.steps import SqlSteps

ME, OTHER = "acme", "globex"


@pytest.fixture
def jobs(database: Database) -> SqlJobRepository:
    return SqlJobRepository(database)


@pytest.fixture
def tasks(database: Database) -> SqlTaskRepository:
    return SqlTaskRepository(database)


def dump(database: Database) -> str:
    """Every stored value of every table, as text."""
    connection = database.connect(query_only=True)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = (
            cell for name in names for row in connection.execute(f"SELECT * FROM {name}") for cell in row
        )
        return "\n".join(c.decode(errors="replace") if isinstance(c, bytes) else str(c) for c in cells)
    finally:
        connection.close()


async def test_a_job_comes_back_whole_at_every_point_of_its_life(
    shell: Shell, jobs: SqlJobRepository
) -> None:
    shell.submit(ME, "j", plan("web.goto", "mail.send", "flow.noop"))
    waiting = await jobs.get(ME, "j")
    assert [task.status for task in waiting.tasks] == [TaskStatus.WAITING] * 3
    await shell.give(ME, "j", lambda now: facts.JobStarted(time=now))
    started = await jobs.get(ME, "j")
    assert started == shell.load(ME, "j").snapshot()
    assert len(started.commands) == 1
    await shell.send(ME, "j", facts.CancelRequested(time=shell.clock.now_ms(), by="key_1"))
    ended = await jobs.get(ME, "j")
    assert ended == shell.load(ME, "j").snapshot()
    assert (ended.head.status, ended.commands) == (JobStatus.CANCELLED, ())
    assert await jobs.head(ME, "j") == ended.head


async def test_of_another_tenant_nothing_is_seen(
    shell: Shell, jobs: SqlJobRepository, tasks: SqlTaskRepository
) -> None:
    shell.submit(ME, "j")
    for call in (
        jobs.head(OTHER, "j"),
        jobs.get(OTHER, "j"),
        jobs.events(OTHER, "j"),
        jobs.erase(OTHER, "j"),
        tasks.list(OTHER, "j"),
        tasks.get(OTHER, "j", "t0"),
    ):
        with pytest.raises(NotFound, match="no job j"):
            await call
    assert (await jobs.page(OTHER)).jobs == ()
    assert await jobs.purge(OTHER, ended_before=1 << 60) == 0
    assert sum((await jobs.counts(OTHER)).values()) == 0
    assert (await jobs.head(ME, "j")).id == "j"


async def fill(shell: Shell, count: int) -> list[str]:
    """Ids, newest first; every third is done, every third failed, two share each moment."""
    for number in range(count):
        shell.clock.now += number % 2
        shell.submit(ME, f"j{number:03}")
        if number % 3:
            await shell.run(ME, f"j{number:03}", fail=("t0",) if number % 3 == 2 else ())
    heads = [shell.load(ME, f"j{number:03}").head for number in range(count)]
    return [head.id for head in sorted(heads, key=lambda head: (head.created, head.id), reverse=True)]


async def test_pages_list_every_job_once_newest_first(shell: Shell, jobs: SqlJobRepository) -> None:
    expected = await fill(shell, 31)
    for size in (1, 4, 10, 31, 50):
        seen: list[str] = []
        for offset in range(0, 40, size):
            page = await jobs.page(ME, limit=size, offset=offset)
            assert page.total == 31
            seen += [head.id for head, _, _ in page.jobs]
        assert seen == expected


async def test_pages_of_one_status_count_and_list_only_that(shell: Shell, jobs: SqlJobRepository) -> None:
    expected = await fill(shell, 31)
    counts = await jobs.counts(ME)
    assert counts[JobStatus.RUNNING] == 0
    for status in (JobStatus.PENDING, JobStatus.DONE, JobStatus.FAILED):
        mine = [job for job in expected if shell.load(ME, job).head.status is status]
        assert counts[status] == len(mine) > 9
        for offset in range(len(mine) + 2):
            page = await jobs.page(ME, status=status, limit=4, offset=offset)
            assert [head.id for head, _, _ in page.jobs] == mine[offset : offset + 4]
            assert page.total == len(mine)


async def test_a_cursor_goes_on_where_the_last_page_ended_while_jobs_come_in(
    shell: Shell, jobs: SqlJobRepository
) -> None:
    expected = await fill(shell, 20)
    seen: list[str] = []
    before: tuple[int, str] | None = None
    while page := (await jobs.page(ME, limit=6, before=before)).jobs:
        seen += [head.id for head, _, _ in page]
        before = (page[-1][0].created, page[-1][0].id)
        shell.clock.now += 1000
        shell.submit(ME, f"new{len(seen)}")
    assert seen == expected


async def test_a_page_shows_intent_and_request(shell: Shell, jobs: SqlJobRepository) -> None:
    shell.submit(ME, "j", plan(intent="rechnung", description="Größte Rechnung, bitte"))
    [(head, intent, description)] = (await jobs.page(ME)).jobs
    assert (head.id, intent, description) == ("j", "rechnung", "Größte Rechnung, bitte")


@pytest.mark.parametrize(("limit", "offset", "field"), [(0, 0, "limit"), (-1, 0, "limit"), (1, -1, "offset")])
async def test_a_senseless_page_is_refused(
    jobs: SqlJobRepository, limit: int, offset: int, field: str
) -> None:
    for call in (jobs.page, jobs.dead_letters):
        with pytest.raises(BadInput) as caught:
            await call(ME, limit=limit, offset=offset)
        assert caught.value.field == field


async def test_only_jobs_out_of_retries_are_dead_letters(shell: Shell, jobs: SqlJobRepository) -> None:
    for job, retries in (("alive", 3), ("dead1", 0), ("dead2", 1)):
        shell.submit(ME, job, plan(max_retries=retries))
        await shell.run(ME, job, fail=("t0",))
    assert [head.id for head, _, _ in (await jobs.dead_letters(ME)).jobs] == ["dead1"]
    shell.clock.now += 10
    await shell.give(ME, "dead2", lambda now: facts.JobReopened(time=now, by="key_1"))
    await shell.run(ME, "dead2", fail=("t0",))
    page = await jobs.dead_letters(ME)
    assert ([head.id for head, _, _ in page.jobs], page.total) == (["dead2", "dead1"], 2)
    page = await jobs.dead_letters(ME, limit=1, offset=1)
    assert ([head.id for head, _, _ in page.jobs], page.total) == (["dead1"], 2)


async def test_events_are_numbered_without_gaps_and_hash_to_their_leaves(
    shell: Shell, jobs: SqlJobRepository
) -> None:
    shell.submit(ME, "j", plan("web.goto", "mail.send"))
    await shell.run(ME, "j")
    found = await jobs.events(ME, "j")
    assert [event.number for event in found] == list(range(1, shell.load(ME, "j").head.number + 1))
    assert all(verify(event.body, None, bytes.fromhex(event.leaf)) for event in found)
    assert any(
        isinstance(event.event, facts.TaskSucceeded) and event.event.result == {"value": "Grüße an Müller"}
        for event in found
    )
    assert await jobs.events(ME, "j", after=3, limit=2) == found[3:5]
    assert await jobs.events(ME, "j", after=found[-1].number) == ()


async def test_tasks_are_listed_in_the_plans_order_and_found_by_name(
    shell: Shell, tasks: SqlTaskRepository
) -> None:
    shell.submit(ME, "j", plan("web.goto", "mail.send", "flow.noop"))
    await shell.run(ME, "j", fail=("t1",))
    listed = await tasks.list(ME, "j")
    assert [(name, run.status.value) for name, run in listed][:2] == [("t0", "done"), ("t1", "failed")]
    assert [name for name, _ in await tasks.list(ME, "j", status=TaskStatus.DONE)] == ["t0"]
    assert (await tasks.get(ME, "j", "t0")).result == {"value": "Grüße an Müller"}
    with pytest.raises(NotFound, match="no task größe") as caught:
        await tasks.get(ME, "j", "größe")
    assert "t0, t1, t2" in str(caught.value.remedy)


async def test_timers_are_found_by_what_is_due(shell: Shell, database: Database) -> None:
    now = shell.clock.now_ms()
    steps = SqlSteps(database)
    try:
        assert steps.next_due() == 0
        for number in range(3):
            shell.submit(ME, f"j{number}", plan(timeout=5000 - number * 1000))
            await shell.give(ME, f"j{number}", lambda now: facts.JobStarted(time=now))
        assert steps.next_due() == now + 3000
        assert steps.due(now + 2999, 10) == []
        assert [command.job for command in steps.due(now + 5000, 10)] == ["j2", "j1", "j0"]
        assert [command.job for command in steps.due(now + 5000, 2)] == ["j2", "j1"]
    finally:
        steps.close()


def test_many_jobs_are_read_as_each_of_them(shell: Shell, database: Database) -> None:
    names = [f"j{number:03}" for number in range(300)]
    for name in names:
        shell.submit(ME, name, plan("web.goto", "flow.noop"))
    shell.submit(OTHER, "fremd", plan())
    with closing(database.connect()) as connection:
        for statement in (
            "UPDATE jobs SET head = x'7b7d' WHERE id = ?",
            "DELETE FROM job_specs WHERE job = ?",
        ):
            connection.execute(statement, (names.pop(),))
    steps = SqlSteps(database)
    try:
        wanted = [*names, "j298", "j299", "fremd", "nirgends"]
        found = steps.load_many([(ME, name) for name in wanted])
        assert list(found) == [(ME, name) for name in names]
        assert all(stored == steps.load(*key) for key, stored in found.items())
        assert steps.load_many([]) == {}
    finally:
        steps.close()


@pytest.mark.parametrize(
    ("table", "job", "body"),
    [("jobs", "id", "head"), ("task_runs", "job", "body"), ("outbox", "job", "body")],
)
async def test_a_row_with_more_than_one_value_gives_none_of_them_to_another_job(
    table: str, job: str, body: str, shell: Shell, database: Database
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        shell.submit(ME, name, plan("web.goto"))
        await shell.give(ME, name, lambda now: facts.JobStarted(time=now))
    steps = SqlSteps(database)
    try:
        before = {name: steps.load(ME, name) for name in names}
        with closing(database.connect()) as connection:
            [(text,)] = connection.execute(f"SELECT CAST({body} AS TEXT) FROM {table} WHERE {job} = 'b'")
            value = text if table != "outbox" else f'["{before["b"].commands[0].key}",{text}]'
            spliced = f"CAST({text!r} || '],[0,{value}],[1,{value}],[2,' || {value!r} AS BLOB)"
            connection.execute(f"UPDATE {table} SET {body} = {spliced} WHERE {job} = 'b'")

        found = steps.load_many([(ME, name) for name in names])

        assert found == {(ME, name): before[name] for name in ("a", "c")}
        with pytest.raises(Unreadable):
            steps.load(ME, "b")
    finally:
        steps.close()


def test_what_a_row_says_of_another_job_is_not_taken_for_it(shell: Shell, database: Database) -> None:
    for name in ("a", "b", "c"):
        shell.submit(ME, name, plan("web.goto"))
    with closing(database.connect()) as connection:
        connection.execute("UPDATE jobs SET head = (SELECT head FROM jobs WHERE id = 'a') WHERE id = 'b'")
    steps = SqlSteps(database)
    try:
        assert [job for _, job in steps.load_many([(ME, "a"), (ME, "b"), (ME, "c")])] == ["a", "c"]
        with pytest.raises(Unreadable, match="head is that of a"):
            steps.load(ME, "b")
        assert {head.id for head, _, _ in steps.page(ME, None, 10, 0)[0]} == {"a", "b", "c"}
    finally:
        steps.close()


def test_jobs_that_are_too_much_for_one_answer_of_the_store_are_read_in_several(
    shell: Shell, database: Database
) -> None:
    names = [f"j{number:02}" for number in range(20)]
    for name in names:
        shell.submit(ME, name, plan(context={"text": "ü" * 1_000}))
    shell.submit(ME, "zu-gross", plan(context={"text": "ü" * 9_000}))

    with closing(database.connect(query_only=True)) as connection:

        def read(statement: str, values: Sequence[Any]) -> list[Any]:
            rows: list[Any] = connection.execute(statement, values).fetchall()
            if any(len(value) > 10_000 for row in rows for value in row):
                raise InternalError("the store refused a statement: string or blob too big")
            return rows

        found = load_many(read, [(ME, name) for name in [*names, "zu-gross"]])

    assert list(found) == [(ME, name) for name in names]


# -- deletion ------------------------------------------------------------------------------------------------


async def test_after_erasure_nothing_personal_is_left_and_the_trail_still_proves_itself(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    shell.submit(ME, "j", plan("web.goto", "mail.send", context={"user": "Müller"}, max_retries=0))
    shell.submit(ME, "k", plan())
    await shell.run(ME, "j", fail=("t1",))
    message = StoredMessage(
        id="m", sender="agent", direction="in", type="done", received=1, body="Müller".encode(), job="j"
    )
    await SqlMessageRepository(database).append(ME, message)
    await jobs.purge(ME, ended_before=0)
    assert len(re.findall("Müller", dump(database))) > 5
    before = await jobs.events(ME, "j")

    await jobs.erase(ME, "j")

    shell_copy = await jobs.get(ME, "k")
    assert shell_copy.spec.description == "Schick Müller die Rechnung"
    assert len(re.findall("Müller", dump(database))) == 3  # the other job's request, twice, and its argument
    after = await jobs.events(ME, "j")
    assert [event.leaf for event in after] == [event.leaf for event in before]
    assert [event.body for event in after] == [event.body for event in before]
    assert all(verify(event.body, None, bytes.fromhex(event.leaf)) for event in after)
    erased = await jobs.get(ME, "j")
    assert [task.id for task in erased.spec.tasks] == ["t0", "t1"]
    assert erased.tasks[1].error is not None
    assert (erased.tasks[1].error.code, erased.tasks[1].error.message) == ("login_refused", "")
    await jobs.erase(ME, "j")


async def test_the_reason_of_a_cancel_is_erased_too(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    shell.submit(ME, "j", JobSpec(plan().tasks))
    await shell.give(
        ME, "j", lambda now: facts.CancelRequested(time=now, by="key_1", reason="Frau Jäger ist weg")
    )
    assert "Jäger" in dump(database)
    await jobs.erase(ME, "j")
    assert "Jäger" not in dump(database)


async def test_what_people_and_agents_put_in_place_of_the_plan_is_erased_too(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    """Fixed and proposed arguments, the answer and the conditions with what the request named in them."""
    first, second = plan("flow.noop", "flow.noop").tasks
    when = 'tasks.t0.result.value == "Jäger"'
    spec = plan(max_retries=0, answer="Frau Jäger hat sie")
    spec = msgspec.structs.replace(spec, tasks=(first, msgspec.structs.replace(second, when=when)))
    shell.submit(ME, "j", spec)
    await shell.run(ME, "j", fail=("t0",))
    fixes = {"0": {"value": "Frau Jäger"}}
    await shell.give(
        ME, "j", lambda now: facts.JobReopened(time=now, by="key_1", dead_letter=True, fixes=fixes)
    )
    await shell.give(ME, "j", lambda now: facts.JobStarted(time=now))
    epoch = shell.load(ME, "j").task(0).epoch
    here = {"task": 0, "epoch": epoch}
    await shell.give(ME, "j", lambda now: facts.AgentChosen(time=now, agent="agent://test/eins", **here))  # type: ignore[arg-type]
    arguments = {"value": "Herr Jäger"}
    await shell.give(ME, "j", lambda now: facts.TaskProposed(time=now, arguments=arguments, **here))  # type: ignore[arg-type]
    await shell.give(ME, "j", lambda now: facts.CancelRequested(time=now, by="key_1"))
    assert (await jobs.get(ME, "j")).tasks[0].proposed is not None
    assert "Jäger" in dump(database)

    await jobs.erase(ME, "j")

    assert "Jäger" not in dump(database)


async def test_erased_bytes_are_gone_from_the_file(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    shell.submit(
        ME, "j", plan(description="Geheimnisträger " * 10, context={"user": "Geheimnisträger " * 500})
    )
    await shell.run(ME, "j")
    await jobs.erase(ME, "j")
    checkpoint = database.connect()
    assert checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    checkpoint.close()
    assert "Geheimnisträger".encode() not in database.path.read_bytes()


async def test_a_job_that_has_not_ended_is_not_erased(shell: Shell, jobs: SqlJobRepository) -> None:
    shell.submit(ME, "j")
    with pytest.raises(Conflict, match="only an ended job") as caught:
        await jobs.erase(ME, "j")
    assert caught.value.remedy
    assert (await jobs.get(ME, "j")).spec == plan()


async def test_old_jobs_are_purged_with_everything_of_theirs(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    names = await fill(shell, 12)
    shell.clock.now += 10_000
    shell.submit(ME, "young")
    await shell.run(ME, "young")
    edge = shell.load(ME, "young").head.ended
    old = [name for name in names if shell.load(ME, name).head.status.ended]
    assert await jobs.purge(ME, ended_before=edge, limit=3) == 3
    assert await jobs.purge(ME, ended_before=edge) == len(old) - 3
    assert await jobs.purge(ME, ended_before=edge) == 0
    counts = await jobs.counts(ME)
    assert (counts[JobStatus.DONE], counts[JobStatus.FAILED]) == (1, 0)
    assert (await jobs.page(ME)).total == len((await jobs.page(ME)).jobs) == 12 - len(old) + 1
    left = dump(database)
    assert not [name for name in old if name in left]
    assert "young" in left


async def test_nothing_young_or_open_is_purged(shell: Shell, jobs: SqlJobRepository) -> None:
    shell.submit(ME, "waiting")
    shell.submit(ME, "done")
    await shell.run(ME, "done")
    assert await jobs.purge(ME, ended_before=shell.load(ME, "done").head.ended) == 0
    assert await jobs.purge(ME, ended_before=1 << 60) == 1
    assert (await jobs.head(ME, "waiting")).status is JobStatus.PENDING


# -- what should not happen ----------------------------------------------------------------------------------


def spoil(database: Database, head: bytes) -> None:
    database.write_now(lambda c: c.execute(sa.text("UPDATE jobs SET head = :head"), {"head": head}))


async def test_damaged_bytes_are_named(shell: Shell, jobs: SqlJobRepository, database: Database) -> None:
    shell.submit(ME, "j")
    spoil(database, b"\xff{")
    with pytest.raises(InternalError, match="job head cannot be read"):
        await jobs.head(ME, "j")


async def test_a_job_of_newer_code_is_refused(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    shell.submit(ME, "j")
    spoil(database, msgspec.json.encode(JobHead(ME, "j", 1, schema=SCHEMA + 1)))
    with pytest.raises(Unavailable, match="reads up to"):
        await jobs.get(ME, "j")


async def test_lists_use_indexes_whatever_they_ask(database: Database, shell: Shell) -> None:
    """No statement of the repositories may walk a whole table."""
    plans: list[str] = []

    @sa.event.listens_for(database._reader, "before_cursor_execute")
    def explain(
        _c: object, cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            connection = database.connect(query_only=True)
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.extend(row[3] for row in rows)
            connection.close()

    shell.submit(ME, "j")
    jobs, audit = SqlJobRepository(database), SqlAuditRepository(database)
    for status in (None, JobStatus.DONE, JobStatus.PENDING):
        await jobs.page(ME, status=status)
        await jobs.page(ME, status=status, before=(1 << 50, "x"))
    await jobs.dead_letters(ME)
    await jobs.get(ME, "j")
    await jobs.events(ME, "j")
    await jobs.purge(ME, ended_before=5)
    await audit.leaves(ME)
    await audit.numbers(ME)
    assert len(plans) > 15
    walks = ("SCAN jobs", "SCAN job_", "SCAN events", "SCAN outbox", "SCAN task_runs", "USE TEMP B-TREE")
    assert [plan for plan in plans if plan.startswith(walks)] == []


@pytest.mark.parametrize("value", ["CAST(x'ff' AS TEXT)", "x'ff'", "5", "1.5"])
@pytest.mark.parametrize("column", ["status", "intent", "description", "created", "head"])
async def test_lists_show_a_damaged_job_among_the_others(
    shell: Shell, jobs: SqlJobRepository, database: Database, column: str, value: str
) -> None:
    for job in ("a", "b", "c"):
        shell.submit(ME, job, plan(max_retries=0))
        await shell.run(ME, job, fail=("t0",))
    changed = sa.text(f"UPDATE jobs SET {column} = {value} WHERE id = 'b'")
    await database.write(lambda c: c.execute(changed))

    with closing(SqlSteps(database)) as steps:
        pages = [
            steps.page(ME, None, 10, 0)[0],
            (await jobs.page(ME)).jobs,
            (await jobs.dead_letters(ME)).jobs,
        ]

    for page in pages:
        shown = {head.id: head for head, _, _ in page}
        assert shown.keys() == {"a", "b", "c"}
        assert shown["a"] == shell.load(ME, "a").head
        marked = "cannot be read" in shown["b"].reason
        assert marked == (column == "head")
        assert all(isinstance(text, str) for _, *texts in page for text in texts)


async def test_lists_show_a_job_whose_name_is_no_utf8_among_the_others(
    shell: Shell, jobs: SqlJobRepository, database: Database
) -> None:
    for job in ("a", "b", "c", "d", "e"):
        shell.submit(ME, job, plan(max_retries=0))
        await shell.run(ME, job, fail=("t0",))
        shell.clock.now += 10
    renamed = "UPDATE jobs SET id = CAST(x'62' || substr(x'fffe', unicode(id) - 97, 1) AS TEXT)"
    changed = sa.text(f"{renamed} WHERE id IN ('b', 'c')")
    await database.write(lambda c: c.execute(changed))
    told = ["e", "d", "b\ufffd", "b\ufffd", "a"]

    def ids(page: JobPage) -> list[str]:
        return [head.id for head, _, _ in page.jobs]

    with closing(SqlSteps(database)) as steps:
        assert [head.id for head, _, _ in steps.page(ME, None, 10, 0)[0]] == told
    for status in (None, JobStatus.FAILED):
        assert ids(await jobs.page(ME, status=status)) == told
        assert ids(await jobs.page(ME, status=status, offset=3)) == told[3:], "counted from the oldest"
    letters = await jobs.dead_letters(ME)
    assert ids(letters) == told
    assert ["cannot be read" in head.reason for head, _, _ in letters.jobs] == [
        False,
        False,
        True,
        True,
        False,
    ]

    assert await jobs.purge(ME, ended_before=1 << 60) == 5
    assert (await jobs.page(ME)).total == len((await jobs.page(ME)).jobs) == 0


async def test_of_a_job_that_cannot_be_read_at_all_the_list_says_so(shell: Shell, database: Database) -> None:
    shell.submit(ME, "a")
    changed = sa.text("UPDATE jobs SET head = 5, status = 'ended', created = 'gestern'")
    await database.write(lambda c: c.execute(changed))
    with closing(SqlSteps(database)) as steps:
        [(head, _, _)], _ = steps.page(ME, None, 10, 0)
    assert (head.id, head.status, head.created) == ("a", JobStatus.PENDING, 0)
    assert "cannot be read" in head.reason


@pytest.mark.parametrize(
    "change", ["body = x'ff'", "body = 'text'", "body = 5", "private = 5", "body = NULL"]
)
async def test_a_damaged_event_stands_among_the_others(shell: Shell, database: Database, change: str) -> None:
    shell.submit(ME, "a")
    await shell.run(ME, "a")
    with closing(SqlSteps(database)) as steps:
        before = steps.events(ME, "a", 0, 100)
        altered = sa.text(f"UPDATE OR IGNORE events SET {change}, time = 'nie' WHERE number = 2")
        await database.write(lambda c: c.execute(altered))
        after = steps.events(ME, "a", 0, 100)
    if "NULL" in change:
        assert after == before, "the store itself refuses it"
        return
    assert after[:1] + after[2:] == before[:1] + before[2:]
    assert (after[1].number, after[1].event.time) == (2, 0)
    told = entry(after[1])
    assert (told.type, told.text.partition(" and")[0]) == (
        kind(before[1].event),
        "Event 2 of this job is damaged",
    )


async def test_an_event_without_a_number_is_left_out_among_the_others(
    shell: Shell, database: Database
) -> None:
    shell.submit(ME, "a")
    await shell.run(ME, "a")
    with closing(SqlSteps(database)) as steps:
        before = steps.events(ME, "a", 0, 100)
        for value in ("'zwei'", "2.5", "x'02'"):
            altered = sa.text(f"UPDATE events SET number = {value} WHERE seq = 2")
            await database.write(lambda c, altered=altered: c.execute(altered))
            assert steps.events(ME, "a", 0, 100) == before[:1] + before[2:]
