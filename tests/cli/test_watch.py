"""Following a job without a terminal: a line for what came of each task, none for the same thing twice."""

from __future__ import annotations

import pytest

from cpa.cli.watch import Watch


def test_a_log_holds_what_came_of_a_task_and_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    told = [("agent_chosen", "Task a given to agent x."), ("task_succeeded", "Task a done.")]
    with Watch(live=False) as watch:
        for seq, (event, summary) in enumerate(told):
            watch.event({"event": event, "seq": seq, "time": "2026-11-24T08:30:00.000Z", "summary": summary})
        for share in (0.5, 0.5, 0.75):
            watch.progress("b", share, "Seite")
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]

    assert [line.split("  ")[-1].strip() for line in shown] == [
        "Task a done.",
        "b: 50% Seite",
        "b: 75% Seite",
    ]
