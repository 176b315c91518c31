"""What an agent remembers of the tasks it had."""

from __future__ import annotations

import pytest

from cpa.agents import work
from cpa.agents.work import Works
from cpa.ports.agents import Named


def test_of_so_many_tasks_the_newest_attempt_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_REMEMBERED", 2)
    works = Works()
    for job in ("j1", "j2", "j1", "j3"):
        works.hear_of(job, "t", 2)
    assert [works.stale(Named(job, "t", 1)) for job in ("j1", "j2", "j3")] == [True, False, True]
