from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.contracts.repository import ME, KeyStoreContract

from cpa.ports.keys import Scope, StoredKey
from cpa.repository.database import Database
from cpa.repository.keys import SqlKeyStore


class TestSqlKeyStore(KeyStoreContract):
    @pytest.fixture
    def keys(self, database: Database) -> SqlKeyStore:
        return SqlKeyStore(database)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "CAST(x'ff' AS TEXT)"),
        ("scopes", "CAST(x'ff' AS TEXT)"),
        ("scopes", "'admin root'"),
        ("created", "'zwölf'"),
        ("expires", "'zwölf'"),
        ("expires", "CAST(x'ff' AS TEXT)"),
        ("revoked", "0.5"),
    ],
)
async def test_a_row_that_is_not_as_it_was_written_opens_nothing_and_hides_no_other(
    database: Database, column: str, value: str
) -> None:
    store = SqlKeyStore(database)
    for name in ("odd", "sound"):
        key = StoredKey(
            tenant=ME,
            id=f"key_{name}",
            name=name,
            scopes=frozenset((Scope.ADMIN,)),
            hash=name.encode() * 8,
            created=5,
        )
        await store.add(key)
    changed = sa.text(f"UPDATE api_keys SET {column} = {value} WHERE id = 'key_odd'")
    assert await database.write(lambda c: c.execute(changed).rowcount) == 1

    listed = {each.id: each for each in await store.list(ME)}

    assert listed["key_sound"] == key
    assert listed["key_odd"] == await store.find(b"odd" * 8)
    assert (listed["key_odd"].active(10), listed["key_odd"].scopes) == (False, frozenset())
