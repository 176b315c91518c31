"""Whose own a task is, told from nothing but what people said when they took the job up: oracle of `approval`."""

from __future__ import annotations

from cpa.core.events import JobReopened
from cpa.core.job import JobSpec, JobState
from cpa.testing.schedules.knowledge import Violation


class Hands:
    """Tell it each reopening that counted, before it is applied."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._fixed: dict[int, str] = {}
        """By task: who gave its arguments."""
        self._settled: dict[int, str] = {}
        """By task: who skipped it, or did it by hand."""

    def own(self, task: int) -> set[str]:
        """Who must not allow this task."""
        if not self._spec.requester:
            return set()
        used = {task}
        for index in range(task, -1, -1):  # what is used stands before those that use it
            used |= set(self._spec.tasks[index].references) if index in used else set()
        hands = [hands[index] for hands in (self._fixed, self._settled) for index in used if index in hands]
        return {self._spec.requester, *hands}

    def reopened(self, job: JobState, event: JobReopened) -> None:
        decided = {*event.skip, *map(int, event.done)}
        for index in decided:
            self._check(job, index, event.by)
        again, tasks = set(event.restart), self._spec.tasks
        for index, task in enumerate(tasks):
            if again.intersection(task.needs):
                again.add(index)
        for index in again - decided:
            self._settled.pop(index, None)
        for index in decided:
            self._fixed.pop(index, None)
        self._settled |= dict.fromkeys(decided, event.by)
        self._fixed |= dict.fromkeys(map(int, event.fixes), event.by)

    def _check(self, job: JobState, index: int, by: str) -> None:
        """What others wait for is not let pass by who could not have allowed it alone."""
        task = self._spec.tasks[index]
        waited = any(index in other.needs for other in self._spec.tasks)
        if not task.approval or not waited or job.task(index).approved:
            return
        if task.approvals > 1 or (task.approvers and by not in task.approvers) or by in self.own(index):
            raise Violation("approval", f"{by} lets task {index} pass, which people must allow first")
