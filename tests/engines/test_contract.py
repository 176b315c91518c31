"""The local engine keeps the engine's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cpa.bootstrap.system import Chance, SystemClock, job_ids
from cpa.engines.local.engine import LocalEngine
from cpa.executors.flow import FlowExecutor
from cpa.ports.engine import Engine
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from tests.contracts.engine import Begin, EngineContract, Outside
from tests.engines.world import staff


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def begin(self, tmp_path: Path) -> Begin:
        @asynccontextmanager
        async def begin(outside: Outside) -> AsyncIterator[Engine]:
            clock = SystemClock()
            database = Database.open(tmp_path / "cpa.db")
            steps = SqlSteps(database)
            try:
                _, orchestrator, runtime = staff([FlowExecutor(), *outside.executors()], clock)
                async with LocalEngine(steps, orchestrator, clock, job_ids(Chance())) as engine, runtime:
                    yield engine
            finally:
                steps.close()
                database.close()

        return begin
