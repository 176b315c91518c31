"""Runs workflows, and notes those that it cannot go on with.

A workflow task that fails is given out again, without end and without anybody but the log knowing of it. It fails
where the history holds what this program cannot take: another core decided there, or somebody else wrote to the
workflow. Only people can help then, so the job says why it waits.
"""

from __future__ import annotations

from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import RemoveFromCache, WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from cpa.engines.temporal.hindrances import Hindrances
from cpa.errors import Unavailable

TRIES = 3
"""Failures one after the other, from which on it is no matter of one moment; the server tries as often at once."""
_DIFFERS = RemoveFromCache.EvictionReason.NONDETERMINISM


class Runner(UnsandboxedWorkflowRunner):
    def __init__(self, namespace: str, hindrances: Hindrances) -> None:
        self._namespace, self._hindrances = namespace, hindrances
        self._failed: dict[str, tuple[str, int, int]] = {}
        """By job: the execution whose workflow task failed last, how long its history was, and how often."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See the library's runner."""
        job, instance = det.info.workflow_id, super().create_instance(det)
        activate = instance.activate

        def watched(act: WorkflowActivation) -> WorkflowActivationCompletion:
            completion = activate(act)
            if (reason := _reason(act, completion)) is not None:
                self._fails(job, act, reason)
            elif self._failed and not (act.is_replaying or _leaves(act)):
                self._goes_on(job, act)
            return completion

        # The library goes by this object's class and parts; only how it is called is ours.
        instance.activate = watched  # type: ignore[method-assign]
        return instance

    def _fails(self, job: str, act: WorkflowActivation, reason: str) -> None:
        tries = self._failed.get(job, ("", 0, 0))[2] + 1
        self._failed[job] = (act.run_id, act.history_length, tries)
        if tries >= TRIES:
            self._hindrances.stuck(job, self._error(job, reason))

    def _goes_on(self, job: str, act: WorkflowActivation) -> None:
        """A part of a workflow task that was tried before says nothing: the next part may be the one that fails."""
        run, length, _ = self._failed.get(job, (act.run_id, act.history_length, 0))
        if run != act.run_id or length < act.history_length:
            del self._failed[job]
            self._hindrances.moved(job)

    def _error(self, job: str, reason: str) -> Unavailable:
        return Unavailable(
            f"the workflow of job {job} cannot be gone on with: {reason}",
            field="job",
            value=job,
            remedy="was it begun by another version, or has somebody else written to it? Start that version, or "
            f"end it with `temporal workflow terminate --namespace {self._namespace} --workflow-id {job}`: "
            "within a minute the job goes on from the store",
        )


def _reason(act: WorkflowActivation, completion: WorkflowActivationCompletion) -> str | None:
    """Why the workflow task fails; None when it does not, as far as that is known."""
    for each in act.jobs:
        if each.HasField("remove_from_cache") and each.remove_from_cache.reason == _DIFFERS:
            return "its history does not go with what is decided here"
    return _text(completion.failed.failure) if completion.HasField("failed") else None


def _leaves(act: WorkflowActivation) -> bool:
    return any(each.HasField("remove_from_cache") for each in act.jobs)


def _text(failure: Failure) -> str:
    """What kind of failure: its words may be somebody's, and stand in the log."""
    return failure.application_failure_info.type or "an error that was not foreseen"
