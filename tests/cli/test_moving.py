"""What `cpa migrate engine` says of jobs that cannot move."""

from __future__ import annotations

from cpa.cli import moving
from cpa.engines.moving import Problem, Report
from cpa.errors import Conflict


def problem(number: int) -> Problem:
    return Problem(("default", f"job-{number}."), Conflict("its key is missing", remedy="put it back"))


def test_each_job_is_named_with_what_hinders_it_and_of_many_the_first() -> None:
    report = Report(moved=5, problems=[problem(number) for number in range(1000)])
    lines = moving._words(report, "local", True).splitlines()

    assert lines[0] == "would move 5 jobs to engine local; 1,000 jobs cannot move"
    assert lines[1] == "would not move: job-0.: its key is missing (put it back)"
    assert lines[-2:] == [
        f"would not move: {1000 - moving.LISTED} jobs more; --json names all",
        "a dry run: nothing was changed",
    ]
    assert len(lines) == moving.LISTED + 3
    named = [each["job"] for each in moving._facts(report, "local", True)["problems"]]
    assert named == [f"job-{number}." for number in range(1000)]


def test_an_error_that_names_its_job_is_not_headed_by_it() -> None:
    lost = Problem(("default", "job-1."), Conflict("the time of job-1. is gone"))
    report = Report(moved=1, undated=[lost])

    assert "moved, but the time of job-1. is gone" in moving._words(report, "local", False).splitlines()
