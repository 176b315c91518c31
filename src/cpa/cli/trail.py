"""The audit trail for people: when, who, what."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from cpa.cli.terminal import clock, harmless, line, shorten, table, told

_OF_AGENTS = frozenset(
    ("task_started", "task_refused", "task_succeeded", "task_failed", "task_verified", "task_proposed")
)
_SCHEDULER, _REQUESTER, _AGENT = "scheduler", "requester", "agent"


def show(page: Mapping[str, Any], *, one_job: bool) -> None:
    """Entries as a table that fits a terminal; without one, all there is of each in its line."""
    entries = page["entries"]
    if not sys.stdout.isatty():
        columns = ("time", "who", "what", "job/event", "pictures", "leaf")
        table(columns, [_whole(entry, who(entry)) for entry in entries])
        return
    rows = [
        (
            clock(entry["time"]),
            who(entry).removeprefix("agent://"),
            shorten(harmless(entry["text"]), 200) + corrections(entry) + _kept(entry),
            *(() if one_job else (_short(entry),)),
        )
        for entry in entries
    ]
    table(("time", "who", "what") if one_job else ("time", "who", "what", "job"), rows)
    if any(entry.get("pictures") for entry in entries):
        line("Files and pictures: cpa files JOB --save FOLDER --pictures")


def who(entry: Mapping[str, Any]) -> str:
    """Who did what an entry tells: a person or key, the agent that has the attempt, else the scheduler itself."""
    if entry.get("by"):
        return str(entry["by"])
    if entry["what"] in _OF_AGENTS:
        return str(entry["agent"] or _AGENT)
    return _REQUESTER if entry["what"] == "job_submitted" else _SCHEDULER


def corrections(entry: Mapping[str, Any]) -> str:
    """What somebody corrected when taking a job up, each with what was planned."""
    said = [
        f"{task}.{name}: {_value(values, 'now', 'taken away')} ({_value(values, 'planned', 'not planned')})"
        for task, fixed in ((entry.get("details") or {}).get("fixes") or {}).items()
        for name, values in fixed.items()
    ]
    return f" {'; '.join(said)}" if said else ""


def _value(values: Mapping[str, Any], when: str, without: str) -> str:
    if when not in values:
        return without
    return f"{'planned: ' if when == 'planned' else ''}{shorten(told(values[when]), 80)}"


def _whole(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    event = f"{entry['job']}/{entry['number']}" if entry.get("job") else "-"
    pictures = str(len(entry["pictures"])) if entry.get("pictures") else "-"
    return (
        clock(entry["time"]),
        name,
        shorten(entry["text"], 200) + corrections(entry),
        event,
        pictures,
        entry["leaf"],
    )


def _kept(entry: Mapping[str, Any]) -> str:
    count = len(entry.get("pictures") or ())
    return f" ({count} file{'' if count == 1 else 's'})" if count else ""


def _short(entry: Mapping[str, Any]) -> str:
    """The end of the job's id, which commands take for it."""
    return f"…{entry['job'][-8:]}" if entry.get("job") else "-"
