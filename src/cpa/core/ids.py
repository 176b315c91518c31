"""Identifiers. Inside the core an id derives from its cause; the shell draws fresh ones and passes them in."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid5

NAMESPACE = UUID("6f1d0c5e-6a5b-5c1e-9d0e-2f6c70615f31")
"""Root of every derived id (RFC 9562 version 5)."""


def derived_id(*parts: str | int) -> UUID:
    """The id that follows from these parts; the same parts give the same id on every machine."""
    return uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))


def idempotency_key(tenant: str, job: str, task: str, run: int = 0) -> str:
    """What a target is told, so that a second try of the same task of the same run is recognised.

    Equal over the attempts of one run: that is its purpose. 32 hexadecimal digits.
    """
    return hashlib.sha256("\x1f".join((tenant, job, task, str(run))).encode()).hexdigest()[:32]


def shown(name: str) -> str:
    """A stored name for people. Where it is another than the name, that is no UTF-8 in the store, which gives a
    lone half of a character pair for each such byte; it is nobody's."""
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fraction(*parts: str | int) -> float:
    """A number in [0, 1) that follows from the parts: jitter without randomness."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)
