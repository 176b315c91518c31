"""LAM to agents that listen: each message is posted to the agent's endpoint until it is taken.

    2xx                              taken
    408, 425, 429, 5xx, no answer    posted again, later and later, until it is taken or dropped
    3xx, other 4xx                   refused; nothing is followed anywhere

The messages of one conversation follow each other, each after the answer to the one before; those of different
conversations go side by side, at most `AT_ONCE` to one agent, over connections that are kept. An agent that gave no
good answer is tried with one message at a time until it gives one.

What is shown at the endpoint (`X-CPA-Key`) is the agent's own: whoever takes its place learns nothing that opens
another door. An agent that does not take `cancel` as a message is asked once more by `DELETE /tasks/{task_id}`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import UUID

import structlog

from cpa.core.ids import fraction
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, Forbidden, Unavailable
from cpa.ports.addresses import OutboundAddresses
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Receipts
from cpa.transport.postbox import IDLE, Postbox, secured, trusting

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries of the same message."""
AT_ONCE: Final = 16
"""Messages on their way to one agent at the same time."""
MOST: Final = 5_000
"""Messages that may wait for one agent."""
_TASKS: Final = 2_000
_AGAIN: Final = frozenset((408, 425, 429))
_WITHOUT_CANCEL: Final = frozenset((400, 404, 405, 415, 422))

Key = Callable[[str, str], str]
"""(tenant, agent's id) → what is shown at its endpoint."""
Open = Callable[..., Postbox]


@dataclass(slots=True, eq=False)
class _Letter:
    message: BaseMessage
    tries: int = 0
    """How often it may have arrived."""


@dataclass(slots=True, eq=False)
class _Conversation:
    """What waits of one conversation; while it is `leaving` its first letter is on its way, or tried again."""

    id: str
    letters: deque[_Letter] = field(default_factory=deque)
    leaving: bool = False


@dataclass(slots=True, eq=False)
class _Line:
    """What waits for one agent."""

    agent: AgentRecord
    conversations: dict[str, _Conversation] = field(default_factory=dict)
    """Each stands in `ready`, or its first letter is on its way."""
    ready: deque[_Conversation] = field(default_factory=deque)
    """Whose turn comes next; what is left of a dropped one is passed over."""
    ids: set[UUID] = field(default_factory=set)
    under_way: int = 0
    misses: int = 0
    """Tries in vain since the last good answer."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """A conversation may be ready, a message may leave, or the agent may be elsewhere."""
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    """What is tried again may be another one, or go elsewhere."""
    tasks: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """By conversation: what the agent calls the task."""
    work: asyncio.Task[None] | None = None
    trouble: str = ""

    @property
    def endpoint(self) -> str:
        return self.agent.endpoint.rstrip("/")

    def add(self, message: BaseMessage) -> None:
        self.ids.add(message.id)
        id = message.correlation.conversation_id
        conversation = self.conversations.get(id)
        if conversation is None:
            conversation = self.conversations[id] = _Conversation(id)
            self.ready.append(conversation)
            self.news.set()
        conversation.letters.append(_Letter(message))

    def turn(self) -> _Conversation | None:
        """The conversation whose first letter may leave now."""
        while self.ready and self.under_way < (1 if self.misses else AT_ONCE):
            conversation = self.ready.popleft()
            if conversation.letters:
                conversation.leaving = True
                self.under_way += 1
                return conversation
            del self.conversations[conversation.id]
        return None

    def back(self, conversation: _Conversation) -> None:
        """Its first letter is not on its way any more."""
        conversation.leaving = False
        self.under_way -= 1
        if conversation.letters:
            self.ready.append(conversation)
        else:
            del self.conversations[conversation.id]
        self.news.set()

    def done(self, conversation: _Conversation, letter: _Letter) -> bool:
        """The letter waits no longer; False when it was dropped meanwhile."""
        if not conversation.letters or conversation.letters[0] is not letter:
            return False
        conversation.letters.popleft()
        self.ids.discard(letter.message.id)
        return True

    def drop(self, conversation: _Conversation) -> None:
        self.ids.difference_update(each.message.id for each in conversation.letters)
        conversation.letters.clear()
        if conversation.leaving:
            self.hurry()

    def hurry(self) -> None:
        """Who pauses looks again."""
        self.cut.set()
        self.cut.clear()
        self.news.set()


class HttpDelivery:
    """`ports.delivery.Delivery`. Use it with `async with`: leaving drops what was not taken."""

    def __init__(
        self,
        guard: OutboundAddresses,
        key: Key,
        *,
        tls: ssl.SSLContext | None = None,
        open: Open = Postbox,
    ) -> None:
        """`tls` says which certificates are trusted; None takes the system's. `open` opens the connections to an
        endpoint."""
        self._open = open
        self._guard = guard
        self._key = key
        self._tls = tls
        self._receipts: Receipts | None = None
        self._lines: dict[tuple[str, str], _Line] = {}
        self._group = asyncio.TaskGroup()
        self._partings: set[asyncio.Task[None]] = set()

    def connect(self, receipts: Receipts) -> None:
        """Once, before the first message."""
        self._receipts = receipts

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            if line.work is not None:
                line.work.cancel()
        for parting in self._partings:
            parting.cancel()
        await self._group.__aexit__(None, None, None)

    # -- Delivery ------------------------------------------------------------------------------------------

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        line = self._lines.setdefault((agent.tenant, agent.id), _Line(agent))
        if line.agent.endpoint != agent.endpoint:
            line.hurry()
        line.agent = agent
        if message.id in line.ids:
            return
        if len(line.ids) >= MOST:
            why = Unavailable("too much waits for this agent", remedy="look why it takes nothing")
            asyncio.get_running_loop().call_soon(
                lambda: self._told.refused(agent, message, why, certain=True)
            )
            return
        line.add(message)
        if line.work is None:
            line.work = self._group.create_task(self._work(line))

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        line = self._lines.get((agent.tenant, agent.id))
        if line is not None and (known := line.conversations.get(conversation)) is not None:
            line.drop(known)

    def forget(self, agent: AgentRecord, last: Sequence[BaseMessage] = ()) -> None:
        line = self._lines.pop((agent.tenant, agent.id), None)
        if line is not None and line.work is not None:
            line.work.cancel()
        if last:
            tasks = {} if line is None else line.tasks
            parting = self._group.create_task(self._part(agent, last, tasks))
            self._partings.add(parting)
            parting.add_done_callback(self._partings.discard)

    # -- inside --------------------------------------------------------------------------------------------

    @property
    def _told(self) -> Receipts:
        assert self._receipts is not None
        return self._receipts

    async def _work(self, line: _Line) -> None:
        """Post what waits, and keep the connections a little longer."""
        try:
            while line.conversations:
                endpoint = line.endpoint
                try:
                    opened = await self._opened(endpoint)
                except Unavailable as error:
                    self._trouble(line, error.message)
                    await asyncio.sleep(LONGEST_PAUSE)
                    continue
                async with opened as postbox, asyncio.TaskGroup() as group:
                    while (conversation := await self._next(line, endpoint)) is not None:
                        group.create_task(self._deliver(line, conversation, postbox))
        finally:
            line.work = None

    async def _part(self, agent: AgentRecord, last: Sequence[BaseMessage], tasks: Mapping[str, str]) -> None:
        """Its last messages, each tried once, all at the same time. `tasks` as `_Line.tasks`."""
        try:
            opened = await self._opened(agent.endpoint.rstrip("/"))
        except Unavailable as error:
            log.warning("agent_not_told_to_stop", agent=agent.address, trouble=error.message)
            return
        room = asyncio.Semaphore(AT_ONCE)
        async with opened as postbox:
            await asyncio.gather(*(self._say_last(postbox, room, agent, each, tasks) for each in last))

    async def _say_last(
        self,
        postbox: Postbox,
        room: asyncio.Semaphore,
        agent: AgentRecord,
        message: BaseMessage,
        tasks: Mapping[str, str],
    ) -> None:
        try:
            async with room:  # Who waits for a connection in the library waits against its clock.
                status, _ = await postbox.send(
                    "POST", "/tasks", self._headers(agent), message.to_json(), lambda: None
                )
                task = tasks.get(message.correlation.conversation_id)
                if task is not None and status in _WITHOUT_CANCEL:
                    status, _ = await self._delete(postbox, agent, task)
            trouble = "" if 200 <= status < 300 else f"it answers {status}"
        except CPAError as error:
            trouble = error.message
        if trouble:
            log.warning("agent_not_told_to_stop", agent=agent.address, trouble=trouble)

    async def _delete(self, postbox: Postbox, agent: AgentRecord, task: str) -> tuple[int, Any]:
        """For an agent that does not take `cancel` as a message; `task` is what it calls the task."""
        headers = {"X-CPA-Key": self._key(agent.tenant, agent.id)}
        return await postbox.send("DELETE", f"/tasks/{quote(task, safe='')}", headers, b"", lambda: None)

    def _headers(self, agent: AgentRecord) -> dict[str, str]:
        return {"X-CPA-Key": self._key(agent.tenant, agent.id), "Content-Type": "application/json"}

    async def _next(self, line: _Line, endpoint: str) -> _Conversation | None:
        """Whose first letter leaves for this endpoint; None when the agent is elsewhere, or nothing comes soon."""
        while line.endpoint == endpoint:
            if (conversation := line.turn()) is not None:
                return conversation
            line.news.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await line.news.wait()
            except TimeoutError:
                if not line.conversations:
                    return None
        return None

    async def _deliver(self, line: _Line, conversation: _Conversation, postbox: Postbox) -> None:
        """Try its first letter once."""
        letter = conversation.letters[0]
        before, misses = letter.tries, line.misses
        try:
            status, body = await self._post(line, letter, postbox)
            if _passes(status):
                raise Unavailable(f"it answers {status}")
            line.misses = 0
            if 200 <= status < 300:
                self._taken(line, conversation, letter, body)
            else:
                await self._refused(line, conversation, letter, status, body, postbox, certain=not before)
        except Unavailable as error:
            await self._later(line, letter, error.message, misses)
        except CPAError as error:
            self._trouble(line, error.message)
            if line.done(conversation, letter):
                self._told.refused(line.agent, letter.message, error, certain=not before)
        finally:
            line.back(conversation)

    async def _post(self, line: _Line, letter: _Letter, postbox: Postbox) -> tuple[int, Any]:
        agent = line.agent

        def leaves() -> None:
            letter.tries += 1
            self._told.left(agent, letter.message)

        return await postbox.send("POST", "/tasks", self._headers(agent), letter.message.to_json(), leaves)

    def _taken(self, line: _Line, conversation: _Conversation, letter: _Letter, body: Any) -> None:
        self._trouble(line, "")
        if not line.done(conversation, letter):
            return
        if isinstance(body, Mapping) and isinstance(task := body.get("task_id"), str) and len(task) <= 200:
            line.tasks[conversation.id] = task
            if len(line.tasks) > _TASKS:
                line.tasks.popitem(last=False)
        self._told.taken(line.agent, letter.message)

    async def _refused(
        self,
        line: _Line,
        conversation: _Conversation,
        letter: _Letter,
        status: int,
        body: Any,
        postbox: Postbox,
        *,
        certain: bool,
    ) -> None:
        """`Unavailable` when it should be tried again."""
        self._trouble(line, "")
        message, task = letter.message, line.tasks.get(conversation.id)
        if message.type == "cancel" and task is not None and status in _WITHOUT_CANCEL:
            try:
                status, body = await self._delete(postbox, line.agent, task)
            except CPAError as error:
                raise Unavailable(error.message) from error
            if 200 <= status < 300:
                self._taken(line, conversation, letter, None)
                return
        if line.done(conversation, letter):
            why = CPAError.of_problem(status, body) if status >= 400 else _redirected(status)
            self._told.refused(line.agent, message, why, certain=certain)

    async def _later(self, line: _Line, letter: _Letter, trouble: str, misses: int) -> None:
        """Nothing else leaves while this one pauses. `misses`: how many there were when it was tried; those on
        their way at the same time miss once."""
        self._trouble(line, trouble)
        line.misses = max(line.misses, misses + 1)
        longest = min(FIRST_PAUSE * 2 ** min(misses, 10), LONGEST_PAUSE)
        # Spread, so that many messages to many agents do not come back at once.
        pause = longest * (0.75 + 0.5 * fraction(str(letter.message.id), misses + 1))
        try:
            async with asyncio.timeout(pause):
                await line.cut.wait()
        except TimeoutError:
            return

    def _trouble(self, line: _Line, trouble: str) -> None:
        if trouble != line.trouble:
            line.trouble = trouble
            self._told.troubled(line.agent, trouble)
            if trouble:
                log.warning("agent_not_reached", agent=line.agent.address, trouble=trouble)

    async def _opened(self, endpoint: str) -> Postbox:
        """`Unavailable` where this process cannot open one: no certificates to trust, no descriptors left."""
        try:
            if self._tls is None and secured(endpoint):
                self._tls = await asyncio.to_thread(trusting)
            return self._open(endpoint, self._guard, tls=self._tls, connections=AT_ONCE)
        except OSError as error:
            raise Unavailable(
                f"no connection can be made from here: {error}",
                remedy="look at SSL_CERT_FILE and at the limit of open files of the server",
            ) from error


def _passes(status: int) -> bool:
    """Whether another try may help."""
    return status in _AGAIN or status >= 500


def _redirected(status: int) -> Forbidden:
    return Forbidden(
        f"the endpoint answers {status} and would have us go elsewhere",
        field="endpoint",
        remedy="register the address at which the agent itself listens",
    )
