"""One Temporal server for all tests of the second engine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.servers.temporal import TemporalServer, common


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    server = common(tmp_path_factory.mktemp("temporal"))
    print(f"\nTemporal server: {server.program}")
    server.start()
    yield server
    server.stop()
    # The client library's own threads must be at rest before the interpreter ends.
    time.sleep(0.3)
