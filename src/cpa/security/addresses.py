"""The outbound address guard: what `ports.addresses` promises.

A host is judged in its canonical form, because the same address has many spellings: `127.1`, `0x7f.1`,
`2130706433`, `0177.0.0.1`, `[::ffff:7f00:1]`, `ⓛocalhost.`. The spelling rules are those of browsers
(WHATWG URL), since what the guard reads one way and the browser another is a hole. Whatever cannot be read
unambiguously is refused.

An IPv6 address may carry an IPv4 one (mapped, compatible, 6to4, NAT64, Teredo, ISATAP): the carried address
is judged too, and each of them must be public or allowed. What counts as public does not rest on the standard
library alone, whose list grows with its version: IPv6 is public within 2000::/3 only, and some ranges that are
globally routed, or were, are services of the network one stands in.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

import idna

from cpa.errors import BadInput, Forbidden, Unavailable
from cpa.ports.addresses import Target
from cpa.security.names import Names

IPAddress = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS = {"http": 80, "https": 443}
_BROWSER_ONLY = frozenset({"data", "blob", "about"})
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_GLOBAL = IPv6Network("2000::/3")
_LOCAL = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments; one cloud's metadata among them
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, given up
    IPv4Network("168.63.129.16/32"),  # one cloud's host agent
    IPv6Network("3fff::/20"),  # documentation
)
_METADATA = (
    IPv4Network("100.100.100.200/32"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fd00:ec2::254/128"),
    IPv6Network("fd20:ce::254/128"),
)
"""Where clouds hand out credentials, besides the link-local addresses."""
_ODD = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class _Allowed:
    """One entry of the allow list: a host name or a network, on one port or on all."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def covers_name(self, host: str, port: int) -> bool:
        return self.name == host and self.port in (None, port)

    def covers_address(self, address: IPAddress, port: int) -> bool:
        return self.network is not None and address in self.network and self.port in (None, port)


class AddressGuard:
    """Lets public addresses through, and of the others only what `allow` names.

    `allow` holds `host`, `host:port`, an address, `address:port`, `[address]:port` or a CIDR network. A
    host *name* allows whatever private address it resolves to, but none where cloud metadata services
    live (all link-local ones among them): those must be named by address. Names are looked up with `names`,
    unless a `resolver` stands in for that.
    """

    def __init__(
        self, allow: Iterable[str] = (), *, names: Names | None = None, resolver: Resolver | None = None
    ) -> None:
        self._allow = tuple(_parse_allowed(entry) for entry in allow)
        self._resolver = resolver or _with(names or Names())

    async def resolve(self, url: str) -> Target:
        parts, host, port = _split(url)
        literal = _as_address(host)
        if literal is None:
            found = await self._lookup(host, port)
        else:
            found = [literal]
        for address in found:
            self._judge(url, host, port, address)
        return Target(scheme=parts.scheme, host=host, port=port, addresses=tuple(str(each) for each in found))

    check = resolve

    async def look_up(self, host: str) -> Sequence[str]:
        """What `ports.addresses.LookUp` promises."""
        return [host] if _as_address(host) is not None else await self._resolver(host, 0)

    def check_literal(self, url: str) -> None:
        if url.partition(":")[0].strip().lower() in _BROWSER_ONLY:
            return
        _, host, port = _split(url)
        address = _as_address(host)
        if address is not None:
            self._judge(url, host, port, address)
        elif self._is_local_name(host) and not any(entry.covers_name(host, port) for entry in self._allow):
            _refuse(url, host, port, "is a local name")

    def check_endpoint(self, url: str) -> None:
        """What can be said of an agent's endpoint without asking the network: as `check_literal`, and it is
        something to which a path can be added."""
        parts, _, _ = _split(url)
        if parts.query or parts.fragment or url.endswith(("?", "#")):
            raise BadInput(
                "an endpoint has no query and no fragment",
                field="url",
                value=url,
                remedy="write https://host:port, and a path if there is one",
            )
        self.check_literal(url)

    async def _lookup(self, host: str, port: int) -> list[IPAddress]:
        try:
            texts = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"the name {host} cannot be resolved ({error})",
                field="url",
                value=host,
                remedy="check the spelling of the host and the name server",
            ) from error
        found = [ip_address(text.partition("%")[0]) for text in dict.fromkeys(texts)]
        if not found:
            raise Unavailable(f"the name {host} has no address", field="url", value=host)
        return found

    def _judge(self, url: str, host: str, port: int, address: IPAddress) -> None:
        found = _carried(address)
        allowed = [any(entry.covers_address(each, port) for entry in self._allow) for each in found]
        if allowed[0]:
            return
        hidden = [
            each for each, covered in zip(found, allowed, strict=True) if not (covered or _is_public(each))
        ]
        by_name = any(entry.covers_name(host, port) for entry in self._allow)
        if hidden and not (by_name and not any(_is_metadata(each) for each in hidden)):
            _refuse(url, host, port, f"leads to the non-public address {hidden[0]}")

    @staticmethod
    def _is_local_name(host: str) -> bool:
        return "." not in host or f".{host}".endswith(_LOCAL_SUFFIXES)


def _refuse(url: str, host: str, port: int, why: str) -> NoReturn:
    shown = f"[{host}]" if ":" in host else host
    raise Forbidden(
        f"{shown}:{port} {why}",
        field="url",
        value=url,
        remedy=f"if it is meant to be reached, add '{shown}:{port}' to the server's setting allow_private "
        f"(CPA_ALLOW_PRIVATE); '{shown}' alone allows all its ports",
    )


def _split(url: str) -> tuple[SplitResult, str, int]:
    """Scheme, canonical host and port of a URL; refuses everything that two readers could read
    differently."""
    if _ODD.search(url):
        raise BadInput(
            "the URL contains a space, a backslash or a control character",
            field="url",
            value=url,
            remedy="write such characters percent-encoded",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(
            f"not a URL: {error}", field="url", value=url, remedy="write https://host/path"
        ) from error
    if parts.scheme not in _PORTS:
        raise Forbidden(
            f"the scheme '{parts.scheme}' is not allowed",
            field="url",
            value=url,
            remedy="use a URL that starts with https:// or http://",
        )
    if parts.username is not None or parts.password is not None:
        raise Forbidden(
            "the URL carries credentials before the host",
            field="url",
            value=parts.hostname,
            remedy="remove what stands before '@' and pass the credential as a secret in a header",
        )
    if port == 0:
        raise BadInput(
            "port 0 cannot be reached", field="url", value=url, remedy="name the port of the server"
        )
    return parts, canonical_host(parts.hostname or ""), port or _PORTS[parts.scheme]


def canonical_host(host: str) -> str:
    """The one spelling of a host name or address. `BadInput` if it is neither."""
    if ":" in host:
        if "%" in host:  # A zone names an interface of this machine.
            raise _no_host(host)
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise _no_host(host) from error
    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise _no_host(host) from error
    name = name.removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise _no_host(host)
    last = name.rpartition(".")[2]
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        return str(_read_ipv4(name))
    return name


def _read_ipv4(text: str) -> IPv4Address:
    """An IPv4 address in any spelling a browser takes: one to four parts, decimal, octal or hexadecimal."""
    parts = text.split(".")
    if len(parts) > 4:
        raise _no_host(text)
    try:
        numbers = [_read_number(part) for part in parts]
    except ValueError as error:
        raise _no_host(text) from error
    *leading, last = numbers
    if any(number > 255 for number in leading) or last >= 256 ** (5 - len(numbers)):
        raise _no_host(text)
    return IPv4Address(sum(number << (24 - 8 * place) for place, number in enumerate(leading)) + last)


def _read_number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    if len(part) > 1 and part.startswith("0"):
        return int(part, 8)
    return int(part, 10)


def _no_host(host: str) -> BadInput:
    return BadInput(
        f"'{host}' is not a host name or an address",
        field="url",
        value=host,
        remedy="write the host as a name such as portal.example or as an address such as 192.0.2.7",
    )


def _as_address(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _carried(address: IPAddress) -> list[IPAddress]:
    """The address, first, and every IPv4 address packed into it; of one that is no more than its packing, that."""
    if isinstance(address, IPv4Address):
        return [address]
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [low]
    found: list[IPAddress] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if address in _COMPATIBLE or (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE:
        found.append(low)
    return found


def _is_public(address: IPAddress) -> bool:
    if any(address in network for network in _LOCAL):
        return False
    if isinstance(address, IPv6Address) and (address.is_site_local or address not in _GLOBAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_metadata(address: IPAddress) -> bool:
    return address.is_link_local or address.is_unspecified or any(address in network for network in _METADATA)


def _parse_allowed(entry: str) -> _Allowed:
    text = entry.strip()
    try:
        if "/" in text or (text.count(":") > 1 and not text.startswith("[")):
            return _Allowed(network=ip_network(text, strict=False))
        parts = urlsplit(f"//{text}")
        host, port = canonical_host(parts.hostname or ""), parts.port
        address = _as_address(host)
        if address is not None:
            return _Allowed(network=ip_network(address), port=port)
    except (ValueError, BadInput) as error:
        raise BadInput(
            f"'{entry}' is neither a host, host:port, address nor network",
            field="allow_private",
            value=entry,
            remedy="write for example portal.intern, portal.intern:8443, 192.168.7.4 or 10.0.0.0/8",
        ) from error
    return _Allowed(name=host, port=port)


def _with(names: Names) -> Resolver:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return await names.look_up(host)

    return resolver
