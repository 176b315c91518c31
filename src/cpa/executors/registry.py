"""Which hand performs which action, and what every attempt gets: a time limit and an answer.

    cut off by the timeout   effect idempotent: TECHNICAL, a second try is right either way;
                             verifiable or unsafe: UNKNOWN_OUTCOME, it may have happened
    exception (a defect)     the same rule, with the code `executor_defect`, and in the log the traceback, the
                             exception's words and where it was; the answer has only its type, because nobody knows
                             what secrets the words hold

Executors keep a deadline of their own a little below `request.timeout` and answer more precisely; the cut
here is for those that did not. An executor that does not say how long it took is timed here.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import sysconfig
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from traceback import format_exception_only, walk_tb
from typing import Final

import structlog
from msgspec.structs import replace

import cpa
from cpa.core.catalogue import is_own
from cpa.core.classes import EffectClass, FailureClass
from cpa.errors import Conflict, NotFound
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

_log = structlog.get_logger(__name__)
_FOREIGN: Final = (
    "<",
    f"{Path(cpa.__file__).parent}{os.sep}",
    *(f"{sysconfig.get_path(each)}{os.sep}" for each in ("stdlib", "purelib", "platlib")),
)
"""How the files begin in which nobody looks for a mistake of their own."""


class ExecutorRegistry:
    """Executors by action. The registry owns what is registered: `close` closes all of it."""

    def __init__(self, executors: Iterable[BaseExecutor] = (), *, agent: str = "") -> None:
        """`agent`: the name of the agent whose they are; empty in the scheduler itself."""
        self._agent = agent
        self._by_action: dict[str, BaseExecutor] = {}
        self._executors: list[BaseExecutor] = []
        for executor in executors:
            self.register(executor)

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of all actions on offer, sorted."""
        return tuple(sorted(self._by_action))

    def register(self, executor: BaseExecutor) -> None:
        """Offer all actions of this executor. `Conflict` if one of them is taken; then none is offered."""
        for action in executor.actions:
            if action in self._by_action:
                raise Conflict(
                    "Two executors offer the same action.",
                    field="action",
                    value=action,
                    remedy="Register only one of them.",
                )
        self._by_action.update(dict.fromkeys(executor.actions, executor))
        self._executors.append(executor)

    def get(self, action: str) -> BaseExecutor:
        """The executor of this action. `NotFound` naming the closest actions on offer."""
        try:
            return self._by_action[action]
        except KeyError:
            raise NotFound(
                f"No executor performs `{action}`.",
                field="action",
                value=action,
                remedy=self._suggestion(action),
            ) from None

    def find(self, action: str) -> BaseExecutor | None:
        """The executor of this action, or None."""
        return self._by_action.get(action)

    async def dispatch(self, request: ActionRequest) -> ExecutionResult:
        """Perform one attempt within `request.timeout`. Never raises but for cancellation from outside; an
        unknown action is a failure of class BUSINESS (a second try changes nothing)."""
        executor = self._by_action.get(request.action)
        if executor is None:
            return ExecutionResult.failed(
                FailureClass.BUSINESS,
                "unknown_action",
                f"No executor performs `{request.action}`.",
                remedy=self._suggestion(request.action),
            )
        now = asyncio.get_running_loop().time
        began = now()
        try:
            if executor.instant:
                return await executor.execute(request)
            async with asyncio.timeout(request.timeout) as limit:
                result = await executor.execute(request)
            return result if result.duration else replace(result, duration=now() - began)
        except TimeoutError as error:
            if executor.instant or not limit.expired():
                return self._defect(request, error, now() - began)
            return ExecutionResult.failed(
                _class_after(request.effect),
                "timeout",
                f"`{request.action}` was cut off after {request.timeout:g} s.",
                remedy="Give the task a longer timeout, or look why its target is slow.",
                duration=now() - began,
            )
        except Exception as error:  # noqa: BLE001 - classed, logged and answered
            return self._defect(request, error, now() - began)

    async def verify(self, request: ActionRequest) -> Verification:
        """Ask the executor whether the effect happened, within `request.timeout`. No answer is UNKNOWN; an
        unknown action raises `NotFound`."""
        executor = self.get(request.action)
        try:
            async with asyncio.timeout(request.timeout) as limit:
                return await executor.verify(request)
        except TimeoutError as error:
            if not limit.expired():
                return self._no_verdict(request, error)
            return Verification(
                verdict=Verdict.UNKNOWN,
                evidence=f"Looking for the effect took longer than {request.timeout:g} s.",
                look_again=max(1.0, request.timeout),
            )
        except Exception as error:  # noqa: BLE001 - logged and answered
            return self._no_verdict(request, error)

    async def job_ended(self, tenant: str, job: str) -> None:
        """Tell every executor, the others too when one fails; then an ExceptionGroup is raised."""
        await _all("job_ended", [partial(executor.job_ended, tenant, job) for executor in self._executors])

    async def close(self) -> None:
        """Close every executor, last registered first, the others too when one fails; then what failed is
        raised as ExceptionGroup. A second call does nothing."""
        executors, self._executors = self._executors[::-1], []
        self._by_action.clear()
        await _all("close", [executor.close for executor in executors])

    # -- inside ----------------------------------------------------------------------------------------------

    def _suggestion(self, action: str) -> str:
        close = difflib.get_close_matches(action, self._by_action, n=3, cutoff=0.5)
        if close:
            return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?"
        return f"On offer: {', '.join(self.actions) or 'nothing'}."

    def _defect(self, request: ActionRequest, error: Exception, duration: float) -> ExecutionResult:
        _log_defect(request, error)
        kind, agent = type(error).__name__, self._agent
        message = f"The executor of `{request.action}` failed with {kind}."
        remedy = "This is a defect of the executor; its log holds the traceback."
        if agent:
            message = f"The executor of `{request.action}` at agent {agent} failed with {kind}."
            remedy = f"This is a defect of the executor; the log of agent {agent} says where."
        if agent and is_own(request.action):
            remedy = (
                f"This is a defect of the function; the log of agent {agent} says where. What people are to read, "
                "a function raises as `Failed`."
            )
        return ExecutionResult.failed(
            _class_after(request.effect), "executor_defect", message, remedy=remedy, duration=duration
        )

    def _no_verdict(self, request: ActionRequest, error: Exception) -> Verification:
        _log_defect(request, error, during="verify")
        return Verification(
            verdict=Verdict.UNKNOWN,
            evidence=f"The verification of `{request.action}` failed with {type(error).__name__}.",
        )


def _class_after(effect: EffectClass) -> FailureClass:
    """The class of an attempt that ended without an answer."""
    return FailureClass.TECHNICAL if effect is EffectClass.IDEMPOTENT else FailureClass.UNKNOWN_OUTCOME


def _log_defect(request: ActionRequest, error: Exception, **more: str) -> None:
    _log.error(
        "executor_defect",
        action=request.action,
        tenant=request.tenant,
        job=request.job,
        task=request.task,
        error=" ".join("".join(format_exception_only(error)).split()),
        at=_where(error),
        **more,
        exc_info=error,
    )


def _where(error: Exception) -> str:
    """The last line that is neither ours nor a library's, if there is one, else the last of all."""
    frames = [(frame.f_code, number) for frame, number in walk_tb(error.__traceback__)]
    own = [each for each in frames if not each[0].co_filename.startswith(_FOREIGN)]
    code, number = (own or frames)[-1]
    return f"{code.co_filename}:{number}, in {code.co_name}"


async def _all(what: str, calls: list[Callable[[], Awaitable[None]]]) -> None:
    """Call one after the other, each whatever the others did; then raise what went wrong, together."""
    errors: list[Exception] = []
    for call in calls:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    if errors:
        raise ExceptionGroup(f"{what} failed in {len(errors)} of {len(calls)} executors", errors)
