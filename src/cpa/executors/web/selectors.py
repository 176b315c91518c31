"""Selectors: `css=…` (also without a prefix), `xpath=…`, `text=…`, `role=button[name="Anmelden"]`.

They are Playwright's own strings and go to it as they are; here is what happens around them: refusing what is
none, and telling what the page offers instead when nothing is found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cpa.executors.web.trouble import bad_argument

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

_EXCERPT = 1500
_WORDS = re.compile(r"[^\W\d_]{2,}", re.UNICODE)
_ENGINE = re.compile(r"^[a-z-]+=")


def parse(value: object, field: str = "selector") -> str:
    """A selector string. Raises `Trouble` (BUSINESS) for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise bad_argument(
            field, "a selector is a text that is not empty", 'Write for example role=button[name="OK"].'
        )
    return value.strip()


def locate(page: Page, selector: str) -> Locator:
    return page.locator(selector)


async def hints(
    page: Page, selector: str, redact: Callable[[str], str], *, milliseconds: float = 500
) -> dict[str, Any]:
    """What a person would look at next: the lines of the page's accessibility tree most like the selector,
    and its beginning. Values of fields are left out: they may be anything."""
    tree = redact(await page.locator("body").aria_snapshot(timeout=milliseconds))
    lines = [_without_value(line.strip().removeprefix("- ")) for line in tree.splitlines()]
    named = [line for line in lines if '"' in line or ": " in line]
    wanted = " ".join(_WORDS.findall(_ENGINE.sub("", selector))).lower()
    ranked = sorted(named, key=lambda line: _likeness(wanted, line), reverse=True)
    excerpt = "\n".join(_without_value(line) for line in tree.splitlines())
    return {"candidates": [line[:160] for line in ranked[:5]], "page": excerpt[:_EXCERPT]}


def _likeness(wanted: str, line: str) -> float:
    found = " ".join(_WORDS.findall(line)).lower()
    return difflib.SequenceMatcher(None, wanted, found, autojunk=False).ratio()


def _without_value(line: str) -> str:
    """A text box shows its value after the colon."""
    kind = line.strip().removeprefix("- ")
    if kind.startswith(("textbox", "searchbox", "spinbutton", "combobox")) and ": " in line:
        return line.rpartition(": ")[0]
    return line
