"""An agent's side of every conversation: what it takes, what it refuses, and what it says when it is done.

    request, assign   taken durably, agreed to, performed, answered: done or failure; or refused
    request (verify)  looked for, answered: confirm
    cancel            attempt and look stop at their next wait and are answered; what never began is answered too
    inform job_ended  what was kept for the job is dropped
    discover          a bid

A request can come again at any time: while its attempt runs it is agreed to once more, later the same answer is
said again. An attempt that an earlier process of this agent began and did not answer is not begun a second time:
its outcome is unknown, and only where doing it twice is doing it once it is simply done.

A request can also come late: while this agent stood still, its attempt went to another one. So what must not be
done twice begins once the scheduler has acknowledged `agree`, and not at all when it says that the attempt is over.

An attempt is named in beats until its answer was acknowledged: as long as it is named nobody else gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from cpa.agents.fence import Fence
from cpa.agents.line import Line, Nobody
from cpa.agents.messages import DEFAULT_TENANT, Speaker, check_addressed, is_look, request_in
from cpa.agents.outbox import Kept, Outbox
from cpa.agents.runtime import AgentRuntime
from cpa.agents.work import DIED, NEVER_BEGAN, Refused, Taken, Work, Works, tell_end
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.lam_payloads import (
    JOB_ENDED,
    AssignPayload,
    CancelPayload,
    DiscoverPayload,
    InformPayload,
    RequestPayload,
)
from cpa.core.lam_protocol import BaseMessage, parse
from cpa.errors import CPAError, InvalidDocument
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import Named, named_in
from cpa.ports.clock import Clock
from cpa.ports.executor import ActionRequest, ExecutionResult
from cpa.ports.transport import Answer

log = structlog.stdlib.get_logger(__name__)

PROGRESS: Final = 1.0
"""Seconds between two words of progress about the same attempt."""
_UNANSWERED: Final = ("agree", "confirm", "refuse", "not_understood")
"""Types that need no answer and change nothing here."""
_MAY_BEGIN: Final = ("task_started", "duplicate")
"""What `agree` did when the attempt is ours. A duplicate was heard before; a beat tells what was taken since."""


class Conversations:
    """All conversations of one agent. The runtime's replies go to `answered`; leave the runtime before `close`."""

    def __init__(
        self,
        speaker: Speaker,
        outbox: Outbox,
        executors: ExecutorRegistry,
        clock: Clock,
        *,
        life: str,
        slots: int,
        refuses: Callable[[ActionRequest], str] = lambda _: "",
    ) -> None:
        """`life` names this process. `refuses` may say why the agent cannot do a task just now."""
        self.draining = False
        """Nothing new is taken."""
        self.slots = slots
        self.fence = Fence(clock.monotonic)
        self.runtime: AgentRuntime[str] = AgentRuntime(executors, self.answered)
        self._speaker = speaker
        self._outbox = outbox
        self._executors = executors
        self._clock = clock
        self._life = life
        self._refuses = refuses
        self._line: Line = Nobody()
        self._works = Works()
        self._by_answer: dict[str, Work] = {}
        """By the answer's id: what was said and is not acknowledged."""
        self._agreed: dict[str, Work] = {}
        """By the id of `agree`: what waits for its acknowledgement."""
        self._restored: set[str] = set()
        """Ids of answers of earlier processes."""
        self._usual: dict[str, float] = {}
        """By action: seconds an attempt usually takes."""
        self._quiet = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Conversations:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._group.__aexit__(None, None, None)

    def connect(self, line: Line) -> None:
        """Say everything over this line from now on."""
        self._line = line

    # -- for beats -----------------------------------------------------------------------------------------

    @property
    def running(self) -> tuple[Named, ...]:
        """The attempts this agent still has."""
        return self._works.ours

    @property
    def busy(self) -> int:
        """Attempts that occupy a slot."""
        return self._works.busy

    async def quiet(self, timeout: float) -> None:
        """Return when nothing runs and nothing that was said waits to be acknowledged, or after that many
        seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._works:
                    self._quiet.clear()
                    await self._quiet.wait()

    def lost(self, taken_away: tuple[Named, ...]) -> None:
        """These are not ours any more: they stop, and what they answer is said for the record."""
        for named in taken_away:
            work = self._works.named(named)
            if work is not None and not work.lost:
                if work.answer is None:
                    log.warning("attempt_lost", **work.told_as)
                work.lost = True
                self._stop(work)

    def stop(self, id: str) -> bool:
        """Stop what is done for the request with this id; False when there is nothing."""
        if (work := self._works.get(id)) is not None:
            self._stop(work)
        return work is not None

    def stop_all(self) -> None:
        """Everything that runs stops, and is answered as far as it came."""
        self._stop(*self._works)

    # -- what comes in -------------------------------------------------------------------------------------

    async def take(self, message: BaseMessage) -> Taken | None:
        """Take what the scheduler says; on return it is remembered, where it must be, and under way.

        Raises `Refused` for a task that is not taken, other `CPAError`s for what is not understood.
        """
        check_addressed(message, self._speaker.address)
        payload = message.payload
        if isinstance(payload, RequestPayload | AssignPayload):
            return await (self._look(message) if is_look(message) else self._request(message))
        if isinstance(payload, CancelPayload):
            await self._cancel(message)
        elif isinstance(payload, DiscoverPayload):
            self._bid(message, payload)
        elif isinstance(payload, InformPayload):
            if payload.message == JOB_ENDED:
                self._job_ended(message)
        elif message.type not in _UNANSWERED:
            raise InvalidDocument(
                f"an agent does not take {message.type}",
                field="type",
                value=message.type,
                remedy="send request, assign, cancel, discover or inform",
            )
        return None

    async def hear(self, message: BaseMessage) -> None:
        """As `take`, for a line on which refusals are messages."""
        try:
            await self.take(message)
        except Refused as refused:
            told = {"class": refused.failure.value, "reason": refused.reason}
            self._line.say(self._speaker.reply(message, "refuse", told))
        except CPAError as error:
            log.warning("not_understood", type=message.type, error=str(error))
            if message.type in ("request", "assign"):
                told = {"class": FailureClass.TECHNICAL.value, "reason": str(error)[:500]}
                self._line.say(self._speaker.reply(message, "refuse", told))
            elif message.type != "not_understood":
                told = {"what": error.field or message.type, "why": error.message}
                self._line.say(self._speaker.reply(message, "not_understood", told))

    async def _request(self, message: BaseMessage) -> Taken:
        known = self._works.get(str(message.id)) or self._works.named(named_in(message))
        if known is not None:
            return self._again(known)
        work = Work(message, named_in(message), request_in(message))
        with self._works.refused(work.named):
            self._check(work)
        self._works.add(work)
        try:
            kept = await self._outbox.take(str(message.id), work.named)
        except BaseException:
            self._forget(work)
            raise
        if kept is not None and (kept.answer is not None or kept.life != self._life):
            self._remembered(work, kept)
        else:
            self._begin(work)
        return self._taken(work)

    def _check(self, work: Work) -> None:
        """`Refused` when it cannot be taken."""
        if self._works.stale(work.named):
            raise Refused.because("stale", "a newer attempt of this task was here already")
        self._check_action(work.request)
        if self.draining:
            raise Refused.because("draining", "this agent takes nothing new")
        if self.busy >= self.slots:
            raise Refused.because("busy", f"all {self.slots} slots are taken")
        if reason := self._refuses(work.request):
            raise Refused.because("not_ready", reason)

    def _check_action(self, request: ActionRequest) -> None:
        if self._executors.find(request.action) is None:
            raise Refused.because(
                "unknown_action",
                f"this agent does not do {request.action[:100]}",
                failure=FailureClass.BUSINESS,
            )

    def _again(self, work: Work) -> Taken:
        """The same request once more: what was said of it is said again."""
        if work.answer is not None:
            self._line.say(work.answer)
        elif work.begun and not work.waits:
            self._agree(work)
        return self._taken(work)

    def _remembered(self, work: Work, kept: Kept) -> None:
        """An earlier process had this request."""
        if kept.answer is not None:
            self._say(work, parse(kept.answer))
        elif work.request.effect is EffectClass.IDEMPOTENT:
            self._begin(work)
        else:
            self.answered(work.id, DIED)

    def _begin(self, work: Work) -> None:
        if work.stopped:
            self.answered(work.id, NEVER_BEGAN)
            return
        work.begun = True
        agree = self._agree(work)
        if work.request.effect is EffectClass.IDEMPOTENT:
            self._start(work, None)
        else:
            work.waits, self._agreed[agree] = True, work

    def _start(self, work: Work, fence: Fence | None) -> None:
        log.info("task_begun", **work.told_as)
        request = msgspec.structs.replace(work.request, progress=partial(self._progress, work))
        self.runtime.start(work.id, request, fence)

    async def _look(self, message: BaseMessage) -> Taken:
        known = self._works.get(str(message.id))
        if known is not None:
            return self._again(known)
        work = Work(message, named_in(message), request_in(message), looking=True)
        self._check_action(work.request)
        self._works.add(work)
        self.runtime.verify(str(message.id), work.request)
        return self._taken(work)

    async def _cancel(self, message: BaseMessage) -> None:
        named = named_in(message)
        work, looks = self._works.named(named), self._works.looks(named)
        self._stop(*looks)
        if work is None:
            # It was settled, or an earlier process had it, or it never came: then it must not begin any more.
            self._works.hear_of(named.job, named.task, named.epoch + 1)
            kept = await self._outbox.find(named)
            if kept is not None and kept.answer is not None:
                self._line.say(parse(kept.answer))
            elif not looks:
                self._line.say(self._speaker.answer(message, NEVER_BEGAN if kept is None else DIED))
        elif work.answer is not None:
            self._line.say(work.answer)
        else:
            self._stop(work)

    def _bid(self, message: BaseMessage, payload: DiscoverPayload) -> None:
        if self._executors.find(payload.action) is None or self.draining:
            reason = "draining" if self.draining else "unknown_action"
            told: dict[str, Any] = {"class": FailureClass.ENVIRONMENT.value, "reason": reason}
            self._line.say(self._speaker.reply(message, "refuse", told), lasting=False)
            return
        told = {"load": self.busy / self.slots}
        if payload.action in self._usual:
            told["eta"] = self._usual[payload.action]
        self._line.say(self._speaker.reply(message, "offer", told), lasting=False)

    def _job_ended(self, message: BaseMessage) -> None:
        job = message.correlation.job_id
        self.runtime.job_ended(message.context.tenant or DEFAULT_TENANT, job)

    # -- what goes out -------------------------------------------------------------------------------------

    def answered(self, key: str, answer: Answer) -> None:
        """The runtime's last word on an attempt."""
        work = self._works.get(key)
        if work is None:
            raise RuntimeError("an answer to nothing")
        if isinstance(answer, ExecutionResult):
            self._note(work, answer)
        work.answer = self._speaker.answer(work.message, answer)
        if work.looking:
            self._say(work, work.answer)
        else:
            self._group.create_task(self._keep(work, work.answer))

    def restore(self, answers: list[bytes]) -> None:
        """Say what an earlier process could not get rid of."""
        for message in map(parse, answers):
            self._restored.add(str(message.id))
            self._line.say(message)

    def acknowledged(
        self, message_id: str, effect: str = "", problem: Mapping[str, Any] | None = None
    ) -> None:
        """The scheduler has this message and did this (`effect`), or will never take it (`problem`)."""
        if problem is not None:
            log.error("message_refused", message=message_id, problem=dict(problem))
        agreed = self._agreed.pop(message_id, None)
        if agreed is not None and agreed.waits:
            self._heard(agreed, effect if problem is None else str(problem.get("code", "refused")))
        work = self._by_answer.pop(message_id, None)
        if work is not None:
            self._forget(work)
        if message_id in self._restored or (work is not None and not work.looking):
            self._restored.discard(message_id)
            self._group.create_task(self._delivered(message_id))

    def _heard(self, work: Work, effect: str) -> None:
        """The scheduler knows that we have it, or says that it is not ours."""
        work.waits = False
        if effect in _MAY_BEGIN:
            self._start(work, self.fence)
            return
        log.warning("attempt_lost", effect=effect, **work.told_as)
        work.lost = True
        self.answered(work.id, NEVER_BEGAN)

    async def _keep(self, work: Work, answer: BaseMessage) -> None:
        try:
            await self._outbox.answer(work.id, str(answer.id), answer.to_json())
        except CPAError as error:
            # Said all the same: then it is only not known any more if this process dies before it was heard.
            log.error("answer_not_kept", error=str(error))
        self._say(work, answer)

    async def _delivered(self, message_id: str) -> None:
        try:
            await self._outbox.delivered(message_id)
        except CPAError as error:
            log.warning("delivery_not_noted", error=str(error))

    def _say(self, work: Work, answer: BaseMessage) -> None:
        work.answer = answer
        self._by_answer[str(answer.id)] = work
        self._line.say(answer)

    def _note(self, work: Work, answer: ExecutionResult) -> None:
        tell_end(work, answer)
        action = work.request.action
        if answer.success and answer.duration:
            self._usual[action] = 0.8 * self._usual.get(action, answer.duration) + 0.2 * answer.duration

    def _agree(self, work: Work) -> str:
        """Say so; the message's id."""
        usual = self._usual.get(work.request.action)
        told = {} if usual is None else {"estimate": round(usual, 3)}
        message = self._speaker.reply(work.message, "agree", told)
        self._line.say(message)
        return str(message.id)

    async def _progress(self, work: Work, share: float, message: str) -> None:
        now = self._clock.monotonic()
        if work.answer is not None or now - work.told < PROGRESS:
            return
        work.told = now
        told = {
            "progress": min(max(float(share), 0.0), 1.0) if share == share else 0.0,
            "message": message[:1000],
        }
        self._line.say(self._speaker.reply(work.message, "inform", told), lasting=False)

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def _taken(self, work: Work) -> Taken:
        return Taken(work.id, self._usual.get(work.request.action))

    def _forget(self, work: Work) -> None:
        self._works.remove(work)
        if not self._works:
            self._quiet.set()

    def _stop(self, *works: Work) -> None:
        for work in works:
            work.stopped = True
            if work.waits:
                work.waits = False
                self.answered(work.id, NEVER_BEGAN)
            elif work.answer is None:
                self.runtime.cancel(work.id)
