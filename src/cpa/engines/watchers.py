"""Who waits for the end of a job or follows it. Hints only: a follower reads what happened from the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from cpa.core.job import JobHead
from cpa.ports.engine import LiveUpdate
from cpa.ports.steps import StepBatch

Key = tuple[str, str]
"""(tenant, job id)"""
_LIVE = 100
"""Live updates kept for a slow follower; older ones are dropped."""
_UPDATES = 20_000
"""Newest updates kept, one for each task; of more, those of the jobs that told first are forgotten."""
_LETTERS = 1_000
"""What is kept of a message: with `_UPDATES`, at most 80 MB."""


class Follower:
    """Woken when there is something new to read or to show."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._live: deque[LiveUpdate] = deque(maxlen=_LIVE)

    def clear(self) -> None:
        self._news.clear()

    def notify(self) -> None:
        self._news.set()

    def show(self, update: LiveUpdate) -> None:
        self._live.append(update)
        self._news.set()

    def take(self) -> list[LiveUpdate]:
        taken = list(self._live)
        self._live.clear()
        return taken

    async def wait(self) -> None:
        await self._news.wait()


class Watchers:
    def __init__(self) -> None:
        self.closed = False
        self._ends: dict[Key, list[asyncio.Future[JobHead | None]]] = {}
        self._followers: dict[Key, list[Follower]] = {}
        self._newest: dict[Key, dict[str, LiveUpdate]] = {}
        self._kept = 0
        """Updates in `_newest`."""

    async def end(self, key: Key, timeout: float) -> JobHead | None:
        """The head at the durable end of the job's run; None after `timeout` seconds, or when the engine stops."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[JobHead | None] = loop.create_future()
        self._ends.setdefault(key, []).append(future)
        timer = loop.call_later(max(timeout, 0), _resolve, future, None)
        try:
            return await future
        finally:
            timer.cancel()
            waiting = self._ends.get(key, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._ends[key]

    @contextmanager
    def follow(self, key: Key) -> Iterator[Follower]:
        follower = Follower()
        self._followers.setdefault(key, []).append(follower)
        try:
            yield follower
        finally:
            followers = self._followers[key]
            followers.remove(follower)
            if not followers:
                del self._followers[key]

    def committed(self, batch: StepBatch) -> None:
        if self._ends or self._followers or self._newest:
            for key, rows in batch.jobs.items():
                for follower in self._followers.get(key, ()):
                    follower.notify()
                if rows.head.status.ended:
                    self._forget(key)
                    self._wake(key, rows.head)

    def live(self, key: Key, update: LiveUpdate) -> None:
        for follower in self._followers.get(key, ()):
            follower.show(update)
        if len(update.message) > _LETTERS:
            update = replace(update, message=update.message[: _LETTERS - 1] + "…")
        newest = self._newest.setdefault(key, {})
        self._kept += update.task not in newest
        newest[update.task] = update
        if self._kept > _UPDATES:
            self._forget(next(iter(self._newest)))

    def newest(self, key: Key) -> dict[str, LiveUpdate]:
        """What each task of the job told last, perhaps of an attempt that is over."""
        return dict(self._newest.get(key, {}))

    def close(self) -> None:
        """The engine stops: everybody who waits goes on with what there is."""
        self.closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.notify()
        for key in list(self._ends):
            self._wake(key, None)

    def _forget(self, key: Key) -> None:
        self._kept -= len(self._newest.pop(key, ()))

    def _wake(self, key: Key, head: JobHead | None) -> None:
        for future in self._ends.pop(key, ()):
            _resolve(future, head)


def _resolve(future: asyncio.Future[JobHead | None], head: JobHead | None) -> None:
    if not future.done():
        future.set_result(head)
