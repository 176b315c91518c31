"""`cpa serve` with everything that is set for a server elsewhere: TLS, a certificate of ours, encrypted values."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cpa.bootstrap import engine as bootstrap
from cpa.security.secrets import EnvironmentAndFileSecrets
from cpa.settings import Settings
from tests.servers.scheduler import Scheduler, clean_environment, serving
from tests.servers.temporal import TemporalServer
from tests.servers.tls import Authority, fronted

PLAN = {"task_graph": [{"action": "flow.noop", "approval": True, "arguments": {"value": "größer"}}]}
PATIENCE = 60.0


def secret(data: Path, name: str, value: str) -> Path:
    """As an operator stores it."""
    path = data / "secrets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(value)
    return path


def payload_key(data: Path, key_id: str) -> Path:
    return secret(data, f"temporal_payload_{key_id}", base64.b64encode(os.urandom(32)).decode() + "\n")


def calling(scheduler: Scheduler) -> httpx2.Client:
    return httpx2.Client(base_url=scheduler.url, headers={"X-API-Key": scheduler.key}, timeout=90)


def polled(holds: Callable[[], Any]) -> Any:
    """What it gives, once it is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come about")


async def test_jobs_run_over_tls_and_one_without_its_key_waits_and_says_so(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    authority, data = Authority(tmp_path), tmp_path / "cpa-data"
    server, ours = authority.pair("server", host="127.0.0.1"), authority.pair("ours")
    secret(data, "temporal_tls_key", ours.key.read_text())
    old, _ = payload_key(data, "old"), payload_key(data, "new")

    def check(address: str) -> None:
        settings = {
            "CPA_ENGINE": "temporal",
            "CPA_APPROVE_OWN": "true",
            "CPA_TEMPORAL_ADDRESS": address,
            "CPA_TEMPORAL_QUEUE": tmp_path.name,
            "CPA_TEMPORAL_TLS_CA": str(authority.certificate),
            "CPA_TEMPORAL_TLS_CERT": str(ours.certificate),
            "CPA_TEMPORAL_PAYLOAD_KEY": "old",
        }
        with serving(tmp_path, **settings) as scheduler, calling(scheduler) as client:
            job = client.post("/jobs", json=PLAN).json()["job_id"]
            question = polled(lambda: client.get("/questions").json()["questions"])[0]

        kept = old.read_text()
        old.unlink()
        with (
            serving(tmp_path, **(settings | {"CPA_TEMPORAL_PAYLOAD_KEY": "new"})) as scheduler,
            calling(scheduler) as client,
        ):
            answer = {"yes": True, "digest": question["digest"]}
            told = client.post(f"/questions/{question['id']}", json=answer)
            assert told.status_code == 503
            why = client.get(f"/jobs/{job}/explain").json()["hindrance"]
            health = client.get("/health").json()
            said = subprocess.run(
                [sys.executable, "-m", "cpa", "explain", job],
                env=clean_environment(**scheduler.environment),
                capture_output=True,
                text=True,
                timeout=60,
            )
            secret(data, "temporal_payload_old", kept)

            def answered() -> bool:
                client.post(f"/questions/{question['id']}", json=answer)
                return bool(client.get(f"/jobs/{job}", params={"wait": 1}).json()["status"] == "done")

            ended = polled(answered)

        assert (told.json()["field"], told.json()["value"]) == ("temporal_payload_key", "old")
        assert "'old'" in why["evidence"]
        assert "temporal_payload_old" in why["remedy"]
        assert why["actor"] == "operator"
        assert "the whole job waits" in said.stdout
        assert health["status"] == "degraded"
        assert "set aside" in str(health["parts"])
        assert ended

    async with fronted(temporal.address, server, authority.certificate) as address:
        await asyncio.to_thread(check, address)


@pytest.mark.parametrize(
    ("settings", "field", "remedy"),
    [
        ({}, "temporal_tls_cert", "CPA_TEMPORAL_TLS_CERT"),
        ({"CPA_TEMPORAL_TLS_CERT": "ours.pem"}, "secret", "CPA_SECRET_TEMPORAL_TLS_KEY"),
        (
            {"CPA_TEMPORAL_PAYLOAD_KEY": "2026-11"},
            "temporal_payload_key",
            "CPA_SECRET_TEMPORAL_PAYLOAD_2026_11",
        ),
        ({"CPA_TEMPORAL_API_KEY": "cloud"}, "secret", "CPA_SECRET_CLOUD"),
    ],
    ids=["no certificate", "no key of it", "no key for values", "no API key"],
)
async def test_what_is_missing_is_said_in_one_error(
    temporal: TemporalServer, tmp_path: Path, settings: dict[str, str], field: str, remedy: str
) -> None:
    authority = Authority(tmp_path)
    server, _ = authority.pair("server", host="127.0.0.1"), authority.pair("ours")
    command = [sys.executable, "-m", "cpa", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    async with fronted(temporal.address, server, authority.certificate) as address:
        environment = clean_environment(
            CPA_ENGINE="temporal",
            CPA_TEMPORAL_ADDRESS=address,
            CPA_TEMPORAL_TLS_CA=str(authority.certificate),
            **settings,
        )
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert done.returncode > 0, "not by a signal"
    assert field in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_values_in_clear_are_warned_of_where_the_server_is_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = EnvironmentAndFileSecrets(tmp_path / "secrets")
    payload_key(tmp_path, "now")

    def warned(about: str = "values_not_encrypted", **settings: str) -> bool:
        made = Settings(_env_file=None, data=tmp_path, **settings)  # type: ignore[call-arg,arg-type]
        bootstrap._codec(made, vault)
        return about in capsys.readouterr().out

    assert warned(temporal_address="temporal.example:7233")
    assert not warned(temporal_address="127.0.0.1:7233")
    assert not warned(temporal_address="temporal.example:7233", temporal_payload_key="now")
    lenient = "values_in_clear_accepted"
    assert warned(lenient, temporal_payload_key="now", temporal_payload_plain="true")
    assert not warned(lenient, temporal_payload_key="now")
