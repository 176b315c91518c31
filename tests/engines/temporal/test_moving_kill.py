"""kill -9 of schedulers and of moves between the engines: every job ends once, no effect happens twice.

CPA_STORM_SEED asks for other moments.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite

from cpa.ports.moving import LOCAL, TEMPORAL
from tests.engines.temporal.wanderer import JOBS, LONG
from tests.servers.temporal import TemporalServer

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CPA_STORM_SEED", "20261126"))
ROOT = Path(__file__).resolve().parents[3]


class Wanderer:
    """One process of it."""

    def __init__(self, folder: Path, address: str, what: str, engine: str) -> None:
        self._log = folder / "wanderer.log"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.engines.temporal.wanderer", str(folder), address, what, engine],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still at it so long after it had begun."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.log
        time.sleep(seconds)
        alive = self._process.poll() is None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        return alive

    def end(self) -> None:
        code = self._process.wait(300)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert code == 0, self.log

    @property
    def log(self) -> str:
        return self._log.read_text()[-3000:]


def test_jobs_that_are_driven_to_and_fro_by_kills_end_once(temporal: TemporalServer, tmp_path: Path) -> None:
    draw, kills = random.Random(SEED), Counter[str]()
    engine, other = LOCAL, TEMPORAL
    for _ in range(2):
        live = Wanderer(tmp_path, temporal.address, "live", engine)
        kills["scheduler"] += live.kill_after(draw.uniform(0.3, 1.2))
        for most in (0.2, 0.8):
            move = Wanderer(tmp_path, temporal.address, "move", other)
            kills["move"] += move.kill_after(draw.uniform(0.0, most))
        Wanderer(tmp_path, temporal.address, "move", other).end()
        engine, other = other, engine
    Wanderer(tmp_path, temporal.address, "live", engine).end()
    print(f"\n{dict(kills)}")

    assert kills["scheduler"] == 2
    assert kills["move"]
    store = sqlite.connect(f"file:{tmp_path / 'cpa.db'}?mode=ro", uri=True)
    heads = dict(store.execute("SELECT id, status FROM jobs"))
    assert sorted(heads.values()) == ["done"] * JOBS
    effects = Counter((tmp_path / "effects").read_text().splitlines())
    assert effects == {f"{job} m{n}": 1 for job in heads for n in range(LONG)}
    numbers = Counter[str]()
    for job, number, body, leaf in store.execute(
        "SELECT job, number, body, leaf FROM events ORDER BY job, number"
    ):
        numbers[job] += 1
        assert number == numbers[job]
        assert hashlib.sha256(body).digest() == leaf
    for table in ("outbox", "queue", "job_engines"):
        assert store.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    store.close()
