"""The one browser that all jobs share: found, started on first use, started again when it died.

Order of looking: the configured path; `chromium-headless-shell` (starts twice as fast as the others and uses
half the memory); `chromium` and its relatives; the one Playwright installed for itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from cpa.core.classes import FailureClass
from cpa.executors.web.scratch import TRACES, Scratch
from cpa.executors.web.trouble import Deadline, Trouble

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

_log = structlog.get_logger(__name__)

_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
)
_REMEDY = (
    "Install one: `apt-get install chromium-headless-shell` on Debian, `uv run playwright install chromium` "
    "elsewhere; or set CPA_BROWSER to the path of a Chromium."
)
_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebRTC would open sockets past the gate.
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
_PROBE_SECONDS = 5.0


def find_browser(configured: str = "") -> str | None:
    """The path of the browser to use; None leaves the choice to Playwright. `Trouble` (ENVIRONMENT) if the
    configured one does not exist."""
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise Trouble(
                FailureClass.ENVIRONMENT,
                "browser_missing",
                f"There is no browser at {configured}.",
                remedy=_REMEDY,
            )
        return found
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class SharedBrowser:
    """Owns the driver process and the browser."""

    def __init__(
        self, scratch: Scratch, *, path: str = "", headless: bool = True, sandbox: bool | None = None
    ) -> None:
        """`sandbox`: whether the browser shuts its renderers in; None: wherever it can. Root cannot."""
        self._scratch = scratch
        self._path = path
        root = os.name == "posix" and os.getuid() == 0
        self._sandbox = not root if sandbox is None else sandbox
        self._headless = headless
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._starting: asyncio.Task[Browser] | None = None
        self.opens_pdf = False
        """Whether it shows a PDF in a viewer instead of downloading it (all but headless shells)."""

    async def get(self, deadline: Deadline) -> Browser:
        """The running browser. `Trouble` (ENVIRONMENT) if there is none or it does not start in time; a
        start under way goes on, so the next attempt finds it."""
        if self.alive(self._browser) and self._browser is not None:
            return self._browser
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
        try:
            async with asyncio.timeout(deadline.left):
                return await asyncio.shield(self._starting)
        except TimeoutError:
            raise Trouble(
                FailureClass.ENVIRONMENT,
                "browser_starting",
                "The browser did not start within the time of this step.",
                remedy="It goes on starting and is ready at the next try; on a slow machine allow more time.",
            ) from None

    def alive(self, browser: Browser | None) -> bool:
        """Whether this is the browser in use and it is connected."""
        return browser is not None and browser is self._browser and browser.is_connected()

    async def probe(self) -> bool:
        """Ask the browser something; if there is no answer, the next `get` starts another. It notices what
        `is_connected` does not: a driver process that is gone."""
        browser = self._browser
        if browser is None or not browser.is_connected():
            return False
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                session = await browser.new_browser_cdp_session()
                await session.detach()
        except (Error, TimeoutError, OSError):
            if self._browser is browser:
                self._browser = None
            return False
        return True

    async def close(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            await asyncio.gather(starting, return_exceptions=True)
        await self._stop()

    # -- inside ----------------------------------------------------------------------------------------------

    async def _start(self) -> Browser:
        path = find_browser(self._path)
        await self._stop()
        from playwright.async_api import Error, async_playwright

        aside = await asyncio.to_thread(self._scratch.open)
        self._playwright = await async_playwright().start()
        try:
            browser = await self._playwright.chromium.launch(
                executable_path=path,
                headless=self._headless,
                args=list(_ARGUMENTS),
                chromium_sandbox=self._sandbox,
                traces_dir=aside / TRACES,
                downloads_path=aside,
                # Ending on a signal is the caller's business: running steps may finish first.
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
        except Error as error:
            await self._stop()
            missing = "Executable doesn't exist" in str(error)
            raise Trouble(
                FailureClass.ENVIRONMENT,
                "browser_missing" if missing else "browser_failed",
                "No Chromium was found." if missing else f"The browser {path or ''} does not start.",
                remedy=_REMEDY,
                details={} if missing else {"said": str(error)[:1000]},
            ) from None
        self.opens_pdf = path is not None and "headless" not in os.path.basename(path)
        self._browser = browser
        _log.info("browser_started", path=path or "playwright's own", version=browser.version)
        return browser

    async def _stop(self) -> None:
        browser, self._browser = self._browser, None
        playwright, self._playwright = self._playwright, None
        if playwright is None:
            return
        from playwright.async_api import Error

        # A driver that died does not answer any more; what it had started ended with it.
        with suppress(Error, TimeoutError, OSError):
            async with asyncio.timeout(_PROBE_SECONDS):
                if browser is not None:
                    await browser.close()
        with suppress(Error, TimeoutError, OSError):
            async with asyncio.timeout(_PROBE_SECONDS):
                await playwright.stop()
