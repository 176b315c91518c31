"""How the scheduler reaches an agent. Values, not bytes: each adapter encodes as its wire needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from cpa.ports.executor import ActionRequest, ExecutionResult, Verification


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """Which try of which task this is about."""

    tenant: str
    job: str
    task: int
    """Index in the job's spec."""
    epoch: int


Answer = ExecutionResult | Verification
Reply = Callable[[Attempt, Answer], None]
"""Takes an agent's final answer; never blocks, never raises."""


class Transport(Protocol):
    """Delivery to agents. Nothing here waits for the work: answers come through the `Reply` given at the start.

    Sending the same attempt again while it runs does nothing; each attempt is answered once.
    """

    def send(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        """Hand over an attempt; answered with an `ExecutionResult`."""
        ...

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        """Have the effect looked for; answered with a `Verification`."""
        ...

    def cancel(self, agent: str, attempt: Attempt) -> None:
        """Stop at the next safe point; the attempt is still answered."""
        ...

    def job_ended(self, tenant: str, job: str) -> None:
        """Agents may drop what they keep for the job."""
        ...
