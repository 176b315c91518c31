"""What the newest progress of a job is, and that it does not pile up."""

from __future__ import annotations

import pytest

from cpa.core.job import JobHead, JobSpec, JobStatus
from cpa.engines import watchers
from cpa.engines.watchers import Watchers
from cpa.ports.engine import LiveUpdate
from cpa.ports.steps import JobRows, StepBatch


def tell(kept: Watchers, job: str, task: str = "read", share: float = 0.5, message: str = "Seite") -> None:
    kept.live(("t", job), LiveUpdate(job, task, 1, share, message))


def end(kept: Watchers, job: str) -> None:
    batch = StepBatch()
    head = JobHead("t", job, 1, status=JobStatus.DONE)
    batch.jobs["t", job] = JobRows(head, JobSpec(()), JobStatus.RUNNING)
    kept.committed(batch)


def test_of_too_many_jobs_the_first_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_UPDATES", 2)
    kept = Watchers()
    for share in (0.1, 0.2):
        for job in "abc":
            tell(kept, job, share=share)

    shown = {job: [each.progress for each in kept.newest(("t", job)).values()] for job in "abc"}
    assert sum(map(len, shown.values())) == 2
    assert shown["c"] == [0.2]


def test_many_tasks_of_one_job_count_as_many_jobs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_UPDATES", 3)
    kept = Watchers()
    tell(kept, "a", "one")
    for task in ("one", "two", "two", "three"):
        tell(kept, "b", task)

    assert [sorted(kept.newest(("t", job))) for job in "ab"] == [[], ["one", "three", "two"]]


def test_ended_jobs_take_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_UPDATES", 2)
    kept = Watchers()
    tell(kept, "stays")
    for job in "abc":
        tell(kept, job)
        end(kept, job)
        end(kept, job)

    assert list(kept.newest(("t", "stays"))) == ["read"]
    tell(kept, "late")
    tell(kept, "later")
    assert [len(kept.newest(("t", job))) for job in ("stays", "late", "later")] == [0, 1, 1]


def test_of_a_long_message_the_beginning_is_kept_and_all_is_shown() -> None:
    kept, message = Watchers(), "ä" * 100_000
    with kept.follow(("t", "a")) as follower:
        tell(kept, "a", message=message)
        [live] = follower.take()

    [newest] = kept.newest(("t", "a")).values()
    assert live.message == message
    assert (newest.message, newest.progress) == ("ä" * 999 + "…", 0.5)
    tell(kept, "a", message="ä" * 1000)
    assert kept.newest(("t", "a"))["read"].message == "ä" * 1000
