"""What each web action does on a page. One function per action; each performs once and raises `Trouble`.

Selectors must mean one element where one is acted on or read. Results come from the page: they are tainted.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpa.core.classes import FailureClass
from cpa.errors import CPAError
from cpa.executors import gate
from cpa.executors.resume import Input
from cpa.executors.selectors import hints, locate, parse
from cpa.executors.session import Navigation, Session
from cpa.executors.trouble import Deadline, Trouble, bad_argument, is_gone, network_error, of_browser

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from cpa.ports.addresses import OutboundAddresses
    from cpa.ports.artifacts import ArtifactStore

INLINE_BYTES = 16 * 1024
"""Larger results become artifacts (architecture, section 1)."""
_POLL_SECONDS = 0.06

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
_OPENS_PAGE = "element => (element.closest('a, area') ?? element.form ?? element).target ?? ''"


@dataclass(slots=True, kw_only=True)
class Step:
    """One action on one session."""

    tenant: str
    session: Session
    arguments: Mapping[str, Any]
    deadline: Deadline
    artifacts: ArtifactStore
    addresses: OutboundAddresses
    resolve: Callable[[str, str], str]
    """Secrets: (tenant, name) → value."""
    opens_pdf: bool = False
    """The browser shows PDFs itself; a click on one must be turned into a download."""
    dispatched: bool = False
    """The step was sent to the page: from here on its outcome is unknown until it is seen."""

    @property
    def page(self) -> Page:
        return self.session.page

    def selector(self) -> str:
        return parse(self.arguments.get("selector"))

    def text(self, name: str, default: str | None = None) -> str:
        """A text argument; numbers are taken as text."""
        value = self.arguments.get(name, default)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise bad_argument(name, "a text is needed")
        return str(value)

    def value(self, given: object) -> str:
        """A text or the secret it refers to, resolved now."""
        if isinstance(given, Mapping) and set(given) == {"secret"}:
            try:
                value = self.resolve(self.tenant, str(given["secret"]))
            except CPAError as error:
                raise Trouble(
                    FailureClass.BUSINESS, "secret_missing", error.message, remedy=error.remedy or ""
                ) from None
            self.session.secrets.add(value)
            return value
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise bad_argument("text", "a text or a secret is needed")
        return str(given)


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
        raise _load_trouble(step, url, error) from error
    if response is not None:
        check_answer(step, response.url, response.status, response.headers.get(gate.HEADER, ""))
    return {"url": step.page.url, "title": await step.page.title()}


async def click(step: Step) -> dict[str, Any]:
    selector = step.selector()
    target = await ready_to_click(step, selector)
    before = step.session.navigation
    new_page = await target.evaluate(_OPENS_PAGE) not in {"", "_self", "_top", "_parent"}
    step.dispatched = True
    await target.click(timeout=step.deadline.milliseconds())
    if new_page:
        await _first(step.session.popup.wait(), min(3.0, step.deadline.left))
    if step.session.navigation is not before and step.session.navigation is not None:
        await follow(step, step.session.navigation)
    _check_dialogs(step)
    return {"url": step.page.url if step.session.pages else ""}


async def fill(step: Step) -> dict[str, Any]:
    selector, given = step.selector(), step.arguments.get("text")
    value = step.value(given)
    if isinstance(given, Mapping):
        step.session.masks[selector] = None
    await _act(step, selector, lambda target, ms: target.fill(value, timeout=ms))
    _note(
        step,
        Input(kind="fill", selector=selector, value=dict(given) if isinstance(given, Mapping) else value),
    )
    return {}


async def select(step: Step) -> dict[str, Any]:
    """Choose by value or by the label that is shown."""
    from playwright.async_api import TimeoutError

    selector, given = step.selector(), step.arguments.get("value")
    wanted = [step.value(each) for each in given] if isinstance(given, list) else [step.value(given)]
    target = locate(step.page, selector)
    try:
        await _act(step, selector, lambda target, ms: target.select_option(wanted, timeout=min(ms, 2000)))
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
    _note(step, Input(kind="select", selector=selector, value=wanted))
    return {}


async def wait_for(step: Step) -> dict[str, Any]:
    """Poll until the wanted is there, or one of `unless` says it will not come."""
    from playwright.async_api import Error

    described, wanted = _condition(step)
    refusals = _refusals(step)
    while True:
        front = step.page
        try:
            if await wanted(front):
                return {"url": front.url}
            await _check_refusals(front, refusals)
        except Error as error:
            # A page that is just changing, or gives way to another, answers nothing; ask again.
            malformed = of_browser(error, dispatched=False).code == "selector_invalid"
            if malformed or (is_gone(error) and step.page is front):
                raise
        if step.deadline.left <= _POLL_SECONDS:
            raise await _missing(step, described)
        await asyncio.sleep(_POLL_SECONDS)


async def extract(step: Step) -> dict[str, Any]:
    what = step.text("what", "text")
    page = step.page
    if what in {"url", "title"}:
        return {"value": page.url if what == "url" else await page.title(), "url": page.url}
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
    await _act(step, selector, lambda target, ms: target.wait_for(state="attached", timeout=ms))
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


async def screenshot(step: Step) -> dict[str, Any]:
    """A PNG of the page, of all of it (`full_page`), or of one element."""
    selector = step.selector() if step.arguments.get("selector") is not None else ""
    full_page = step.arguments.get("full_page", False)
    if not isinstance(full_page, bool):
        raise bad_argument("full_page", "true or false is needed")
    if selector:
        await _act(step, selector, lambda target, ms: target.wait_for(state="visible", timeout=ms))
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


# -- shared by the actions -----------------------------------------------------------------------------------


async def ready_to_click(step: Step, selector: str) -> Locator:
    """The one element, visible, enabled, not covered: everything a click needs, without clicking."""
    await _act(step, selector, lambda target, ms: target.click(trial=True, timeout=ms))
    return locate(step.page, selector)


async def follow(step: Step, navigation: Navigation) -> None:
    """After a click: see where the navigation it started ends. That it does not is UNKNOWN_OUTCOME: the
    request may have reached the portal."""
    if not await _first(navigation.ended.wait(), step.deadline.left):
        raise _unknown(
            "navigation_unfinished", f"The click led to {navigation.url}, which did not answer in time."
        )
    if navigation.failure and "ERR_ABORTED" not in navigation.failure:
        raise _unknown("navigation_failed", f"The click led to {navigation.url}: {navigation.failure}")
    if navigation.gate == "refused":
        raise step_gate_trouble(step, navigation.url)
    if navigation.gate:
        raise _unknown("navigation_failed", step_gate_trouble(step, navigation.url).message)
    if navigation.status >= 500:
        raise _unknown("portal_error", f"The portal answered the click with an error ({navigation.status}).")
    if step.session.pages and not navigation.failure:
        await step.page.wait_for_load_state("domcontentloaded", timeout=step.deadline.milliseconds())


def check_answer(step: Step, url: str, status: int, gate_says: str) -> None:
    """The class of an HTTP answer to opening a page."""
    if gate_says:
        raise step_gate_trouble(step, url)
    if status < 400:
        return
    details = {"url": url, "status": status}
    if status >= 500 or status in {408, 425, 429}:
        raise Trouble(
            FailureClass.TECHNICAL,
            "portal_error",
            f"The portal answered with an error ({status}).",
            remedy="It is tried again; if it stays, ask the portal's operator.",
            details=details,
        )
    remedies = {401: "Sign in first.", 403: "Check the rights of the account.", 404: "Check the address."}
    raise Trouble(
        FailureClass.BUSINESS,
        "portal_refused",
        f"The portal refused the page ({status}).",
        remedy=remedies.get(status, "Check the address and the account."),
        details=details,
    )


def step_gate_trouble(step: Step, url: str) -> Trouble:
    found = step.session.gate.trouble(url) if step.session.gate is not None else None
    return found or Trouble(
        FailureClass.TECHNICAL,
        "portal_unreachable",
        f"{url} cannot be reached.",
        remedy="Check that the portal is up, and the address.",
        details={"url": url},
    )


def _load_trouble(step: Step, url: str, error: Exception) -> Exception:
    """Why a page did not load, as the gate saw it (a refused tunnel tells the browser nothing)."""
    reason = network_error(error)
    if reason is None:
        return error
    for each in (url, step.session.navigation.url if step.session.navigation else url):
        found = step.session.gate.trouble(each) if step.session.gate is not None else None
        if found is not None:
            return found
    trouble = step_gate_trouble(step, url)
    trouble.details["reason"] = reason
    return trouble


async def _act(step: Step, selector: str, act: Callable[[Locator, float], Awaitable[object]]) -> None:
    """Do something to the one element; what keeps it from being done gets its class and its hints."""
    from playwright.async_api import TimeoutError

    target = locate(step.page, selector)
    try:
        await act(target, step.deadline.milliseconds())
    except TimeoutError:
        if await target.count() == 0:
            raise await _missing(step, selector) from None
        raise Trouble(
            FailureClass.TECHNICAL,
            "not_actionable",
            "The element is there, but hidden, disabled, covered or moving.",
            remedy="Wait for it, or close what covers it.",
            details={"selector": selector},
        ) from None


async def _missing(step: Step, selector: str) -> Trouble:
    """Nothing found in time: say what the page offers, in words that hold no secret."""
    from playwright.async_api import Error

    details: dict[str, Any] = {"wanted": selector}
    if step.session.pages:
        details["url"] = step.page.url
        try:
            details |= await hints(step.page, selector)
        except Error:  # a page that cannot be read offers nothing
            details["candidates"] = []
    status = step.session.navigation.status if step.session.navigation else 0
    if status >= 400:
        details["status"] = status
    near = "; ".join(details.get("candidates", [])[:3])
    return Trouble(
        FailureClass.TECHNICAL,
        "selector_not_found",
        f"Not found on the page in time: {selector}"
        + (f" (the page answered {status})" if status >= 400 else ""),
        remedy=step.session.redact(f"The nearest there is: {near}") if near else "Look at the picture.",
        details=step.session.redact(details),
    )


def _condition(step: Step) -> tuple[str, Callable[[Page], Awaitable[bool]]]:
    state = step.text("state", "visible")
    if state not in {"visible", "hidden", "attached", "detached"}:
        raise bad_argument("state", f"{state!r} is unknown", "One of visible, hidden, attached, detached.")
    if step.arguments.get("url") is not None:
        wanted = step.text("url")

        async def at(page: Page) -> bool:
            return _matches(page.url, wanted)

        return wanted, at
    text = step.text("text") if step.arguments.get("text") is not None else None
    selector = "" if text is not None else step.selector()

    async def shown(page: Page) -> bool:
        target = page.get_by_text(text) if text is not None else locate(page, selector)
        if state in {"attached", "detached"}:
            return (await target.count() > 0) == (state == "attached")
        return await _any_visible(target) == (state == "visible")

    return text if text is not None else selector, shown


async def _any_visible(target: Locator) -> bool:
    return await target.locator("visible=true").count() > 0


def _refusals(step: Step) -> list[tuple[str, Mapping[str, Any]]]:
    given = step.arguments.get("unless") or []
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise bad_argument("unless", "a list of {selector, code, message, remedy} is needed")
    return [
        (parse(each.get("selector"), f"unless[{index}].selector"), each) for index, each in enumerate(given)
    ]


async def _check_refusals(page: Page, refusals: list[tuple[str, Mapping[str, Any]]]) -> None:
    for selector, each in refusals:
        if await _any_visible(locate(page, selector)):
            shown = (await locate(page, selector).first.inner_text())[:300].strip()
            raise Trouble(
                FailureClass.BUSINESS,
                str(each.get("code", "refused")),
                str(each.get("message") or f"The page says: {shown}"),
                remedy=str(each.get("remedy", "")),
                details={"selector": selector, "shown": shown, "url": page.url},
            )


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
    content = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    if len(content) > INLINE_BYTES:
        kind = (
            ("extract.txt", "text/plain") if isinstance(value, str) else ("extract.json", "application/json")
        )
        artifact = await step.artifacts.put(step.tenant, content, name=kind[0], media_type=kind[1])
        value = artifact.as_reference()
    return {name: value, "url": step.page.url}


async def _first(waiting: Awaitable[object], seconds: float) -> bool:
    """Whether it came within these seconds."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


def _matches(url: str, wanted: str) -> bool:
    """A whole URL, or from its path on when `wanted` begins with `/`; `*` stands for anything."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    subjects = [path, parts.path] if wanted.startswith("/") else [url]
    pattern = re.compile(fnmatch.translate(wanted.replace("[", "[[]").replace("?", "[?]")))
    return any(pattern.match(subject) for subject in subjects)


def _place(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.path


def _lost(url: str, why: str) -> Trouble:
    return Trouble(
        FailureClass.BUSINESS,
        "session_lost",
        f"The page this job was on could not be restored: {why}",
        remedy="Requeue the job from the step that signs in.",
        details={"url": url},
    )


def _unknown(code: str, message: str) -> Trouble:
    return Trouble(
        FailureClass.UNKNOWN_OUTCOME, code, message, remedy="Look at the target whether it happened."
    )
