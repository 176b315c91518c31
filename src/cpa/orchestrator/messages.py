"""LAM messages from outside: each type's effect, once per sender and id, bound to the credential it came with.

    request (words)   planned and submitted as a new job
    inform            progress, shown to those who follow the job
    done, failure     the end of the attempt named by (job, task, epoch)

A message is logged with what it did. An attempt may be answered only by the agent that holds it.
"""

from __future__ import annotations

from cpa.core.events import Event, TaskFailed, TaskSucceeded
from cpa.core.job import Snapshot, TaskStatus
from cpa.core.lam_payloads import DonePayload, FailurePayload, InformPayload, RequestPayload
from cpa.core.lam_protocol import BaseMessage
from cpa.core.storing import milliseconds
from cpa.errors import BadInput, Forbidden, InvalidDocument, NotFound
from cpa.orchestrator.planning import Planner, PlanRequest
from cpa.ports.agents import Acknowledgement
from cpa.ports.clock import Clock
from cpa.ports.engine import Engine, LiveUpdate, Submission
from cpa.ports.keys import Caller, Scope
from cpa.ports.repository import MessageRepository, StoredMessage

_HELD_BY_AGENT = (TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.IN_DOUBT)


class Messages:
    """`ports.agents.MessageHandler` on an engine."""

    def __init__(self, engine: Engine, planner: Planner, log: MessageRepository, clock: Clock) -> None:
        self._engine = engine
        self._planner = planner
        self._log = log
        self._clock = clock

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        _check_sender(message, caller)
        payload = message.payload
        if isinstance(payload, RequestPayload):
            told = await self._request(message, payload, caller)
        elif isinstance(payload, InformPayload | DonePayload | FailurePayload):
            told = await self._about_task(message, payload, caller)
        else:
            raise InvalidDocument(
                f"this server does not take {message.type!r}",
                field="type",
                value=message.type,
                remedy="send request, inform, done or failure",
            )
        await self._record(message, caller.tenant, told)
        return told

    async def _request(
        self, message: BaseMessage, payload: RequestPayload, caller: Caller
    ) -> Acknowledgement:
        if not caller.may(Scope.SUBMIT):
            # Otherwise who takes over one agent could have any other do anything, with that one's secrets.
            raise Forbidden(
                "this key answers requests and makes none",
                field="type",
                value=message.type,
                remedy="use a key with the scope submit",
            )
        context = {"user": message.context.user, "locale": message.context.locale, "channel": "lam"}
        kept = {name: value for name, value in context.items() if value}
        graph = None if payload.text else [_task(payload)]
        wanted = PlanRequest(tenant=caller.tenant, text=payload.text or "", task_graph=graph, context=kept)
        plan = await self._planner.plan(wanted)
        deadline = message.expected.deadline
        receipt = await self._engine.submit(
            Submission(
                tenant=caller.tenant,
                spec=plan.spec,
                due=int(deadline.timestamp() * 1000) if deadline is not None else 0,
                sender=message.sender,
                dedupe=str(message.id),
                nonce=caller.nonce,
            )
        )
        effect = "job_created" if receipt.new else "duplicate"
        return _told(message, receipt.new, effect, receipt.job)

    async def _about_task(
        self, message: BaseMessage, payload: InformPayload | DonePayload | FailurePayload, caller: Caller
    ) -> Acknowledgement:
        about = message.correlation
        for name, value in (("jobId", about.job_id), ("taskId", about.task_id), ("epoch", about.epoch)):
            if value in ("", None):
                raise InvalidDocument(
                    f"a {message.type} says which attempt it is about",
                    field=f"correlation.{name}",
                    remedy="copy jobId, taskId and epoch from the request",
                )
        snapshot = await self._engine.query(caller.tenant, about.job_id)
        task, epoch = _task_index(snapshot, about.task_id), about.epoch or 0
        _check_holder(snapshot, task, epoch, message.sender)
        event = _event(payload, task, epoch)
        key = (message.sender, str(message.id))
        outcome = await self._engine.send(caller.tenant, about.job_id, event, message=key, nonce=caller.nonce)
        if isinstance(payload, InformPayload):
            if not outcome.reason and payload.progress is not None:
                update = LiveUpdate(
                    about.job_id, about.task_id, epoch, payload.progress, payload.message or ""
                )
                self._engine.show(caller.tenant, about.job_id, update)
            return _told(message, not outcome.reason, outcome.reason or "progress", about.job_id)
        done = "task_succeeded" if isinstance(payload, DonePayload) else "task_failed"
        return _told(message, outcome.reason != "duplicate", outcome.reason or done, about.job_id)

    async def _record(self, message: BaseMessage, tenant: str, told: Acknowledgement) -> None:
        await self._log.append(
            tenant,
            StoredMessage(
                id=str(message.id),
                sender=message.sender,
                direction="in",
                type=message.type,
                received=self._clock.now_ms(),
                body=message.to_json(),
                conversation=message.correlation.conversation_id,
                job=told.job,
                task=message.correlation.task_id,
                effect=told.effect,
            ),
        )


def _told(message: BaseMessage, new: bool, effect: str, job: str) -> Acknowledgement:
    return Acknowledgement(message_id=str(message.id), new=new, effect=effect, job=job)


def _check_sender(message: BaseMessage, caller: Caller) -> None:
    own = caller.name if caller.name.startswith("agent://") else f"agent://user/{caller.name}"
    if message.sender != own:
        raise Forbidden(
            "the sender is not the caller",
            field="sender",
            value=message.sender,
            remedy=f"this key speaks as {own}",
        )


def _task(payload: RequestPayload) -> dict[str, object]:
    task: dict[str, object] = {"action": payload.action, "arguments": payload.arguments}
    if payload.timeout is not None:
        task["timeout"] = payload.timeout
    if payload.effect is not None:
        task["effect"] = payload.effect.value
    if payload.tainted:
        raise BadInput(
            "a request for a new job cannot mark arguments as tainted",
            field="payload.tainted",
            remedy="leave it out",
        )
    return task


def _task_index(snapshot: Snapshot, task: str) -> int:
    for index, spec in enumerate(snapshot.spec.tasks):
        if spec.id == task:
            return index
    raise NotFound(
        f"the job has no task {task!r}",
        field="correlation.taskId",
        value=task,
        remedy=f"its tasks are {', '.join(spec.id for spec in snapshot.spec.tasks[:20])}",
    )


def _check_holder(snapshot: Snapshot, task: int, epoch: int, sender: str) -> None:
    """Only who holds an attempt may answer it. Who held an older one is not known any more: the core says so."""
    run = snapshot.tasks[task]
    held = run.status in _HELD_BY_AGENT and epoch >= run.epoch
    if held and run.agent != sender:
        raise Forbidden(
            "another agent holds this task",
            field="sender",
            value=sender,
            remedy="answer only what was requested from you",
        )


def _event(payload: InformPayload | DonePayload | FailurePayload, task: int, epoch: int) -> Event | None:
    if isinstance(payload, InformPayload):
        return None
    artifacts = tuple(each.artifact for each in payload.artifacts)
    duration = milliseconds(payload.execution_time)
    if isinstance(payload, DonePayload):
        return TaskSucceeded(
            time=0, task=task, epoch=epoch, result=payload.result, artifacts=artifacts, duration=duration
        )
    return TaskFailed(
        time=0,
        task=task,
        epoch=epoch,
        failure=payload.failure_class,
        code=payload.error,
        message=payload.message,
        remedy=payload.remedy,
        artifacts=artifacts,
        retry_after=milliseconds(payload.retry_after),
        duration=duration,
    )
