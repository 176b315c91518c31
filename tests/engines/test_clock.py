"""A machine that slept, or whose clock was set forward: what is due then is noticed within seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.ports.engine import Submission
from cpa.testing.virtual import VirtualClock, VirtualLoop
from tests.engines.world import life

TENANT = "default"
HOUR = 3_600_000
EXPIRES = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=HOUR),))
ONE = JobSpec((TaskSpec(id="a", action="flow.noop"),))


async def slept(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    clock = VirtualClock(loop)
    async with life(folder, Counter(), clock=clock) as (engine, _, _):
        asked = (await engine.submit(Submission(tenant=TENANT, spec=EXPIRES))).job
        later = Submission(tenant=TENANT, spec=ONE, not_before=clock.now_ms() + HOUR)
        postponed = (await engine.submit(later)).job
        await asyncio.sleep(60)

        clock.skew += HOUR  # no time has passed for the loop

        began = loop.time()
        assert (await engine.wait(TENANT, asked, 600)).status is JobStatus.FAILED
        assert (await engine.wait(TENANT, postponed, 600)).status is JobStatus.DONE
        assert loop.time() - began <= 11


def test_the_clock_is_looked_at_again(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(slept(tmp_path))
