"""Executions of job workflows: how one is started, with what operators find it by and what goes first; and how they
stand at the server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta

import structlog
from msgspec.structs import replace
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from cpa.core.events import JobSubmitted
from cpa.core.job import LOGIC, JobHead, JobState
from cpa.engines.graphs import digest_of
from cpa.engines.temporal.connection import ONE_CALL, trouble
from cpa.engines.temporal.values import WORKFLOW, Fact, JobInput
from cpa.engines.temporal.visibility import priority_of, shown
from cpa.errors import BadInput, Conflict, CPAError, Unavailable
from cpa.ports.engine import Submission
from cpa.ports.moving import LOST_START, Times

log = structlog.get_logger(__name__)
PULSE = timedelta(seconds=5)
"""After so long without a sign of life of the worker that has a workflow task, another one is asked: a job whose
process is killed in the middle of one waits that long at most. While what it publishes takes long it gives one by
itself; but a turn of a wide job may take two seconds on a busy machine, and one that is too slow is done all over
again, at growing pauses. So not less."""


async def start(
    client: Client,
    queue: str,
    begin: JobInput,
    *,
    again: bool,
    ours: bool = False,
    eager: bool = False,
    priority: int | None = None,
) -> bool:
    """Start the job's execution; False when there is one already: with `again` one that runs, else also one that
    ended. With `ours` nobody else knows this id, and one that is there is what we asked for. With `eager` its first
    workflow task comes back with the answer, to this process's own worker.
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
            task_timeout=PULSE,
            rpc_timeout=ONE_CALL,
        )
    except WorkflowAlreadyStartedError:
        return False
    except RPCError as error:
        if (
            begin.shown
            and error.status is RPCStatusCode.INVALID_ARGUMENT
            and "search attribute" in error.message
        ):
            # They were there when we began, and somebody took them away: the job runs all the same.
            log.warning("job_not_searchable", job=begin.head.id, reason=error.message)
            unseen = replace(begin, shown="")
            return await start(client, queue, unseen, again=again, ours=ours, eager=eager, priority=priority)
        why = trouble(error, client)
        if not ours or not isinstance(why, Unavailable):
            raise why from error
        # It may have begun all the same, and whoever is sent away with that submits a second job.
        await start(client, queue, begin, again=again, eager=eager, priority=priority)
    return True


def first_of(submission: Submission, job: str, now: int, salt: bytes) -> JobInput:
    """What the first execution of a job begins with; `now` in ms."""
    event = JobSubmitted(
        time=now,
        tenant=submission.tenant,
        job=job,
        spec=digest_of(submission.spec),
        tasks=len(submission.spec.tasks),
        priority=submission.priority,
        due=submission.due,
        start=submission.not_before <= now,
        logic=LOGIC,
        by=submission.by,
    )
    message = (submission.sender, submission.dedupe) if submission.dedupe else None
    return JobInput(
        spec=submission.spec,
        head=JobHead(submission.tenant, job, now),
        start=0 if event.start else submission.not_before,
        inbox=(Fact(event, message=message, digest=submission.body_digest, nonce=submission.nonce),),
        salt=salt.hex(),
    )


def rest_of(job: JobState, times: Times, first: int = 0) -> JobInput:
    """What an execution begins with that goes on from what is stored; `first`: when a postponed job may start."""
    return JobInput(
        spec=job.spec,
        head=job.head,
        tasks=tuple(job.tasks[index] for index in sorted(job.tasks)),
        commands=tuple(job.open[key] for key in sorted(job.open)),  # type: ignore[misc]  # all are of the union
        due={key: times.due[key] for key in sorted(times.due)},
        start=first,
        salt=secrets.token_hex(16),
    )


async def status_of(client: Client, job: str) -> WorkflowExecutionStatus | None:
    """Of the last execution of this id; None where there is none."""
    try:
        return (await client.get_workflow_handle(job).describe(rpc_timeout=ONE_CALL)).status
    except RPCError as error:
        check_gone(client, error)
        return None


async def beginning_of(client: Client, job: str) -> JobInput | None:
    """What the last execution of this id began with; None where there is none, or it is no job's."""
    for value in await first_values(client, job):
        [begin] = await client.data_converter.decode([value], [JobInput])
        return begin  # type: ignore[no-any-return]  # it was decoded as one
    return None


async def first_values(client: Client, job: str) -> Sequence[Payload]:
    """The same as it lies at the server; none where there is none, or it is no job's."""
    handle = client.get_workflow_handle(job)
    try:
        async for event in handle.fetch_history_events(page_size=1, rpc_timeout=ONE_CALL):
            started = event.workflow_execution_started_event_attributes
            return started.input.payloads if started.workflow_type.name == WORKFLOW else ()
    except RPCError as error:
        check_gone(client, error)
    return ()


async def start_of(client: Client, job: str) -> int:
    """When the last execution of this id is to start its job; 0 is at once, or not known just now."""
    try:
        begin = await beginning_of(client, job)
    except CPAError:
        return 0  # What hinders the job is told elsewhere.
    return 0 if begin is None or begin.start == LOST_START else begin.start


def check_gone(client: Client, error: RPCError) -> None:
    """Raise, unless what the server says is that there is no such execution."""
    why = trouble(error, client)
    if error.status is not RPCStatusCode.NOT_FOUND or isinstance(why, BadInput):
        raise why from error


def older_store(client: Client, job: str) -> Conflict:
    """The workflow has events that the store has lost."""
    return Conflict(
        f"the workflow of job {job} is ahead of the store: was that put back from a backup?",
        field="job",
        value=job,
        remedy=f"`temporal workflow terminate --namespace {client.namespace} --workflow-id {job}`: within a minute "
        "the job goes on from what is stored",
    )
