from __future__ import annotations

import pytest
from tests.contracts.repository import TokenStoreContract

from cpa.repository.database import Database
from cpa.repository.enrolment import SqlTokenStore


class TestSqlTokenStore(TokenStoreContract):
    @pytest.fixture
    def tokens(self, database: Database) -> SqlTokenStore:
        return SqlTokenStore(database)
