"""`scripts/setup-temporal.sh` where what it calls fails: it says so and leaves nothing half made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-temporal.sh"
NEEDS = ("cat", "chmod", "dirname", "mkdir", "mktemp", "mv", "rm")


def machine(folder: Path, **programs: str) -> dict[str, str]:
    """The environment of one that has these programs, as shell text, and little else."""
    tools = folder / "bin"
    tools.mkdir()
    for name in NEEDS:
        (tools / name).symlink_to(str(shutil.which(name)))
    for name, text in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return {"PATH": str(tools), "XDG_CACHE_HOME": str(folder / "cache")}


def setup(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_what_failed_is_said_and_nothing_of_it_stays(tmp_path: Path) -> None:
    done = setup(machine(tmp_path, mvn="exit 3") | {"TEMPORAL_BIN": "/nowhere/temporal"})

    assert done.stdout.count("That failed.\n") == 1
    assert "No Temporal server for the tests" in done.stdout
    assert done.returncode == 1
    assert not list((tmp_path / "cache" / "cpa").glob("*/*"))


def test_what_maven_brings_stands_in_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    jars = 'for last in "$@"; do :; done; mkdir "${last#-DoutputDirectory=}"'
    done = setup(machine(tmp_path, mvn=jars, java="") | {"TEMPORAL_BIN": "/nowhere/temporal"})

    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if line.endswith("/temporal-test-server")]) == 2
    found = {each.name for each in (tmp_path / "cache" / "cpa").glob("*/*")}
    assert found == {"temporal-test-server", "lib"}
