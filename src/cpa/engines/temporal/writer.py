"""Commits what is to be stored in groups: while one batch is written, in a thread, the next one fills.

A batch that the store refuses is written part by part, so that each owner learns of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cpa.ports.steps import StepBatch, StepStore

_MOST = 200
"""Parts in one transaction."""


class GroupWriter:
    """`store` durably; `run` is the loop. All but the commit belongs to the loop's thread."""

    def __init__(self, store: StepStore) -> None:
        self._store = store
        self._waiting: list[tuple[StepBatch, asyncio.Future[None]]] = []
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
                self._settle(self._take(), None)
            self._thread.shutdown()

    async def _next(self) -> None:
        group = self._take()
        loop = asyncio.get_running_loop()
        commit = loop.run_in_executor(self._thread, self._store.commit, _merged(group))
        try:
            await asyncio.wait([commit])
        except asyncio.CancelledError:
            await asyncio.wait([commit])
            self._settle(group, commit)
            raise
        self._settle(group, commit)

    def _take(self) -> list[tuple[StepBatch, asyncio.Future[None]]]:
        group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if not self._waiting:
            self._filled.clear()
        return group

    def _settle(
        self, group: list[tuple[StepBatch, asyncio.Future[None]]], commit: asyncio.Future[None] | None
    ) -> None:
        error = None if commit is None else commit.exception()
        whole = commit is not None and (len(group) == 1 or error is None)
        for part, future in group:
            why = error if whole else self._tried(part)
            if future.done():
                continue
            if why is None:
                future.set_result(None)
            else:
                future.set_exception(why)

    def _tried(self, part: StepBatch) -> BaseException | None:
        try:
            self._store.commit(part)
        except Exception as error:  # noqa: BLE001 - returned
            return error
        return None


def _merged(group: list[tuple[StepBatch, asyncio.Future[None]]]) -> StepBatch:
    if len(group) == 1:
        return group[0][0]
    whole = StepBatch()
    for part, _ in group:
        whole.jobs |= part.jobs
        whole.specs += part.specs
        whole.inbox += part.inbox
        whole.nonces += part.nonces
        whole.expired = max(whole.expired, part.expired)
    return whole
