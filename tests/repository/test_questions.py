"""Who asks a person something is found by an index, and a name that is no text ends no walk."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from cpa.repository.database import Database
from cpa.repository.questions import KIND, SqlQuestionQuery

NAMES = [b"a", b"a\xff", b"b", b"b\xff", b"\xc3\xa4", b"\xff"]
SOUND = ["a", "b", "ä"]


@pytest.fixture
def asking(database: Database) -> SqlQuestionQuery:
    """On a store in which these jobs ask two things each, and one that asks nothing."""
    enter = sa.text(
        "INSERT INTO outbox (tenant, job, key, kind, body, due) "
        "VALUES ('acme', CAST(:job AS TEXT), :key, :kind, x'7b7d', 0)"
    )
    rows = [{"job": name, "key": key, "kind": KIND} for name in NAMES for key in ("1", "2")]
    quiet = {"job": b"aa", "key": "1", "kind": "dispatch"}
    database.write_now(lambda c: c.execute(enter, [*rows, quiet]))
    return SqlQuestionQuery(database)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_join_and_leave_out_what_names_no_job(asking: SqlQuestionQuery, limit: int) -> None:
    found: list[str] = []
    while page := await asking.asking("acme", after=found[-1] if found else "", limit=limit):
        assert len(page) == min(limit, len(SOUND) - len(found))
        found += page
    assert found == SOUND


async def test_what_asks_nothing_is_not_looked_at(asking: SqlQuestionQuery, database: Database) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(
        database._reader, "before_cursor_execute", lambda *given: statements.append((given[2], given[3]))
    )
    await asking.asking("acme", after="a", limit=1)
    asked = [(statement, given) for statement, given in statements if statement.startswith("SELECT")]
    with closing(database.connect(query_only=True)) as connection:
        plans = [
            row[3]
            for statement, given in asked
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)
        ]
    assert plans == ["SEARCH outbox USING COVERING INDEX outbox_kind (kind=? AND tenant=? AND job>?)"] * len(
        asked
    )
