"""`scripts/setup-temporal.sh` where what it calls fails: it says so, tries the next, leaves nothing half made."""

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
    done = setup(machine(tmp_path, go="exit 1", uv="exit 2", mvn="exit 3"))

    assert done.stdout.count("That failed; trying something else.") == 2
    assert done.stdout.count("That failed.\n") == 1
    assert done.returncode == 1
    assert [each.name for each in (tmp_path / "cache").rglob("*") if "temporal-" not in each.name] == ["cpa"]


def test_after_one_that_failed_the_next_is_tried(tmp_path: Path) -> None:
    made = 'printf "#!/bin/sh\\n" > "$GOBIN/temporal"; chmod 755 "$GOBIN/temporal"'
    jars = 'for last in "$@"; do :; done; mkdir "${last#-DoutputDirectory=}"'
    done = setup(machine(tmp_path, go="exit 1", uv=made, mvn=jars, java=""))

    assert done.stdout.count("That failed") == 1
    assert done.returncode == 0, done.stdout + done.stderr
    found = {each.name for each in (tmp_path / "cache" / "cpa").glob("*/*")}
    assert found == {"temporal", "temporal-test-server", "lib"}
