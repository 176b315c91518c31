from __future__ import annotations

import pytest
from tests.contracts.repository import MessageRepositoryContract

from cpa.repository.database import Database
from cpa.repository.messages import SqlMessageRepository


class TestSqlMessageRepository(MessageRepositoryContract):
    @pytest.fixture
    def repository(self, database: Database) -> SqlMessageRepository:
        return SqlMessageRepository(database)
