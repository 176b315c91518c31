"""The engine on Temporal keeps the engine's contract, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.engine import Begin, EngineContract
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


class TestTemporalEngine(EngineContract):
    @pytest.fixture
    def begin(self, temporal: TemporalServer, tmp_path: Path) -> Begin:
        return lambda outside: temporal_life(temporal, tmp_path, outside.executors())
