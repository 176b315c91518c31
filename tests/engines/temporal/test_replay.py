"""What began under an earlier version goes on: committed histories lead to the same, in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from cpa.core.events import Event, JobSubmitted, TaskSucceeded
from cpa.core.job import LOGIC, Decision, JobState
from cpa.core.machine import decide
from cpa.engines.temporal import decider
from cpa.engines.temporal.converter import converter
from cpa.engines.temporal.values import JobInput
from tests.engines.temporal.histories import FOLDER, STORIES, replayed

ROOT = FOLDER.parents[2]


def test_every_story_has_its_history() -> None:
    assert {story.__name__ for story in STORIES} <= {path.stem for path in FOLDER.glob("*.json")}


async def test_there_are_histories_of_the_core_as_it_is() -> None:
    """A branch in the core that no history has is one that the next change may move."""

    async def logic(path: Path) -> int:
        first = WorkflowHistory.from_json(path.stem, path.read_text()).events[0]
        payloads = first.workflow_execution_started_event_attributes.input.payloads
        [begin] = await converter().decode(payloads, [JobInput])
        said = [fact.event.logic for fact in begin.inbox if isinstance(fact.event, JobSubmitted)]
        return max(begin.head.logic, *said) if said else begin.head.logic

    assert LOGIC in {await logic(path) for path in FOLDER.glob("*.json")}


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
