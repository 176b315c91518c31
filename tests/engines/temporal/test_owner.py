"""One store has its workers on a task queue: another one is refused, also while the first is not there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cpa.engines.temporal.connection import connect
from cpa.engines.temporal.owner import claim, name_of
from cpa.errors import BadInput
from tests.servers.scheduler import clean_environment, on_temporal, serving
from tests.servers.temporal import TemporalServer


def second(folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`cpa serve` on a store in `folder` that does not get to its first line."""
    command = [sys.executable, "-m", "cpa", "serve", "--data", str(folder / "cpa-data"), "--port", "0"]
    environment = clean_environment(**settings)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_second_server_is_refused_on_the_same_store_and_on_the_queue_of_another(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    settings = on_temporal(temporal.address, tmp_path)
    with serving(ours, **settings) as first:
        same = second(ours, settings)
        beside = second(other, settings)
    later = second(other, settings)
    with serving(ours, **settings):
        pass  # who had it before has it again

    assert same.returncode == 3
    assert f"in use by process {first.process.pid}" in same.stderr
    for refused in (beside, later):
        assert refused.returncode > 0, "not by a signal"
        assert "belongs to another store" in refused.stderr
        assert "CPA_TEMPORAL_QUEUE" in refused.stderr
        assert "Traceback" not in refused.stderr


async def test_of_two_that_begin_at_once_one_has_the_queue_until_it_is_given_up(
    temporal: TemporalServer,
) -> None:
    client, queue = await connect(temporal.address, "default"), f"größer {uuid.uuid4()}"

    found = await asyncio.gather(
        *(claim(client, queue, f"store{number % 2}") for number in range(6)), return_exceptions=True
    )
    refused = [each for each in found if each is not None]
    assert len(refused) == 3
    assert all(isinstance(each, BadInput) and name_of(queue) in str(each.remedy) for each in refused)

    await client.get_workflow_handle(name_of(queue)).terminate()
    await claim(client, queue, "store2")
    with pytest.raises(BadInput, match="belongs to another store"):
        await claim(client, queue, "store0")
