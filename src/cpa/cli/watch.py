"""Follow a job's stream of events to the end of its run, across broken connections."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cpa.cli import asking, outcome, terminal, waiting
from cpa.cli.call import part
from cpa.cli.client import Client, Unreachable

if TYPE_CHECKING:
    from rich.live import Live

PATIENCE = 60.0
"""Seconds without a word from the server after which following is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
STILL = 0.5
"""Seconds after an event before what waits is looked at: most goes on by itself until then."""


def follow(api: Client, job: str, *, after: int = 0) -> str:
    """Show the job until its run ends, from event number `after` on; the status it ended with. Resumes after the
    last event seen."""
    with waiting.interruptible(job), Watch() as watch:
        detail = api.get(f"/jobs/{part(job)}")
        watch.draw(detail)
        view = _View(api, job, watch, after)
        while (status := view.status) is None:
            view.listen()
    outcome.job(api.get(f"/jobs/{part(job)}"))
    return status


class _View:
    """Where the stream stands."""

    def __init__(self, api: Client, job: str, watch: Watch, after: int) -> None:
        self.status: str | None = None
        self._api, self._job, self._watch = api, job, watch
        self._seen = after
        self._look_at, self._look_pause = time.monotonic() + STILL, waiting.SOON
        self._quiet_since = time.monotonic()
        self._pause = FIRST_PAUSE

    def listen(self) -> None:
        """Take frames until the run or the connection ends."""
        try:
            for frame in self._api.follow(self._job, after=self._seen):
                self._quiet_since, self._pause = time.monotonic(), FIRST_PAUSE
                self._take(frame)
        except Unreachable:
            if time.monotonic() - self._quiet_since > PATIENCE:
                raise
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _take(self, frame: dict[str, Any]) -> None:
        match frame.get("type"):
            case "event":
                self._seen = frame["seq"]
                self._watch.event(frame)
                if self._watch.live:
                    self._watch.draw(self._api.get(f"/jobs/{part(self._job)}"))
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
        detail = self._api.get(f"/jobs/{part(self._job)}")
        why = waiting.explained(self._api, detail)
        self._look_pause = waiting.next_pause(self._look_pause, new=self._watch.waits(detail, why))
        self._look_at = time.monotonic() + self._look_pause if why["tasks"] else inf


class Watch:
    """Shows a job while it runs: on a terminal the graph is redrawn in place, else one line per event."""

    def __init__(self, *, live: bool | None = None) -> None:
        self.live = sys.stdout.isatty() if live is None else live
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
        if self._shown is not None and (new or hindrances):
            self._shown.stop()  # What is said stays above the moving picture.
        asking.show(new)
        waiting.say(hindrances)
        if self._shown is not None and (new or hindrances):
            self._shown.start()
        self.draw(detail)
        return bool(new or hindrances or self._reasons != before)

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
