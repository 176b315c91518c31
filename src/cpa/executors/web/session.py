"""One job's browser session: a context of its own, the page in front, and what is remembered about both.

A page that an action opens (popup, new tab) becomes the page in front as soon as it is there; when it
closes, the one before it is in front again. Dialogs are dismissed at once (a page with an open dialog answers
nothing) and reported by the step; leaving a page is never refused.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpa.core.classes import FailureClass
from cpa.executors.redaction import SHORTEST, redact
from cpa.executors.web.gate import HEADER, Gate
from cpa.executors.web.resume import Input, Saved
from cpa.executors.web.trouble import Trouble

if TYPE_CHECKING:
    from playwright.async_api import (
        Browser,
        BrowserContext,
        Dialog,
        Download,
        Frame,
        Locator,
        Page,
        Request,
        Response,
    )

    from cpa.ports.addresses import OutboundAddresses

MAX_PAGES = 20
"""Windows of one job at the same time."""
_VIEWPORT_WIDTH, _VIEWPORT_HEIGHT = 1280, 800


@dataclass(slots=True)
class Navigation:
    """A main-frame navigation of the page in front, or of one that is just opening."""

    url: str
    status: int = 0
    gate: str = ""
    """What the gate said about it: `refused`, `unreachable` or nothing."""
    failure: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Session:
    """State of one job. Steps hold `lock`; only the pool opens and closes it."""

    def __init__(self, tenant: str, job: str) -> None:
        self.tenant = tenant
        self.job = job
        self.lock = asyncio.Lock()
        self.used = time.monotonic()
        self.browser: Browser | None = None
        self.context: BrowserContext | None = None
        self.gate: Gate | None = None
        self.pages: list[Page] = []
        self.tracing = False
        self.trace = ""
        """Beginning of the names of the files that the trace is written to."""
        self.navigation: Navigation | None = None
        self.opening: Navigation | None = None
        """What the last page that opened was opened for; it is told before the page is."""
        self._opened_for: Request | None = None
        self.surplus = 0
        """Windows that were closed at once, in this step, because there were too many."""
        self.downloads: asyncio.Queue[Download] = asyncio.Queue()
        self.popup = asyncio.Event()
        self.dialogs: list[dict[str, str]] = []
        self.inputs: list[Input] = []
        self.masks: dict[str, None] = {}
        self.secrets: set[str] = set()
        """The values this job was given, which its pages may show again."""
        self.secret_names: set[str] = set()
        self.done: tuple[str, dict[str, Any]] | None = None
        """Idempotency key and result of the last step that succeeded."""
        self._own_pages = False
        self._unwanted: set[Page] = set()

    @property
    def page(self) -> Page:
        """The page in front. `Trouble` (ENVIRONMENT) if the last one closed: the next step gets it back."""
        if not self.pages:
            raise Trouble(
                FailureClass.ENVIRONMENT,
                "browser_died",
                "The browser or its page ended before the step was done.",
                remedy="It is opened again at the next try; if it ends again, look at the browser's memory.",
            )
        return self.pages[-1]

    @property
    def usable(self) -> bool:
        """Whether there is a page to act on (the browser's own life apart)."""
        return self.context is not None and bool(self.pages)

    @property
    def blank(self) -> bool:
        return not self.pages or self.page.url in {"", "about:blank"}

    @property
    def empty(self) -> bool:
        """Whether no page was ever loaded (or all that were are closed)."""
        return all(page.url in {"", "about:blank"} for page in self.pages)

    async def open(
        self, browser: Browser, addresses: OutboundAddresses, saved: Saved | None, *, trace: bool
    ) -> None:
        """Open a context and an empty page, with the cookies of `saved`."""
        self.browser, self.gate = browser, Gate(addresses)
        proxy = await self.gate.open()
        storage: Any = saved.storage if saved is not None else None
        self.context = await browser.new_context(
            proxy={"server": proxy},
            accept_downloads=True,
            service_workers="block",  # they would answer for the portal, unseen by the trace
            viewport={"width": _VIEWPORT_WIDTH, "height": _VIEWPORT_HEIGHT},
            storage_state=storage,
        )
        self.masks = dict.fromkeys(saved.masks if saved is not None else ())
        self.context.on("page", self._on_page)
        self.context.on("page", self._close_unwanted)
        self.context.on("request", self._on_request)
        self.context.on("response", self._on_response)
        self.context.on("requestfailed", self._on_request_failed)
        self.context.on("framenavigated", self._on_frame_navigated)
        self.context.on("download", self.downloads.put_nowait)
        self.context.on("dialog", self._on_dialog)
        if trace:
            self.tracing, self.trace = True, secrets.token_hex(8)
            await self.context.tracing.start(
                name=self.trace, screenshots=False, snapshots=True, sources=False
            )
        await self.context.new_page()

    async def close(self, trace: Path | None = None) -> bool:
        """Close the context; write its trace to `trace`. Whether a trace was written. Never raises for a
        browser that is already gone."""
        from playwright.async_api import Error

        context, self.context = self.context, None
        gate, self.gate = self.gate, None
        self.pages.clear()
        self.inputs.clear()
        self.navigation = self.opening = self._opened_for = None
        written = False
        try:
            if context is not None:
                with suppress(Error):
                    if self.tracing and trace is not None:
                        await context.tracing.stop(path=trace)
                        written = True
                with suppress(Error):
                    await context.close()
        finally:
            self.tracing = False
            if gate is not None:
                await gate.close()
        return written

    def begin(self) -> None:
        """A step begins: what the last one saw is forgotten."""
        self.dialogs.clear()
        self.popup.clear()
        self.opening = self._opened_for = None
        self.surplus = 0
        while not self.downloads.empty():
            self.downloads.get_nowait()
        if self.gate is not None:
            self.gate.forget()

    async def side_page(self) -> Page:
        """A page that does not come to the front; the caller closes it."""
        assert self.context is not None
        self._own_pages = True
        try:
            return await self.context.new_page()
        finally:
            self._own_pages = False

    async def saved(self) -> Saved | None:
        """What `resume` writes down; None without a page worth going back to."""
        if self.context is None or self.blank:
            return None
        storage: Any = await self.context.storage_state()
        return Saved(
            url=self.page.url,
            storage=dict(storage),
            inputs=tuple(self.inputs),
            masks=tuple(self.masks),
            secrets=tuple(sorted(self.secret_names)),
            done=self.done,
        )

    async def picture(
        self, *, milliseconds: float, png: bool = False, full_page: bool = False, of: Locator | None = None
    ) -> bytes:
        """A picture of the page in front or of one element, every field that may show a secret covered."""
        covered = [self.page.locator(selector) for selector in self.masks]
        covered += [frame.locator("input[type=password]") for frame in self.page.frames]
        covered += [self.page.get_by_text(value) for value in self.secrets if len(value) >= SHORTEST]
        kind: Any = {"type": "png"} if png else {"type": "jpeg", "quality": 60}
        if of is not None:
            return await of.screenshot(mask=covered, timeout=milliseconds, **kind)
        return await self.page.screenshot(mask=covered, timeout=milliseconds, full_page=full_page, **kind)

    def redact(self, value: Any) -> Any:
        """`value` without the secrets used in this session, at any depth."""
        return redact(value, self.secrets)

    # -- what the browser reports ----------------------------------------------------------------------------

    def _on_page(self, page: Page) -> None:
        if self._own_pages:
            return
        if len(self.pages) >= MAX_PAGES:
            self.surplus += 1
            self._unwanted.add(page)
            return
        self.pages.append(page)
        self.inputs.clear()
        page.on("close", self._on_closed)
        page.on("crash", self._on_closed)
        page.on("domcontentloaded", self._on_document)
        self.popup.set()

    async def _close_unwanted(self, page: Page) -> None:
        from playwright.async_api import Error

        if page in self._unwanted:
            self._unwanted.discard(page)
            with suppress(Error):
                await page.close()

    def _on_closed(self, page: Page) -> None:
        if page in self.pages:
            self.pages.remove(page)

    def _on_document(self, page: Page) -> None:
        """A new document: what was typed is gone with the old one."""
        if self.pages and page == self.page:
            self.inputs.clear()

    def _in_front(self, frame: Frame) -> bool:
        return bool(self.pages) and frame == self.page.main_frame

    def _is_navigation(self, request: Request) -> bool:
        """Of the page in front."""
        return request.is_navigation_request() and _has_frame(request) and self._in_front(request.frame)

    def _on_request(self, request: Request) -> None:
        if request.redirected_from is not None:
            return
        if self._is_navigation(request):
            self.navigation = Navigation(url=request.url)
        elif request.is_navigation_request() and not _has_frame(request):
            self.opening, self._opened_for = Navigation(url=request.url), request

    def _on_response(self, response: Response) -> None:
        navigation = self._navigation_of(response.request)
        if navigation is not None:
            navigation.url = response.url
            navigation.status = response.status
            navigation.gate = response.headers.get(HEADER, "")
            if navigation is self.opening:
                navigation.ended.set()

    def _on_request_failed(self, request: Request) -> None:
        navigation = self._navigation_of(request)
        if navigation is not None:
            navigation.url = request.url
            navigation.failure = request.failure or "failed"
            navigation.ended.set()

    def _navigation_of(self, request: Request) -> Navigation | None:
        """The navigation that this request belongs to, itself or by redirects."""
        first = request
        while first.redirected_from is not None:
            first = first.redirected_from
        if self._opened_for is not None and first == self._opened_for:
            return self.opening
        return self.navigation if self._is_navigation(request) else None

    def _on_frame_navigated(self, frame: Frame) -> None:
        if self.navigation is not None and self._in_front(frame):
            self.navigation.ended.set()

    async def _on_dialog(self, dialog: Dialog) -> None:
        from playwright.async_api import Error

        with suppress(Error):  # the page may be gone before the answer
            if dialog.type == "beforeunload":
                await dialog.accept()
                return
            self.dialogs.append({"type": dialog.type, "message": self.redact(dialog.message)[:500]})
            await dialog.dismiss()


def _has_frame(request: Request) -> bool:
    """Not before the page of this request is there."""
    from playwright.async_api import Error

    try:
        return request.frame is not None
    except Error:
        return False
