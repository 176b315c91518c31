"""What the store has in numbers: over all tenants, and by nothing but what is open."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.repository.shell import Shell, plan

from cpa.core.job import JobSpec, TaskSpec
from cpa.repository.database import Database
from cpa.repository.figures import COMMANDS, QUESTIONS, SqlFigures

NO_COMMANDS = dict.fromkeys(COMMANDS, 0)
NO_QUESTIONS = dict.fromkeys(QUESTIONS, 0)


async def start(shell: Shell, tenant: str, job: str, *tasks: TaskSpec) -> None:
    """A job of these tasks, begun."""
    from cpa.core.events import JobStarted

    shell.submit(tenant, job, JobSpec(tasks))
    await shell.give(tenant, job, lambda now: JobStarted(time=now))


async def test_an_empty_store_has_nothing_of_everything(database: Database) -> None:
    found = await SqlFigures(database).read(1)

    assert found.jobs == {"pending": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 0}
    assert (found.questions, found.commands) == (NO_QUESTIONS, NO_COMMANDS)
    assert (found.dead_letters, found.overdue, found.late) == (0, 0, 0)


async def test_jobs_of_all_tenants_are_counted_together(database: Database, shell: Shell) -> None:
    for tenant in ("default", "größe"):
        shell.submit(tenant, "waiting")
        shell.submit(tenant, "done")
        await shell.run(tenant, "done")
        shell.submit(tenant, "dead", plan(max_retries=0))
        await shell.run(tenant, "dead", fail=("t0",))

    found = await SqlFigures(database).read(shell.clock.now_ms())

    assert found.jobs == {"pending": 2, "running": 0, "done": 2, "failed": 2, "cancelled": 0}
    assert found.dead_letters == 2


async def test_what_is_asked_is_counted_by_its_kind(database: Database, shell: Shell) -> None:
    await start(shell, "default", "allow", TaskSpec("pay", "flow.noop", approval=True))
    await start(shell, "größe", "ask", TaskSpec("say", "person.ask", {"question": "Wie groß?"}))
    await start(shell, "größe", "work", TaskSpec("do", "flow.noop"))

    found = await SqlFigures(database).read(shell.clock.now_ms())

    assert found.questions == NO_QUESTIONS | {"approval": 1, "input": 1}
    assert found.commands == NO_COMMANDS | {"ask_person": 2, "dispatch_task": 1}


async def test_a_timer_is_overdue_from_its_time_on(database: Database, shell: Shell) -> None:
    await start(shell, "default", "j", TaskSpec("do", "flow.noop", approval=True))
    rows = "INSERT INTO outbox VALUES ('default', 'j', :key, 'start_timer', :due, '{}')"
    for key, due in (("a", 5_000), ("b", 6_500), ("c", 9_001)):
        await database.write(lambda c, row={"key": key, "due": due}: c.execute(sa.text(rows), row))

    figures = SqlFigures(database)

    seen = [await figures.read(now) for now in (4_999, 5_000, 9_000)]
    assert [(each.overdue, each.late) for each in seen] == [(0, 0), (1, 0), (2, 4)]


@pytest.mark.parametrize("body", ["x'ff7b'", "'{'", "5", "''", "'[]'", "'{\"question\": 7}'"])
async def test_a_damaged_row_makes_no_figure_of_its_own_and_hides_no_other(
    database: Database, shell: Shell, body: str
) -> None:
    for job in ("a", "b"):
        await start(shell, "default", job, TaskSpec("pay", "flow.noop", approval=True))
    await database.write(lambda c: c.execute(sa.text(f"UPDATE outbox SET body = {body} WHERE job = 'a'")))
    await database.write(lambda c: c.execute(sa.text("INSERT INTO job_counts VALUES ('x', 'kaputt', 5)")))

    found = await SqlFigures(database).read(shell.clock.now_ms())

    assert found.questions == NO_QUESTIONS | {"approval": 1}
    assert found.commands["ask_person"] == 2
    assert set(found.jobs) == {"pending", "running", "done", "failed", "cancelled"}


async def test_no_figure_walks_a_table(database: Database, shell: Shell) -> None:
    """Indexes of what is open or dead alone, and the counts that the step keeps."""
    plans: list[str] = []

    @sa.event.listens_for(database._reader, "before_cursor_execute")
    def explain(_c: object, _cursor: object, statement: str, given: tuple[object, ...], *_: object) -> None:
        connection = database.connect(query_only=True)
        plans.extend(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", given))
        connection.close()

    shell.submit("default", "j")
    await SqlFigures(database).read(5)

    assert len(plans) >= 5
    walks = [each for each in plans if each.startswith("SCAN") and "USING COVERING INDEX" not in each]
    assert walks == ["SCAN job_counts"]
