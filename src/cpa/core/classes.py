"""The two classifications that decide what follows a failure: of the failure, and of the effect."""

from __future__ import annotations

from enum import StrEnum


class FailureClass(StrEnum):
    """Why an attempt failed. Decides whether, and at whose cost, it is tried again."""

    TECHNICAL = "technical"
    """A fault on the way (timeout before the effect, refused connection): retried with backoff."""
    ENVIRONMENT = "environment"
    """The place is not ready (no browser, locked desktop, agent gone): waits, burns no attempt."""
    BUSINESS = "business"
    """The answer is no (wrong password, unknown customer, rejected recipient): never retried."""
    POLICY = "policy"
    """Not allowed here (folder, address, tainted recipient): never retried."""
    UNKNOWN_OUTCOME = "unknown_outcome"
    """It may or may not have happened: the effect class decides."""


class EffectClass(StrEnum):
    """What a second try may do to the world."""

    IDEMPOTENT = "idempotent"
    """Doing it twice is doing it once: it is simply sent again."""
    VERIFIABLE = "verifiable"
    """The executor's `verify` can tell whether it happened: asked first, then decided."""
    UNSAFE = "unsafe"
    """Neither: after an unknown outcome a human is asked."""


class Source(StrEnum):
    """Where a value comes from (architecture, section 2: tenant and taint)."""

    TRUSTED = "trusted"
    """The requester or the configuration."""
    TAINTED = "tainted"
    """A mail, page, screen, document or model output."""
