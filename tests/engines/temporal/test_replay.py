"""What began under an earlier version goes on: committed histories lead to the same, in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace
from temporalio.workflow import NondeterminismError

from cpa.core.events import Event, TaskSucceeded
from cpa.core.job import Decision, JobState
from cpa.core.machine import decide
from cpa.engines.temporal import decider
from tests.engines.temporal.histories import FOLDER, STORIES, replayed

ROOT = FOLDER.parents[2]


def test_every_story_has_its_history() -> None:
    assert {story.__name__ for story in STORIES} <= {path.stem for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_histories_replay_whatever_the_hashes(seed: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", "tests.engines.temporal.histories", "replay"]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    assert "all came to the same" in done.stdout, done.stderr


async def test_a_core_that_decides_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the commands are called the same: replay alone would not look into them."""

    def other(job: JobState, event: Event) -> Decision:
        decision = decide(job, event)
        changes: Any = decision.changes
        if isinstance(event, TaskSucceeded) and changes is not None:
            changes = replace(changes, head=replace(changes.head, priority=1))
        return replace(decision, changes=changes)

    monkeypatch.setattr(decider, "decide", other)

    with pytest.raises(NondeterminismError):
        await replayed([FOLDER / "chain.json"])
