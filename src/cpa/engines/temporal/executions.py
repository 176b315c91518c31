"""Executions of job workflows: how one is started, with what operators find it by and what goes first."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from cpa.engines.temporal.connection import PATIENCE, codec_of, trouble
from cpa.engines.temporal.values import WORKFLOW, JobInput
from cpa.engines.temporal.visibility import priority_of, shown
from cpa.errors import TooLarge


async def start(
    client: Client,
    queue: str,
    begin: JobInput,
    *,
    again: bool,
    eager: bool = False,
    priority: int | None = None,
) -> bool:
    """Start the job's execution; False when there is one already: with `again` one that runs, else also one that
    ended. With `eager` its first workflow task comes back with the answer, to this process's own worker.
    `priority` of a new job, whose head has none yet."""
    policy = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.REJECT_DUPLICATE
    try:
        await client.start_workflow(
            WORKFLOW,
            begin,
            id=begin.head.id,
            task_queue=queue,
            id_reuse_policy=policy,
            search_attributes=shown(begin),
            priority=priority_of(begin.head.tenant, begin.head.priority if priority is None else priority),
            request_eager_start=eager,
            rpc_timeout=PATIENCE,
        )
    except WorkflowAlreadyStartedError:
        return False
    except TooLarge:
        codec_of(client).refused(begin.head.id)
        raise
    except RPCError as error:
        raise trouble(error, client) from error
    return True
