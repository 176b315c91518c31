"""Who takes LAM messages in, and what it says about them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from cpa.core.lam_protocol import BaseMessage
from cpa.ports.keys import Caller


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message."""

    message_id: str
    new: bool
    """False when the same message of the same sender was here before; then nothing happened."""
    effect: str
    """What it did: `job_created`, `progress`, `task_succeeded`, or why nothing changed (`duplicate`,
    `stale_epoch` …)."""
    job: str = ""
    """The job it made or concerned."""


class MessageHandler(Protocol):
    """Takes every LAM message that comes in from outside."""

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        """Durable on return. The tenant is the caller's; `Forbidden` when the message names another one or a
        sender that is not the caller. Duplicates by (sender, id) and stale epochs are acknowledged and change
        nothing; `InvalidDocument` for a type this server does not take."""
        ...
