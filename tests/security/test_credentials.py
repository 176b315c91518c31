"""Whether a key lives is looked up for each turn in the register of agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from cpa.bootstrap.system import SystemClock
from cpa.errors import Unauthorized
from cpa.ports.keys import Scope
from cpa.repository.database import Database
from cpa.repository.enrolment import SqlTokenStore
from cpa.repository.keys import SqlKeyStore
from cpa.security.auth import Hasher, issue
from cpa.security.credentials import AgentCredentials
from cpa.security.enrolment import Enrolment

ME = "default"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "cpa.db")) as database:
        yield database


async def test_one_key_is_looked_at_however_many_there_are(tmp_path: Path, database: Database) -> None:
    hasher, clock, keys = Hasher.of(tmp_path), SystemClock(), SqlKeyStore(database)
    credentials = AgentCredentials(keys, hasher, clock, Enrolment(SqlTokenStore(database), hasher, clock))
    _, stored = issue(hasher, name="anna", scopes=frozenset((Scope.AGENT,)), now=1, tenant=ME)
    await keys.add(stored)
    asked: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(database._reader, "before_cursor_execute", lambda *given: asked.append(given[2:4]))

    await credentials.check(ME, stored.id)

    [(statement, values)] = [each for each in asked if each[0].startswith("SELECT")]
    with closing(database.connect(query_only=True)) as connection:
        [plan] = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
    assert plan[3] == "SEARCH api_keys USING PRIMARY KEY (tenant=? AND id=?)"
    await keys.revoke(ME, stored.id, clock.now_ms())
    for dead in (stored.id, "unheard of"):
        with pytest.raises(Unauthorized):
            await credentials.check(ME, dead)
