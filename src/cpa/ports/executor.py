"""What an agent's hands look like: perform one action once, and prove its effect.

An executor tries once. It never retries, never sleeps to wait for better times, never decides what follows:
it says what happened and of which class a failure is; the core decides (architecture, section 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.ids import idempotency_key


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one task, ready to perform: references are filled, secrets are still references.

    The collector must see it, other than most of our values: `progress` leads back to whoever asked.
    """

    tenant: str
    job: str
    task: str
    action: str
    """Canonical dotted name, such as `web.click`."""
    arguments: Mapping[str, Any] = {}
    timeout: float = 8.0
    """Seconds for the whole attempt; the caller enforces it too, by cancellation."""
    run: int = 0
    epoch: int = 1
    effect: EffectClass = EffectClass.IDEMPOTENT
    tainted: frozenset[str] = frozenset()
    """Names of the arguments whose value came from outside (mail, page, document, model)."""
    look: int = 0
    """For `verify`: how often this attempt's effect was looked for before. The next look may come earlier
    than `look_again` asked for: time is told by `age`."""
    age: float = 0.0
    """For `verify`: seconds since the attempt can last have had an effect (its settle time)."""
    progress: Callable[[float, str], Awaitable[None]] | None = None
    """Called with (0..1, what is being done now); None where nobody listens."""

    @property
    def idempotency_key(self) -> str:
        """Equal over all attempts of this task in this run."""
        return idempotency_key(self.tenant, self.job, self.task, self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionError:
    """Why an attempt did not succeed, for people and for the core."""

    failure: FailureClass
    code: str
    """Stable, machine-readable: `login_refused`, `smtp_550`, `selector_not_found`."""
    message: str
    """One readable sentence; no secret in it."""
    remedy: str = ""
    retry_after: float | None = None
    """Seconds the target asked us to wait (HTTP 429, SMTP 4xx with a hint); None if it did not say."""
    details: Mapping[str, Any] = field(default_factory=dict)


class ExecutionResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one attempt did. `success` and `error` exclude each other."""

    success: bool
    result: Mapping[str, Any] = {}
    """JSON-compatible, by the action's result schema; files appear as artifact references."""
    error: ActionError | None = None
    duration: float = 0.0
    """Seconds on a monotonic clock; 0 is filled in by who called, except for instant executors."""
    artifacts: tuple[str, ...] = ()
    """Digests (`sha256:…`) of everything kept of this attempt: results, screenshots, traces."""

    def __post_init__(self) -> None:
        if self.success == (self.error is not None):
            raise ValueError("a result is either a success or has an error")

    @classmethod
    def failed(
        cls,
        failure: FailureClass,
        code: str,
        message: str,
        *,
        remedy: str = "",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
        duration: float = 0.0,
        artifacts: tuple[str, ...] = (),
    ) -> ExecutionResult:
        """A failed attempt in one call."""
        error = ActionError(
            failure=failure,
            code=code,
            message=message,
            remedy=remedy,
            retry_after=retry_after,
            details=details or {},
        )
        return cls(success=False, error=error, duration=duration, artifacts=artifacts)


class Verdict(StrEnum):
    """What verification found out about the effect of an attempt."""

    HAPPENED = "happened"
    ABSENT = "absent"
    """It did not happen and can no longer happen from that attempt (settle time included)."""
    UNKNOWN = "unknown"
    """Could not be told, now or ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The answer of `verify`."""

    verdict: Verdict
    evidence: str = ""
    """Where was looked and what was seen, one readable sentence."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The task's result, rebuilt from what was found, when `verdict` is HAPPENED."""
    look_again: float | None = None
    """Seconds after which looking again can give a firmer answer; only with UNKNOWN."""


class BaseExecutor(ABC):
    """Performs one family of actions with one technology.

    Ownership: the agent that built it calls `close` exactly once, after the last `execute` returned; `close`
    must release every resource even when part of that fails. `job_ended` is called once a job's run is over;
    per-job state (browser context, session) is dropped there; unknown jobs are ignored.

    Concurrency: `execute` may run for many tasks at once, on one event loop, and must not block it.
    Cancellation: `execute` may be cancelled at any await; it then leaves no process or connection behind.
    """

    actions: ClassVar[tuple[str, ...]]
    """The canonical action names it performs."""
    instant: ClassVar[bool] = False
    """`execute` never waits for anything: it is run to its end at once, without a time limit."""

    @abstractmethod
    async def execute(self, request: ActionRequest) -> ExecutionResult:
        """Perform the action once. Expected trouble comes back as a failed result of the right class; an
        exception means a defect in the executor. If the effect may have happened although no confirmation
        arrived, the class is UNKNOWN_OUTCOME, never TECHNICAL."""

    @abstractmethod
    async def verify(self, request: ActionRequest) -> Verification:
        """Find out, independently of what `execute` saw, whether the effect of this request happened. Safe to
        call at any time, any number of times, also in another process after a crash."""

    async def job_ended(self, tenant: str, job: str) -> None:  # noqa: B027
        """The run of this job is over: drop what was kept for it."""

    async def close(self) -> None:  # noqa: B027
        """Release everything."""
