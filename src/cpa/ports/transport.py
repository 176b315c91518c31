"""How the scheduler reaches an agent. Values, not bytes: each adapter encodes as its wire needs."""

from __future__ import annotations

from collections.abc import Callable, Collection
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

    def send(
        self, agent: str, attempt: Attempt, request: ActionRequest, *, won: bool = False, again: bool = False
    ) -> None:
        """Hand over an attempt; answered with an `ExecutionResult`. `won`: by a bid. `again`: an earlier life of
        this process may have handed it over already."""
        ...

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        """Have the effect looked for; answered with a `Verification`."""
        ...

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        """Stop at the next safe point; the attempt is still answered. `task` is what its job calls it."""
        ...

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        """Nothing more is expected of the attempt; an agent that did not answer is told to stop."""
        ...

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None:
        """Agents may drop what they keep for this run of the job: the part of this process, and these others."""
        ...
