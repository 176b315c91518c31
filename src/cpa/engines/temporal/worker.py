"""Who takes workflow tasks and publications from the task queue of a store."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from cpa.engines.temporal.publisher import Publisher
from cpa.engines.temporal.workflow import JobWorkflow


def worker_of(
    client: Client, queue: str, publisher: Publisher, deployment: WorkerDeploymentConfig | None
) -> Worker:
    """A worker that is not started yet; of no version without a `deployment`."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[JobWorkflow],
        activities=[publisher.publish],
        # What runs in a workflow is the core, whose purity is proved otherwise; a sandbox would load it anew for
        # every job.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=200,
        deployment_config=deployment,
    )
