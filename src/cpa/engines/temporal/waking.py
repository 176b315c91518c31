"""Jobs go on at once when what hindered them is over, be it a key, a file or an older version of ours.

A workflow task that fails is given out again at growing pauses of up to ten minutes. In between the server holds it
as begun: no signal and no query makes it come sooner, and a new worker is not asked. A reset does: the next
execution has the same history up to that task, and all signals and updates that came since.

Looked for after a start, in all jobs; then in those that are known to be hindered, with the very values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryReverseRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError

from cpa.engines.temporal.connection import ONE_CALL, codec_of
from cpa.engines.temporal.hindrances import Hindrance, Hindrances
from cpa.errors import CPAError

log = structlog.get_logger(__name__)
OFTEN = 5.0
"""Seconds between looks at those that are hindered."""
PROMPT = 3
"""Tries of a workflow task that the server gives out one after the other; from then on the pauses grow."""
_PER_SECOND = 20
"""Looks at jobs, at most."""
_AT_ONCE = 5
_PAGE = 1_000
_ENDS: Final = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


class Waking:
    """`run` is the loop."""

    def __init__(self, client: Client, hindrances: Hindrances) -> None:
        self._client, self._hindrances = client, hindrances

    async def run(self, jobs: Sequence[str]) -> None:
        """Until cancelled. `jobs` may wait since an earlier life: nobody but us works on them."""
        for first in range(0, len(jobs), _AT_ONCE):
            await asyncio.gather(*map(self._after_a_start, jobs[first : first + _AT_ONCE]))
        while True:
            hindered = sorted(self._hindrances.jobs)
            await asyncio.sleep(max(OFTEN, len(hindered) / _PER_SECOND))
            for job in hindered:
                await self._look(job)

    async def _after_a_start(self, job: str) -> None:
        if (found := await self._described(job)) is not None:
            await self._again(found)

    async def _look(self, job: str) -> None:
        if (found := await self._described(job)) is None:
            return
        if not _stuck(found):
            # It went on, or somebody ended this execution, and we were not told.
            self._hindrances.went_on(job)
        elif await self._mended(job) and await self._again(found):
            self._hindrances.went_on(job)

    async def _mended(self, job: str) -> bool:
        """Whether all that could not be read or written can be now."""
        context = WorkflowSerializationContext(self._client.namespace, job)
        codec = codec_of(self._client).with_context(context)

        async def tried(each: Hindrance) -> None:
            if each.lasting:
                raise each.error
            if each.value is not None:
                await (codec.encode if each.writing else codec.decode)([each.value])

        try:
            for each in self._hindrances.of(job):
                await tried(each)
        except CPAError:
            return False
        return True

    # -- at the server -------------------------------------------------------------------------------------

    async def _described(self, job: str) -> DescribeWorkflowExecutionResponse | None:
        """None where that cannot be known now."""
        try:
            return (
                await self._client.get_workflow_handle(job).describe(rpc_timeout=ONE_CALL)
            ).raw_description
        except RPCError as error:
            log.debug("job_not_described", job=job, error=error.message)
            return None

    async def _again(self, found: DescribeWorkflowExecutionResponse) -> bool:
        """Have a workflow task that waits for its next try begun anew, unless that is due by itself."""
        execution = found.workflow_execution_info.execution
        if not _runs(found) or found.pending_workflow_task.attempt <= PROMPT:
            return False
        try:
            last = await self._last_end(execution)
            await self._client.workflow_service.reset_workflow_execution(
                ResetWorkflowExecutionRequest(
                    namespace=self._client.namespace,
                    workflow_execution=execution,
                    reason="what hindered it is over",
                    workflow_task_finish_event_id=last,
                    request_id=f"again:{execution.run_id}",
                ),
                timeout=ONE_CALL,
            )
        except RPCError as error:
            # It goes on all the same, with the server's next try.
            log.warning("job_not_woken", job=execution.workflow_id, error=error.message)
            return False
        log.info("job_woken", job=execution.workflow_id)
        return True

    async def _last_end(self, execution: WorkflowExecution) -> int:
        """Number of the event with which the last workflow task ended; 0 is none."""
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace, execution=execution, maximum_page_size=_PAGE
        )
        service = self._client.workflow_service
        page = await service.get_workflow_execution_history_reverse(request, timeout=ONE_CALL)
        return next((each.event_id for each in page.history.events if each.event_type in _ENDS), 0)


def _runs(found: DescribeWorkflowExecutionResponse) -> bool:
    status = found.workflow_execution_info.status
    return status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING


def _stuck(found: DescribeWorkflowExecutionResponse) -> bool:
    """Whether something of it was tried before, and is to be tried again."""
    tries = [found.pending_workflow_task.attempt, *(each.attempt for each in found.pending_activities)]
    return _runs(found) and max(tries) > 1
