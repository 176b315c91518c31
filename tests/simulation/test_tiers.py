"""Both tiers of the simulation at the size that a change must pass; the figures are printed.

Seeds begin at 0 and count on: what failed here fails again with `cpa simulate [--core] --seed SEED --runs 1`.
"""

from __future__ import annotations

import os

import pytest

from cpa.cli.simulation import Wanted, simulate, simulate_core
from cpa.cli.upkeep import Finding

SCHEDULES = int(os.environ.get("CPA_SIMULATED_SCHEDULES", "100000"))
"""Of the core alone."""
SECONDS = float(os.environ.get("CPA_SIMULATED_SECONDS", "120"))
"""How long runs of the whole scheduler are begun."""
MOST = 5_000
"""Runs that are more than any machine does in that time."""
WORKERS = 2


def told(capsys: pytest.CaptureFixture[str], found: Finding) -> None:
    with capsys.disabled():
        print(f"\n{found.text}")


@pytest.mark.timeout(3_000)
def test_the_core_keeps_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    found = simulate_core(Wanted(runs=SCHEDULES, workers=WORKERS))

    told(capsys, found)
    assert found.well, found.text
    assert found.facts["runs"] == SCHEDULES


@pytest.mark.timeout(1_200)
def test_the_whole_scheduler_keeps_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    found = simulate(Wanted(runs=MOST, workers=WORKERS, seconds=SECONDS))

    told(capsys, found)
    assert found.well, found.text
    assert found.facts["did"]["effects"]
