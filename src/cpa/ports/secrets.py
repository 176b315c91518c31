"""Secrets are references until the last moment: `{"secret": "portal_password"}` in an argument."""

from __future__ import annotations

from typing import Protocol


class SecretsManager(Protocol):
    """Resolves a secret's name to its value, for one tenant.

    The value is given to the executor at the moment of use and nowhere else; `known` lists every value handed
    out so far, so that logs, screenshots and traces can be masked.
    """

    def resolve(self, tenant: str, name: str) -> str:
        """The value. `NotFound` naming the secret and where it can be set; never its value."""
        ...

    def known(self, tenant: str) -> frozenset[str]: ...
