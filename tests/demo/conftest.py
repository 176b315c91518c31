"""The demo's own scheduler follows the one flag too: see `tests.servers.scheduler`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.scheduler import TEMPORAL, engine


@pytest.fixture(autouse=True)
def engine_of_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def rest() -> Iterator[None]:
    yield
    if TEMPORAL:
        # The client library's own threads must be at rest before the interpreter ends.
        time.sleep(0.3)
