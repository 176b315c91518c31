"""Commits what is to be stored in groups: while one batch is written, in a thread, the next one fills.

What the store refuses for something in it is written by halves, so that each owner learns of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from cpa.engines.batches import merged
from cpa.engines.refusal import of_its_content
from cpa.ports.steps import StepBatch, StepStore

_Waiting: TypeAlias = tuple[StepBatch, asyncio.Future[None]]
_Written: TypeAlias = Future[list[BaseException | None]] | asyncio.Future[list[BaseException | None]]
_MOST = 200
"""Parts in one transaction."""


class GroupWriter:
    """`store` durably; `run` is the loop. All but the commit belongs to the loop's thread."""

    def __init__(self, store: StepStore) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._filled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-step")

    async def store(self, part: StepBatch) -> None:
        """Return once it is durable; raises why it is not. No other part may be of the same job meanwhile."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((part, future))
        self._filled.set()
        await future

    async def run(self) -> None:
        """Until cancelled; what is waiting then is still written."""
        try:
            while True:
                await self._filled.wait()
                await self._next()
        finally:
            while self._waiting:
                group = self._take()
                _settle(group, self._thread.submit(self._written, [part for part, _ in group]))
            self._thread.shutdown()

    async def _next(self) -> None:
        group = self._take()
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._written, [part for part, _ in group])
        try:
            await asyncio.wait([written])
        except asyncio.CancelledError:
            await asyncio.wait([written])
            _settle(group, written)
            raise
        _settle(group, written)

    def _take(self) -> list[_Waiting]:
        group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if not self._waiting:
            self._filled.clear()
        return group

    def _written(self, parts: list[StepBatch]) -> list[BaseException | None]:
        """What came of each part."""
        try:
            self._store.commit(merged(parts))
        except Exception as error:  # noqa: BLE001 - returned
            if len(parts) == 1 or not of_its_content(error):
                return [error] * len(parts)
        else:
            return [None] * len(parts)
        middle = len(parts) // 2
        return self._written(parts[:middle]) + self._written(parts[middle:])


def _settle(group: list[_Waiting], written: _Written) -> None:
    whole = written.exception()
    outcomes = written.result() if whole is None else [whole] * len(group)
    for (_, future), error in zip(group, outcomes, strict=True):
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
