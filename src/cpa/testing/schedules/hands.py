"""Whose own a task is, told from nothing but what people said when they took the job up: oracle of `approval`."""

from __future__ import annotations

from cpa.core.events import JobReopened
from cpa.core.job import JobSpec, JobState
from cpa.testing.schedules.knowledge import Violation


class Hands:
    """Tell it each reopening that counted, before it is applied."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._fixed: dict[int, set[str]] = {}
        """By task: who gave its arguments, one after the other."""
        self._settled: dict[int, set[str]] = {}
        """By task: who skipped it, or did it by hand."""

    def own(self, task: int) -> set[str]:
        """Who must not allow this task."""
        return self._own(task, task)

    def _own(self, task: int, besides: int = -1) -> set[str]:
        """`besides` is the task of which it also counts who settled it."""
        if not self._spec.requester:
            return set()
        whose, used = {self._spec.requester}, {task}
        for index in range(task, -1, -1):  # what is used stands before those that use it
            if index in used:
                spec = self._spec.tasks[index]
                used |= set(spec.needs if spec.when else spec.references)
                whose |= self._fixed.get(index, set())
                if index != task or index == besides:
                    whose |= self._settled.get(index, set())
        return whose

    def reopened(self, job: JobState, event: JobReopened) -> None:
        decided = {*event.skip, *map(int, event.done)}
        again, tasks = set(event.restart), self._spec.tasks
        for index, task in enumerate(tasks):
            if again.intersection(task.needs):
                again.add(index)
        before = {index: self._fixed.pop(index) for index in decided if index in self._fixed}
        for index in again - decided:
            self._settled.pop(index, None)
        for index in map(int, event.fixes):
            self._fixed.setdefault(index, set()).add(event.by)
        self._settled |= {index: {event.by} for index in decided}
        for index in decided:
            self._check(job, index, event.by, before.get(index, set()), done_again=index in again)

    def _check(self, job: JobState, index: int, by: str, fixed: set[str], *, done_again: bool) -> None:
        """What others wait for is not let pass by who could not have allowed it alone."""
        task = self._spec.tasks[index]
        waited = any(index in other.needs for other in self._spec.tasks)
        if not task.approval or not waited or (job.task(index).approved and not done_again):
            return
        own = self._own(index) | (fixed if self._spec.requester else set())
        if task.approvals > 1 or (task.approvers and by not in task.approvers) or by in own:
            raise Violation("approval", f"{by} lets task {index} pass, which people must allow first")
