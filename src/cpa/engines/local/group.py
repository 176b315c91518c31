"""One group commit: the steps it writes, and what is to happen once they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cpa.core.commands import Command
from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.ports.steps import StepBatch

Key = tuple[str, str]
"""(tenant, job id)"""
Part: TypeAlias = tuple[Key | None, StepBatch]
"""What a batch writes of one job, or what is of none."""


@dataclass(slots=True)
class Group:
    batch: StepBatch = field(default_factory=StepBatch)
    promised: list[tuple[asyncio.Future[Any], Any, Collection[Key]]] = field(default_factory=list)
    """What to answer, and on which jobs' steps the answer rests."""
    commands: list[tuple[JobState, Command]] = field(default_factory=list)
    closed: list[tuple[JobState, Event, tuple[str, ...]]] = field(default_factory=list)
    """Commands that are not open any more, and by what; not those of what a part of this process did."""
    facts: list[tuple[str, str, Event]] = field(default_factory=list)
    touched: dict[Key, JobState] = field(default_factory=dict)
    earliest: int = 0
    """When the first of the timers is due that it sets, unless that is closed again; 0 is none."""

    def expect(self, due: int) -> None:
        """It sets a timer."""
        if due < self.earliest or not self.earliest:
            self.earliest = due

    def parts(self) -> Iterator[Part]:
        """The batch in parts that can be written one by one: each job's, then what is of none of them."""
        whole = self.batch
        for key, rows in whole.jobs.items():
            part = StepBatch(jobs={key: rows})
            part.specs = [row for row in whole.specs if row[:2] == key]
            part.inbox = [row for row in whole.inbox if (row[0], row[3]) == key]
            if key in whole.queue:
                part.queue[key] = whole.queue[key]
            yield key, part
        rest = StepBatch(nonces=whole.nonces, ripe=whole.ripe, expired=whole.expired)
        rest.inbox = [row for row in whole.inbox if (row[0], row[3]) not in whole.jobs]
        rest.queue = {key: place for key, place in whole.queue.items() if key not in whole.jobs}
        if not rest.empty:
            yield None, rest

    def parted(self, keys: Collection[Key]) -> tuple[Group, Group]:
        """What is of these jobs alone, and the rest. The parts of the batch that nobody reads once it is written
        stay with the rest."""
        mine, rest = Group(earliest=self.earliest), Group(earliest=self.earliest)
        for key, rows in self.batch.jobs.items():
            (mine if key in keys else rest).batch.jobs[key] = rows
        for key, place in self.batch.queue.items():
            (mine if key in keys else rest).batch.queue[key] = place
        for key, job in self.touched.items():
            (mine if key in keys else rest).touched[key] = job
        for command in self.commands:
            (mine if _key(command[0]) in keys else rest).commands.append(command)
        for closed in self.closed:
            (mine if _key(closed[0]) in keys else rest).closed.append(closed)
        for fact in self.facts:
            (mine if fact[:2] in keys else rest).facts.append(fact)
        for promise in self.promised:
            alone = promise[2] and all(key in keys for key in promise[2])
            (mine if alone else rest).promised.append(promise)
        return mine, rest

    def drop(self, key: Key, error: BaseException) -> list[Event]:
        """Take a job out, and tell those who wait for it. Its events, which never were."""
        batch = self.batch
        rows = batch.jobs.pop(key, None)
        self.touched.pop(key, None)
        batch.queue.pop(key, None)
        batch.specs = [row for row in batch.specs if row[:2] != key]
        batch.inbox = [row for row in batch.inbox if (row[0], row[3]) != key]
        self.commands = [pair for pair in self.commands if _key(pair[0]) != key]
        self.closed = [each for each in self.closed if _key(each[0]) != key]
        self.facts = [fact for fact in self.facts if fact[:2] != key]
        for future, _, keys in self.promised:
            if key in keys and not future.done():
                future.set_exception(error)
        return [] if rows is None else [event for event, _ in rows.events]


def _key(job: JobState) -> Key:
    return job.head.tenant, job.head.id
