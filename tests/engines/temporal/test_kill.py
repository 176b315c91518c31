"""kill -9 of the worker and of the Temporal server while jobs run: nothing accepted is lost, nothing happens twice.

CPA_CHAOS_KILLS asks for more kills, CPA_STORM_SEED for other moments.
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

from tests.engines.temporal.victim import lines
from tests.servers.temporal import TemporalServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

JOBS = 200
KILLS = int(os.environ.get("CPA_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("CPA_STORM_SEED", "20261126"))
ROOT = Path(__file__).resolve().parents[3]


class Victim:
    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.engines.temporal.victim"]
        with (self._folder / "victim.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, str(self._folder), self._address, str(JOBS)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self.process

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", (self._folder / "victim.log").read_text()[-3000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def test_every_accepted_job_ends_once_and_no_effect_happens_twice(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    server = TemporalServer(tmp_path)
    assert server.lasting, (
        "this server forgets everything at its end: build the command line, see CONTRIBUTING"
    )
    server.start()
    victim = Victim(tmp_path, server.address)
    kills = Counter[str]()
    try:
        for _ in range(KILLS):
            # Some lives end before they are ready to work.
            if draw.random() < 0.9:
                victim.wait_ready()
                time.sleep(draw.uniform(0.1, 2.5))
            if draw.random() < 0.3:
                server.kill()
                time.sleep(draw.uniform(0.0, 0.5))
                server.start()
                kills["server"] += 1
            kills["worker"] += victim.process.poll() is None
            victim.kill()
            victim.start()
        assert victim.process.wait(900) == 0, (tmp_path / "victim.log").read_text()[-3000:]
    finally:
        victim.kill()
        server.stop()
    print(f"\n{dict(kills)}")

    assert kills["worker"] >= KILLS // 2
    check(tmp_path)


def check(folder: Path) -> None:
    accepted = dict(line.split() for line in lines(folder / "accepted"))
    assert len(accepted) == JOBS
    assert len(lines(folder / "accepted")) == JOBS, "one key led to two jobs"
    store = sqlite.connect(f"file:{folder / 'cpa.db'}?mode=ro", uri=True)
    heads = dict(store.execute("SELECT id, status FROM jobs"))
    assert heads == dict.fromkeys(accepted.values(), "done")
    effects = lines(folder / "effects")
    assert effects == {f"{job} {task}": 1 for job in heads for task in ("m", "n")}
    numbers = Counter[str]()
    rows = store.execute("SELECT job, number, body, leaf FROM events ORDER BY job, number")
    for job, number, body, leaf in rows:
        numbers[job] += 1
        assert number == numbers[job]
        assert hashlib.sha256(body).digest() == leaf
    assert store.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    store.close()
