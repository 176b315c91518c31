"""`cpa serve` with one setting changed; what it says when the Temporal server is away, or not as set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from cpa.engines.temporal.connection import connect
from cpa.errors import BadInput
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


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        await connect("größer als:gedacht", "default")
    assert caught.value.field == "temporal_address"
