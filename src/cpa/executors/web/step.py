"""One step on a page, and what all actions share: acting on the one element, following where a click leads,
giving what went wrong its class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpa.core.classes import FailureClass
from cpa.errors import CPAError
from cpa.executors.web.selectors import hints, locate, parse
from cpa.executors.web.session import Navigation, Session
from cpa.executors.web.trouble import Deadline, Trouble, bad_argument, network_error

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from cpa.ports.addresses import OutboundAddresses
    from cpa.ports.artifacts import ArtifactStore


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
    max_download: int
    """Bytes of a file."""
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
            self.session.secret_names.add(str(given["secret"]))
            return value
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise bad_argument("text", "a text or a secret is needed")
        return str(given)


async def ready_to_click(step: Step, selector: str) -> Locator:
    """The one element, visible, enabled, not covered: everything a click needs, without clicking."""
    page = step.page  # trying moves the mouse, which may bring another page to the front
    await act(step, selector, lambda target, ms: target.click(trial=True, timeout=ms))
    return locate(page, selector)


async def act(step: Step, selector: str, perform: Callable[[Locator, float], Awaitable[object]]) -> None:
    """Do something to the one element; what keeps it from being done gets its class and its hints."""
    from playwright.async_api import TimeoutError

    target = locate(step.page, selector)
    try:
        await perform(target, step.deadline.milliseconds())
    except TimeoutError:
        if await target.count() == 0:
            raise await missing(step, selector) from None
        raise Trouble(
            FailureClass.TECHNICAL,
            "not_actionable",
            "The element is there, but hidden, disabled, covered or moving.",
            remedy="Wait for it, or close what covers it.",
            details={"selector": selector},
        ) from None


async def missing(step: Step, selector: str) -> Trouble:
    """Nothing found in time: say what the page offers, in words that hold no secret."""
    from playwright.async_api import Error

    details: dict[str, Any] = {"wanted": selector}
    if step.session.pages:
        details["url"] = step.page.url
        try:
            details |= await hints(step.page, selector, step.session.redact)
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
        remedy=f"The nearest there is: {near}" if near else "Look at the picture.",
        details=details,
    )


async def follow(step: Step, navigation: Navigation) -> None:
    """After a click: see where the navigation it started ends. That it does not is UNKNOWN_OUTCOME: the
    request may have reached the portal."""
    if not await within(navigation.ended.wait(), step.deadline.left):
        raise unknown(
            "navigation_unfinished", f"The click led to {navigation.url}, which did not answer in time."
        )
    if navigation.failure and "ERR_ABORTED" not in navigation.failure:
        found = step.session.gate.trouble(navigation.url) if step.session.gate is not None else None
        if found is not None and found.failure is FailureClass.POLICY:
            raise found
        raise unknown("navigation_failed", f"The click led to {navigation.url}: {navigation.failure}")
    if navigation.gate == "refused":
        raise gate_trouble(step, navigation.url)
    if navigation.gate:
        raise unknown("navigation_failed", gate_trouble(step, navigation.url).message)
    if navigation.status >= 500:
        raise unknown("portal_error", f"The portal answered the click with an error ({navigation.status}).")
    if step.session.pages and not navigation.failure:
        await step.page.wait_for_load_state("domcontentloaded", timeout=step.deadline.milliseconds())


def check_answer(step: Step, url: str, status: int, gate_says: str) -> None:
    """The class of an HTTP answer to opening a page."""
    if gate_says:
        raise gate_trouble(step, url)
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


def gate_trouble(step: Step, url: str) -> Trouble:
    found = step.session.gate.trouble(url) if step.session.gate is not None else None
    return found or Trouble(
        FailureClass.TECHNICAL,
        "portal_unreachable",
        f"{url} cannot be reached.",
        remedy="Check that the portal is up, and the address.",
        details={"url": url},
    )


def load_trouble(step: Step, url: str, error: Exception) -> Exception:
    """Why a page did not load, as the gate saw it (a refused tunnel tells the browser nothing)."""
    reason = network_error(error)
    if reason is None:
        return error
    for each in (url, step.session.navigation.url if step.session.navigation else url):
        found = step.session.gate.trouble(each) if step.session.gate is not None else None
        if found is not None:
            return found
    trouble = gate_trouble(step, url)
    trouble.details["reason"] = reason
    return trouble


async def within(waiting: Awaitable[object], seconds: float) -> bool:
    """Whether it came within these seconds."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


def unknown(code: str, message: str) -> Trouble:
    return Trouble(
        FailureClass.UNKNOWN_OUTCOME, code, message, remedy="Look at the target whether it happened."
    )
