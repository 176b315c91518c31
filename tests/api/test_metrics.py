"""Figures are for whose server it is, and are told while a part of it is not well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.api.conftest import Door, problem

from cpa.api.app import create_app
from cpa.api.services import Condition, PartHealth
from cpa.ports.keys import Scope
from cpa.telemetry.metrics import Figure


def values(response: httpx2.Response, name: str) -> dict[tuple[str, ...], float]:
    """Of this metric: by the values of its labels, in the order of their names."""
    assert response.status_code == 200, response.text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name == name
    }


async def dead() -> Sequence[Figure]:
    return (Figure.one("cpa_dead_letters", "Failed jobs.", 7),)


@pytest.mark.parametrize("scope", [Scope.METRICS, Scope.ADMIN])
async def test_prometheus_reads_the_figures(scope: Scope, door: Door) -> None:
    door.app = create_app(replace(door.services, figures=dead))
    async with door.client(await door.key(scope, name="prometheus")) as client:
        answer = await client.get("/metrics")

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert values(answer, "cpa_dead_letters") == {(): 7}
    assert values(answer, "cpa_build_info") == {("local", "0.0.0-test"): 1}


@pytest.mark.parametrize("scope", [Scope.SUBMIT, Scope.READ, Scope.AGENT])
async def test_who_works_here_does_not_see_the_whole_server(scope: Scope, door: Door) -> None:
    async with door.client(await door.key(scope)) as client:
        problem(await client.get("/metrics"), 403, "forbidden", "X-API-Key")


@pytest.mark.parametrize("scope", [Scope.METRICS, Scope.ADMIN])
async def test_no_key_of_another_tenant_sees_it(scope: Scope, door: Door) -> None:
    async with door.client(await door.key(scope, tenant="größe")) as client:
        told = problem(await client.get("/metrics"), 403, "forbidden", "X-API-Key")

    assert told["value"] == "tenant: größe"


async def test_who_watches_sees_nothing_else(door: Door) -> None:
    async with door.client(await door.key(Scope.METRICS)) as client:
        for path in (
            "/jobs",
            "/agents",
            "/questions",
            "/dead-letters",
            "/audit",
            "/artifacts/sha256:" + 64 * "0",
        ):
            assert (await client.get(path)).status_code == 403, path


async def test_a_part_that_is_not_well_shows_in_a_figure(door: Door) -> None:
    async def full() -> PartHealth:
        return PartHealth(Condition.DEGRADED, "the disk is nearly full")

    probes: dict[str, Any] = {"store": full}
    door.probes.update(probes)
    door.services.shutdown.begin()
    async with door.client(await door.key(Scope.METRICS)) as client:
        found = values(await client.get("/metrics"), "cpa_health")

    assert {labels for labels, value in found.items() if value} == {
        ("degraded", "store"),
        ("unhealthy", "server"),
    }
    assert len(found) == 2 * len(Condition)
