"""A server opens a store in which a name is no text: nobody is troubled but whose name it was."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2
from tests.security.house import House, house

from cpa.bootstrap import TENANT
from cpa.core.events import QuestionAnswered
from cpa.core.job import JobSpec, JobStatus, TaskSpec
from cpa.ports.engine import Submission
from cpa.ports.keys import Scope

DONE = JobSpec((TaskSpec(id="a", action="flow.noop"),), max_retries=0)
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),), max_retries=0)
KINDS = {"done": DONE, "asks": ASKS, "dead": ASKS, "late": DONE}
NO = QuestionAnswered(time=0, task=0, epoch=0, yes=False, by="anna")
LATER = 1 << 42
LISTS = {
    "/jobs": "whole-done",
    "/jobs?status=failed": "whole-dead",
    "/dead-letters": "whole-dead",
    "/questions": "whole-asks",
    "/audit": "whole-done",
}
"""Every list in which jobs are named, with one that is in it."""

TRAIL = (("jobs", "id"), ("events", "job"), ("events", "tenant"))
"""What the trail of a tenant is checked by."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two jobs of each kind: one that stays whole, and one that does not."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder))
    return folder


async def fill(folder: Path) -> None:
    async with house(folder) as home:
        engine = home.scheduler.engine
        for job in ("whole", "odd"):
            for kind, spec in KINDS.items():
                start = LATER if kind == "late" else 0
                given = Submission(tenant=TENANT, spec=spec, job=f"{job}-{kind}", not_before=start)
                await engine.submit(given)
            assert (await engine.wait(TENANT, f"{job}-done", 20)).status is JobStatus.DONE
            async with asyncio.timeout(20):
                while not (await engine.send(TENANT, f"{job}-dead", NO)).changed:
                    await asyncio.sleep(0.01)
            assert (await engine.wait(TENANT, f"{job}-dead", 20)).status is JobStatus.FAILED


def altered(folder: Path, table: str, column: str) -> None:
    """Make what names the odd jobs illegible, to each of them in its own way."""
    with closing(dbapi2.connect(folder / "cpa.db")) as store:
        store.execute(
            "INSERT INTO job_engines SELECT tenant, id, 'temporal', '' FROM jobs WHERE id = 'odd-asks'"
        )
        job = "id" if table == "jobs" else "job"
        changed = 0
        for kind in KINDS:
            name = f"CAST(x'ff{kind.encode().hex()}' AS TEXT)"
            statement = f"UPDATE {table} SET {column} = {name} WHERE {job} = 'odd-{kind}'"
            changed += store.execute(statement).rowcount
        if table != "job_engines":
            store.execute("DELETE FROM job_engines")
        assert changed
        store.commit()


async def seen(home: House, key: str, path: str) -> Any:
    answer = await home.client.get(path, headers={"X-API-Key": key})
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return answer.json()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("jobs", "id"),
        ("jobs", "tenant"),
        ("events", "job"),
        ("events", "tenant"),
        ("job_specs", "job"),
        ("task_runs", "job"),
        ("outbox", "job"),
        ("outbox", "tenant"),
        ("queue", "job"),
        ("job_engines", "job"),
        ("job_engines", "tenant"),
        ("job_engines", "engine"),
        ("job_engines", "target"),
    ],
)
async def test_a_name_that_is_no_text_troubles_nobody_else(
    tmp_path: Path, filled: Path, table: str, column: str
) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(filled, folder)
    altered(folder, table, column)

    async with house(folder) as home:
        key = await home.key(Scope.READ, Scope.ADMIN)
        for path, job in LISTS.items():
            assert job in str(await seen(home, key, path)), path
        engine = home.scheduler.engine
        receipt = await engine.submit(Submission(tenant=TENANT, spec=DONE))
        assert (await engine.wait(TENANT, receipt.job, 20)).status is JobStatus.DONE
        sound = (await seen(home, key, "/audit/verify"))["sound"]
        assert sound is ((table, column) not in TRAIL)
