"""`cpa serve` with one setting changed; what it says when the Temporal server is away, or not as set."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from temporalio.service import RPCError, RPCStatusCode

from cpa.bootstrap import open_engine
from cpa.engines.temporal import connection
from cpa.engines.temporal.connection import connect
from cpa.errors import BadInput, Unavailable
from cpa.settings import Settings
from tests.servers.ports import free_port
from tests.servers.scheduler import clean_environment, serving
from tests.servers.temporal import TemporalServer


def test_a_job_of_the_api_runs_to_its_end(temporal: TemporalServer, tmp_path: Path) -> None:
    settings = {
        "CPA_ENGINE": "temporal",
        "CPA_TEMPORAL_ADDRESS": temporal.address,
        "CPA_TEMPORAL_QUEUE": tmp_path.name,
    }
    with (
        serving(tmp_path, **settings) as scheduler,
        httpx2.Client(base_url=scheduler.url, headers={"X-API-Key": scheduler.key}, timeout=60) as client,
    ):
        plan = {"task_graph": [{"action": "flow.noop", "arguments": {"value": "größer"}}]}
        job = client.post("/jobs", json=plan).json()["job_id"]
        answer = client.get(f"/jobs/{job}", params={"wait": 50}).json()
        trail = client.get("/audit", params={"job": job}).json()
        health = client.get("/health").json()

    assert answer["status"] == "done"
    assert health["status"] == "healthy"
    assert health["parts"]["engine"] == {"status": "healthy", "detail": "temporal"}
    assert f"jobs on Temporal at {temporal.address}" in scheduler.line
    assert len(trail["entries"]) == 3


@pytest.mark.parametrize(
    ("namespace", "field", "remedy"),
    [
        ("default", "temporal_address", "temporal server start-dev"),
        ("nirgends", "temporal_namespace", "temporal operator namespace create --namespace nirgends"),
    ],
)
def test_a_server_that_is_not_there_is_said_with_the_remedy(
    temporal: TemporalServer, tmp_path: Path, namespace: str, field: str, remedy: str
) -> None:
    address = temporal.address if namespace == "nirgends" else f"127.0.0.1:{free_port()}"
    environment = clean_environment(
        CPA_ENGINE="temporal", CPA_TEMPORAL_ADDRESS=address, CPA_TEMPORAL_NAMESPACE=namespace
    )
    command = [sys.executable, "-m", "cpa", "serve", "--data", str(tmp_path / "data"), "--port", "0"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode > 0, "not by a signal"
    assert field in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert "tonic" not in done.stderr, "in words for people"


@pytest.mark.parametrize(
    ("answer", "said", "remedy"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "is no Temporal server", "7233"),
        (b"", "does not answer", "start-dev"),
    ],
)
async def test_a_port_of_another_program_is_said_in_words_for_people(
    answer: bytes, said: str, remedy: str
) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=said) as refused:
            await connect(f"127.0.0.1:{port}", "default")

    assert remedy in str(refused.value)
    assert "tonic" not in str(refused.value)
    assert str(refused.value).count(str(port)) == 1


ENDS = """
import asyncio, sys
from cpa.cli.ending import leave
from cpa.engines.temporal.connection import check, connect

async def main():
    client = await connect(sys.argv[1], "default")
    await asyncio.gather(*(check(client) for _ in range(200)))

asyncio.run(main())
print("größer", end="")
leave(3)
"""


def test_a_process_ends_as_it_should_while_the_library_is_still_at_it(temporal: TemporalServer) -> None:
    """The interpreter, taken down right after these calls, crashes or hangs."""
    command = [sys.executable, "-c", ENDS, temporal.address]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (3, "größer", "")


class Starting:
    """Stands before the check of a server, and says so often that it is not ready yet."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int) -> None:
        self.left, self._check = times, connection.check
        patch.setattr(connection, "check", self.check)

    async def check(self, client: connection.Client) -> None:
        self.left -= 1
        if self.left >= 0:
            # As the server's own interceptor says it, while its port is open already.
            error = RPCError("Frontend is not healthy yet", RPCStatusCode.UNAVAILABLE, b"")
            raise connection.trouble(error, client)
        await self._check(client)


async def test_a_server_that_is_just_starting_is_waited_for(
    temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = Starting(monkeypatch, 2)
    await connect(temporal.address, "default")
    assert starting.left == -1


async def test_one_that_never_is_ready_is_said_as_one_that_is_away(
    temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Starting(monkeypatch, 10**9)
    monkeypatch.setattr(connection, "STARTING", 0.0)
    with pytest.raises(Unavailable) as caught:
        await connect(temporal.address, "default")
    assert caught.value.field == "temporal_address"
    assert "temporal server start-dev" in str(caught.value.remedy)


async def test_a_line_of_jobs_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data=tmp_path, engine="temporal", max_running=5)  # type: ignore[call-arg]
    with pytest.raises(BadInput) as caught:
        async with open_engine(settings):
            pass
    assert (caught.value.field, caught.value.value) == ("max_running", "5")
    assert "CPA_MAX_RUNNING" in str(caught.value.remedy)


@pytest.mark.parametrize("address", ["größer als:gedacht", "127.0.0.1", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        await connect(address, "default")
    assert caught.value.field == "temporal_address"
