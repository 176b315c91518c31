"""Browser sessions by job: one each, kept across the job's steps, so many at once and no more.

A job holds its context until its run ends. A job that finds no free one waits inside the time of its step; a
context unused for a while is taken from its job then, because the job's resume file brings it back. One that
was not used for minutes is closed anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from cpa.core.classes import FailureClass
from cpa.executors.web.browser import SharedBrowser
from cpa.executors.web.resume import Saved
from cpa.executors.web.session import Session
from cpa.executors.web.trouble import Deadline, Trouble

if TYPE_CHECKING:
    from cpa.ports.addresses import OutboundAddresses

_LOOK_SECONDS = 0.5
"""How often a waiting job looks for a spare context."""

_log = structlog.get_logger(__name__)

Restore = Callable[[Session, Saved, Deadline], Awaitable[None]]
End = Callable[[Session], Awaitable[None]]
Load = Callable[[Session], Awaitable[Saved | None]]


class SessionPool:
    """Owns every session. `load` finds what a job left, `restore` brings a page back, `end` closes a
    session's context (and keeps its trace); `end` must not raise for a browser that is gone."""

    def __init__(
        self,
        browser: SharedBrowser,
        addresses: OutboundAddresses,
        *,
        limit: int,
        idle_seconds: float,
        spare_seconds: float | None,
        trace: bool,
        load: Load,
        restore: Restore,
        end: End,
    ) -> None:
        """`spare_seconds`: how long a context must be unused before another job may have it; None: never."""
        self._browser = browser
        self._addresses = addresses
        self._idle_seconds = idle_seconds
        self._spare_seconds = spare_seconds
        self._trace = trace
        self._load, self._restore, self._end = load, restore, end
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._sessions: dict[tuple[str, str], Session] = {}
        self._holders: set[Session] = set()
        self._reaper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def hold(self, tenant: str, job: str, deadline: Deadline, *, fresh: bool) -> AsyncIterator[Session]:
        """The job's session, for one step alone. `fresh`: the step opens a page itself, so nothing but the
        cookies needs to be restored; otherwise a job without a page gets its last one back."""
        session = await self._lock(tenant, job, deadline)
        try:
            alive = session.usable and self._browser.alive(session.browser)
            if not alive or (session.empty and not fresh):
                await self._open(session, deadline, fresh=fresh)
            session.begin()
            yield session
        finally:
            session.used = time.monotonic()
            session.lock.release()

    @property
    def tracing(self) -> bool:
        """Whether the trace of any session is being written."""
        return any(session.tracing for session in self._sessions.values())

    def get(self, tenant: str, job: str) -> Session | None:
        return self._sessions.get((tenant, job))

    async def drop(self, tenant: str, job: str) -> None:
        """End the job's session after the step that holds it."""
        session = self._sessions.get((tenant, job))
        if session is not None:
            async with session.lock:
                self._sessions.pop((tenant, job), None)
                await self._close(session)

    async def close(self) -> None:
        """End all sessions, the others too when one fails."""
        reaper, self._reaper = self._reaper, None
        if reaper is not None:
            reaper.cancel()
            await asyncio.gather(reaper, return_exceptions=True)
        keys = list(self._sessions)
        ended = await asyncio.gather(*(self.drop(*key) for key in keys), return_exceptions=True)
        errors = [each for each in ended if isinstance(each, Exception)]
        if errors:
            raise ExceptionGroup("some browser sessions could not be ended", errors)

    # -- inside ----------------------------------------------------------------------------------------------

    async def _lock(self, tenant: str, job: str, deadline: Deadline) -> Session:
        key = (tenant, job)
        while True:
            session = self._sessions.setdefault(key, Session(tenant, job))
            try:
                async with asyncio.timeout(deadline.left):
                    await session.lock.acquire()
            except TimeoutError:
                raise Trouble(
                    FailureClass.ENVIRONMENT,
                    "session_busy",
                    "Another step of this job held the browser session all the time.",
                    remedy="Let the steps on one page depend on each other, or allow more time.",
                ) from None
            if self._sessions.get(key) is session:
                return session
            session.lock.release()  # ended while this step waited: take the new one

    async def _open(self, session: Session, deadline: Deadline, *, fresh: bool) -> None:
        await self._close(session)
        try:
            async with asyncio.timeout(deadline.left):
                saved = await self._load(session)
                if saved is None and not fresh:
                    raise Trouble(
                        # BUSINESS: only an earlier step can open the page, and trying this one again cannot.
                        FailureClass.BUSINESS,
                        "session_lost",
                        "This job has no open page here, and none that could be restored: a browser session stays "
                        "with the agent that began it.",
                        remedy="Begin with web.goto. If the job was on a page, retry it: the steps that led "
                        "there are done again where all of them may be. Where one may not, say which: "
                        "`cpa dead-letters retry JOB --again TASK`.",
                    )
                await self._slot(session)
                await self._begin(session, saved, deadline)
                if saved is not None and not fresh:
                    session.done = saved.done
                    await self._restore(session, saved, deadline)
        except TimeoutError:
            trouble = self._late(session)
            await self._close(session)
            raise trouble from None
        except BaseException:
            await self._close(session)
            raise

    async def _begin(self, session: Session, saved: Saved | None, deadline: Deadline) -> None:
        browser = await self._browser.get(deadline)
        await session.open(browser, self._addresses, saved, trace=self._trace)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap())

    def _late(self, session: Session) -> Trouble:
        """What took so long."""
        if session not in self._holders:
            return Trouble(
                FailureClass.ENVIRONMENT,
                "browser_busy",
                f"All {self._limit} browser sessions are in use by other jobs.",
                remedy="Wait, or allow more at once (CPA_MAX_BROWSERS).",
            )
        return Trouble(
            FailureClass.ENVIRONMENT,
            "browser_slow",
            "The browser session was not ready within the time of this step.",
            remedy="Allow the step more time, or run fewer browsers at once (CPA_MAX_BROWSERS).",
        )

    async def _slot(self, session: Session) -> None:
        """Wait for a free slot, taking one that is spare as soon as one is."""
        while True:
            await self._take_spare()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._slots.acquire()
                    self._holders.add(session)
                    return

    async def _take_spare(self) -> None:
        """If nothing is free, close the context that was unused for longest, if that was long enough."""
        if not self._slots.locked() or self._spare_seconds is None:
            return
        idle = [each for each in self._holders if not each.lock.locked()]
        oldest: Any = min(idle, key=lambda each: each.used, default=None)
        if oldest is not None and time.monotonic() - oldest.used >= self._spare_seconds:
            async with oldest.lock:
                await self._close(oldest)

    async def _close(self, session: Session) -> None:
        """End the context, and free its slot whatever happens."""
        try:
            await self._end(session)
        finally:
            if session in self._holders:
                self._holders.discard(session)
                self._slots.release()

    async def _reap(self) -> None:
        """Close what was not used for long."""
        while True:
            await asyncio.sleep(min(30.0, self._idle_seconds / 4))
            for key, session in list(self._sessions.items()):
                if session.lock.locked() or time.monotonic() - session.used < self._idle_seconds:
                    continue
                async with session.lock:
                    if time.monotonic() - session.used < self._idle_seconds:
                        continue
                    self._sessions.pop(key, None)
                    _log.info("browser_session_idle", tenant=session.tenant, job=session.job)
                    await self._close(session)
