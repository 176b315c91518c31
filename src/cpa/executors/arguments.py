"""Reading the arguments of an action, and stopping an attempt with a reason.

Every executor works the same way: arguments are read with a check that names the argument, trouble is
raised as `Stopped`, and `attempt` turns both into an `ExecutionResult` with its duration. A control slot
(what chooses a recipient, URL, folder or selector) filled from outside is refused here once more, although
the plan was checked before: the hand is the last place where it can be.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from cpa.core.classes import FailureClass
from cpa.core.references import listed
from cpa.errors import BadInput, CPAError, Forbidden, NotFound, TooLarge, Unavailable
from cpa.ports.executor import ActionError, ActionRequest, ExecutionResult

_SURROGATE = re.compile("[\ud800-\udfff]")
P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """The attempt ends here, for the reason in `error`."""

    def __init__(
        self,
        failure: FailureClass,
        code: str,
        message: str,
        *,
        remedy: str = "",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
        artifacts: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.artifacts = artifacts
        self.error = ActionError(
            failure=failure,
            code=code,
            message=message,
            remedy=remedy,
            retry_after=retry_after,
            details=details or {},
        )


def business(code: str, message: str, *, remedy: str = "", **details: Any) -> Stopped:
    """The answer is no; trying again will not help."""
    return Stopped(FailureClass.BUSINESS, code, message, remedy=remedy, details=details)


def policy(code: str, message: str, *, remedy: str = "", **details: Any) -> Stopped:
    """Not allowed here."""
    return Stopped(FailureClass.POLICY, code, message, remedy=remedy, details=details)


def technical(
    code: str, message: str, *, remedy: str = "", retry_after: float | None = None, **details: Any
) -> Stopped:
    """A fault on the way; the core may try again."""
    return Stopped(
        FailureClass.TECHNICAL, code, message, remedy=remedy, retry_after=retry_after, details=details
    )


def from_error(error: CPAError) -> Stopped:
    """An error of a port in the words of an attempt."""
    failure = FailureClass.TECHNICAL
    if isinstance(error, Forbidden):
        failure = FailureClass.POLICY
    elif isinstance(error, BadInput | NotFound | TooLarge):
        failure = FailureClass.BUSINESS
    elif isinstance(error, Unavailable):
        failure = FailureClass.ENVIRONMENT
    return Stopped(failure, error.code, error.message, remedy=error.remedy or "")


async def attempt(
    perform: Callable[[ActionRequest], Awaitable[ExecutionResult]], request: ActionRequest
) -> ExecutionResult:
    """Run `perform`; trouble it raises becomes a failed result. The duration is filled in either way."""
    begun = time.monotonic()
    try:
        result = await perform(request)
    except Stopped as stopped:
        return _failed(stopped, begun)
    except CPAError as error:
        return _failed(from_error(error), begun)
    return ExecutionResult(
        success=result.success,
        result=result.result,
        error=result.error,
        duration=time.monotonic() - begun,
        artifacts=result.artifacts,
    )


def _failed(stopped: Stopped, begun: float) -> ExecutionResult:
    return ExecutionResult(
        success=False, error=stopped.error, duration=time.monotonic() - begun, artifacts=stopped.artifacts
    )


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await it; when cancelled, wait for its end before passing that on.

    For work that cannot be stopped (a thread) or must not be (it would lose what it has just opened).
    """
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # Seen: the cancellation goes first.
        raise


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread, to its end: nothing changes behind a caller who was cancelled."""
    return await uninterrupted(asyncio.to_thread(function, *args, **kwargs))


def refuse_tainted(request: ActionRequest, names: Iterable[str]) -> None:
    """Stop if a control slot was filled from outside."""
    controls = set(names)
    for name in sorted(request.tainted):
        if name.partition(".")[0].partition("[")[0] in controls:
            raise policy(
                "tainted_argument",
                f"the argument '{name}' of {request.action} comes from a mail, page, document or model",
                remedy=f"let the requester or the configuration name '{name}'",
                argument=name,
            )


def text(request: ActionRequest, name: str, default: str | None = None) -> str:
    """A text argument; without `default` it must be there and not be empty."""
    value = request.arguments.get(name)
    if value is None or (value == "" and default is not None):
        if default is not None:
            return default
        raise bad_argument(request, name, "is missing", "give it a value")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # YAML reads 12345 as a number.
    if not isinstance(value, str):
        raise bad_argument(request, name, f"must be text, not {type(value).__name__}", "write it as text")
    if not value:
        raise bad_argument(request, name, "is empty", "give it a value")
    if _SURROGATE.search(value):
        raise bad_argument(request, name, "contains half of a character", "send it as valid Unicode")
    return value


def prose(request: ActionRequest, name: str) -> str:
    """A text argument for people; a list reads as lines, nothing as an empty text."""
    lines = listed(request.arguments.get(name))
    if lines is None:
        return text(request, name, "")
    if _SURROGATE.search(lines):
        raise bad_argument(request, name, "contains half of a character", "send it as valid Unicode")
    return lines


def flag(request: ActionRequest, name: str, default: bool = False) -> bool:
    """A yes-or-no argument."""
    value = request.arguments.get(name, default)
    if not isinstance(value, bool):
        raise bad_argument(request, name, "must be true or false", "write true or false")
    return value


def count(request: ActionRequest, name: str, default: int, *, most: int) -> int:
    """A whole number from 1 to `most`."""
    value = request.arguments.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise bad_argument(request, name, f"must be a whole number from 1 to {most}", "correct the number")
    return value


def reference(request: ActionRequest, name: str, value: object) -> tuple[str, str, str]:
    """Digest, file name and media type of an artifact reference; the last two may be empty."""
    if not isinstance(value, Mapping) or not isinstance(value.get("artifact"), str):
        raise bad_argument(
            request, name, "is not a file reference", "pass the `file` of an earlier task's result as it is"
        )
    label, kind = value.get("name", ""), value.get("media_type", "")
    if not isinstance(label, str) or not isinstance(kind, str):
        raise bad_argument(
            request, name, "has a name or media type that is no text", "pass the reference as it is"
        )
    return value["artifact"], label, kind


def bad_argument(request: ActionRequest, name: str, what: str, remedy: str) -> Stopped:
    """The argument cannot be used; `what` continues the sentence after its name."""
    return business(
        "bad_argument", f"the argument '{name}' of {request.action} {what}", remedy=remedy, argument=name
    )
