"""What the hot step reads of many jobs, it reads by an index, whatever their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps

KINDS = ("dispatch", "verify")


@pytest.fixture
def steps(database: Database) -> Iterator[SqlSteps]:
    steps = SqlSteps(database)
    yield steps
    steps.close()


def enter(database: Database, kind: str, tenant: str, job: bytes) -> None:
    database.write_now(
        lambda c: c.execute(
            sa.text(
                "INSERT INTO outbox (tenant, job, key, kind, body, due) "
                "VALUES (:tenant, CAST(:job AS TEXT), 'k', :kind, x'7b7d', 0)"
            ),
            {"kind": kind, "tenant": tenant, "job": job},
        )
    )


def walk(steps: SqlSteps, limit: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = ("", "")
    while page := steps.open_jobs(KINDS, after, limit):
        assert len(page) <= limit
        found, after = [*found, *page], page[-1]
    return found


def test_a_walk_goes_on_in_the_index_where_the_page_before_ended(database: Database, steps: SqlSteps) -> None:
    told: list[str] = []
    steps._reader.set_trace_callback(told.append)
    steps.open_jobs(KINDS, ("acme", "größe"), 200)

    with closing(database.connect(query_only=True)) as connection:
        plans = [row[3] for each in told for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    bounds = "outbox_kind (kind=? AND (tenant,job)>(?,?))"
    assert len(plans) == len(KINDS)
    assert all(plan.endswith(bounds) for plan in plans), plans


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_join_also_after_a_name_that_is_no_utf8(
    database: Database, steps: SqlSteps, limit: int
) -> None:
    names = [b"a", "ä".encode(), "\U0001f600".encode(), b"\xff", b"\xff\xfe"]
    for place, name in enumerate(names):
        enter(database, KINDS[place % 2], "acme", name)
    enter(database, KINDS[0], "beta", b"a")

    known = [("acme", name.decode(errors="surrogateescape")) for name in names]
    assert walk(steps, limit) == [*known, ("beta", "a")]
