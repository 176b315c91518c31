"""Files out of a page: `web.download` by address or by clicking.

By address, a side page asks for it, so the page in front stays where it is; whatever the portal answers is
made an attachment on its way in, so that a PDF is saved and not shown, in every browser. By clicking, the
first download that starts is taken; a browser that would open a PDF in its own viewer gets the same treatment.

The content streams from the browser's temporary file into the artifact store. What it is, the content says: a
portal that answers with its sign-in page under the name of an invoice is found out.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpa.core.classes import FailureClass
from cpa.errors import CPAError
from cpa.executors.web import gate
from cpa.executors.web.step import Step, check_answer, gate_trouble, ready_to_click
from cpa.executors.web.trouble import Trouble, bad_argument, network_error

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Download, Page

_CHUNK = 1024 * 1024
_AROUND = 4 * 1024 * 1024
"""Bytes that may come in while a file does: headers, encryption, and what the page goes on loading."""
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)

_STAY = "element => { const link = element.closest('a, area'); if (link) link.target = '_self'; }"
"""A link to a new window would show the PDF there, where nothing turns it into a download."""

Attach = Callable[[str], bool]
"""Media type → whether to make the answer an attachment."""


async def download(step: Step) -> dict[str, Any]:
    """Result `{file, url}`. With `media_type` (say `application/pdf`) the content is checked against it."""
    if (step.arguments.get("selector") is None) == (step.arguments.get("url") is None):
        raise bad_argument("selector", "exactly one of selector and url is needed")
    by_url = step.arguments.get("url") is not None
    if step.session.gate is not None:
        step.session.gate.limit(step.max_download + step.max_download // 20 + _AROUND)
    found = await (_by_url(step) if by_url else _by_click(step))
    try:
        path = await found.path()
        head = await asyncio.to_thread(_head, path)
        media_type = _media_type(head, found.suggested_filename)
        _check_content(step, head, media_type, found.url)
        artifact = await step.artifacts.put(
            step.tenant,
            chunks(path),
            name=step.session.redact(found.suggested_filename),
            media_type=media_type,
        )
    finally:
        with suppress(Exception):  # the browser deletes it with the context at the latest
            await found.delete()
    return {"file": artifact.as_reference(), "url": found.url}


async def attach(page: Page, wanted: Attach) -> CDPSession:
    """Turn answers to navigations of this page into attachments where `wanted` says so. The browser is asked
    at the response, before the body: nothing is fetched twice, nothing is held in memory."""
    from playwright.async_api import Error

    devtools = await page.context.new_cdp_session(page)

    async def answer(event: dict[str, Any]) -> None:
        status = event.get("responseStatusCode") or 0
        headers = event.get("responseHeaders") or []
        names = {each["name"].lower(): each["value"] for each in headers}
        method, changed = "Fetch.continueRequest", {"requestId": event["requestId"]}
        media_type = names.get("content-type", "").partition(";")[0].strip().lower()
        inline = not names.get("content-disposition", "").lower().startswith("attachment")
        if 200 <= status < 300 and inline and gate.HEADER not in names and wanted(media_type):
            old = names.get("content-disposition", "inline").partition(";")[2]
            kept = [each for each in headers if each["name"].lower() != "content-disposition"]
            value = "attachment" + (f";{old}" if old else "")
            method = "Fetch.continueResponse"
            changed |= {
                "responseCode": status,
                "responseHeaders": [*kept, {"name": "content-disposition", "value": value}],
            }
        with suppress(Error):  # the page may be closed meanwhile
            await devtools.send(method, changed)

    devtools.on("Fetch.requestPaused", answer)
    pattern = {"urlPattern": "*", "resourceType": "Document", "requestStage": "Response"}
    await devtools.send("Fetch.enable", {"patterns": [pattern]})
    return devtools


async def _by_url(step: Step) -> Download:
    from playwright.async_api import Error, TimeoutError

    url = step.text("url")
    try:
        step.addresses.check_literal(url)
    except CPAError as error:
        raise gate.refused(error) from None
    page = await step.session.side_page()
    try:
        await attach(page, lambda media_type: True)
        try:
            response = await page.goto(
                url, wait_until="domcontentloaded", timeout=step.deadline.milliseconds()
            )
        except TimeoutError:
            raise Trouble(
                FailureClass.TECHNICAL, "timeout", f"{url} did not answer in time.", details={"url": url}
            ) from None
        except Error as error:
            if "Download is starting" not in str(error):
                if network_error(error) is None:
                    raise
                raise gate_trouble(step, url) from error
            found = await _next(step)
            await _finished(step, found)
            return found
        if response is not None:
            said = response.headers.get(gate.HEADER, "")
            check_answer(step, response.url, response.status, said)
        raise _no_download(step, f"{url} answered without a file.")
    finally:
        with suppress(Error):
            await page.close()


async def _by_click(step: Step) -> Download:
    from playwright.async_api import Error

    selector = step.selector()
    target = await ready_to_click(step, selector)
    origin, before = step.page, step.session.navigation
    devtools = None
    if step.opens_pdf:
        devtools = await attach(origin, lambda media_type: media_type == "application/pdf")
        await target.evaluate(_STAY)
    try:
        await target.click(timeout=step.deadline.milliseconds())
        found = await _next_unless_refused(step, before)
        await _finished(step, found)
    finally:
        if devtools is not None:
            with suppress(Error):
                await devtools.detach()
    if step.session.pages and step.page is not origin and step.session.blank:
        await step.page.close()  # the empty window a download leaves behind
    return found


async def _next_unless_refused(step: Step, before: object) -> Download:
    """The download that the click started, or what the portal answered instead."""
    downloads = step.session.downloads
    while downloads.empty():
        navigation = step.session.navigation
        if navigation is not None and navigation is not before and navigation.ended.is_set():
            check_answer(step, navigation.url, navigation.status, navigation.gate)
        if step.deadline.left <= 0.1:
            raise _no_download(step, "The click started no download in time.")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                return await downloads.get()
    return downloads.get_nowait()


async def _next(step: Step) -> Download:
    try:
        async with asyncio.timeout(step.deadline.left):
            return await step.session.downloads.get()
    except TimeoutError:
        raise _no_download(step, "The download did not start in time.") from None


async def _finished(step: Step, found: Download) -> None:
    """Wait for the last byte. A download that breaks off is TECHNICAL: it can be asked for again."""
    try:
        async with asyncio.timeout(step.deadline.left):
            failure = await found.failure()
    except TimeoutError:
        with suppress(Exception):
            await found.cancel()
        raise Trouble(
            FailureClass.TECHNICAL,
            "timeout",
            "The download did not finish in time.",
            remedy="Give the task a longer timeout.",
            details={"url": found.url},
        ) from None
    if step.session.gate is not None and step.session.gate.exceeded:
        raise Trouble(
            FailureClass.BUSINESS,
            "download_too_large",
            f"The file is larger than {step.max_download} bytes; its download was cut off.",
            remedy="Raise CPA_MAX_ARTIFACT_BYTES if it is meant to be that large.",
            details={"url": found.url},
        )
    if failure:
        raise Trouble(
            FailureClass.TECHNICAL,
            "download_failed",
            f"The download broke off: {failure}",
            details={"url": found.url},
        )


def _no_download(step: Step, message: str) -> Trouble:
    front = step.page.url if step.session.pages else ""
    return Trouble(
        FailureClass.TECHNICAL,
        "no_download",
        message,
        remedy="Look at the picture for what the portal shows instead.",
        details={"url": front},
    )


def _check_content(step: Step, head: bytes, media_type: str, url: str) -> None:
    expected = step.arguments.get("media_type")
    if expected is None:
        return
    if not head:
        raise Trouble(
            FailureClass.TECHNICAL, "empty_download", "The portal sent an empty file.", details={"url": url}
        )
    if media_type != str(expected).partition(";")[0].strip().lower():
        raise Trouble(
            # BUSINESS: the portal decided to send something else, mostly its sign-in page.
            FailureClass.BUSINESS,
            "wrong_media_type",
            f"The portal sent {media_type} where {expected} was expected.",
            remedy="Check that the job is still signed in and that the link leads to the file.",
            details={"url": url, "media_type": media_type},
        )


def _media_type(head: bytes, name: str) -> str:
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "text/html"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


async def chunks(path: Path) -> AsyncIterator[bytes]:
    """A file's content, read in threads."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
    finally:
        file.close()
