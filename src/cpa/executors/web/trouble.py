"""How a step on a page goes wrong, as an exception inside the browser hand.

A step raises `Trouble` with the failure class; the executor turns it into a failed result. What a browser
says in its own words is classed here, by whether the step had already been sent to the page:

    before   TECHNICAL or ENVIRONMENT: nothing happened, a second try is right
    after    UNKNOWN_OUTCOME: the page may have acted on it
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from cpa.core.classes import FailureClass
from cpa.ports.executor import ExecutionResult

_GONE = re.compile(
    r"has been closed|Target closed|Connection closed|Browser closed|Target crashed|Page crashed|"
    r"Session closed|Browser has been disconnected|pipe closed",
    re.IGNORECASE,
)
_AMBIGUOUS = re.compile(r"strict mode violation.*?resolved to (\d+) elements", re.DOTALL)
_MALFORMED = re.compile(
    r"while parsing|Unexpected token|Unknown engine|not a valid (selector|XPath)|Malformed selector|"
    r"Unsupported token|must (have|not be empty)",
)
_NETWORK = re.compile(r"net::(ERR_[A-Z_0-9]+)")


class Trouble(Exception):
    """Why a step did not succeed."""

    def __init__(
        self,
        failure: FailureClass,
        code: str,
        message: str,
        *,
        remedy: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.code = code
        self.message = message
        self.remedy = remedy
        self.details = dict(details or {})

    def as_result(self, *, duration: float, artifacts: tuple[str, ...] = ()) -> ExecutionResult:
        return ExecutionResult.failed(
            self.failure,
            self.code,
            self.message,
            remedy=self.remedy,
            details=self.details,
            duration=duration,
            artifacts=artifacts,
        )


class Deadline:
    """A point on the monotonic clock until which a step may run."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def milliseconds(self, most: float = 600_000.0) -> float:
        """What is left, for Playwright, where 0 would mean without end: at least 1."""
        return max(1.0, min(most, self.left * 1000))


def bad_argument(field: str, message: str, remedy: str = "") -> Trouble:
    return Trouble(FailureClass.BUSINESS, "bad_argument", f"{field}: {message}", remedy=remedy)


def is_gone(error: Exception) -> bool:
    """Whether this says that browser, context or page no longer exist."""
    return bool(_GONE.search(str(error)))


def network_error(error: Exception) -> str | None:
    """The browser's network error in this, such as `ERR_CONNECTION_REFUSED`."""
    found = _NETWORK.search(str(error))
    return found[1] if found else None


def of_browser(error: Exception, *, dispatched: bool) -> Trouble:
    """The class of an error that a browser reported in its own words."""
    text = str(error)
    if dispatched:
        return Trouble(
            FailureClass.UNKNOWN_OUTCOME,
            "interrupted",
            f"The step was sent to the page, but its end was not seen: {_first_line(text)}",
            remedy="Look at the target whether it happened.",
        )
    if is_gone(error):
        return Trouble(
            FailureClass.ENVIRONMENT,
            "browser_died",
            "The browser or its page ended before the step was done.",
            remedy="A new browser is started at the next try; if it dies again, look at its memory.",
        )
    if found := _AMBIGUOUS.search(text):
        # BUSINESS, not TECHNICAL: the same selector finds the same elements again; a retry never helps.
        return Trouble(
            FailureClass.BUSINESS,
            "selector_ambiguous",
            f"The selector finds {found[1]} elements where one is meant.",
            remedy="Make it more precise, or take one of them with `>> nth=0`.",
            details={"count": int(found[1])},
        )
    if _MALFORMED.search(text):
        return Trouble(
            FailureClass.BUSINESS,
            "selector_invalid",
            f"The selector cannot be read: {_first_line(text)}",
            remedy='Write css=…, xpath=…, text=… or role=button[name="…"].',
        )
    return Trouble(FailureClass.TECHNICAL, "browser_error", f"The browser answered: {_first_line(text)}")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "nothing"
