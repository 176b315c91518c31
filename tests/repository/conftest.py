"""A store in a fresh folder, and a shell that fills it with true histories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.shell import Shell

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
