"""Commits group after group, in a thread of its own, fsync included.

What the store refuses for something in it is written by halves, until it is known which job it was: that one is set
aside, the others are durable.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import structlog

from cpa.engines.batches import merged
from cpa.engines.local.group import Group, Key, Part
from cpa.engines.refusal import of_its_content
from cpa.errors import CPAError, InternalError
from cpa.ports.steps import StepBatch, StepStore

_log = structlog.get_logger(__name__)
RETRY_COMMIT = 1.0
"""Seconds between tries while the store refuses to write."""


class Steps(Protocol):
    """Who fills the groups (`stepper.Stepper`)."""

    async def filled(self) -> None: ...

    def take(self) -> Group: ...

    def settle(self, group: Group, error: BaseException | None) -> None: ...

    def refused(self, group: Group, key: Key, error: BaseException) -> None: ...


class Writer:
    def __init__(self, store: StepStore, steps: Steps) -> None:
        self._store, self._steps = store, steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-step")

    async def run(self) -> None:
        """Until cancelled; what is pending then is still committed."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._steps.filled()
                await self._commit(loop, self._steps.take())
        except asyncio.CancelledError:
            self._last()
            raise
        finally:
            self._thread.shutdown()

    async def _commit(self, loop: asyncio.AbstractEventLoop, group: Group) -> None:
        if group.batch.empty:
            self._steps.settle(group, None)
            return
        commit = loop.run_in_executor(self._thread, self._store.commit, group.batch)
        try:
            # A cancelled loop must not leave a group half way: what is being written gets its outcome.
            await asyncio.wait([commit])
        except asyncio.CancelledError:
            # Nor when it is cancelled again meanwhile: what comes next rests on this group.
            while not commit.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([commit])
            self._steps.settle(group, commit.exception())
            raise
        error = commit.exception()
        if isinstance(error, Exception) and of_its_content(error):
            self._rescue(group, error)
            return
        self._steps.settle(group, error)
        if isinstance(error, CPAError):
            await asyncio.sleep(RETRY_COMMIT if error.retryable else 0)

    def _last(self) -> None:
        group = self._steps.take()
        self._steps.settle(group, None if group.batch.empty else self._tried(group.batch))

    def _tried(self, batch: StepBatch) -> Exception | None:
        try:
            self._store.commit(batch)
        except Exception as error:  # noqa: BLE001 - returned
            return error
        return None

    def _rescue(self, group: Group, refusal: Exception) -> None:
        """Find out what in this group the store cannot take. Nobody comes in between, because what is stepped
        meanwhile rests on it."""
        _log.error("commit_refused", error=repr(refusal))
        durable: set[Key] = set()
        try:
            self._write(group, list(group.parts()), durable)
        except CPAError as error:
            # What is durable already is no more lost than what was committed a moment before.
            kept, lost = group.parted(durable)
            self._steps.settle(kept, None)
            self._steps.settle(lost, error)
        else:
            self._steps.settle(group, None)

    def _write(self, group: Group, parts: list[Part], durable: set[Key]) -> None:
        error, key = self._tried(merged(part for _, part in parts)), parts[0][0]
        if error is None:
            durable.update(name for name, _ in parts if name is not None)
            return
        if not of_its_content(error):
            raise error
        if len(parts) > 1:
            middle = len(parts) // 2
            self._write(group, parts[:middle], durable)
            self._write(group, parts[middle:], durable)
        elif key is None:
            raise InternalError(f"the store refused what is of no job: {error}") from error
        else:
            self._steps.refused(group, key, error)
