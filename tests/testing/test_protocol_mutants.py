"""The simulator notices seeded bugs: the catalogue fits the source, and a handful of its mutants are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib import util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "mutate_protocol.py"
QUICK = (
    "the-agents-word-is-proof",
    "a-beat-renews-nothing",
    "a-choice-takes-no-slot",
    "what-is-not-stored-is-performed",
    "timers-fire-early",
)
"""Each of another part, and killed within a few runs."""
LEAST = 60


def loaded() -> ModuleType:
    spec = util.spec_from_file_location("mutate_protocol", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_mutant_fits_the_source_and_can_be_compiled() -> None:
    mutants = loaded().catalogue()
    parts = Counter(mutant.module.partition(".")[0] for mutant in mutants)

    for mutant in mutants:
        compile(mutant.source(), mutant.name, "exec")
    assert len([mutant for mutant in mutants if not mutant.equivalent]) >= LEAST
    assert {"core", "orchestrator", "engines", "agents", "ports", "repository"} <= set(parts)


def test_a_handful_is_killed() -> None:
    only = [part for name in QUICK for part in ("--only", name)]
    run = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--json",
            "--workers",
            "2",
            "--runs",
            "90",
            "--schedules",
            "900",
            *only,
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert run.returncode == 0, run.stderr or run.stdout
    assert json.loads(run.stdout)["killed"] == len(QUICK)
