"""A scheduler behind a proxy that ends TLS, with an authority of the house."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from tests.agents.process import agent
from tests.agents.scheduler import FakeScheduler, scheduling
from tests.servers.agent import started

from cpa.artifacts.remote import RemoteArtifacts
from cpa.errors import Unavailable

LISTENS = pytest.mark.parametrize("listens", [False, True], ids=["channel", "http"])


@asynccontextmanager
async def behind_tls(scheduler: FakeScheduler, authority: trustme.CA) -> AsyncIterator[str]:
    """The URL of the proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    port = int(scheduler.url.rpartition(":")[2])

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@LISTENS
async def test_an_authority_of_ones_own_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "haus.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "haus.pem"))
    async with scheduling() as scheduler, behind_tls(scheduler, authority) as url:
        async with agent(scheduler, tmp_path, listens=listens, url=url) as tester:
            assert scheduler.beats
            assert tester.lines
        assert scheduler.channels == (0 if listens else 1)


async def test_a_certificate_nobody_vouches_for_is_named_as_such(tmp_path: Path) -> None:
    async with scheduling() as scheduler, behind_tls(scheduler, trustme.CA()) as url:
        store = RemoteArtifacts(url, lambda: "key")
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.stat("default", "sha256:" + "0" * 64)
        await store.close()

        starting = asyncio.create_task(_start(tmp_path, "http", "--url", url, "--key", "k"))
        log = tmp_path / "agent.log"
        await scheduler.until(
            lambda: log.exists() and "SSL_CERT_FILE" in log.read_text(), "the reason", seconds=40
        )
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert "is not accepted" in log.read_text()
        assert scheduler.registrations == []


async def _start(folder: Path, *arguments: str) -> None:
    async with started(folder, *arguments):
        raise AssertionError("it was let in")
