from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cpa.executors.web.scratch import Scratch

KILLED = """
import os, sys
from pathlib import Path
from cpa.executors.web.scratch import Scratch

(Scratch(Path(sys.argv[1])).open() / "raw.trace").write_text("geheim")
os._exit(9)
"""


def test_it_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "browser")
    own = scratch.open()
    assert scratch.open() == own
    assert own.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "browser").stat().st_mode & 0o777 == 0o700
    (own / "raw.trace").write_text("x")
    scratch.close()
    scratch.close()
    assert os.listdir(tmp_path / "browser") == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    (tmp_path / "half-made").mkdir()
    living = Scratch(tmp_path)
    kept = living.open()
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    assert [path.name for path in tmp_path.rglob("raw.trace")] == ["raw.trace"]
    next_one = Scratch(tmp_path)
    own = next_one.open()
    assert sorted(tmp_path.iterdir()) == sorted([kept, own])
    next_one.close()
    living.close()
