"""Why tasks do not go on, for whoever waits for their job. What an operator must mend is said on standard error,
once for each task and reason."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cpa.cli import terminal
from cpa.cli.call import part

if TYPE_CHECKING:
    from cpa.cli.client import Client

SOON, LONGEST = 2.0, 60.0
"""Seconds until the next look at why something waits: after something new, and at most (`next_pause`)."""
_STANDING = ("ready", "held", "assigned")
"""Not waiting for other tasks, and not at work."""
_NAMED = 3
"""Tasks of one reason that are named; the others are counted."""


def next_pause(pause: float, *, new: bool) -> float:
    """Seconds until the next look, where the one before came after `pause`; they double while nothing is new: each
    look costs the whole job."""
    return SOON if new else min(2 * pause, LONGEST)


def explained(api: Client, detail: Mapping[str, Any]) -> dict[str, Any]:
    """The job's explanation; an empty one, without asking, where all that is open is at work."""
    if not any(task["status"] in ("waiting", *_STANDING) for task in detail["tasks"]):
        return {"tasks": []}
    answer: dict[str, Any] = api.get(f"/jobs/{part(detail['job']['id'])}/explain")
    return answer


def reasons(answer: Mapping[str, Any]) -> dict[str, str]:
    """By task, why it waits just now."""
    waits = (each for each in answer["tasks"] if each["status"] in _STANDING)
    return {each["task"]: each["evidence"] for each in waits if each["reason"] != "at_work"}


class Hindrances:
    """What keeps a job's tasks from going on until an operator, or whoever is asked, does something."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def asked(self, questions: Iterable[Mapping[str, Any]]) -> list[str]:
        """A line for each question to people that was not told before, with what answers it."""
        found = [each for each in questions if (each["id"], "") not in self._told]
        self._told.update((each["id"], "") for each in found)
        return [
            terminal.flat(
                f"cpa: {each['task']}: {each['text']} `cpa questions` shows it whole, `cpa answer {each['id']}` "
                "answers it."
            )
            for each in found
        ]

    def news(self, answer: Mapping[str, Any]) -> list[str]:
        """A line for each that was not told before, with what helps; for several tasks of one reason together."""
        found: dict[tuple[str, str], list[str]] = {}
        for task, reason, evidence, remedy in _of_operators(answer):
            if (task, reason) not in self._told:
                self._told.add((task, reason))
                found.setdefault((evidence, remedy), []).append(task)
        return [_line(tasks, *said) for said, tasks in found.items()]


@contextmanager
def interruptible(job: str) -> Iterator[None]:
    """Whoever ends the waiting with Ctrl-C is told that the job goes on, and how to look at it or to end it."""
    try:
        yield
    except KeyboardInterrupt:
        after = "\n" if sys.stderr.isatty() else ""  # of ^C, which the terminal shows
        ways = f"`cpa job {job} --watch` looks at it again, `cpa cancel {job}` ends it"
        say([f"{after}cpa: job {job} goes on: {ways}"])
        raise


def say(lines: list[str]) -> None:
    """Each as a line on standard error."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _of_operators(answer: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(task, reason, evidence, remedy); of the whole job the task is empty."""
    if (whole := answer.get("hindrance")) is not None:
        yield "", whole["evidence"], whole["evidence"], whole["remedy"]
    for each in answer["tasks"]:
        if each["actor"] == "operator" and each["status"] in _STANDING:
            yield each["task"], each["reason"], each["evidence"], each["remedy"]


def _line(tasks: list[str], evidence: str, remedy: str) -> str:
    """No words around those of the explanation, which may be in German."""
    more = f" (+{len(tasks) - _NAMED})" if len(tasks) > _NAMED else ""
    who = f"{', '.join(tasks[:_NAMED])}{more}: " if tasks != [""] else ""
    return terminal.flat(f"cpa: {who}{evidence} {remedy}")
