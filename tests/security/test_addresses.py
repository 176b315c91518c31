"""The outbound address guard against every spelling of "inside" that we know."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.errors import BadInput, CPAError, Forbidden, Unavailable
from cpa.security.addresses import AddressGuard, canonical_host

LOOPBACK_SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "１２７.0.0.1",
    "127。0。0。1",
    "0",
    "0x",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::5efe:7f00:1]",
]
OTHER_PRIVATE = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.178.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "224.0.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "[2001:db8::1]",
    "[2001:0:7f00:1::]",
    "[64:ff9b::a9fe:a9fe]",
]


def answering(*addresses: str) -> AddressGuard:
    """A guard without exceptions whose name server always gives these addresses."""
    return guard_with((), *addresses)


def guard_with(allow: Sequence[str], *addresses: str) -> AddressGuard:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return AddressGuard(allow, resolver=resolver)


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS + OTHER_PRIVATE)
async def test_non_public_address_is_refused_in_any_spelling(host: str) -> None:
    guard = AddressGuard()
    with pytest.raises(Forbidden) as refused:
        await guard.resolve(f"http://{host}/path")
    assert "allow_private" in (refused.value.remedy or "")
    with pytest.raises(Forbidden):
        guard.check_literal(f"https://{host}:8443/")


@pytest.mark.parametrize("host", ["1.1.1.1", "0x01010101", "[2606:4700:4700::1111]", "[64:ff9b::101:101]"])
async def test_public_literal_passes_and_is_pinned(host: str) -> None:
    guard = AddressGuard()
    guard.check_literal(f"https://{host}/")
    target = await guard.resolve(f"https://{host}/")
    assert target.port == 443
    assert target.addresses == (target.host,)


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(Forbidden, match=r"10\.0\.0\.5"):
        await answering("1.1.1.1", "10.0.0.5").resolve("https://portal.example/")


async def test_name_is_resolved_once_and_all_its_addresses_are_pinned() -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["1.1.1.1", "1.0.0.1", "1.1.1.1"]

    target = await AddressGuard(resolver=resolver).resolve("https://Portal.Example.:444/x")
    assert asked == ["portal.example"]
    assert (target.host, target.port, target.addresses) == ("portal.example", 444, ("1.1.1.1", "1.0.0.1"))


async def test_umlaut_domain_is_resolved_in_its_ascii_form() -> None:
    target = await answering("1.1.1.1").resolve("https://Müller-Straße.example/")
    assert target.host == "xn--mller-strae-46a18a.example"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://files.example/",
        "gopher://x.example/",
        "javascript:alert(1)",
        "http://good.example@10.0.0.1/",
        "http://user:pass@good.example/",
        "http://good.example\\@10.0.0.1/",
        "http://good.example%2f@10.0.0.1/",
        "http:// good.example/",
        "http://good.example\n.evil/",
        "http:///nohost",
        "http://999.1.1.1/",
        "http://1.2.3.4.5/",
        "http://08.1.1.1/",
        "http://exa%6dple.org/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://good.example:99999/",
        "http://good.example:0/",
        "//good.example/",
        "",
    ],
)
async def test_ambiguous_or_foreign_url_is_refused(url: str) -> None:
    guard = answering("1.1.1.1")
    with pytest.raises((Forbidden, BadInput)):
        await guard.resolve(url)
    with pytest.raises((Forbidden, BadInput)):
        guard.check_literal(url)


@pytest.mark.parametrize("url", ["data:text/plain,x", "blob:https://a/1", "about:blank"])
def test_urls_that_stay_in_the_browser_pass_the_literal_check(url: str) -> None:
    AddressGuard().check_literal(url)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "db.localhost", "printer.local", "intranet", "ⓛocalhost"]
)
def test_local_names_are_refused_without_asking_the_network(host: str) -> None:
    with pytest.raises(Forbidden, match="local name"):
        AddressGuard().check_literal(f"http://{host}/")


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9/"),
        ("127.0.0.1:8080", "http://127.1:8080/"),
        ("10.0.0.0/8", "http://10.9.8.7/"),
        ("fd00::/8", "http://[fd12::1]/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("::1", "http://[::1]/"),
        ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/"),
    ],
)
async def test_allowed_private_address_passes(allow: str, url: str) -> None:
    guard = AddressGuard([allow])
    guard.check_literal(url)
    assert (await guard.resolve(url)).addresses


async def test_allowed_name_may_be_private_but_only_on_its_port() -> None:
    guard = guard_with(["portal.intern:8443"], "10.0.0.5")
    assert (await guard.resolve("https://portal.intern:8443/")).addresses == ("10.0.0.5",)
    with pytest.raises(Forbidden, match=r"portal\.intern:443"):
        await guard.resolve("https://portal.intern/")


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "fe80::1"])
async def test_allowed_name_never_covers_link_local_addresses(address: str) -> None:
    with pytest.raises(Forbidden):
        await guard_with(["portal.intern"], address).resolve("http://portal.intern/")


@pytest.mark.parametrize("entry", ["", "10.0.0.0/99", "host:port", "a b", "1.2.3.4.5"])
def test_bad_entry_in_the_allow_list_names_the_setting(entry: str) -> None:
    with pytest.raises(BadInput) as refused:
        AddressGuard([entry])
    assert refused.value.field == "allow_private"


async def test_name_that_does_not_exist_is_unavailable_not_forbidden() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Unavailable, match=r"gibt-es-nicht\.example"):
        await AddressGuard(resolver=resolver).resolve("https://gibt-es-nicht.example/")


async def test_system_resolver_sees_localhost_as_loopback() -> None:
    with pytest.raises(Forbidden):
        await AddressGuard().resolve("http://localhost:1/")
    target = await AddressGuard(["localhost:1"]).resolve("http://localhost:1/")
    assert set(target.addresses) <= {"127.0.0.1", "::1"}


@given(st.text(max_size=40))
def test_any_text_gives_a_target_or_a_clear_error(text: str) -> None:
    guard = answering("1.1.1.1")
    error: CPAError | None = None
    try:
        target = asyncio.run(guard.resolve(f"http://{text}"))
    except CPAError as refused:
        error = refused
    if error is None:
        assert canonical_host(target.host) == target.host
    else:
        assert error.field == "url"


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_numeric_host_means_the_same_address_in_every_base(number: int, spelling: str) -> None:
    expected = socket.inet_ntoa(number.to_bytes(4, "big"))
    assert canonical_host(spelling.format(number)) == expected
