"""Facts on their way into running workflows, in order per job and in batches.

While one call is under way the job's next facts gather, so one job never has more than one call open: the server
takes ten updates at a time and ten thousand signals in all, and a batch costs as much history as one fact. What an
agent said is kept until the server has it, however long that takes; who waits for an outcome is told after a while
that the server does not answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from cpa.engines.temporal.connection import ONE_CALL, trouble
from cpa.engines.temporal.hindrances import Hindrance, Hindrances
from cpa.engines.temporal.values import FACTS, MOST_BYTES, TELL, UNCHANGED, Fact, Told, size_of
from cpa.errors import BadInput, CPAError, TooLarge, Unavailable

log = structlog.get_logger(__name__)
Key = tuple[str, str]
"""(tenant, job id)"""
MOST = 200
"""Facts in one call."""
PAUSE = 1.0
"""Seconds between tries while the server does not answer."""
WAIT = 15.0
"""Seconds after which who waits for an outcome is told that the server does not answer."""
MOST_WAIT = 60.0
"""Seconds after which they are told also of one that does: no worker may be there."""


@dataclass(slots=True, eq=False)
class _Sent:
    fact: Fact
    outcome: asyncio.Future[Told | None] | None = None


@dataclass(slots=True)
class _Line:
    waiting: deque[_Sent] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Gateway:
    """`unheard` is told of facts that nobody waits for and no workflow took up: with True as none runs, else as it
    would have changed nothing. `new_id` draws ids of updates."""

    def __init__(
        self,
        client: Client,
        group: asyncio.TaskGroup,
        new_id: Callable[[], str],
        unheard: Callable[[Key, Fact, bool], None],
        hindrances: Hindrances,
    ) -> None:
        self._client, self._group, self._new_id = client, group, new_id
        self._unheard, self._hindrances = unheard, hindrances
        self.unstored: Mapping[Key, CPAError] = {}
        """Jobs of which the store takes no step, and why."""
        self._lines: dict[Key, _Line] = {}
        self.trouble: CPAError | None = None
        """Why the last call failed; None when it did not."""

    def send(self, key: Key, fact: Fact) -> None:
        """Take a fact that nobody waits for. Never blocks."""
        self._join(key, _Sent(fact))

    async def tell(self, key: Key, fact: Fact) -> Told | None:
        """What came of the fact; None when no workflow of this job runs. `Unavailable` after a while without
        an answer: then the fact may still arrive."""
        sent = _Sent(fact, asyncio.get_running_loop().create_future())
        assert sent.outcome is not None
        self._join(key, sent)
        waited = 0.0
        while waited < MOST_WAIT and self._why(key) is None and (self.trouble is None or waited < WAIT):
            done, _ = await asyncio.wait([sent.outcome], timeout=1.0)
            if done:
                return sent.outcome.result()
            waited += 1.0
        line = self._lines.get(key)
        if line is not None and sent in line.waiting:
            line.waiting.remove(sent)
        sent.outcome.cancel()
        raise (
            self._why(key)
            or self.trouble
            or Unavailable(
                "no worker took this up in time", remedy="try again: what was taken already counts once"
            )
        )

    async def flush(self, seconds: float) -> None:
        """Return once everything is on the server, or after so many seconds."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def close(self) -> None:
        """Give up on what the server did not take: it is open in the store, and found there again."""
        for line in list(self._lines.values()):
            if line.task is not None:
                line.task.cancel()

    # -- inside --------------------------------------------------------------------------------------------

    def _why(self, key: Key) -> CPAError | None:
        return self._hindrances.why(key[1]) or self.unstored.get(key)

    def _join(self, key: Key, sent: _Sent) -> None:
        line = self._lines.setdefault(key, _Line())
        line.waiting.append(sent)
        if line.task is None:
            line.task = self._group.create_task(self._drain(key, line))

    async def _drain(self, key: Key, line: _Line) -> None:
        try:
            while line.waiting:
                await self._deliver(key, _batch(line.waiting))
        finally:
            line.task = None
            if not line.waiting:
                self._lines.pop(key, None)

    async def _deliver(self, key: Key, batch: list[_Sent]) -> None:
        """Until the server has it, or has nobody to give it to. The same call counts once."""
        call = self._new_id()
        while True:
            try:
                told = await self._call(key, call, batch)
            except (CPAError, RPCError) as error:
                why = error if isinstance(error, CPAError) else trouble(error, self._client)
                if isinstance(why, TooLarge):
                    self._hindrances.gone(key[1], None)
                    await self._apart(key, batch, why)
                    return
                if not _is_gone(error, why):
                    await self._fail(key, batch, why, _own(error))
                    continue
                told = [None] * len(batch)
            self.trouble = None
            self._hindrances.gone(key[1], None)
            self._settle(key, batch, told)
            return

    def _settle(self, key: Key, batch: list[_Sent], told: list[Told | None]) -> None:
        for sent, outcome in zip(batch, told, strict=True):
            if sent.outcome is None:
                if outcome is None:
                    self._unheard(key, sent.fact, True)
            elif not sent.outcome.done():
                sent.outcome.set_result(outcome)

    async def _apart(self, key: Key, batch: list[_Sent], why: CPAError) -> None:
        """The server will never take all of these: each by itself, so that only what is too large is refused. What
        an agent said is then as lost as if it had been silent: its time runs out, and the core decides."""
        if len(batch) > 1:
            for sent in batch:
                await self._deliver(key, [sent])
            return
        [sent] = batch
        log.error("fact_refused", job=key[1], error=str(why), fact=type(sent.fact.event).__name__)
        if sent.outcome is None:
            self._unheard(key, sent.fact, False)
        _disappoint(batch, why)

    async def _call(self, key: Key, call: str, batch: list[_Sent]) -> list[Told | None]:
        handle = self._client.get_workflow_handle(key[1])
        facts = [sent.fact for sent in batch]
        if all(sent.outcome is None for sent in batch):
            await handle.signal(FACTS, facts, rpc_timeout=ONE_CALL)
            return [_TAKEN] * len(batch)
        try:
            told: list[Told | None] = await handle.execute_update(
                TELL, facts, id=call, result_type=list[Told], rpc_timeout=ONE_CALL
            )
            return told
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == UNCHANGED:
                number, reasons = cause.details
                for sent in batch:
                    if sent.outcome is None:
                        self._unheard(key, sent.fact, False)
                return [Told(False, number, reason) for reason in reasons]
            # The workflow ended before it came to these.
            return [None] * len(batch)
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            if isinstance(error.__cause__, asyncio.CancelledError):
                # The library takes our own wish to stop for an answer.
                raise error.__cause__ from None
            raise RPCError("no worker took it up in time", RPCStatusCode.DEADLINE_EXCEEDED, b"") from error

    async def _fail(self, key: Key, batch: list[_Sent], why: CPAError, own: Hindrance | None) -> None:
        """Wait before the next try. `own` is this job's trouble, and no other's."""
        if own is not None and self._hindrances.why(key[1]) is None:
            self._hindrances.note(key[1], own)
        if (hindrance := self._why(key)) is not None:
            _disappoint(batch, hindrance)
        else:
            if self.trouble is None:
                log.warning("server_silent", error=str(why))
            self.trouble = why
        await asyncio.sleep(PAUSE)


def _is_gone(error: CPAError | RPCError, why: CPAError) -> bool:
    """Whether the server has nobody to give it to."""
    missing = isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND
    return missing and not isinstance(why, BadInput)


def _own(error: CPAError | RPCError) -> Hindrance | None:
    """What hinders no other job: a value cannot be written or read here, or the workflow does not get on."""
    if isinstance(error, CPAError):
        return Hindrance(error)
    if error.status is not RPCStatusCode.FAILED_PRECONDITION:
        return None
    why = Unavailable(
        f"the workflow of this job does not get on: {error.message}",
        remedy="the log says why (`Failed activation`); what was said counts as soon as it goes on",
    )
    return Hindrance(why, lasting=True)


def _disappoint(batch: list[_Sent], why: CPAError) -> None:
    """Tell who waits for an outcome that there is none."""
    for sent in batch:
        if sent.outcome is not None and not sent.outcome.done():
            sent.outcome.set_exception(why)


def _batch(waiting: deque[_Sent]) -> list[_Sent]:
    """The next facts, as many as one call takes."""
    batch, size = list[_Sent](), 0
    while waiting and len(batch) < MOST and size < MOST_BYTES:
        batch.append(waiting.popleft())
        size += size_of(batch[-1].fact)
    return batch


_TAKEN = Told(True, 0)
"""Of a signal: the server has it, nobody asks what came of it."""
