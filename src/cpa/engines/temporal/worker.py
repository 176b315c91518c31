"""Who takes workflow tasks and publications from the task queue of a store."""

from __future__ import annotations

import dataclasses
import logging
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker, WorkerDeploymentConfig

from cpa.engines.temporal.connection import codec_of
from cpa.engines.temporal.hindrances import Hindrances
from cpa.engines.temporal.publisher import BEAT, Publisher
from cpa.engines.temporal.runner import Runner
from cpa.engines.temporal.workflow import JobWorkflow
from cpa.errors import CPAError

STICKY = timedelta(seconds=2)
"""How long a job's next step is kept for the process that has the job in memory: after a kill -9 who answers waits
that long. The library's own 10 s would look like a server that is away."""


def worker_of(
    client: Client,
    queue: str,
    publisher: Publisher,
    deployment: WorkerDeploymentConfig | None,
    hindrances: Hindrances | None = None,
) -> Worker:
    """A worker that is not started yet; of no version without a `deployment`. `hindrances` gets what it cannot
    read or write, and whose workflow it cannot go on with."""
    logging.getLogger("temporalio.worker._workflow").addFilter(_is_news)
    return Worker(
        client if hindrances is None else _noting(client, hindrances),
        task_queue=queue,
        workflows=[JobWorkflow],
        activities=[publisher.publish],
        # What runs in a workflow is the core, whose purity is proved otherwise; a sandbox would load it anew for
        # every job.
        workflow_runner=Runner(client.namespace, hindrances or Hindrances()),
        # Else a turn of two seconds counts as hung: that is a wide job on a busy machine. The core always ends.
        debug_mode=True,
        max_concurrent_activities=200,
        max_concurrent_local_activities=200,
        deployment_config=deployment,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_heartbeat_throttle_interval=BEAT,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """False for the library's traceback of each try at a value that is not readable here: `job_waits` says it once,
    with the remedy."""
    return record.exc_info is None or not isinstance(record.exc_info[1], CPAError)


def _noting(client: Client, hindrances: Hindrances) -> Client:
    """The same connection with a codec that tells."""
    config = client.config()
    codec = codec_of(client).noting(hindrances)
    config["data_converter"] = dataclasses.replace(client.data_converter, payload_codec=codec)
    return Client(**config)
