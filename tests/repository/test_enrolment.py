from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.contracts.repository import ME, TokenStoreContract

from cpa.ports.enrolment import StoredToken
from cpa.repository.database import Database
from cpa.repository.enrolment import SqlTokenStore


class TestSqlTokenStore(TokenStoreContract):
    @pytest.fixture
    def tokens(self, database: Database) -> SqlTokenStore:
        return SqlTokenStore(database)


@pytest.mark.parametrize(
    ("column", "value"),
    [("name", "CAST(x'ff' AS TEXT)"), ("uses", "'viele'"), ("expires", "1.5"), ("revoked", "x'00'")],
)
async def test_a_row_that_is_not_as_it_was_written_opens_nothing_and_hides_no_other(
    database: Database, column: str, value: str
) -> None:
    store = SqlTokenStore(database)
    for id in ("odd", "sound"):
        token = StoredToken(tenant=ME, id=id, hash=id.encode() * 8, created=5)
        await store.add(token)
    changed = sa.text(f"UPDATE enrolment_tokens SET {column} = {value} WHERE id = 'odd'")
    assert await database.write(lambda c: c.execute(changed).rowcount) == 1

    listed = {each.id: each for each in await store.list(ME)}

    assert listed["sound"] == token
    assert not listed["odd"].lives(10)
    assert await store.spend(b"odd" * 8, "eins", 10) is None
    assert await store.spend(b"sound" * 8, "eins", 10) == token
