"""Follow a job's stream of events to the end of its run, across broken connections."""

from __future__ import annotations

import time
from typing import Any

from cpa.cli import outcome, terminal
from cpa.cli.call import part
from cpa.cli.client import Client, Unreachable

PATIENCE = 60.0
"""Seconds without a word from the server after which following is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0


def follow(api: Client, job: str) -> str:
    """Show the job until its run ends; the status it ended with. Resumes after the last event seen."""
    with terminal.Watch() as watch:
        detail = api.get(f"/jobs/{part(job)}")
        watch.draw(detail)
        view = _View(api, job, watch)
        while (status := view.status) is None:
            view.listen()
    outcome.job(api.get(f"/jobs/{part(job)}"))
    return status


class _View:
    """Where the stream stands."""

    def __init__(self, api: Client, job: str, watch: terminal.Watch) -> None:
        self.status: str | None = None
        self._api, self._job, self._watch = api, job, watch
        self._seen, self._news = 0, True
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
                self._news = True
            case "quiet" if self._news:
                self._news = False
                self._watch.asked(self._api.get(f"/jobs/{part(self._job)}"))
            case "progress":
                self._watch.progress(frame["task"], frame["progress"], frame["message"])
            case "end":
                self.status = frame["status"]
