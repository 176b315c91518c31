"""Agents' endpoints as a way into the private network (server-side request forgery): every spelling of "inside",
names that change their mind, redirects. Judged at registration without a look at the network, and at each call."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.security.house import house

from cpa.errors import BadInput, CPAError, Forbidden
from cpa.security.addresses import AddressGuard
from cpa.transport.postbox import Postbox

INSIDE = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.0.9",
    "172.31.255.255",
    "192.168.178.1",
    "100.64.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
)
"""Loopback, private networks, carrier's networks, metadata of clouds, documentation, multicast, reserved."""
IPV6 = (
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "2001:2::1",
    "2001:10::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "64:ff9b:1::1",
)


def parts(address: str) -> tuple[int, ...]:
    return tuple(IPv4Address(address).packed)


def full_width(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if each.isdigit() else each for each in text)


def circled(text: str) -> str:
    digits = "⓪①②③④⑤⑥⑦⑧⑨"
    return "".join(digits[int(each)] if each.isdigit() else each for each in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda a: a,
    "trailing dot": lambda a: f"{a}.",
    "one number": lambda a: str(int(IPv4Address(a))),
    "one hexadecimal number": lambda a: hex(int(IPv4Address(a))),
    "one octal number": lambda a: f"0{int(IPv4Address(a)):o}",
    "two numbers": lambda a: f"{parts(a)[0]}.{int(IPv4Address(a)) & 0xFFFFFF}",
    "three numbers": lambda a: "{}.{}.{}".format(*parts(a)[:2], int(IPv4Address(a)) & 0xFFFF),
    "hexadecimal parts": lambda a: ".".join(hex(each) for each in parts(a)),
    "capital hexadecimal parts": lambda a: ".".join(hex(each).upper() for each in parts(a)),
    "octal parts": lambda a: ".".join(f"0{each:o}" for each in parts(a)),
    "octal parts with zeros": lambda a: ".".join(f"000{each:o}" for each in parts(a)),
    "mixed bases": lambda a: "{:#x}.0{:o}.{}.{:#x}".format(*parts(a)),
    "full-width digits": full_width,
    "circled digits": circled,
    "ideographic dots": lambda a: a.replace(".", "。"),
    "full-width dots": lambda a: a.replace(".", "．"),
    "half-width dots": lambda a: a.replace(".", "｡"),
    "mapped": lambda a: f"[::ffff:{a}]",
    "mapped, hexadecimal": lambda a: f"[{IPv6Address(0xFFFF << 32 | int(IPv4Address(a))).exploded}]",
    "compatible": lambda a: f"[::{a}]",
    "translated": lambda a: f"[::ffff:0:{a}]",
    "NAT64": lambda a: f"[64:ff9b::{a}]",
    "local NAT64": lambda a: f"[64:ff9b:1::{a}]",
    "6to4": lambda a: "[2002:{:02x}{:02x}:{:02x}{:02x}::1]".format(*parts(a)),
    "Teredo": lambda a: f"[{IPv6Address((0x20010000 << 96) | (0xFFFFFFFF ^ int(IPv4Address(a))))}]",
    "ISATAP": lambda a: f"[2600::5efe:{a}]",
    "ISATAP, global": lambda a: f"[2600::200:5efe:{a}]",
}
ENCODED = {
    f"{name} of {address}": spell(address) for address in INSIDE for name, spell in SPELLINGS.items()
} | {
    f"{name} of {a}": text
    for a in IPV6
    for name, text in {"v6": f"[{a}]", "exploded": f"[{IPv6Address(a).exploded}]"}.items()
}


def test_there_are_enough_different_ones() -> None:
    assert len(set(ENCODED.values())) >= 450


@pytest.mark.parametrize("host", ENCODED.values(), ids=ENCODED.keys())
async def test_an_address_inside_is_refused_in_every_spelling(host: str) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["1.1.1.1"]

    guard = AddressGuard(resolver=resolver)
    for url in (f"http://{host}", f"https://{host}:8443/agent"):
        with pytest.raises(Forbidden) as caught:
            guard.check_endpoint(url)
        assert "allow_private" in (caught.value.remedy or "")
        with pytest.raises(Forbidden):
            await guard.resolve(url)
    assert asked == [], "an address is not looked up like a name"


ODD = [
    *(
        f"http://{host}/"
        for host in ("localhost", "LOCALHOST", "localhost.", "ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ")
    ),
    *(
        f"http://{host}/"
        for host in ("local\u00adhost", "metadata.google.internal", "a.local", "db.home.arpa")
    ),
    *(f"http://{host}/" for host in ("kubernetes", "agent.localdomain", "x.localhost.", "instance-data")),
    "http://public.example@127.0.0.1/",
    "http://127.0.0.1@public.example/",
    "http://public.example:80@127.0.0.1:9000/",
    "http://user:pass@public.example/",
    "http://@public.example/",
    "http://public.example%40127.0.0.1/",
    "http://127.0.0.1%2f@public.example/",
    "http://127.0.0.1\\@public.example/",
    "http://public.example\\.evil.example/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\r\nHost: x/",
    "http://127.0.0.1\x00.public.example/",
    "http://public.example /",
    " http://public.example/",
    "http://127.0.0.1%00.public.example/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1..../",
    "http://.public.example/",
    "http://public..example/",
    "http:///public.example/",
    "http:/127.0.0.1/",
    "http:127.0.0.1",
    "//127.0.0.1/",
    "127.0.0.1:9000",
    "public.example",
    "http://",
    "http://[::1",
    "http://::1/",
    "http://[::1]extra/",
    "http://[fe80::1%25eth0]/",
    "http://[::ffff:127.0.0.1%251]/",
    "http://[v1.fe80::1]/",
    "http://[127.0.0.1]/",
    "http://256.256.256.256/",
    "http://4294967296/",
    "http://0x100000000/",
    "http://1.2.3.4.5/",
    "http://09.0.0.1/",
    "http://127.0.0.0x/../",
    "http://public.example:0/",
    "http://public.example:00/",
    "http://public.example:65536/",
    "http://public.example:-1/",
    "http://public.example:http/",
    "http://public.example:8０/",
    "ftp://public.example/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_SET",
    "dict://127.0.0.1:11211/",
    "ldap://public.example/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "ws://public.example/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "blob:https://public.example/1",
    "about:blank",
    "https://public.example/?next=",
    "https://public.example/#x",
    "https://public.example?",
    "https://public.example#",
    "HTTP",
    "",
]


@pytest.mark.parametrize("url", ODD, ids=lambda url: quote(url, safe="") or "empty")
async def test_what_two_readers_could_read_differently_is_refused(url: str) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    guard = AddressGuard(resolver=resolver)
    with pytest.raises((Forbidden, BadInput)) as caught:
        guard.check_endpoint(url)
    assert caught.value.field == "url"
    with pytest.raises(CPAError):
        await guard.resolve(url)


@pytest.mark.parametrize(
    "url", ["http://1.1.1.1", "https://agent.example:9443/a/", "http://[2606:4700::1111]:9000"]
)
def test_a_public_endpoint_passes_at_registration(url: str) -> None:
    AddressGuard().check_endpoint(url)


@pytest.mark.parametrize("host", ["[2001:0:0a00:0001::5601:5601]", "[2002:a00:1:0:0:5efe:a9fe:a9fe]"])
async def test_what_is_allowed_does_not_carry_something_else_in(host: str) -> None:
    """An address that holds an allowed one and the metadata service."""
    guard = AddressGuard(["10.0.0.0/8"])
    with pytest.raises(Forbidden):
        await guard.resolve(f"http://{host}/")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
)
async def test_an_allowed_name_never_leads_to_the_metadata_of_a_cloud(address: str) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return [address]

    with pytest.raises(Forbidden):
        await AddressGuard(["agent.intern"], resolver=resolver).resolve("http://agent.intern/")
    literal = f"[{address}]" if ":" in address else address
    assert (await AddressGuard([address]).resolve(f"http://{literal}/")).addresses == (address,)


# -- registration ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, list[object]]]:
    """A server on loopback, and who ever connected to it."""
    came: list[object] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_registering_connects_to_nobody_and_names_the_endpoint(tmp_path: Path) -> None:
    async with listening() as (port, came), house(tmp_path, allow_private=(f"127.0.0.1:{port}",)) as home:
        said = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"]}
        for url in (
            f"http://127.0.0.1:{port + 1}",
            f"http://2130706433:{port - 1}",
            "data:,x",
            "http://169.254.169.254",
        ):
            token = {"X-Enrolment-Token": await home.token()}
            answer = await home.client.post("/agents/register", json=said | {"endpoint": url}, headers=token)
            assert answer.status_code in (400, 403)
            assert answer.json()["field"] == "endpoint"
        for number, url in enumerate((f"http://127.0.0.1:{port}", "https://gibt-es-nicht.example")):
            token = {"X-Enrolment-Token": await home.token()}
            fine = said | {"endpoint": url, "name": f"r{number}"}
            answer = await home.client.post("/agents/register", json=fine, headers=token)
            assert answer.status_code == 201
        await asyncio.sleep(0)
        assert came == []


# -- what leaves this machine ------------------------------------------------------------------------------------

_SEEN: list[list[object]] = []
"""Where connections went, for each that counts them now."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for seen in _SEEN:
            seen.append(arguments[1])


sys.addaudithook(_note)  # It cannot be taken away again, and notes nothing while nobody counts.


@contextmanager
def connects() -> Iterator[list[object]]:
    """Every address that a socket of this process is told to connect to: none, and no SYN has left."""
    seen: list[object] = []
    _SEEN.append(seen)
    try:
        yield seen
    finally:
        _SEEN.remove(seen)


TRUST = ssl.create_default_context()


async def posted(url: str, guard: AddressGuard) -> int:
    """The status that the agent at this endpoint answers with."""
    async with Postbox(url, guard, tls=TRUST, connections=1) as postbox:
        status, _ = await postbox.send("POST", "/tasks", {}, b"{}", lambda: None)
        return status


async def test_no_connection_is_tried_to_any_spelling_of_inside() -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.5"]

    guard = AddressGuard(resolver=inside)
    urls = [f"http://{host}:9000" for host in ENCODED.values()] + ODD + ["http://agent.example:9000"]
    with connects() as seen:
        for url in urls:
            with pytest.raises(CPAError):
                await posted(url, guard)
    assert seen == []


async def test_a_name_that_changes_its_mind_is_connected_to_only_while_it_leads_where_it_may() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        minds = [["127.0.0.1"], ["10.0.0.5"], ["127.0.0.1", "10.0.0.5"], ["::ffff:10.0.0.5"], ["127.0.0.1"]]

        async def resolver(host: str, port: int) -> Sequence[str]:
            return minds.pop(0)

        guard = AddressGuard([f"127.0.0.1:{port}"], resolver=resolver)
        url = f"http://agent.example:{port}"
        with connects() as seen:
            assert await posted(url, guard) == 202
            for _ in range(3):
                with pytest.raises(Forbidden):
                    await posted(url, guard)
            assert await posted(url, guard) == 202
        assert seen == [("127.0.0.1", port)] * 2
