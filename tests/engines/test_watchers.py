"""What the newest progress of a job is, and that it does not pile up."""

from __future__ import annotations

import pytest

from cpa.engines import watchers
from cpa.engines.watchers import Watchers
from cpa.ports.engine import LiveUpdate


def test_of_too_many_jobs_the_first_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_JOBS", 2)
    kept = Watchers()
    for share in (0.1, 0.2):
        for job in "abc":
            kept.live(("t", job), LiveUpdate(job, "read", 1, share, "Seite"))

    shown = {job: [each.progress for each in kept.newest(("t", job)).values()] for job in "abc"}
    assert sum(map(len, shown.values())) == 2
    assert shown["c"] == [0.2]
