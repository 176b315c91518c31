"""LAM messages from outside: each type's effect, once per sender and id, bound to the credential it came with.

    request           words are planned, an action is checked; submitted as a new job, for who may submit
    cancel            the job it names is cancelled, for who may submit
    agree, refuse, propose, inform, done, failure, confirm, not_understood
                      about an attempt, by the agent that has it (`answers`)
    offer             a bid, if it replies to a discover; else the agent says anew what it can do
    discover, assign  not taken: a scheduler sends these

A message is logged with what it did, a long one that did nothing without its payload. An attempt may be answered
only by the agent that holds it, with the key it is registered with; its effect confirmed only by who was asked to
look, for the look that the answer names. What an agent in quarantine says is logged and changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from cpa.core.events import (
    CancelRequested,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    TaskVerified,
)
from cpa.core.job import TaskStatus
from cpa.core.lam_payloads import (
    AgreePayload,
    CancelPayload,
    ConfirmPayload,
    InformPayload,
    NotUnderstoodPayload,
    OfferPayload,
    Payload,
    RefusePayload,
    RequestPayload,
)
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import BadInput, Forbidden, InvalidDocument, NotFound
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.answers import (
    ABOUT_ATTEMPTS,
    check_holder,
    declines,
    event_of,
    for_bids,
    in_order,
    late,
    left_out,
    no_such_task,
    unborn,
)
from cpa.orchestrator.bids import Bids
from cpa.orchestrator.log import MessageLog, stored
from cpa.orchestrator.planning import Planner, PlanRequest
from cpa.orchestrator.registration import check_key
from cpa.orchestrator.requests import Requests
from cpa.ports.agents import Acknowledgement, AgentRecord, AgentState, named_in
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.clock import Clock
from cpa.ports.engine import Engine, LiveUpdate, Submission
from cpa.ports.keys import Caller, Scope
from cpa.ports.transport import Attempt

EFFECTS = {
    TaskStarted: "task_started",
    TaskRefused: "task_refused",
    TaskProposed: "task_proposed",
    TaskVerified: "task_verified",
    TaskSucceeded: "task_succeeded",
    TaskFailed: "task_failed",
}
"""What a word about an attempt does, when it does anything: not always what it said."""
COUNTED = frozenset(
    ("job_created", "cancel_requested", "capabilities_noted", "bid_counted", "progress", "noted")
).union(EFFECTS.values())
"""Effects of messages that are logged whole."""


class Offers(Protocol):
    """Takes what an agent says it can do (`orchestrator.directory`)."""

    async def offer(self, caller: Caller, offered: tuple[str, ...]) -> AgentRecord: ...


class Messages:
    """`ports.agents.MessageHandler` on an engine."""

    def __init__(
        self,
        engine: Engine,
        planner: Planner,
        journal: MessageLog,
        agents: AgentRegistry,
        requests: Requests,
        bids: Bids,
        offers: Offers,
        clock: Clock,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        """`artifacts` is where the files that agents name must be; without one they are not looked for."""
        self._engine = engine
        self._planner = planner
        self._journal = journal
        self._agents = agents
        self._requests = requests
        self._bids = bids
        self._offers = offers
        self._clock = clock
        self._artifacts = artifacts

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        _check_sender(message, caller)
        if self._quarantined(message.sender, caller.tenant):
            told = await self._note(message, caller, "quarantined")
        else:
            told = await self._effect(message, message.payload, caller)
        moment, idle = self._clock.now_ms(), told.effect not in COUNTED
        line = stored(message, "in", moment, job=told.job, effect=told.effect, idle=idle)
        await self._journal.add(caller.tenant, line)
        return told

    async def _effect(self, message: BaseMessage, payload: Payload, caller: Caller) -> Acknowledgement:
        if isinstance(payload, RequestPayload):
            return await self._request(message, payload, caller)
        if isinstance(payload, CancelPayload):
            return await self._cancel(message, payload, caller)
        if isinstance(payload, OfferPayload) and payload.capabilities is not None and not _replies(message):
            return await self._offer(message, payload.capabilities, caller)
        if isinstance(payload, ABOUT_ATTEMPTS):
            return await self._about_attempt(message, payload, caller)
        raise InvalidDocument(
            f"this server does not take {message.type!r} here",
            field="type",
            value=message.type,
            remedy="send request, agree, refuse, propose, inform, done, failure, confirm, cancel, offer, "
            "not_understood",
        )

    # -- about jobs ----------------------------------------------------------------------------------------

    async def _request(
        self, message: BaseMessage, payload: RequestPayload, caller: Caller
    ) -> Acknowledgement:
        # Otherwise who takes over one agent could have any other do anything, with that one's secrets.
        _require(caller, message)
        # Before anything is judged: by now the plan might be another one, or none.
        before = await self._engine.recall(caller.tenant, message.sender, str(message.id), "")
        if before is not None:
            return replace(await self._note(message, caller, "duplicate"), job=before.job)
        context = {"user": message.context.user, "locale": message.context.locale, "channel": "lam"}
        kept = {name: value for name, value in context.items() if value}
        graph = None if payload.text else [_task(payload)]
        wanted = PlanRequest(
            tenant=caller.tenant,
            text=payload.text or "",
            task_graph=graph,
            context=kept,
            requester=caller.name,
        )
        plan = await self._planner.plan(wanted)
        deadline = message.expected.deadline
        receipt = await self._engine.submit(
            Submission(
                tenant=caller.tenant,
                spec=plan.spec,
                due=int(deadline.timestamp() * 1000) if deadline is not None else 0,
                by=caller.name,
                sender=message.sender,
                dedupe=str(message.id),
                nonce=caller.nonce,
            )
        )
        effect = "job_created" if receipt.new else "duplicate"
        return _told(message, receipt.new, effect, receipt.job)

    async def _cancel(self, message: BaseMessage, payload: CancelPayload, caller: Caller) -> Acknowledgement:
        _require(caller, message)
        job = message.correlation.job_id
        if not job:
            raise InvalidDocument(
                "a cancel says which job", field="correlation.jobId", remedy="name the job to cancel"
            )
        # In one step with what it does: the same again would stop a run that somebody has opened since.
        event = CancelRequested(time=0, by=caller.name, reason=payload.reason)
        key = (message.sender, str(message.id))
        outcome = await self._engine.send(caller.tenant, job, event, message=key, nonce=caller.nonce)
        effect = outcome.reason or "cancel_requested"
        return _told(message, outcome.reason != "duplicate", effect, job)

    # -- about agents --------------------------------------------------------------------------------------

    async def _offer(
        self, message: BaseMessage, capabilities: tuple[str, ...], caller: Caller
    ) -> Acknowledgement:
        async def offer() -> None:
            await self._offers.offer(caller, capabilities)

        return await self._note(message, caller, "capabilities_noted", offer)

    # -- about attempts ------------------------------------------------------------------------------------

    async def _about_attempt(self, message: BaseMessage, payload: Payload, caller: Caller) -> Acknowledgement:
        agent = self._agents.get(message.sender, caller.tenant)
        if agent is not None and agent.record is not None:
            # Another key may bear its name: an older one, or one that is to submit jobs.
            check_key(agent.record, caller)
        named, about = named_in(message), message.correlation
        place = await self._engine.place(caller.tenant, named.job, named.task)
        if place is None:
            raise no_such_task(await self._engine.query(caller.tenant, named.job), named.task)
        attempt = Attempt(caller.tenant, named.job, place.index, named.epoch)
        if for_bids(message, attempt):
            return await self._bid(message, payload, caller, attempt)
        if isinstance(payload, OfferPayload):
            if payload.capabilities is not None:
                return await self._offer(message, payload.capabilities, caller)
            return await self._note(message, caller, "not_asked")
        if isinstance(payload, RefusePayload | NotUnderstoodPayload):
            reason = payload.reason if isinstance(payload, RefusePayload) else payload.why
            if self._requests.will_not_look(attempt, message.sender, about.in_reply_to, reason):
                return await self._note(message, caller, "task_verified")
        if isinstance(payload, ConfirmPayload):
            return await self._confirm(message, payload, caller, attempt, place.action)
        check_holder(place, attempt, message.sender)
        if unborn(place, attempt):
            return await self._note(message, caller, "not_expected")
        if isinstance(payload, NotUnderstoodPayload) and not declines(message, attempt):
            return await self._note(message, caller, "noted")
        if isinstance(payload, InformPayload):
            return await self._inform(message, payload, caller, attempt, late(place, attempt))
        if isinstance(payload, AgreePayload):
            return await self._agree(message, payload, caller, attempt)
        return await self._fact(message, payload, caller, attempt, place.action)

    async def _agree(
        self, message: BaseMessage, payload: AgreePayload, caller: Caller, attempt: Attempt
    ) -> Acknowledgement:
        """The agent begins when this was heard, now or before: so it is never told so of what is over by now, nor
        of what was over when it was heard first."""
        self._requests.agreed(attempt)
        told = await self._fact(message, payload, caller, attempt)
        if told.effect == "task_started":
            self._requests.heard(attempt)
        if told.effect != "duplicate":
            return told
        place = await self._engine.place(caller.tenant, attempt.job, message.correlation.task_id)
        return (
            replace(told, effect=late(place, attempt, (TaskStatus.RUNNING,)) or told.effect)
            if place
            else told
        )

    async def _bid(
        self, message: BaseMessage, payload: Payload, caller: Caller, attempt: Attempt
    ) -> Acknowledgement:
        """An answer to a call for bids; nothing of it is stored but the message."""
        told = await self._note(message, caller, "bid_counted")
        if not told.new:
            return told
        if isinstance(payload, OfferPayload):
            counted = self._bids.bid(attempt, message.sender, payload)
            return told if counted else _told(message, True, "bid_late", told.job)
        self._bids.declined(attempt, message.sender)
        return _told(message, True, "noted", told.job)

    async def _inform(
        self, message: BaseMessage, payload: InformPayload, caller: Caller, attempt: Attempt, late: str
    ) -> Acknowledgement:
        """Progress is shown, and keeps the attempt with its agent; nothing of it is stored but the message."""
        told = await self._note(message, caller, late or "progress")
        if told.effect == "progress":
            self._requests.heard(attempt)
            if payload.progress is not None:
                task, said = message.correlation.task_id, payload.message or ""
                update = LiveUpdate(attempt.job, task, attempt.epoch, payload.progress, said)
                self._engine.show(caller.tenant, attempt.job, update)
        return told

    async def _confirm(
        self, message: BaseMessage, payload: ConfirmPayload, caller: Caller, attempt: Attempt, action: str
    ) -> Acknowledgement:
        look = self._requests.look(attempt, message.sender, message.correlation.in_reply_to)
        if look is None:
            return await self._note(message, caller, "not_asked")
        told = await self._fact(message, payload, caller, attempt, action)
        self._requests.looked(attempt, message.sender, look)
        return told

    async def _fact(
        self, message: BaseMessage, payload: Payload, caller: Caller, attempt: Attempt, action: str = ""
    ) -> Acknowledgement:
        """What is said of an attempt becomes an event of its job."""

        async def there(digest: str) -> bool:
            return await self._has(caller.tenant, digest)

        said = event_of(payload, attempt)
        event = await in_order(said, action, there)
        key = (message.sender, str(message.id))
        outcome = await self._engine.send(caller.tenant, attempt.job, event, message=key, nonce=caller.nonce)
        effect = outcome.reason or EFFECTS[type(event)]
        told = _told(message, outcome.reason != "duplicate", effect, attempt.job)
        left = left_out(said, event)
        return replace(told, left_out=left) if left else told

    # -- inside --------------------------------------------------------------------------------------------

    async def _note(
        self,
        message: BaseMessage,
        caller: Caller,
        effect: str,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Acknowledgement:
        """Remember a message that steps no job, once what it does is done."""
        key = (message.sender, str(message.id))
        job = message.correlation.job_id
        new = await self._engine.remember(
            caller.tenant, message=key, job=job, nonce=caller.nonce, first=first
        )
        return _told(message, new, effect if new else "duplicate", job)

    async def _has(self, tenant: str, digest: str) -> bool:
        if self._artifacts is None:
            return True
        try:
            await self._artifacts.stat(tenant, digest)
        except NotFound:
            return False
        return True

    def _quarantined(self, sender: str, tenant: str) -> bool:
        agent = self._agents.get(sender, tenant)
        return agent is not None and agent.state is AgentState.QUARANTINED


def _told(message: BaseMessage, new: bool, effect: str, job: str) -> Acknowledgement:
    return Acknowledgement(message_id=str(message.id), new=new, effect=effect, job=job)


def _replies(message: BaseMessage) -> bool:
    """Whether it says which of our messages about an attempt it answers."""
    about = message.correlation
    return bool(about.in_reply_to and about.job_id and about.task_id and about.epoch is not None)


def _check_sender(message: BaseMessage, caller: Caller) -> None:
    own = caller.name if caller.name.startswith("agent://") else f"agent://user/{caller.name}"
    if message.sender != own:
        raise Forbidden(
            "the sender is not the caller",
            field="sender",
            value=message.sender,
            remedy=f"this key speaks as {own}",
        )


def _require(caller: Caller, message: BaseMessage) -> None:
    if not caller.may(Scope.SUBMIT):
        raise Forbidden(
            f"this key answers requests and sends no {message.type}",
            field="type",
            value=message.type,
            remedy="use a key with the scope submit",
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
