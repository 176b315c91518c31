"""Somebody on the wire between a signing agent and its scheduler: hears everything, says it again, changes it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.agents.process import Hands, Running, agent
from tests.agents.scheduler import FakeScheduler
from tests.agents.test_signing import serving
from tests.security.house import House
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from cpa.errors import CPAError
from cpa.ports.keys import Scope

PATIENCE = 30.0
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
WAYS = pytest.mark.parametrize("listens", [False, True], ids=["channel", "http"])


@dataclass(eq=False)
class Tap:
    """Passes on what an agent says, writes it down, and may change it. Use it by `url`."""

    port: int
    """Of the scheduler."""
    url: str = ""
    heard: list[bytearray] = field(default_factory=list)
    """What the agent said, connection by connection."""
    alter: Callable[[bytes], bytes] = bytes

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        said = bytearray()
        self.heard.append(said)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, ours: bool) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    if ours:
                        said.extend(data)
                        data = self.alter(data)
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(pump(reader, back, True), pump(there, writer, False))


@asynccontextmanager
async def tapped(url: str) -> AsyncIterator[Tap]:
    tap = Tap(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(tap.take, "127.0.0.1", 0)
    tap.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tap
    finally:
        server.close()


@dataclass(eq=False)
class Scene:
    """A scheduler whose agents must sign, somebody on the wire, and a person who orders work."""

    home: House
    where: str
    tap: Tap
    person: httpx2.AsyncClient

    async def call(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.person.request(method, path, **more)
        assert answer.is_success, answer.text
        return answer.json()

    async def submit(self) -> str:
        task = {"id": "t", "action": "x.test.do", "arguments": {"name": "Größe"}, "effect": "idempotent"}
        body = {"description": "Probe", "task_graph": [task]}
        return str((await self.call("POST", "/jobs", json=body))["job_id"])

    async def until_done(self, job: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.call("GET", f"/jobs/{job}"))["status"] != "done":
                await asyncio.sleep(0.05)

    async def standing(self, job: str) -> Any:
        """All that an attacker could have changed."""
        events = (await self.call("GET", f"/jobs/{job}/events"))["events"]
        agents = [each.record for each in self.home.scheduler.directory.list("default") if each.record]
        told = [event["leaf"] for event in events if event["task"]]
        return told, agents, (await self.call("GET", "/jobs"))["total"]


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with (
        serving(folder / "server", signed_messages="required", heartbeat_seconds=0.5) as (home, where),
        tapped(where.url) as tap,
    ):
        headers = {"X-API-Key": await home.key(Scope.ADMIN, Scope.SUBMIT, Scope.READ)}
        async with httpx2.AsyncClient(base_url=where.url, headers=headers, trust_env=False) as person:
            yield Scene(home, where.url, tap, person)


@asynccontextmanager
async def signing(scene: Scene, folder: Path, *, listens: bool, hands: Hands) -> AsyncIterator[Running]:
    token = await scene.home.token(name="tester")
    through = FakeScheduler(url=scene.tap.url)
    async with agent(
        through, folder, listens=listens, hands=hands, key="", token=token, sign=True
    ) as running:
        yield running


async def said_again(port: int, stream: bytes) -> list[int]:
    """Say these bytes to the scheduler, as they were; the statuses it answers with, 101 being a channel that was
    opened and closed again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(stream)
    answer = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(3):
            while data := await reader.read(65536):
                answer += data
    writer.close()
    return [int(status) for status in STATUS.findall(answer)]


@WAYS
async def test_what_was_heard_on_the_wire_counts_no_second_time(tmp_path: Path, listens: bool) -> None:
    async with scene(tmp_path) as here:
        hands = Hands()
        async with signing(here, tmp_path, listens=listens, hands=hands):
            job = await here.submit()
            await here.until_done(job)
            before = await here.standing(job)
            heard = [bytes(stream) for stream in here.tap.heard]
            for stream in heard:
                statuses = await said_again(here.tap.port, stream)
                assert statuses
                assert set(statuses) <= {101, 401, 403, 409}, statuses
            assert await here.standing(job) == before
            assert hands.done == ["t"]
            # The agent itself was not disturbed.
            second = await here.submit()
            await here.until_done(second)
        # Not only what it did before it had a name for its key: registering.
        assert sum(map(len, heard)) > 2000
        assert (b"signature-input" in b"".join(heard).lower()) == listens


def turned(data: bytes) -> bytes:
    """One bit of it is another."""
    return data[:-1] + bytes([data[-1] ^ 1])


@WAYS
async def test_what_was_altered_on_its_way_changes_nothing(tmp_path: Path, listens: bool) -> None:
    async with scene(tmp_path) as here:
        hands = Hands()
        altered = list[int]()

        def alter(data: bytes) -> bytes:
            # The first thing it says about a task; beats are shorter.
            if altered or len(data) < 700 or data.startswith((b"GET", b"POST /agents")):
                return data
            altered.append(len(data))
            return turned(data)

        with suppress(BaseExceptionGroup, CPAError):
            async with signing(here, tmp_path, listens=listens, hands=hands) as first:
                here.tap.alter = alter
                job = await here.submit()
                async with asyncio.timeout(PATIENCE):
                    while not altered:
                        await asyncio.sleep(0.02)
                await asyncio.wait([first.life], timeout=1)
        assert altered
        succeeded = [
            event
            for event in (await here.call("GET", f"/jobs/{job}/events"))["events"]
            if event["type"] == "task_succeeded"
        ]
        assert len(succeeded) <= 1
        async with signing(here, tmp_path, listens=listens, hands=hands):
            await here.until_done(job)
        [task] = (await here.call("GET", f"/jobs/{job}/tasks"))["tasks"]
        assert task["result"] == {"got": {"name": "Größe"}}


# -- who has only a key ------------------------------------------------------------------------------------------


@asynccontextmanager
async def stolen(scene: Scene, who: Running) -> AsyncIterator[tuple[ClientConnection, str]]:
    """A channel that somebody opens with the agent's API key alone; and the agent's present instance."""
    [record] = [each.record for each in scene.home.scheduler.directory.list("default") if each.record]
    own = (who.session._options.data / "agent.json").read_text()
    key = re.search(r'"key": ?"([^"]+)"', own)
    assert key is not None
    url = f"{scene.where.replace('http', 'ws')}/agents/{record.id}/channel"
    async with connect(url, additional_headers={"X-API-Key": key[1]}, proxy=None) as socket:
        yield socket, who.session.life


@pytest.mark.parametrize(
    "frame", ['{"hello": {"instance": "%s"}}', '{"signed": "{}", "security": {}}', "nichts"]
)
async def test_a_stolen_key_opens_no_channel(tmp_path: Path, frame: str) -> None:
    async with scene(tmp_path) as here:
        hands = Hands()
        async with signing(here, tmp_path, listens=False, hands=hands) as owner:
            async with stolen(here, owner) as (socket, life):
                await socket.send(frame % life if "%s" in frame else frame)
                with suppress(ConnectionClosed):
                    async with asyncio.timeout(PATIENCE):
                        while True:
                            assert "message" not in str(await socket.recv())
                assert socket.close_code in (4400, 4401, 4422)
            # The owner's channel is the one that counts.
            job = await here.submit()
            await here.until_done(job)
            assert hands.done == ["t"]
