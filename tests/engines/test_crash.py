"""The process ends before and after every commit of a scenario; the next life brings every accepted job to its end.

The engine, the orchestrator, the agent and the SQLite store are the real ones; only the ledger of effects and
the moment of the crash come from the test. It runs in virtual time: nothing sleeps, every run takes the same
course.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from cpa.core.classes import EffectClass
from cpa.core.invariants import outstanding, violations
from cpa.core.job import Graph, JobSpec, JobState, JobStatus, TaskSpec, TaskStatus
from cpa.engines.local.engine import LocalEngine
from cpa.ports.engine import Submission
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from cpa.testing.virtual import VirtualClock, VirtualLoop
from tests.engines.world import Crash, life

TENANT = "default"
V, U = EffectClass.VERIFIABLE, EffectClass.UNSAFE
JOBS = {
    "linear": JobSpec(
        (
            TaskSpec(id="a", action="flow.noop"),
            TaskSpec(id="b", action="mark.verifiable", effect=V, needs=(0,)),
            TaskSpec(id="c", action="flow.noop", needs=(1,)),
        )
    ),
    "fan": JobSpec(
        (
            *(TaskSpec(id=f"t{index}", action="mark.verifiable", effect=V) for index in range(3)),
            TaskSpec(id="join", action="flow.noop", needs=(0, 1, 2)),
        )
    ),
    "unsafe": JobSpec((TaskSpec(id="u", action="mark.unsafe", effect=U),)),
}
Effects = Counter[tuple[str, str]]


async def submit_all(engine: LocalEngine, accepted: dict[str, str]) -> None:
    for name, spec in JOBS.items():
        receipt = await engine.submit(Submission(tenant=TENANT, spec=spec))
        accepted[receipt.job] = name


async def settle(engine: LocalEngine, accepted: dict[str, str]) -> None:
    """Until every job has ended, or waits for a person."""
    deadline = asyncio.get_running_loop().time() + 20
    for job in accepted:
        while True:
            snapshot = await engine.query(TENANT, job)
            asked = any(run.reason == "doubt" for run in snapshot.tasks)
            if asked or (await engine.wait(TENANT, job, 0.05)).status.ended:
                break
            assert asyncio.get_running_loop().time() < deadline, snapshot


async def first_life(
    folder: Path, effects: Effects, accepted: dict[str, str], *, at: int, after: bool
) -> bool:
    """Whether the crash came before everything had ended."""
    crashed = False
    try:
        async with life(folder, effects, crash_at=at, after=after, clock=here()) as (engine, _, _):
            await submit_all(engine, accepted)
            await settle(engine, accepted)
    except* Crash:
        crashed = True
    return crashed


def here() -> VirtualClock:
    return VirtualClock(asyncio.get_running_loop())


async def two_lives(folder: Path, at: int, *, after: bool) -> tuple[bool, int]:
    """One life that ends at commit `at`, and the next one. Whether it came that far, and how many effects a person
    is asked about."""
    effects, accepted, asked = Effects(), dict[str, str](), 0
    if not await first_life(folder, effects, accepted, at=at, after=after):
        return False, 0
    async with life(folder, effects, clock=here()) as (engine, _, _):
        await settle(engine, accepted)
        for job, name in accepted.items():
            snapshot = await engine.query(TENANT, job)
            if name == "unsafe":
                assert effects[job, "u"] <= 1
                asked += snapshot.tasks[0].status is TaskStatus.IN_DOUBT
            else:
                assert snapshot.head.status is JobStatus.DONE
                marked = [task.id for task in JOBS[name].tasks if task.effect is V]
                assert [effects[job, task] for task in marked] == [1] * len(marked)
            state = JobState(snapshot.head, Graph(snapshot.spec), snapshot.tasks, snapshot.commands)
            assert violations(state) == []
    check_store(folder / "cpa.db")
    return True, asked


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("latency", [0.0, 0.004], ids=["at once", "slow disk"])
def test_every_accepted_job_ends_once_wherever_the_process_ends(
    tmp_path: Path, after: bool, latency: float
) -> None:
    crashed = asked = 0
    for at in range(1, 100):
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(lambda: latency)) as runner:
            came, questions = runner.run(two_lives(tmp_path / str(at), at, after=after))
        if not came:
            break
        crashed += 1
        asked += questions
    assert 6 <= crashed < 99
    # After the commit of a submission nobody was told of it yet, so no accepted job is in doubt there.
    assert asked >= 1 or after


def check_store(path: Path) -> None:
    """Events without a gap, leaves of their bytes, an outbox that is exactly what is outstanding."""
    database = Database.open(path, readonly=True)
    connection = database.connect(query_only=True)
    last: dict[str, int] = {}
    for job, number, body, leaf in connection.execute(
        "SELECT job, number, body, leaf FROM events ORDER BY job, number"
    ):
        assert number == last.get(job, 0) + 1
        assert hashlib.sha256(body).digest() == leaf
        last[job] = number
    open_keys = {f"{job}/{key}" for job, key in connection.execute("SELECT job, key FROM outbox")}
    connection.close()
    steps, expected = SqlSteps(database), set[str]()
    for job in last:
        stored = steps.load(TENANT, job)
        state = JobState(stored.head, Graph(stored.spec), stored.tasks, stored.commands)
        expected |= {f"{job}/{key}" for key in outstanding(state)}
    steps.close()
    database.close()
    assert open_keys == expected
