"""The benchmarks' filled store must be one that the scheduler could have written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.repository.shell import Shell

from cpa.audit.query import AuditQuery
from cpa.core.job import JobStatus
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fill.py"


async def test_a_filled_store_is_sound_and_goes_on_working(tmp_path: Path) -> None:
    store = tmp_path / "cpa.db"
    command = [sys.executable, str(SCRIPT), str(store), "--ended", "1150", "--waiting", "30"]
    subprocess.run(command, check=True, capture_output=True)
    database = Database.open(store)
    jobs, shell = SqlJobRepository(database), Shell(database)
    try:
        counts = await jobs.counts("default")
        assert (counts[JobStatus.DONE], counts[JobStatus.FAILED], counts[JobStatus.PENDING]) == (1127, 23, 30)
        assert (await jobs.dead_letters("default")).total == 23
        left = await database.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM outbox").scalar())
        assert left == 0
        checked = await AuditQuery(SqlAuditRepository(database)).verify_leaves("default")
        assert (checked.sound, checked.jobs) == (True, 1180)
        page = await jobs.page("default", status=JobStatus.PENDING)
        shell.clock.now = page.jobs[0][0].created + 1
        await shell.run("default", page.jobs[0][0].id)
        assert (await jobs.counts("default"))[JobStatus.DONE] == 1128
    finally:
        shell.close()
        database.close()
