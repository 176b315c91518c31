"""A tiny shell around the real core and the real hot step: enough to fill a store with true histories."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cpa.core import events as facts
from cpa.core.audit import seal
from cpa.core.classes import FailureClass
from cpa.core.commands import DispatchTask
from cpa.core.job import Graph, JobSpec, JobState, TaskSpec
from cpa.core.machine import decide
from cpa.core.replay import opened
from cpa.ports.engine import Outcome
from cpa.ports.steps import JobRows, StepBatch
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps

SALT = bytes(range(16))


class SteppedClock:
    """Time that moves only when told to."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1000)
        await asyncio.sleep(0)


def plan(*actions: str, **more: Any) -> JobSpec:
    """A chain of tasks named `t0`, `t1` …; a text argument each, with an umlaut."""
    tasks = tuple(
        TaskSpec(f"t{index}", action, {"text": f"für Müller {index}"}, needs=(index - 1,) if index else ())
        for index, action in enumerate(actions or ("flow.noop",))
    )
    return JobSpec(tasks, **{"intent": "mail", "description": "Schick Müller die Rechnung"} | more)


class Shell:
    """Steps jobs of one store. Every event goes through `core.machine.decide` and `SqlSteps.commit`."""

    def __init__(self, database: Database, clock: SteppedClock | None = None) -> None:
        self.clock = clock or SteppedClock()
        self._steps = SqlSteps(database)

    def close(self) -> None:
        self._steps.close()

    def submit(
        self,
        tenant: str,
        job: str,
        spec: JobSpec | None = None,
        *,
        priority: int = 0,
        not_before: int = 0,
        lined: bool = True,
    ) -> None:
        """Store a job; `lined` puts it in line within the same step."""
        spec = spec or plan()
        stored = msgspec.json.encode(spec)
        digest = hashlib.sha256(stored).hexdigest()
        now = self.clock.now_ms()
        batch = StepBatch(specs=[(tenant, job, digest, stored)])
        if lined:
            batch.queue[tenant, job] = (priority, not_before, now)
        event = facts.JobSubmitted(
            time=now, tenant=tenant, job=job, spec=digest, tasks=len(spec.tasks), priority=priority
        )
        assert self._step(opened(tenant, job, spec, now), event, batch, new=True).changed

    async def send(self, tenant: str, job: str, event: facts.Event) -> Outcome:
        """`Engine.send` in small."""
        batch = StepBatch()
        if isinstance(event, facts.JobStarted):
            batch.queue[tenant, job] = None
        return self._step(self.load(tenant, job), event, batch)

    def load(self, tenant: str, job: str) -> JobState:
        stored = self._steps.load(tenant, job)
        return JobState(stored.head, Graph(stored.spec), stored.tasks, stored.commands)

    def _step(self, job: JobState, event: facts.Event, batch: StepBatch, *, new: bool = False) -> Outcome:
        decision = decide(job, event)
        if decision.changes is None:
            return Outcome(False, job.head.number, decision.reason)
        rows = JobRows(job.head, job.spec, None if new else job.head.status)
        rows.record(event, seal(event, SALT), decision.changes, decision.commands)
        job.apply(decision.changes, decision.commands)
        head = job.head
        batch.jobs[head.tenant, head.id] = rows
        self._steps.commit(batch)
        return Outcome(True, head.number)

    async def give(self, tenant: str, job: str, make: Callable[[int], facts.Event]) -> None:
        """Send the event that `make` builds for the present time; it must change something."""
        outcome = await self.send(tenant, job, make(self.clock.now_ms()))
        assert outcome.changed, outcome.reason

    async def run(
        self, tenant: str, job: str, *, fail: Sequence[str] = (), agent: str = "agent://test/eins"
    ) -> None:
        """Start the job and carry its tasks out one by one; those whose id is in `fail` fail for good."""
        await self.give(tenant, job, lambda now: facts.JobStarted(time=now))
        while dispatch := self._dispatch(tenant, job):
            self.clock.now += 5
            here = {"task": dispatch.task, "epoch": dispatch.epoch}
            name = self.load(tenant, job).spec.tasks[dispatch.task].id
            await self.give(
                tenant,
                job,
                lambda now, h=here: facts.AgentChosen(time=now, agent=agent, **h),  # type: ignore[misc]
            )
            await self.give(tenant, job, lambda now, h=here: facts.TaskStarted(time=now, **h))  # type: ignore[misc]
            end = _failed if name in fail else _succeeded
            await self.give(tenant, job, lambda now, h=here, end=end: end(now, h))  # type: ignore[misc]

    def _dispatch(self, tenant: str, job: str) -> DispatchTask | None:
        commands = self.load(tenant, job).open.values()
        return next((command for command in commands if isinstance(command, DispatchTask)), None)


def _succeeded(now: int, here: dict[str, int]) -> facts.Event:
    result = {"value": "Grüße an Müller"}
    return facts.TaskSucceeded(time=now, result=result, artifacts=("sha256:" + "a" * 64,), duration=4, **here)


def _failed(now: int, here: dict[str, int]) -> facts.Event:
    return facts.TaskFailed(
        time=now,
        failure=FailureClass.BUSINESS,
        code="login_refused",
        message="Das Passwort von Müller ist falsch.",
        task=here["task"],
        epoch=here["epoch"],
    )
