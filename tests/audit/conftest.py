"""A store, a shell that fills it with true histories, and the audit room on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.shell import Shell

from cpa.audit.log import AuditLog
from cpa.audit.query import AuditQuery
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "cpa.db")
    yield database
    database.close()


@pytest.fixture
def shell(database: Database) -> Iterator[Shell]:
    shell = Shell(database)
    yield shell
    shell.close()


@pytest.fixture
def log(database: Database, shell: Shell) -> AuditLog:
    return AuditLog(SqlAuditRepository(database), shell.clock)


@pytest.fixture
def query(database: Database) -> AuditQuery:
    return AuditQuery(SqlAuditRepository(database))
