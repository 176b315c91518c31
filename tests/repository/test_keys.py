from __future__ import annotations

import pytest
from tests.contracts.repository import KeyStoreContract

from cpa.repository.database import Database
from cpa.repository.keys import SqlKeyStore


class TestSqlKeyStore(KeyStoreContract):
    @pytest.fixture
    def keys(self, database: Database) -> SqlKeyStore:
        return SqlKeyStore(database)
