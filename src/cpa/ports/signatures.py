"""Signed messages at the doors: who must sign, and whether a signature is good.

Nothing here waits and nothing is stored. What was signed comes with a nonce (`ports.nonces`): whoever acts on the
message stores it in the same transaction, or before acting where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from cpa.ports.keys import Caller
from cpa.ports.nonces import Nonce


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came over the wire."""

    method: str
    path: str
    """Percent-encoded as it came."""
    query: str
    """With its question mark; `?` alone when there is none."""
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class SigningKey(msgspec.Struct, frozen=True):
    """What is known of an agent's signing key."""

    agent: str
    """The agent's id."""
    public: str
    """Ed25519, base64; empty for an agent that registered none."""


SigningKeys = Callable[[str, str], SigningKey | None]
"""(tenant, address) → that of the registered agent; None when there is no such agent."""


class Frames(Protocol):
    """The frames one agent sends over one connection, in their order."""

    def take(self, text: str) -> tuple[str, Nonce | None]:
        """The frame inside, and for the first one of a connection its nonce, to be stored before anything is done
        about the frame. A frame of an agent that need not sign is given back as it is. Raises `Unauthorized`, or as
        `check`; the connection is to be closed then."""
        ...

    def check(self) -> None:
        """Raises `Unavailable` once the agent has another public key than when the connection was opened."""
        ...


class Signatures(Protocol):
    """Judges by the setting `signed_messages`, and by what the agent registered."""

    def check(self, caller: Caller, sent: Sent) -> Caller:
        """The caller, with the nonce of the signature if there is one. Raises `Unauthorized` for a signature that
        is missing where it must be, or is wrong, or cannot be checked."""
        ...

    def admit(self, caller: Caller | None, sent: Sent, public_key: str) -> Caller | None:
        """As `check`, for a registration that brings this public key: who is not known yet signs nothing. Raises
        `InvalidDocument` for what is no usable key, and for none where agents must sign."""
        ...

    def frames(self, caller: Caller, path: str) -> Frames:
        """For a connection to this path."""
        ...
