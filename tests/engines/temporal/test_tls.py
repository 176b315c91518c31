"""TLS between us and a real server behind a forwarder that asks for a certificate of ours; and the API key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from cpa.engines.temporal import upkeep
from cpa.engines.temporal.connection import check, connect
from cpa.engines.temporal.tls import Tls
from cpa.errors import BadInput, CPAError, Unavailable
from tests.contracts.engine import until
from tests.servers.ports import free_port
from tests.servers.temporal import TemporalServer
from tests.servers.tls import Authority, Pair, fronted

HOST = "127.0.0.1"


@dataclass
class House:
    """An authority, and a server's pair it signed."""

    folder: Path
    authority: Authority
    server: Pair

    def tls(self, ours: Pair | None = None, *, name: str = "", authorities: Path | None = None) -> Tls:
        return Tls(
            authorities=authorities or self.authority.certificate,
            certificate=ours and ours.certificate,
            key=ours and ours.key.read_text,
            name=name,
        )


@pytest.fixture
def house(tmp_path: Path) -> House:
    authority = Authority(tmp_path)
    return House(tmp_path, authority, authority.pair("server", host=HOST))


async def refused(address: str, tls: Tls | None) -> CPAError:
    with pytest.raises((BadInput, Unavailable)) as caught:
        await connect(address, "default", tls=tls)
    error = caught.value
    assert isinstance(error, CPAError)
    assert error.remedy
    return error


async def test_with_the_right_certificate_we_are_let_in(temporal: TemporalServer, house: House) -> None:
    ours = house.authority.pair("ours")
    async with fronted(temporal.address, house.server, house.authority.certificate) as address:
        client = await connect(address, "default", tls=house.tls(ours))
        await check(client)


async def test_a_server_of_another_name_is_known_by_the_one_that_is_set(
    temporal: TemporalServer, house: House
) -> None:
    elsewhere = house.authority.pair("elsewhere", host="temporal.example")
    async with fronted(temporal.address, elsewhere) as address:
        await connect(address, "default", tls=house.tls(name="temporal.example"))

        error = await refused(address, house.tls())
        assert (error.field, error.value) == ("temporal_tls_server_name", HOST)
        assert "CPA_TEMPORAL_TLS_SERVER_NAME" in str(error.remedy)


async def test_a_certificate_the_server_does_not_take_is_named(
    temporal: TemporalServer, house: House
) -> None:
    strange = Authority(house.folder, "strange").pair("stranger")
    async with fronted(temporal.address, house.server, house.authority.certificate) as address:
        without = await refused(address, house.tls())
        wrong = await refused(address, house.tls(strange))

    assert (without.field, without.value) == ("temporal_tls_cert", None)
    assert "asks for a certificate" in without.message
    assert (wrong.field, wrong.value) == ("temporal_tls_cert", str(strange.certificate))
    assert "does not accept" in wrong.message


async def test_a_server_that_is_not_to_be_trusted_is_not(temporal: TemporalServer, house: House) -> None:
    strange = Authority(house.folder, "strange")
    old = house.authority.pair("old", host=HOST, expired=True)
    async with (
        fronted(temporal.address, house.server) as address,
        fronted(temporal.address, old) as expired,
    ):
        nobody = await refused(address, house.tls(authorities=strange.certificate))
        unknown = await refused(address, Tls())
        over = await refused(expired, house.tls())

    assert (nobody.field, nobody.value) == ("temporal_tls_ca", str(strange.certificate))
    assert unknown.field == "temporal_tls_ca"
    assert (over.field, over.value) == ("temporal_address", expired)
    assert "expired" in over.message


async def test_both_sides_must_speak_tls_or_neither(temporal: TemporalServer, house: House) -> None:
    async with fronted(temporal.address, house.server) as address:
        plainly = await refused(address, None)
    secretly = await refused(temporal.address, house.tls())
    away = await refused(f"{HOST}:{free_port()}", house.tls())

    assert (plainly.field, plainly.value) == ("temporal_tls", "False")
    assert (secretly.field, secretly.value) == ("temporal_tls", "True")
    assert away.field == "temporal_address"


async def test_files_that_cannot_be_right_are_said_before_anything_is_sent(house: House) -> None:
    ours, other = house.authority.pair("ours"), house.authority.pair("other")
    none, nothing = house.folder / "größer.pem", house.folder / "nothing.pem"
    none.write_text("kein Zertifikat")
    cases: list[tuple[Tls, str]] = [
        (Tls(authorities=nothing), "temporal_tls_ca"),
        (Tls(authorities=none), "temporal_tls_ca"),
        (house.tls(Pair(none, ours.key)), "temporal_tls_cert"),
        (house.tls(house.authority.pair("late", expired=True)), "temporal_tls_cert"),
        (house.tls(Pair(ours.certificate, other.key)), "temporal_tls_key"),
        (house.tls(Pair(ours.certificate, none)), "temporal_tls_key"),
    ]
    for tls, field in cases:
        error = await refused(f"{HOST}:{free_port()}", tls)
        assert error.field == field, error
        assert "Zertifikat" not in str(error)


# -- the API key ---------------------------------------------------------------------------------------------

_FIVE = "012aceiost"
_CODES = {letter: f"{number:05b}" for number, letter in enumerate(_FIVE)}
_CODES |= {" ": "010100", "r": "101100", "B": "1011101"}
"""Of RFC 7541, appendix B: how these letters travel in a header of HTTP/2."""


def huffman(text: str) -> bytes:
    """The whole bytes of it."""
    bits = "".join(_CODES[letter] for letter in text)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


async def test_the_api_key_is_shown_as_bearer_and_a_new_one_after_it(
    temporal: TemporalServer, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, heard = ["ascetic2120"], bytearray()
    async with fronted(temporal.address, house.server, heard=heard) as address:
        client = await connect(address, "default", tls=house.tls(), api_key=lambda: secret[0])
        assert huffman("Bearer ascetic2120") in heard

        renewing = asyncio.create_task(upkeep.renewing(client, lambda: secret[0], pause=0.01))
        secret[0] = "societies01"
        assert huffman("Bearer societies01") not in heard

        async def shown() -> bool:
            await check(client)
            return huffman("Bearer societies01") in heard

        await until(shown)
        renewing.cancel()


async def test_an_api_key_never_goes_over_plain_text_to_another_machine() -> None:
    def never() -> str:
        raise AssertionError("it is not even looked up")

    with pytest.raises(BadInput) as caught:
        await connect("temporal.example:7233", "default", api_key=never)
    assert caught.value.field == "temporal_tls"


async def test_on_this_machine_an_api_key_may_go_without_tls(temporal: TemporalServer) -> None:
    client: Client = await connect(temporal.address, "default", api_key=lambda: "scott")
    assert client.api_key == "scott"
