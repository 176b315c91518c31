"""Follow a job's stream of events to the end of its run, across broken connections."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cpa.cli import asking, outcome, terminal, waiting
from cpa.cli.call import part
from cpa.cli.client import Client, Unreachable

if TYPE_CHECKING:
    from rich.live import Live

STILL = 0.5
"""Seconds after an event before what waits is looked at: most goes on by itself until then."""


def follow(api: Client, job: str, *, after: int = 0) -> str:
    """Show the job until its run ends, from event number `after` on; the status it ended with. Resumes after the
    last event seen, also where the server was started again (`waiting.Silence`)."""
    with waiting.interruptible(job):
        with Watch() as watch:
            view = _View(api, job, watch, after)
            watch.draw(view.detail())
            while (status := view.status) is None:
                view.listen()
        outcome.job(view.detail())
    return status


class _View:
    """Where the stream stands."""

    def __init__(self, api: Client, job: str, watch: Watch, after: int) -> None:
        self.status: str | None = None
        self._api, self._job, self._watch = api, job, watch
        self._silence = waiting.silence(api, job, watch.say)
        self._seen = after
        self._look_at, self._look_pause = time.monotonic() + STILL, waiting.SOON

    def detail(self) -> dict[str, Any]:
        """The job as it is now."""
        found: dict[str, Any] = self._silence.outlast(partial(self._api.get, f"/jobs/{part(self._job)}"))
        return found

    def listen(self) -> None:
        """Take frames until the run or the connection ends; then pause, if the server is away."""
        try:
            for frame in self._api.follow(self._job, after=self._seen):
                self._silence.over()
                self._take(frame)
        except Unreachable as error:
            if self.status is None:
                self._silence.keep(error)

    def _take(self, frame: dict[str, Any]) -> None:
        match frame.get("type"):
            case "event":
                self._seen = frame["seq"]
                self._watch.event(frame)
                if self._watch.live:
                    self._watch.draw(self.detail())
                self._look_at, self._look_pause = min(self._look_at, time.monotonic() + STILL), waiting.SOON
            case "progress":
                self._watch.progress(frame["task"], frame["progress"], frame["message"])
            case "end":
                self.status = frame["status"]
                return
        if time.monotonic() >= self._look_at:
            self._look()

    def _look(self) -> None:
        """What waits for people, and why the others wait. As long as something does, it is looked at again, ever
        more seldom: no event tells that an agent came and is busy, or is not ready."""
        detail = self.detail()
        why = self._silence.outlast(partial(waiting.explained, self._api, detail))
        self._look_pause = waiting.next_pause(self._look_pause, new=self._watch.waits(detail, why))
        self._look_at = time.monotonic() + self._look_pause if why["tasks"] else inf


class Watch:
    """Shows a job while it runs: the graph is redrawn in place on a terminal that can do that, else (as with
    `TERM=dumb`) one line per event."""

    def __init__(self, *, live: bool | None = None) -> None:
        if live is None:
            live = sys.stdout.isatty() and not terminal.console().is_dumb_terminal
        self.live = live
        self.detail: dict[str, Any] = {}
        """The job as it was drawn last."""
        self._told: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._hindrances = waiting.Hindrances()
        self._asked: set[str] = set()
        self._shown: Live | None = None

    def __enter__(self) -> Self:
        if self.live:
            from rich.live import Live

            self._shown = Live(console=terminal.console(), auto_refresh=False, transient=True)
            self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.stop()
        self._shown = None

    def draw(self, detail: dict[str, Any]) -> None:
        """The job as it is now; silent without a terminal."""
        self.detail = detail
        if self._shown is not None:
            self._shown.update(terminal.graph(detail, self._reasons), refresh=True)

    def event(self, entry: Mapping[str, Any]) -> None:
        """A line for each, but for who was given a task: the line after that says what came of it."""
        if not self.live and entry.get("event") != "agent_chosen":
            terminal.line(terminal.event(entry))

    def waits(self, detail: dict[str, Any], why: Mapping[str, Any]) -> bool:
        """Say what waits for a person, each question once, and what an operator must mend, once for each reason;
        whether anything was new. `why` is the job's explanation."""
        new = [each for each in detail.get("questions", ()) if each["id"] not in self._asked]
        self._asked.update(each["id"] for each in new)
        before, self._reasons = self._reasons, waiting.reasons(why)
        hindrances = self._hindrances.news(why)
        if new or hindrances:
            with self._above():
                asking.show(new)
                waiting.say(hindrances)
        self.draw(detail)
        return bool(new or hindrances or self._reasons != before)

    def say(self, lines: list[str]) -> None:
        """Each as a line on standard error."""
        with self._above():
            waiting.say(lines)

    @contextmanager
    def _above(self) -> Iterator[None]:
        """What is said meanwhile stays above the moving picture."""
        if self._shown is not None:
            self._shown.stop()
        yield
        if self._shown is not None:
            self._shown.start()

    def progress(self, task: str, share: float, message: str) -> None:
        """What a running task says about itself."""
        said = {"share": share, "message": message}
        if self.live:
            tasks = [
                {**each, "progress": said} if each["id"] == task else each for each in self.detail["tasks"]
            ]
            self.draw({**self.detail, "tasks": tasks})
            return
        note, before = terminal.progress(said), self._told.get(task)
        self._told[task] = note
        if note != before:
            terminal.line(f"          {task}: {note}")
