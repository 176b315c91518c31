"""Whose a task queue is. All its workers write into one store, so another store must not have workers on it.

What says so has to outlive every process: an execution at the server, named as the queue, that nobody ever works
on. Two stores that begin at once cannot both start it.
"""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import uuid4

from temporalio.api.common.v1 import Memo, Payload, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import TaskQueueKind, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cpa.engines.temporal.connection import IDENTITY, LAST_BREATH, ONE_CALL, trouble
from cpa.errors import BadInput, CPAError

_TYPE: Final = "cpa.queue"
_STORE: Final = "store"


def name_of(queue: str) -> str:
    """The id of the execution that says whose a queue is; the queue on which it waits is named alike."""
    return f"cpa-queue:{queue}"


async def claim(client: Client, queue: str, store: str) -> None:
    """The queue is this store's from now on, or was before. `BadInput` where it is another one's, `Unavailable`
    when the server is away. `store` names it at the server, in clear."""
    try:
        await _claim(client, queue, store)
    except CPAError:
        # As for a connection that was refused.
        await asyncio.sleep(LAST_BREATH)
        raise


async def _claim(client: Client, queue: str, store: str) -> None:
    try:
        owner = store if await _started(client, queue, store) else await _owner(client, queue)
    except RPCError as error:
        raise trouble(error, client) from error
    if owner != store:
        raise BadInput(
            f"the task queue {queue!r} in namespace {client.namespace!r} belongs to another store",
            field="temporal_queue",
            value=queue,
            remedy="set CPA_TEMPORAL_QUEUE to a name that no other `cpa serve` uses; if that store is gone for "
            f"good, `temporal workflow terminate --namespace {client.namespace} --workflow-id '{name_of(queue)}'`",
        )


async def _started(client: Client, queue: str, store: str) -> bool:
    """False where there is one already."""
    name = name_of(queue)
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"%b"' % store.encode())
    request = StartWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_id=name,
        workflow_type=WorkflowType(name=_TYPE),
        task_queue=TaskQueue(name=name, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
        workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
        memo=Memo(fields={_STORE: payload}),
        identity=IDENTITY,
        request_id=str(uuid4()),
    )
    try:
        await client.workflow_service.start_workflow_execution(request, timeout=ONE_CALL)
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return False
        raise
    return True


async def _owner(client: Client, queue: str) -> str:
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=name_of(queue))
    )
    found = await client.workflow_service.describe_workflow_execution(request, timeout=ONE_CALL)
    return found.workflow_execution_info.memo.fields[_STORE].data.decode().strip('"')
