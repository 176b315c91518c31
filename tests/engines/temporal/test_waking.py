"""A job that waited for a key goes on as soon as the key is there, however long the server would wait.

Here it would be two minutes, from the second try on, which is longer than any of these tests may take.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload

from cpa.core.job import JobStatus
from cpa.engines.temporal import executions, waking
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.engine import TemporalEngine
from cpa.engines.temporal.hindrances import Hindrance
from cpa.engines.temporal.keyring import PREFIX, KeyRing
from cpa.errors import Unavailable
from tests.contracts.engine import ASKS, TENANT, answered, asking, ended, submitted, until
from tests.engines.temporal.test_codec import Secrets
from tests.engines.temporal.world import temporal_life
from tests.servers.temporal import TemporalServer


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executions, "PULSE", timedelta(seconds=120))
    monkeypatch.setattr(waking, "PROMPT", 1)
    monkeypatch.setattr(waking, "OFTEN", 0.1)


@pytest.fixture
def secrets() -> Secrets:
    found = Secrets()
    found.add("old")
    found.add("new")
    return found


def codec(secrets: Secrets, key: str) -> Codec:
    return Codec(KeyRing(key, secrets.resolve))


async def left_waiting(server: TemporalServer, folder: Path, secrets: Secrets) -> str:
    """A job of the key `old`, which asks."""
    async with temporal_life(server, folder, codec=codec(secrets, "old")) as engine:
        job = await submitted(engine, ASKS)
        await asking(engine, job)
    return job


async def hindered(engine: TemporalEngine, job: str) -> None:
    """Return once the server waits for a second try of what cannot be read."""
    with pytest.raises(Unavailable):
        await answered(engine, job, "anna")

    async def tried() -> bool:
        found = await engine.client.get_workflow_handle(job).describe()
        return found.raw_description.pending_workflow_task.attempt > 1

    await until(tried)
    assert engine.hindrance(TENANT, job) is not None


async def goes_on(engine: TemporalEngine, job: str) -> None:
    await until(lambda: engine.hindrance(TENANT, job) is None)
    assert (await answered(engine, job, "anna")).changed
    assert (await ended(engine, job)).head.status is JobStatus.DONE
    assert engine.aside == 0


async def test_a_key_that_comes_back_is_noticed(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    job = await left_waiting(temporal, tmp_path, secrets)
    kept = secrets.values.pop(PREFIX + "old")
    async with temporal_life(temporal, tmp_path, codec=codec(secrets, "new")) as engine:
        await hindered(engine, job)
        secrets.values[PREFIX + "old"] = kept
        await goes_on(engine, job)


async def test_a_worker_that_starts_with_the_key_need_not_wait(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    job = await left_waiting(temporal, tmp_path, secrets)
    kept = secrets.values.pop(PREFIX + "old")
    async with temporal_life(temporal, tmp_path, codec=codec(secrets, "new")) as engine:
        await hindered(engine, job)

    secrets.values[PREFIX + "old"] = kept
    async with temporal_life(temporal, tmp_path, codec=codec(secrets, "new")) as engine:
        await goes_on(engine, job)


async def test_a_job_that_was_begun_anew_meanwhile_is_hindered_no_more(
    temporal: TemporalServer, tmp_path: Path, secrets: Secrets
) -> None:
    """Somebody ended the execution that could not be read; the next one has nothing of the old key."""
    job = await left_waiting(temporal, tmp_path, secrets)
    del secrets.values[PREFIX + "old"]
    async with temporal_life(temporal, tmp_path, codec=codec(secrets, "new")) as engine:
        await hindered(engine, job)
        await engine.client.get_workflow_handle(job).terminate("to be begun again")
        await engine._orphans.adopt((TENANT, job))
        await goes_on(engine, job)


async def test_what_cannot_be_handed_in_hinders_its_job_however_that_goes_on(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    """Else it would be said, every few seconds, to go on and to wait."""
    full = Unavailable("the disk is full")
    async with temporal_life(temporal, tmp_path) as engine:
        job = await submitted(engine, ASKS)
        await asking(engine, job)
        engine._hindrances.note(job, Hindrance(full))
        engine._hindrances.note(job, Hindrance(Unavailable("no key"), Payload(data=b"1")))
        await until(lambda: len(engine._hindrances.of(job)) == 1)
        assert engine.hindrance(TENANT, job) == full

        engine._hindrances.gone(job, None)
        await goes_on(engine, job)
