"""The writer of groups: who is refused learns of it, and nothing of it happens in the loop's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from cpa.engines.temporal.writer import GroupWriter
from cpa.errors import InternalError, Unavailable
from cpa.ports.moving import TEMPORAL
from cpa.ports.steps import StepBatch
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps

MANY = 60


class Steps(SqlSteps):
    """Counts its commits, by thread."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, TEMPORAL)
        self.threads: list[int] = []
        self.full = False
        """While true nothing can be written."""

    def commit(self, batch: StepBatch) -> None:
        self.threads.append(threading.get_ident())
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        super().commit(batch)


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[Steps]:
    database = Database.open(tmp_path / "cpa.db")
    steps = Steps(database)
    yield steps
    steps.close()
    database.close()


def part(number: int, received: int = 1) -> StepBatch:
    return StepBatch(inbox=[("default", "anna", f"m{number}", "", "", received)])


async def written(steps: Steps, parts: list[StepBatch]) -> list[BaseException | None]:
    writer = GroupWriter(steps)
    waiting = [asyncio.create_task(writer.store(part)) for part in parts]
    await asyncio.sleep(0)
    loop = asyncio.create_task(writer.run())
    found = await asyncio.gather(*waiting, return_exceptions=True)
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    return found


async def test_a_store_that_does_not_write_is_asked_once(steps: Steps) -> None:
    steps.full = True
    found = await written(steps, [part(number) for number in range(MANY)])

    assert {type(error) for error in found} == {Unavailable}
    assert len(steps.threads) == 1
    assert threading.get_ident() not in steps.threads


async def test_what_cannot_be_stored_holds_up_nothing_else(steps: Steps) -> None:
    bad = MANY // 3
    found = await written(steps, [part(number, 2**70 if number == bad else 1) for number in range(MANY)])

    assert [number for number, error in enumerate(found) if error is not None] == [bad]
    refused = found[bad]
    assert isinstance(refused, InternalError)
    # What caused it has an end: who writes that down would follow it for ever.
    assert refused.__cause__ is not None
    assert refused.__cause__.__cause__ is None
    for number in range(MANY):
        stored = steps.accepted("default", "anna", f"m{number}")
        assert (stored is None) == (number == bad)
    assert threading.get_ident() not in steps.threads
    assert len(steps.threads) < MANY // 2
