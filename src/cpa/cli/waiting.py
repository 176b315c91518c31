"""Waiting for a job: why its tasks do not go on, and a server that is away meanwhile. What an operator must mend is
said on standard error, once for each task and reason."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from cpa.cli import terminal
from cpa.cli.call import part
from cpa.cli.client import Client, Unreachable

T = TypeVar("T")

SOON, LONGEST = 2.0, 60.0
"""Seconds until the next look at why something waits: after something new, and at most (`next_pause`)."""
PATIENCE = 120.0
"""Seconds without any answer after which a server that is away is given up."""
_UNTOLD = 1.0
"""Seconds a server may be away without a word: a connection that breaks is mostly there again at once."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries; they double."""
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


def say(lines: list[str]) -> None:
    """Each as a line on standard error."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Silence:
    """A server that is away while somebody waits, as when it is started again: it is asked again for `PATIENCE`
    seconds, which is said once with `say`, as is that it is back.

    After that `Unreachable` is raised, with `remedy` beside its own. A server that has never answered is not waited
    for, unless it may have taken what it was sent.
    """

    def __init__(self, api: Client, remedy: str, say: Callable[[list[str]], None] = say) -> None:
        self._api, self._remedy, self._say = api, remedy, say
        self._since: float | None = None
        self._told = False
        self._pause = _FIRST_PAUSE

    def outlast(self, call: Callable[[], T]) -> T:
        """What the call gives once the server answers. The call must be one that may be made again."""
        while True:
            try:
                answer = call()
            except Unreachable as error:
                self.keep(error)
            else:
                self.over()
                return answer

    def keep(self, error: Unreachable) -> None:
        """Return when it is time to try again, after this error."""
        if not (self._api.answered or error.sent or self._since):
            raise error
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= PATIENCE:
            error.remedy = f"{error.remedy}; {self._remedy}"
            raise error
        if now - self._since >= _UNTOLD and not self._told:
            self._told = True
            self._say([f"cpa: the server does not answer; trying again for {PATIENCE:g} s"])
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def over(self) -> None:
        """It answers."""
        if self._told:
            self._say(["cpa: the server answers again"])
        self._since, self._told, self._pause = None, False, _FIRST_PAUSE


def silence(api: Client, job: str, say: Callable[[list[str]], None] = say) -> Silence:
    """For whoever waits for this job, which lasts whatever becomes of the server."""
    return Silence(api, f"the job is kept and goes on then, `cpa job {job} --watch` looks at it again", say)


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
