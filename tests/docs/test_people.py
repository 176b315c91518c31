"""docs/people.md: its commands, run in their order against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.servers.scheduler import clean_environment, serving

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "people.md"


def test_every_command_on_the_page_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    with serving(tmp_path) as server:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
            cwd=tmp_path,
            env=clean_environment(CPA_URL=server.url, PATH=path),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "1 of 2 said yes (anna)" in done.stdout
    assert "answer.way" in done.stderr
    assert "failed 4 times" in done.stdout
