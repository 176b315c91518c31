"""What is drawn of a job, on a terminal and without one."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from cpa.demo.show import Progress

STAMP = "2026-11-24T08:30:0{}.000Z"


def task(name: str, status: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "action": "web.goto", "status": status, "depends_on": list(needs), **more}


def event(kind: str, name: str, second: int) -> dict[str, Any]:
    return {"type": kind, "task": name, "time": STAMP.format(second)}


def shown(*, terminal: bool, encoding: str = "utf-8") -> tuple[str, str]:
    """(everything written, the last picture)"""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    console = Console(file=file, force_terminal=terminal, width=120, highlight=False)
    file_reference = {"name": "Rechnung.pdf", "size": 3105}
    with Progress(console) as progress:
        progress.update({"tasks": [task("open", "ready"), task("fetch", "waiting", "open")]}, [])
        progress.update(
            {"tasks": [task("open", "running"), task("fetch", "waiting", "open")]},
            [event("task_started", "open", 1)],
        )
        progress.update(
            {
                "tasks": [
                    task("open", "done"),
                    task("fetch", "done", "open", result={"file": file_reference}),
                    task("send", "failed", "fetch", error={"code": "smtp_550", "message": "kein Empfänger"}),
                ]
            },
            [
                event("task_succeeded", "open", 3),
                event("task_started", "fetch", 3),
                event("task_succeeded", "fetch", 4),
            ],
        )
        last = io.StringIO()
        Console(file=last, width=120).print(progress.graph())
    file.flush()
    return raw.getvalue().decode(encoding), last.getvalue()


def test_without_a_terminal_each_change_is_one_plain_line() -> None:
    text, _ = shown(terminal=False)
    lines = [" ".join(line.split()) for line in text.splitlines()]

    assert lines[0].startswith("▶ open web.goto running")
    assert lines[1:] == [
        "✔ open web.goto done 2.00 s",
        "✔ fetch web.goto done 1.00 s Rechnung.pdf, 3,105 bytes",
        "✘ send web.goto failed smtp_550: kein Empfänger",
    ]
    assert "\x1b" not in text


def test_the_graph_shows_every_task_with_state_duration_and_note() -> None:
    _, graph = shown(terminal=True)
    lines = [" ".join(line.split()) for line in graph.splitlines()]

    assert lines == [
        "✔ open web.goto done 2.00 s",
        "✔ fetch web.goto done 1.00 s Rechnung.pdf, 3,105 bytes",
        "✘ send web.goto failed smtp_550: kein Empfänger",
    ]


def test_a_task_waiting_for_others_than_its_neighbour_says_for_which() -> None:
    progress = Progress(Console(file=io.StringIO(), width=120))
    tasks = [task("a", "ready"), task("b", "ready"), task("c", "waiting", "a", "b")]
    progress.update({"tasks": tasks}, [])
    out = io.StringIO()
    Console(file=out, width=120).print(progress.graph())

    assert out.getvalue().splitlines()[2].split()[-2:] == ["after", "a"]


def test_an_attempt_under_way_is_not_told_as_the_one_that_was_lost() -> None:
    lost = {"code": "lease_lost", "message": "its agent was not heard of for 15 s"}
    file = io.StringIO()
    with Progress(Console(file=file, width=120)) as progress:
        progress.update({"tasks": [task("open", "running", error=lost)]}, [])
        said = {"share": 0.5, "message": "Seite 2"}
        progress.update({"tasks": [task("open", "held", error=lost)]}, [])
        progress.update({"tasks": [task("open", "running", error=lost, progress=said)]}, [])
    first, held, second = file.getvalue().splitlines()

    assert first.endswith("again, after lease_lost")
    assert held.endswith("lease_lost: its agent was not heard of for 15 s")
    assert second.endswith("50% Seite 2")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text, _ = shown(terminal=False, encoding="latin-1")

    assert "+ open" in text
    assert "x send" in text


def test_what_is_looked_for_is_in_no_doubt() -> None:
    file = io.StringIO()
    with Progress(Console(file=file, width=120)) as progress:
        progress.update({"tasks": [task("send", "in_doubt", reason="proving")]}, [])
        progress.update({"tasks": [task("send", "in_doubt", reason="doubt")]}, [])
    first, second = file.getvalue().splitlines()

    assert "proving" in first
    assert "in_doubt" not in first
    assert "in_doubt" in second
