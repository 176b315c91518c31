"""Whether a click reached its element, for pages that cannot say so afterwards.

A page whose button closes it takes the end of the click along: the browser answers that the page is gone, and
not whether the button was pressed before. The first half of a click, the mouse button going down, is told by
the page itself while it is still there; the second half, which makes it a click, is sent only after the first
was acknowledged. So a page that was pressed and then closed on its own, in a browser that lives, was clicked.
Anything less stays unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cpa.executors.web.step import within
from cpa.executors.web.trouble import Deadline, is_gone

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

_WATCH = """element => ({
  opens: (element.closest('a, area') ?? element.form ?? element).target ?? '',
  down: new Promise(resolve => element.addEventListener(
    'mousedown', () => resolve(true), {capture: true, once: true})),
})"""
_CLOSING_SECONDS = 2.0


class Press:
    """What is known about the click on one element."""

    def __init__(self, page: Page, opens: str, down: asyncio.Task[object], closed: asyncio.Event) -> None:
        self.opens = opens
        """The window that the element's link or form names; empty for its own."""
        self._page = page
        self._down = down
        self._closed = closed  # not set for a page that crashed

    @property
    def page_closed(self) -> bool:
        """Whether the page of the element is known to be closed."""
        return self._closed.is_set()

    async def closed_its_page(self, error: Exception, deadline: Deadline) -> bool:
        """Whether this error of the browser only says that the page, pressed, closed itself."""
        from playwright.async_api import Error

        if not is_gone(error):
            return False
        await asyncio.wait([self._down], timeout=min(_CLOSING_SECONDS, deadline.left))
        if not self._down.done() or self._down.cancelled() or self._down.exception() is not None:
            return False
        try:
            await self._page.context.cookies()  # answered by the browser: it lives, and the context with it
        except Error:
            return False
        return await within(self._closed.wait(), min(_CLOSING_SECONDS, deadline.left))


@asynccontextmanager
async def watched(target: Locator, deadline: Deadline) -> AsyncIterator[Press]:
    """Ask the page to tell when this element is pressed."""
    page = target.page
    found = await target.evaluate_handle(_WATCH, timeout=deadline.milliseconds())
    opens = str(await found.evaluate("found => found.opens"))
    down: asyncio.Task[object] = asyncio.ensure_future(found.evaluate("found => found.down"))
    closed = asyncio.Event()

    def on_closed(page: Page) -> None:
        closed.set()

    page.on("close", on_closed)
    try:
        yield Press(page, opens, down, closed)
    finally:
        page.remove_listener("close", on_closed)
        down.cancel()
        await asyncio.gather(down, return_exceptions=True)
