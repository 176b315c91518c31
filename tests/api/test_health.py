"""Health needs no key, names the part that is not well, and hangs on none of them."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.conftest import Door

from cpa.api import health
from cpa.api.services import Condition, PartHealth
from cpa.errors import Unavailable


async def well() -> PartHealth:
    return PartHealth(Condition.HEALTHY)


async def slow() -> PartHealth:
    return PartHealth(Condition.DEGRADED, "the disk is nearly full")


async def gone() -> PartHealth:
    raise Unavailable("cannot open /var/lib/geheim")


async def hanging() -> PartHealth:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ({}, "healthy", 200),
        ({"store": well}, "healthy", 200),
        ({"store": well, "disk": slow}, "degraded", 200),
        ({"store": gone, "disk": slow}, "unhealthy", 503),
        ({"mail": hanging}, "unhealthy", 503),
    ],
)
async def test_the_worst_part_decides(
    parts: dict[str, object], status: str, code: int, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.05)
    door.probes.update(parts)  # type: ignore[arg-type]
    async with door.client() as stranger:
        response = await stranger.get("/health")
    body = response.json()

    assert (response.status_code, body["status"], body["version"]) == (code, status, "0.0.0-test")
    assert set(body["parts"]) == set(parts)
    assert "geheim" not in response.text


async def test_a_stopping_server_takes_no_more_work(door: Door) -> None:
    door.services.shutdown.begin()
    async with door.client() as stranger:
        response = await stranger.get("/health")

    assert (response.status_code, response.json()["parts"]["server"]["detail"]) == (503, "stopping")
