"""A dependency is down for a minute under load: retries stay few, and after it heals the work flows at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.classes import FailureClass
from cpa.core.job import JobStatus
from cpa.ports.transport import Attempt
from tests.engines.fleet import BEAT, TENANT, Fleet, Worker, job, live

JOBS = 5_000
RATE = 50
"""Jobs per second."""
DOWN, HEALED = 20.0, 80.0
SLICE = 5.0


class Dependency:
    """What every attempt needs; it answers or refuses."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.done: Counter[int] = Counter()
        """Successes by slice of time."""

    def asked(self, attempt: Attempt) -> FailureClass | None:
        now = asyncio.get_running_loop().time()
        self.attempts[attempt.job, attempt.task] += 1
        if DOWN <= now < HEALED:
            return FailureClass.TECHNICAL
        self.done[int(now / SLICE)] += 1
        return None

    @property
    def traffic(self) -> int:
        return self.attempts.total()

    @property
    def retries(self) -> int:
        return self.traffic - len(self.attempts)


@pytest.mark.soak
def test_a_minute_of_failure_costs_few_retries_and_is_over_soon_after_it_heals(tmp_path: Path) -> None:
    dependency = Dependency()
    workers = [
        Worker(name, seconds=0.2, slots=40, fails=dependency.asked) for name in ("eins", "zwei", "drei")
    ]
    ends: Counter[JobStatus] = Counter()

    async def story(fleet: Fleet) -> None:
        async with fleet.scheduler(tmp_path) as engine:
            await asyncio.sleep(BEAT)
            names = []
            submission = job()
            for _ in range(JOBS // RATE):
                names += [receipt.job for receipt in await engine.submit_many([submission] * RATE)]
                await asyncio.sleep(1)
            for name in names:
                ends[(await engine.wait(TENANT, name, 300)).status] += 1

    live(story, *workers)
    healthy = RATE * SLICE
    recovered = int((HEALED + 30) / SLICE)
    assert ends.total() == JOBS
    assert dependency.retries <= 0.1 * dependency.traffic
    assert sum(dependency.done[slice] for slice in range(recovered)) >= 0.95 * JOBS
    assert dependency.done[int(HEALED / SLICE) + 1] >= 0.95 * healthy
