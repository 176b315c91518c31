"""The working copy of a job: rebuilt from rows, kept by decisions, read as a snapshot."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.situations import START, Story, same, task

from cpa.core.commands import DispatchTask
from cpa.core.job import (
    ENDED,
    Changes,
    Graph,
    JobHead,
    JobSpec,
    JobState,
    JobStatus,
    RetryPolicy,
    Snapshot,
    TaskRun,
    TaskStatus,
    results,
)


@pytest.mark.parametrize("status", list(JobStatus))
def test_done_failed_and_cancelled_are_ends(status: JobStatus) -> None:
    assert status.ended == (status.value in ("done", "failed", "cancelled"))
    assert status.ended == (status in ENDED)


def test_a_graph_knows_who_waits_for_whom_and_its_conditions() -> None:
    graph = Graph(JobSpec((task("a"), task("b", 0), task("c", 0, 1, when="tasks.a.result.x == 1"))))

    assert graph.needs == (0, 1, 2)
    assert graph.dependents == [[1, 2], [2], []]
    assert list(graph.conditions) == [2]
    assert graph.conditions[2].text == "tasks.a.result.x == 1"
    assert [graph.place(id) for id in ("a", "b", "c", "d")] == [0, 1, 2, None]


def test_a_job_rebuilt_from_its_rows_is_the_job() -> None:
    story = Story(*(task(name) for name in "abcd"), task("e", 0), max_parallel=1)
    story.done(0)
    job = story.job
    rows = sorted(job.tasks.values(), key=lambda run: -run.index)

    again = JobState(job.head, Graph(story.spec), rows, list(job.open.values()))

    assert same(again, job)
    assert list(again.line) == [2, 3, 4]
    assert again.waiting == [0, 0, 0, 0, 0]


def test_a_task_leaves_the_line_from_any_place() -> None:
    story = Story(*(task(name) for name in "abcd"), max_parallel=1)
    job = story.job
    assert list(job.line) == [1, 2, 3]

    job.apply(Changes(job.head, (TaskRun(2, TaskStatus.CANCELLED),)), ())
    assert list(job.line) == [1, 3]
    job.apply(Changes(job.head, (TaskRun(1, TaskStatus.CANCELLED),)), ())
    assert list(job.line) == [3]


def test_a_change_within_the_line_keeps_the_place() -> None:
    story = Story(*(task(name) for name in "abc"), max_parallel=1)
    job = story.job

    job.apply(Changes(job.head, (TaskRun(1, TaskStatus.READY, line=1, since=5),)), ())

    assert list(job.line) == [1, 2]


def test_a_task_that_is_done_releases_its_dependents_once() -> None:
    story = Story(task("a"), task("b", 0))
    job = story.job

    job.apply(Changes(job.head, (TaskRun(0, TaskStatus.DONE),)), ())
    job.apply(Changes(job.head, (TaskRun(0, TaskStatus.DONE, result={"x": 1}),)), ())

    assert job.waiting == [0, 0]


def test_a_command_closed_twice_is_closed() -> None:
    job = JobState(JobHead("default", "j", START), Graph(JobSpec((task("a"),))))
    command = DispatchTask(key="dispatch:0:1", task=0, epoch=1)

    job.apply(Changes(job.head), (command,))
    assert job.open == {"dispatch:0:1": command}
    job.apply(Changes(job.head, closed=("dispatch:0:1",)), ())
    job.apply(Changes(job.head, closed=("dispatch:0:1",)), ())

    assert job.open == {}


def test_a_snapshot_has_every_task_also_those_that_never_moved() -> None:
    story = Story(task("a"), task("b", 0))

    snapshot = story.job.snapshot()

    assert [run.index for run in snapshot.tasks] == [0, 1]
    assert snapshot.tasks[1] == TaskRun(1)
    assert [command.key for command in snapshot.commands] == ["dispatch:0:1"]
    assert snapshot.head is story.job.head
    assert snapshot.spec is story.spec


@pytest.mark.parametrize(
    ("status", "run", "dead"),
    [
        (JobStatus.FAILED, 2, False),
        (JobStatus.FAILED, 3, True),
        (JobStatus.FAILED, 4, True),
        (JobStatus.CANCELLED, 3, False),
        (JobStatus.RUNNING, 3, False),
    ],
)
def test_a_failed_job_without_retries_left_is_a_dead_letter(status: JobStatus, run: int, dead: bool) -> None:
    head = JobHead("default", "j", START, status=status, run=run)

    assert Snapshot(head, JobSpec((task("a"),), max_retries=3), ()).dead is dead


def test_only_done_tasks_have_results() -> None:
    story = Story(task("a"), task("b"), task("c"), task("d", when="false"))
    story.done(0, x=1)
    story.done(1)

    assert results(story.job, range(4)) == {"a": {"x": 1}, "b": {}}
    assert results(story.job, (2, 1)) == {"b": {}}


def test_stored_forms_leave_defaults_out_and_come_back_equal() -> None:
    spec = JobSpec((task("größe", retry=RetryPolicy()),), description="Hol die Rechnung")
    head = JobHead("default", "j", START)

    assert msgspec.json.encode(head) == b'{"tenant":"default","id":"j","created":1000000}'
    assert msgspec.json.encode(TaskRun(3)) == b'{"index":3}'
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec
    assert msgspec.json.decode(msgspec.json.encode(head), type=JobHead) == head


def test_a_head_that_names_no_numbers_is_of_the_first() -> None:
    head = JobHead("default", "j", START)

    assert (head.logic, head.schema) == (1, 1)
