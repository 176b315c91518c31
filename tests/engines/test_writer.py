"""The local engine's writer: groups reach the store in their order, also when everything ends at once."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from cpa.engines.local.group import Group
from cpa.engines.local.writer import Writer
from cpa.ports.steps import StepBatch


class Slow:
    """A store whose first commit takes until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.written: list[int] = []

    def commit(self, batch: StepBatch) -> None:
        if batch.ripe == 1:
            self.began.set()
            assert self.go.wait(20)
        self.written.append(batch.ripe)


class Steps:
    """Two groups, the second of which rests on the first."""

    def __init__(self) -> None:
        self.groups = [Group(StepBatch(ripe=1)), Group(StepBatch(ripe=2))]
        self.settled: list[int] = []

    async def filled(self) -> None:
        return

    def take(self) -> Group:
        return self.groups.pop(0) if self.groups else Group()

    def settle(self, group: Group, error: BaseException | None) -> None:
        assert error is None
        self.settled.append(group.batch.ripe)

    def refused(self, group: Group, key: object, error: BaseException) -> None:
        raise AssertionError


async def test_who_is_cancelled_twice_still_waits_for_the_group_that_is_being_written() -> None:
    store, steps = Slow(), Steps()
    writing = asyncio.create_task(Writer(store, steps).run())  # type: ignore[arg-type]  # commits alone
    assert await asyncio.to_thread(store.began.wait, 20)

    for _ in range(2):
        writing.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    early = list(store.written)
    store.go.set()
    with suppress(asyncio.CancelledError):
        await writing

    assert early == []
    assert store.written == steps.settled == [1, 2]
