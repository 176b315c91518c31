"""Which network addresses the hands may reach: the port between the guard and everything that opens a URL.

Theory. A plan names URLs, and a page or a redirect names more of them. Without a guard each is a way into the
private network behind the scheduler. A check of the *name* is worth nothing if the connection resolves it
again (the answer may differ): so a name is resolved once, every address it has is judged, and the
connection is made to one of exactly those addresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cpa.errors import NameNotResolved

LookUp = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host that the installation itself names, its mail server say: they are not judged.
`NameNotResolved` if nobody says them in time, else what the system says (`OSError`, `UnicodeError`)."""

REFUSED: Final = 10.0
"""Seconds for which a name is not looked up again after it was not answered in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A checked destination. Connect to one of `addresses`; never resolve `host` again."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Canonical: lower case, ASCII (IDNA), no trailing dot, IPv4 in dotted decimal, IPv6 without brackets."""
    port: int
    addresses: tuple[str, ...]
    """Every address of the host, in the resolver's order; all were judged, none is forbidden."""

    @property
    def authority(self) -> str:
        """What the header `Host` says of it: the port only where it is not the scheme's own."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == _USUAL[self.scheme] else f"{shown}:{self.port}"

    def server_name(self, address: str) -> str | None:
        """Whose certificate the server at this address shows; None where it is the address's own, or there is no
        TLS."""
        return self.host if self.scheme == "https" and self.host != address else None


_USUAL = {"http": 80, "https": 443}


def not_resolved(host: str) -> NameNotResolved:
    """What is said of a name that nobody answers for in time."""
    return NameNotResolved(
        f"the name {host} was not resolved in time",
        field="url",
        value=host,
        remedy="it is tried again; check this machine's name servers and those of the name if it lasts",
    )


class OutboundAddresses(Protocol):
    """Judges destinations. Refuses with `Forbidden`, naming the host and the setting that would allow it."""

    async def resolve(self, url: str) -> Target:
        """Check and pin. `BadInput` if it is no URL, `Forbidden` if it may not be reached, `Unavailable` if
        the name cannot be resolved now, and of that kind `NameNotResolved` if nobody says so in time."""
        ...

    def check_literal(self, url: str) -> None:
        """What can be said without asking the network: scheme, credentials in the URL, addresses in any
        spelling, names that are local by definition. URLs that never leave the browser (`data:`, `blob:`,
        `about:`) pass. Raises like `resolve`, except `Unavailable`."""
        ...
