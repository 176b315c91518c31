"""What each web action does on a page. One function per action; each performs once and raises `Trouble`.

Selectors must mean one element where one is acted on or read. Results come from the page: they are tainted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpa.core.classes import FailureClass
from cpa.errors import CPAError
from cpa.executors.web import gate
from cpa.executors.web.press import Press, watched
from cpa.executors.web.resume import Input
from cpa.executors.web.selectors import locate
from cpa.executors.web.step import Step, act, check_answer, follow, load_trouble, ready_to_click, within
from cpa.executors.web.trouble import Trouble, bad_argument

if TYPE_CHECKING:
    from playwright.async_api import Locator

_TITLE = 1000
INLINE_BYTES = 16 * 1024
"""Larger results become artifacts (architecture, section 1)."""

_TABLE = """element => {
  const table = element.closest('table') ?? element.querySelector('table');
  if (!table) return null;
  return [...table.rows].map(row => ({
    head: row.cells.length > 0 && [...row.cells].every(cell => cell.tagName === 'TH'),
    cells: [...row.cells].map(cell => cell.innerText.trim()),
  }));
}"""
_TEXT = """element => element.matches('input, textarea') ? element.value
  : element.matches('select') ? [...element.selectedOptions].map(option => option.text).join(', ')
  : element.innerText"""


async def goto(step: Step) -> dict[str, Any]:
    from playwright.async_api import Error, TimeoutError

    url = step.text("url")
    try:
        step.addresses.check_literal(url)
    except CPAError as error:
        raise gate.refused(error) from None
    try:
        response = await step.page.goto(
            url, wait_until="domcontentloaded", timeout=step.deadline.milliseconds()
        )
    except TimeoutError:
        raise Trouble(
            FailureClass.TECHNICAL, "timeout", f"{url} did not load in time.", details={"url": url}
        ) from None
    except Error as error:
        if "Download is starting" in str(error):
            raise Trouble(
                FailureClass.BUSINESS,
                "is_download",
                "This address is a file, not a page.",
                remedy="Use web.download with this url.",
                details={"url": url},
            ) from None
        raise load_trouble(step, url, error) from error
    if response is not None:
        check_answer(step, response.url, response.status, response.headers.get(gate.HEADER, ""))
    return {"url": step.page.url, "title": await _title(step)}


async def click(step: Step) -> dict[str, Any]:
    """With `closed` in the result, the click closed the page it was on."""
    from playwright.async_api import Error

    target = await ready_to_click(step, step.selector())
    async with watched(target, step.deadline) as press:
        step.dispatched = True
        try:
            await _click_and_follow(step, target, press)
        except Error as error:
            if not await press.closed_its_page(error, step.deadline):
                raise
    _check_dialogs(step)
    result: dict[str, Any] = {"url": step.page.url if step.session.pages else ""}
    return result | {"closed": True} if press.page_closed else result


async def _click_and_follow(step: Step, target: Locator, press: Press) -> None:
    session, before = step.session, step.session.navigation
    await target.click(timeout=step.deadline.milliseconds())
    if press.opens not in {"", "_self", "_top", "_parent"}:
        await within(session.popup.wait(), min(3.0, step.deadline.left))
    if session.popup.is_set() and session.opening is not None:
        await follow(step, session.opening)
    if session.navigation is not before and session.navigation is not None:
        await follow(step, session.navigation)


async def fill(step: Step) -> dict[str, Any]:
    selector, given = step.selector(), step.arguments.get("text")
    value = step.value(given)
    if isinstance(given, Mapping):
        step.session.masks[selector] = None
    await act(step, selector, lambda target, ms: target.fill(value, timeout=ms))
    _note(
        step,
        Input(kind="fill", selector=selector, value=_as_given(given, value)),
    )
    return {}


async def select(step: Step) -> dict[str, Any]:
    """Choose by value or by the label that is shown."""
    from playwright.async_api import TimeoutError

    selector, given = step.selector(), step.arguments.get("value")
    chosen = given if isinstance(given, list) else [given]
    wanted = [step.value(each) for each in chosen]
    if any(isinstance(each, Mapping) for each in chosen):
        step.session.masks[selector] = None
    target = locate(step.page, selector)
    try:
        await act(step, selector, lambda target, ms: target.select_option(wanted, timeout=min(ms, 2000)))
    except Trouble as trouble:
        if trouble.code != "not_actionable":
            raise
        try:
            offered = await target.locator("option").all_inner_texts()
        except TimeoutError:
            raise trouble from None
        raise Trouble(
            FailureClass.BUSINESS,
            "option_missing",
            "The list has no such option, or it cannot be chosen.",
            remedy=f"It offers: {', '.join(text.strip() for text in offered[:20])}",
        ) from None
    _note(step, Input(kind="select", selector=selector, value=[*map(_as_given, chosen, wanted)]))
    return {}


async def extract(step: Step) -> dict[str, Any]:
    what = step.text("what", "text")
    page = step.page
    if what in {"url", "title"}:
        return {"value": page.url if what == "url" else await _title(step), "url": page.url}
    if what not in {"text", "texts", "attribute", "table", "count"}:
        raise bad_argument(
            "what", f"{what!r} is unknown", "One of text, texts, attribute, table, count, url, title."
        )
    selector = step.selector()
    target = locate(page, selector)
    if what == "count":
        return {"count": await target.count(), "url": page.url}
    if what == "texts":
        return await _sized(step, "values", [text.strip() for text in await target.all_inner_texts()])
    await act(step, selector, lambda target, ms: target.wait_for(state="attached", timeout=ms))
    if what == "table":
        return await _sized(step, "values", _records(await target.evaluate(_TABLE)))
    if what == "attribute":
        name = step.text("attribute")
        value = await target.get_attribute(name)
        if value is None:
            raise Trouble(
                FailureClass.BUSINESS, "attribute_missing", f"The element has no attribute `{name}`."
            )
        return await _sized(step, "value", value)
    text = str(await target.evaluate(_TEXT))
    return await _sized(step, "value", text.strip())


async def _title(step: Step) -> str:
    """What a person would read of it."""
    title: str = step.session.redact(await step.page.title())
    return title[:_TITLE]


async def screenshot(step: Step) -> dict[str, Any]:
    """A PNG of the page, of all of it (`full_page`), or of one element."""
    selector = step.selector() if step.arguments.get("selector") is not None else ""
    full_page = step.arguments.get("full_page", False)
    if not isinstance(full_page, bool):
        raise bad_argument("full_page", "true or false is needed")
    if selector:
        await act(step, selector, lambda target, ms: target.wait_for(state="visible", timeout=ms))
    content = await step.session.picture(
        milliseconds=step.deadline.milliseconds(),
        png=True,
        full_page=full_page,
        of=locate(step.page, selector) if selector else None,
    )
    artifact = await step.artifacts.put(step.tenant, content, name="screenshot.png", media_type="image/png")
    return {"file": artifact.as_reference()}


async def restore(step: Step, url: str, inputs: tuple[Input, ...]) -> None:
    """Bring a session's page back: its address, then what was typed there."""
    step.arguments = {"url": url}
    try:
        await goto(step)
    except Trouble as trouble:
        if trouble.failure is not FailureClass.BUSINESS:
            raise
        raise _lost(url, trouble.message) from None
    if _place(step.page.url) != _place(url):
        raise _lost(url, f"it led to {step.page.url}")
    for each in inputs:
        step.arguments = {"selector": each.selector, "text": each.value, "value": each.value}
        await (fill if each.kind == "fill" else select)(step)


def _check_dialogs(step: Step) -> None:
    """A question that was answered with no: what the click was for did not happen."""
    asked = [each for each in step.session.dialogs if each["type"] in {"confirm", "prompt"}]
    if asked:
        raise Trouble(
            FailureClass.BUSINESS,
            "dialog_dismissed",
            f"The page asked “{asked[0]['message']}” and was answered no.",
            remedy="Do this step by hand, or find a way through the portal that asks on the page.",
            details={"dialogs": list(step.session.dialogs)},
        )


def _as_given(given: object, value: str) -> Any:
    """What to remember of an input: of a secret only its name."""
    return dict(given) if isinstance(given, Mapping) else value


def _note(step: Step, done: Input) -> None:
    """Remember what was typed, once per field, in order."""
    kept = [each for each in step.session.inputs if each.selector != done.selector]
    step.session.inputs[:] = [*kept, done]


def _records(rows: list[dict[str, Any]] | None) -> list[Any]:
    """A table as objects if its first row is a head with distinct names, else as lists of cells."""
    if rows is None:
        raise Trouble(FailureClass.BUSINESS, "not_a_table", "The element is no table and holds none.")
    if not rows or not rows[0]["head"]:
        return [row["cells"] for row in rows]
    names = rows[0]["cells"]
    if len(set(names)) < len(names) or any(len(row["cells"]) != len(names) for row in rows):
        return [row["cells"] for row in rows]
    return [dict(zip(names, row["cells"], strict=True)) for row in rows[1:]]


async def _sized(step: Step, name: str, value: Any) -> dict[str, Any]:
    """The result in place, or as an artifact when it is large. Secrets a page echoes do not get in."""
    value = step.session.redact(value)
    content = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode(
        "utf-8", "replace"
    )
    if len(content) > INLINE_BYTES:
        kind = (
            ("extract.txt", "text/plain") if isinstance(value, str) else ("extract.json", "application/json")
        )
        artifact = await step.artifacts.put(step.tenant, content, name=kind[0], media_type=kind[1])
        value = artifact.as_reference()
    return {name: value, "url": step.page.url}


def _place(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.path


def _lost(url: str, why: str) -> Trouble:
    return Trouble(
        FailureClass.BUSINESS,
        "session_lost",
        f"The page this job was on could not be restored: {why}",
        remedy="Retry the job: the steps that led to this page are done again where all of them may be. Where one "
        "may not, say which: `cpa dead-letters retry JOB --again TASK`.",
        details={"url": url},
    )
