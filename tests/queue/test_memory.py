from __future__ import annotations

import pytest
from tests.contracts.queue import JobQueueContract, MakeQueue

from cpa.queue.memory import MemoryJobQueue


class TestMemoryJobQueue(JobQueueContract):
    @pytest.fixture
    def make_queue(self) -> MakeQueue:
        return MemoryJobQueue
