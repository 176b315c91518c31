"""What a job looks like on a narrow terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cpa.cli import outcome
from cpa.cli.terminal import graph, shorten


def task(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "action": "web.wait_for", "status": "done", "depends_on": [], **more}


def test_a_long_failure_keeps_its_line_and_the_names_stay_whole() -> None:
    failure = {"code": "customer_ambiguous", "message": "Das Portal kennt mehrere Kunden dieses Namens."}
    detail = {
        "job": {"id": "01", "status": "failed", "description": "Hole die Rechnung", "intent": ""},
        "tasks": [
            task("anmelden"),
            task("gefunden", status="failed", error=failure, depends_on=["anmelden"]),
        ],
    }
    screen = io.StringIO()
    Console(file=screen, width=60).print(graph(detail))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]

    assert len(lines) == 3
    assert lines[1].split() == ["anmelden", "web.wait_for", "✔", "done"]
    assert lines[2].split()[:4] == ["gefunden", "web.wait_for", "✘", "failed"]
    assert "customer_am" in lines[2]
    assert lines[2].endswith("…")


@pytest.mark.parametrize(("status", "told"), [("failed", "not reached"), ("running", "waiting")])
def test_in_a_job_that_has_ended_nothing_waits(status: str, told: str) -> None:
    detail = {
        "job": {"id": "01", "status": status, "description": "Grüße", "intent": ""},
        "tasks": [task("first"), task("after", status="waiting", depends_on=["first"])],
    }
    screen = io.StringIO()
    Console(file=screen, width=60).print(graph(detail))

    assert screen.getvalue().splitlines()[2].rstrip().endswith(f"· {told}")


def test_a_long_reason_is_shortened_like_every_other_note() -> None:
    reason = "Kein Agent tut " + "größer." * 100
    detail = {
        "job": {"id": "01", "status": "running", "description": "Grüße", "intent": ""},
        "tasks": [task("zählen", status="held")],
    }
    screen = io.StringIO()
    Console(file=screen, width=2_000).print(graph(detail, {"zählen": reason}))

    assert shorten(reason) in screen.getvalue()
    assert reason not in screen.getvalue()


LOST = {"code": "lease_lost", "message": "sein Agent war 15 s lang nicht zu hören", "remedy": "warten"}


@pytest.mark.parametrize(
    ("status", "progress", "note"),
    [
        ("running", None, "again, after lease_lost"),
        ("assigned", None, "again, after lease_lost"),
        ("running", {"share": 0.5, "message": "Seite 2"}, "50% Seite 2"),
        ("held", None, "lease_lost: sein Agent war 15 s lang nicht zu hören"),
    ],
)
def test_of_a_task_at_work_its_attempt_is_told_and_not_the_one_before(
    status: str, progress: dict[str, Any] | None, note: str
) -> None:
    detail = {
        "job": {"id": "01", "status": "running", "description": "Grüße", "intent": ""},
        "tasks": [task("zählen", status=status, error=LOST, progress=progress)],
    }
    screen = io.StringIO()
    Console(file=screen, width=200).print(graph(detail))

    assert screen.getvalue().splitlines()[1].rstrip().endswith(f"  {note}")


def test_what_became_of_an_attempt_before_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    head = {"id": "01", "status": "running", "description": "Grüße", "intent": ""}

    outcome.job({"job": head, "tasks": [task("zählen", status="running", error=LOST)]})

    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "zählen: again, after lease_lost: sein Agent war 15 s lang nicht zu hören"
