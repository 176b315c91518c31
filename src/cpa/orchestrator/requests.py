"""What goes out to agents outside this process, and what is known of it until it is answered.

    RequestTask      request, or assign to who won a bid   open until the attempt is over
    VerifyTask       request with `verify`                 open until it was answered
    CancelAttempt    cancel                                open until the attempt is over
    a task's bids    discover                              once to each agent that could take it
    end of a job     inform `job_ended`

What is open is handed in again when an agent begins a new channel or this process a new life: by the same ids, so
it is the same. Whoever neither agrees nor refuses in time, nor names the attempt in a beat, has refused it. Then,
and when it does not take the message, another agent gets the task, but only if the request surely never arrived or
if doing it twice is doing it once. Everything else waits for the agent's word or for the end of its lease. Who was
asked to look and is gone, or does not say what it found in time, looks no more: another one is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from cpa.core.classes import EffectClass, FailureClass
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError
from cpa.orchestrator import wording
from cpa.orchestrator.agent import Agent, Applicant
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.log import MessageLog, stored
from cpa.orchestrator.presence import Presence
from cpa.ports.agents import AgentRecord
from cpa.ports.clock import Clock
from cpa.ports.delivery import Delivery
from cpa.ports.executor import ActionRequest, ExecutionResult, Verdict, Verification
from cpa.ports.transport import Attempt, Reply

log = structlog.get_logger(__name__)

REPLY_BEATS: Final = 2
"""Within how many beats an agent agrees or refuses: before its lease runs out."""
LOOK_AGAIN: Final = 5.0
"""Seconds after which somebody else is asked to look."""

Refuse = Callable[[Attempt, str], None]
"""The agent does not have the attempt and will not begin it, and why."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """One thing an agent was asked for."""

    address: str
    attempt: Attempt
    task: str
    asked: BaseMessage | None
    """None when an earlier life of this process asked."""
    harmless: bool
    """Doing it twice is doing it once."""
    looking: bool = False
    due: float = 0.0
    """When a look is to be answered, in the loop's time."""
    stop: BaseMessage | None = None
    left: bool = False
    """The agent may have it."""
    agreed: bool = False
    """It has it, by its own word; or an earlier life of this process knew, and silence tells nothing."""
    timer: asyncio.TimerHandle | None = None


class Requests:
    """`ports.transport.Transport` and `ports.delivery.Receipts`. `connect` once, before the first command."""

    def __init__(
        self, agents: AgentRegistry, presence: Presence, delivery: Delivery, journal: MessageLog, clock: Clock
    ) -> None:
        self._agents = agents
        self._presence = presence
        self._delivery = delivery
        self._journal = journal
        self._clock = clock
        self._reply_by = REPLY_BEATS * presence.interval
        self._attempts: dict[Attempt, _Exchange] = {}
        self._looks: dict[Attempt, _Exchange] = {}
        self._by_message: dict[UUID, _Exchange] = {}
        self._by_agent: dict[tuple[str, str], dict[_Exchange, None]] = {}
        self._answered: Reply = _unconnected
        self._refuse: Refuse = _unconnected

    def connect(self, answered: Reply, refuse: Refuse) -> None:
        """`answered` takes what is known without an agent's word, `refuse` attempts that nobody will begin."""
        self._answered, self._refuse = answered, refuse

    # -- Transport -----------------------------------------------------------------------------------------

    def send(
        self, agent: str, attempt: Attempt, request: ActionRequest, *, won: bool = False, again: bool = False
    ) -> None:
        known = self._agents.get(agent, attempt.tenant)
        if known is None or attempt in self._attempts:
            return
        times: dict[str, Any] = {
            "lease": self._presence.lease,
            "reply_by": self._reply_by,
            "now": self._clock.now_ms(),
        }
        asked = self._worded(attempt, lambda: wording.task_request(agent, attempt, request, won=won, **times))
        if asked is None:
            return
        harmless = request.effect is EffectClass.IDEMPOTENT
        exchange = _Exchange(agent, attempt, request.task, asked, harmless, left=again, agreed=again)
        self._attempts[attempt] = exchange
        self._keep(known, exchange)
        if not again:
            self._expect(exchange, self._reply_by)
        self._say(known, attempt.tenant, asked)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        known = self._agents.get(agent, attempt.tenant)
        if known is None:
            self._answered(attempt, _nobody_looks("the agent that was to look is gone"))
            return
        now = self._clock.now_ms()
        asked = self._worded(
            attempt, lambda: wording.look_request(agent, attempt, request, now=now), looking=True
        )
        if asked is None or asked.id in self._by_message:
            return
        self._looked(attempt)
        # Looking may take as long as the task, after which an agent of ours gives it up by itself; the lease is for
        # the way there and back: whoever is cut off for longer is gone.
        due = asyncio.get_running_loop().time() + request.timeout + self._presence.lease
        exchange = _Exchange(agent, attempt, request.task, asked, True, looking=True, due=due)
        self._looks[attempt] = exchange
        self._keep(known, exchange)
        self._watch(exchange)
        self._say(known, attempt.tenant, asked)

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None:
        known, exchange = self._agents.get(agent, attempt.tenant), self._attempts.get(attempt)
        if known is None or known.record is None:
            return
        if exchange is None:
            exchange = _Exchange(agent, attempt, task, None, False, left=True, agreed=True)
            self._attempts[attempt] = exchange
            self._keep(known, exchange)
        if not exchange.left:
            self._delivery.drop(known.record, wording.conversation_of(attempt))
            self._refuse(attempt, "it was cancelled before its agent had it")
            return
        self._calm(exchange)
        self._stop(known, exchange, "it was cancelled")

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        exchange = self._attempts.pop(attempt, None)
        if exchange is None:
            return
        self._forget(exchange)
        known = self._agents.get(agent, attempt.tenant)
        if known is None or known.record is None:
            return
        self._delivery.drop(known.record, wording.conversation_of(attempt))
        if not answered and exchange.left:
            self._stop(known, exchange, "nothing more is expected of it")

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None:
        for attempt in [each for each in self._looks if (each.tenant, each.job) == (tenant, job)]:
            self._looked(attempt)
        for agent in agents:
            known = self._agents.get(agent, tenant)
            if known is not None:
                self._say(known, tenant, wording.job_over(agent, tenant, job, run, now=self._clock.now_ms()))

    def discover(self, agent: Agent, attempt: Attempt, task: str, wanted: Applicant, seconds: float) -> bool:
        """Ask for a bid; False when the task fits into no message."""
        try:
            message = wording.discovery(
                agent.address,
                attempt,
                task,
                wanted.action,
                wanted.arguments,
                wanted.capability,
                reply_by=seconds,
                now=self._clock.now_ms(),
            )
            message.to_json()
        except CPAError as error:
            log.warning("not_offered", job=attempt.job, task=task, error=str(error))
            return False
        self._say(agent, attempt.tenant, message)
        return True

    # -- what agents say -----------------------------------------------------------------------------------

    def agreed(self, attempt: Attempt) -> None:
        """The agent has the attempt, by its own word."""
        exchange = self._attempts.get(attempt)
        if exchange is not None:
            exchange.left = exchange.agreed = True
            self._calm(exchange)

    def heard(self, attempt: Attempt) -> None:
        """The agent said something new about the attempt: it has it, and lives."""
        self.agreed(attempt)
        self._presence.renew(attempt)

    def unsent(self, attempt: Attempt) -> bool:
        """Whether nothing of the attempt can have reached its agent."""
        exchange = self._attempts.get(attempt)
        return exchange is not None and not exchange.left

    def look(self, attempt: Attempt, agent: str, asked: UUID | None) -> UUID | None:
        """The open look for the attempt's effect that this agent was asked for, by this message where one is
        named; None when there is none."""
        exchange = self._looks.get(attempt)
        if exchange is None or exchange.address != agent or exchange.asked is None:
            return None
        return exchange.asked.id if asked in (None, exchange.asked.id) else None

    def looked(self, attempt: Attempt, agent: str, look: UUID) -> None:
        """The agent answered this look. By now the next one may be open."""
        known = self._agents.get(agent, attempt.tenant)
        if known is not None:
            known.mute = False
        if self.look(attempt, agent, look) is not None:
            self._looked(attempt)

    def will_not_look(self, attempt: Attempt, agent: str, asked: UUID | None, reason: str) -> bool:
        """The agent's no to this message; False when it was no request to look."""
        if asked is None or self.look(attempt, agent, asked) is None:
            return False
        self._unseen(self._looks[attempt], f"the agent does not look: {reason}")
        return True

    def moved(self, agent: AgentRecord) -> None:
        """The agent is another process now, or elsewhere: what is open for it goes there."""
        self._delivery.forget(agent)
        for message in self.standing(agent):
            self._delivery.deliver(agent, message)

    def gone(self, agent: AgentRecord) -> None:
        """The agent is out. Without a channel that it could see closed, it is told once to stop what it is at. What
        it was to look for is for another one, also where that has the same address."""
        mine = list(self._by_agent.get((agent.tenant, agent.address), ()))
        at_work = [each for each in mine if each.left and not each.looking and agent.endpoint]
        stops = [self._stopping(each, "its agent was revoked or removed")[0] for each in at_work]
        for stop in stops:
            self._journal.note(agent.tenant, stored(stop, "out", self._clock.now_ms()))
        self._delivery.forget(agent, stops)
        for look in [each for each in mine if each.looking]:
            self._unseen(look, "the agent that was to look is gone")

    def standing(self, agent: AgentRecord) -> Sequence[BaseMessage]:
        """Everything that is open for the agent, in its order."""
        exchanges = self._by_agent.get((agent.tenant, agent.address), {})
        messages = (message for each in exchanges for message in (each.asked, each.stop))
        return [message for message in messages if message is not None]

    # -- Receipts ------------------------------------------------------------------------------------------

    def left(self, agent: AgentRecord, message: BaseMessage) -> None:
        exchange = self._by_message.get(message.id)
        if exchange is not None:
            exchange.left = True

    def taken(self, agent: AgentRecord, message: BaseMessage) -> None:
        exchange = self._by_message.get(message.id)
        if exchange is not None and message is exchange.asked and not exchange.looking:
            exchange.left = True
            self._presence.taken(exchange.attempt)

    def refused(self, agent: AgentRecord, message: BaseMessage, why: CPAError, *, certain: bool) -> None:
        log.info("not_taken", agent=agent.address, type=message.type, error=str(why))
        exchange = self._by_message.get(message.id)
        if exchange is None or message is exchange.stop:
            return
        if exchange.looking:
            self._unseen(exchange, f"the agent does not look: {why.message}")
        elif not exchange.agreed and (certain or exchange.harmless):
            self._refuse(exchange.attempt, wording.not_taken(exchange.address, why.message))

    def troubled(self, agent: AgentRecord, trouble: str) -> None:
        known = self._agents.get(agent.address, agent.tenant)
        if known is not None:
            known.trouble = trouble

    # -- inside --------------------------------------------------------------------------------------------

    def _worded(
        self, attempt: Attempt, word: Callable[[], BaseMessage], *, looking: bool = False
    ) -> BaseMessage | None:
        """The message; None for one that fits on no wire: then the attempt is answered so."""
        try:
            message = word()
            message.to_json()
        except CPAError as error:
            told = f"the task fits into no message: {error.message}"
            if looking:
                self._answered(attempt, Verification(verdict=Verdict.UNKNOWN, evidence=told))
            else:
                failed = ExecutionResult.failed(
                    FailureClass.BUSINESS,
                    "request_too_large",
                    told,
                    remedy="pass large values as artifacts, by reference",
                )
                self._answered(attempt, failed)
            return None
        return message

    def _say(self, agent: Agent, tenant: str, message: BaseMessage) -> None:
        if agent.record is not None:
            self._journal.note(tenant, stored(message, "out", self._clock.now_ms()))
            self._delivery.deliver(agent.record, message)

    def _stop(self, agent: Agent, exchange: _Exchange, reason: str) -> None:
        stop, new = self._stopping(exchange, reason)
        if self._attempts.get(exchange.attempt) is exchange:
            self._by_message[stop.id] = exchange
        if new:
            self._say(agent, exchange.attempt.tenant, stop)
        elif agent.record is not None:
            self._delivery.deliver(agent.record, stop)

    def _stopping(self, exchange: _Exchange, reason: str) -> tuple[BaseMessage, bool]:
        """The message by which the agent stops, and whether it is new."""
        known, now = exchange.stop, self._clock.now_ms()
        exchange.stop = known or wording.cancellation(
            exchange.address, exchange.attempt, exchange.task, reason, now=now
        )
        return exchange.stop, known is None

    def _expect(self, exchange: _Exchange, seconds: float) -> None:
        exchange.timer = asyncio.get_running_loop().call_later(seconds, self._unanswered, exchange)

    def _unanswered(self, exchange: _Exchange) -> None:
        """Neither yes nor no came in time."""
        exchange.timer = None
        if self._presence.deaf():
            self._expect(exchange, self._presence.interval)
            return
        attempt = exchange.attempt
        known = self._agents.get(exchange.address, attempt.tenant)
        if known is None or self._presence.named(attempt):
            return
        if exchange.harmless or not exchange.left:
            self._refuse(attempt, wording.not_answered(exchange.address, self._reply_by, known.trouble))
        if exchange.left:
            self._stop(known, exchange, "it was not answered in time")

    def _watch(self, exchange: _Exchange) -> None:
        """Look after who looks, from time to time."""
        loop = asyncio.get_running_loop()
        at = min(loop.time() + self._presence.lease, exchange.due)
        exchange.timer = loop.call_at(at, self._still_looking, exchange)

    def _still_looking(self, exchange: _Exchange) -> None:
        now = asyncio.get_running_loop().time()
        if self._presence.deaf():
            exchange.due = max(exchange.due, now + self._presence.interval)
        known = self._agents.get(exchange.address, exchange.attempt.tenant)
        if known is None or not known.online:
            self._unseen(exchange, "the agent that was to look is gone")
        elif now < exchange.due:
            self._watch(exchange)
        else:
            known.mute = True
            self._unseen(exchange, "the agent that was to look did not say in time what it found")

    def _unseen(self, exchange: _Exchange, why: str) -> None:
        """The look is over without an answer."""
        self._looked(exchange.attempt)
        self._answered(exchange.attempt, _nobody_looks(why))

    def _keep(self, agent: Agent, exchange: _Exchange) -> None:
        self._by_agent.setdefault(agent.key, {})[exchange] = None
        if exchange.asked is not None:
            self._by_message[exchange.asked.id] = exchange

    def _forget(self, exchange: _Exchange) -> None:
        self._calm(exchange)
        for message in (exchange.asked, exchange.stop):
            if message is not None:
                self._by_message.pop(message.id, None)
        key = (exchange.attempt.tenant, exchange.address)
        mine = self._by_agent.get(key)
        if mine is not None:
            mine.pop(exchange, None)
            if not mine:
                del self._by_agent[key]

    def _looked(self, attempt: Attempt) -> None:
        exchange = self._looks.pop(attempt, None)
        if exchange is None:
            return
        self._forget(exchange)
        known = self._agents.get(exchange.address, attempt.tenant)
        if known is not None and known.record is not None:
            self._delivery.drop(known.record, wording.conversation_of(attempt))

    def _calm(self, exchange: _Exchange) -> None:
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None


def _nobody_looks(evidence: str) -> Verification:
    return Verification(verdict=Verdict.UNKNOWN, evidence=evidence, look_again=LOOK_AGAIN)


def _unconnected(*_: Any) -> None:
    raise RuntimeError("the requests are not connected to an orchestrator")
