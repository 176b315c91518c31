"""`web.wait_for`: until something is there, or a sign that it will not come."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpa.core.classes import FailureClass
from cpa.executors.web.selectors import locate, parse
from cpa.executors.web.step import Step, missing
from cpa.executors.web.trouble import Trouble, bad_argument, is_gone, of_browser

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

_POLL_SECONDS = 0.06
_MOST_NAMES, _LONGEST_NAME = 5, 80


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
            await _check_refusals(front, refusals, step.session.redact)
        except Error as error:
            # A page that is just changing, or gives way to another, answers nothing; ask again.
            malformed = of_browser(error, dispatched=False).code == "selector_invalid"
            if malformed or (is_gone(error) and step.page is front):
                raise
        if step.deadline.left <= _POLL_SECONDS:
            raise await missing(step, described)
        await asyncio.sleep(_POLL_SECONDS)


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
        return await any_visible(target) == (state == "visible")

    return text if text is not None else selector, shown


def _refusals(step: Step) -> list[tuple[str, Mapping[str, Any]]]:
    given = step.arguments.get("unless") or []
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise bad_argument("unless", "a list of {selector, code, message, remedy, names} is needed")
    return [
        (parse(each.get("selector"), f"unless[{index}].selector"), each) for index, each in enumerate(given)
    ]


async def _check_refusals(
    page: Page, refusals: list[tuple[str, Mapping[str, Any]]], redact: Callable[[str], str]
) -> None:
    for selector, each in refusals:
        if await any_visible(locate(page, selector)):
            shown = redact(await locate(page, selector).first.inner_text())[:300].strip()
            names = await _names(page, each["names"], redact) if each.get("names") else []
            raise Trouble(
                FailureClass.BUSINESS,
                str(each.get("code", "refused")),
                _naming(str(each.get("message") or f"The page says: {shown}"), names),
                remedy=_naming(str(each.get("remedy", "")), names),
                details={"selector": selector, "shown": shown, "url": page.url},
            )


async def _names(page: Page, selector: object, redact: Callable[[str], str]) -> list[str]:
    """What the page shows under this selector, each thing as one short line."""
    shown = await locate(page, parse(selector, "unless.names")).all_inner_texts()
    lines = (" ".join(redact(text).replace('"', "").split()) for text in shown)
    return [line[:_LONGEST_NAME] for line in lines if line]


def _naming(text: str, names: Sequence[str]) -> str:
    """The text with the first name for {name} and some of them for {names}."""
    some = ", ".join(f'"{name}"' for name in names[:_MOST_NAMES]) + (" …" if names[_MOST_NAMES:] else "")
    return text.replace("{names}", some or "-").replace("{name}", names[0] if names else "…")


async def any_visible(target: Locator) -> bool:
    return await target.locator("visible=true").count() > 0


def _matches(url: str, wanted: str) -> bool:
    """A whole URL, or from its path on when `wanted` begins with `/`; `*` stands for anything."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    subjects = [path, parts.path] if wanted.startswith("/") else [url]
    pattern = re.compile(fnmatch.translate(wanted.replace("[", "[[]").replace("?", "[?]")))
    return any(pattern.match(subject) for subject in subjects)
