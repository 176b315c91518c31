"""Writing down what no job did: agents that register, start again, are stopped or leave; traces that are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from cpa.core.audit import ActionLogged, seal
from cpa.ports.clock import Clock
from cpa.ports.repository import ActionLeaf, AuditRepository

SALT_BYTES = 16


class AuditLog:
    """The same sealed leaf as an event of a job gets, for actions outside jobs."""

    def __init__(
        self, repository: AuditRepository, clock: Clock, salt: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._salt = salt

    async def log_action(
        self,
        tenant: str,
        actor: str,
        action: str,
        subject: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Record that `actor` (key id, address) did `action` (dotted word) to `subject` (an id).

        Durable on return; returns its place in the log. `details` as in `leaf`.
        """
        return await self._repository.append(self.leaf(tenant, actor, action, subject, details))

    def leaf(
        self,
        tenant: str,
        actor: str,
        action: str,
        subject: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> ActionLeaf:
        """As `log_action`, for a store that keeps it in one transaction with what was done.

        `details` must be JSON; personal data belongs there and nowhere else, for only there it can be erased.
        """
        event = ActionLogged(
            time=self._clock.now_ms(),
            tenant=tenant,
            actor=actor,
            action=action,
            subject=subject,
            details=dict(details or {}),
        )
        sealed = seal(event, self._salt(SALT_BYTES) if event.details else b"")
        return ActionLeaf(tenant=tenant, actor=actor, action=action, subject=subject, sealed=sealed)
