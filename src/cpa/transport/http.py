"""LAM to agents that listen: each message is posted to the agent's endpoint, in order, until it is taken.

    2xx                              taken
    408, 425, 429, 5xx, no answer    posted again, later and later, until it is taken or dropped
    3xx, other 4xx                   refused; nothing is followed anywhere

A name is resolved once, every address it has is judged, and the connection is made to one of exactly those. What is
shown there (`X-CPA-Key`) is the agent's own: whoever takes its place learns nothing that opens another door.

An agent that does not take `cancel` as a message is asked once more by `DELETE /tasks/{task_id}`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import UUID

import httpx2
import structlog

import cpa
from cpa.core.ids import fraction
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, Forbidden, Unavailable
from cpa.ports.addresses import OutboundAddresses, Target
from cpa.ports.agents import AgentRecord
from cpa.ports.delivery import Receipts

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries of the same message."""
CONNECT: Final = 5.0
ANSWER: Final = 10.0
"""Seconds an agent has to accept a connection, and to answer."""
IDLE: Final = 4.0
"""Seconds a connection is kept that nothing goes over; less than agents usually keep theirs."""
RESOLVED: Final = 60.0
"""Seconds after which a name is resolved anew, at the next message."""
MOST: Final = 5_000
"""Messages that may wait for one agent."""
_ANSWER_BYTES: Final = 64 * 1024
_TASKS: Final = 2_000
_AGAIN: Final = frozenset((408, 425, 429))
_WITHOUT_CANCEL: Final = frozenset((400, 404, 405, 415, 422))

Key = Callable[[str, str], str]
"""(tenant, agent's id) → what is shown at its endpoint."""


@dataclass(slots=True, eq=False)
class _Letter:
    message: BaseMessage
    tries: int = 0
    """How often it may have arrived."""


@dataclass(slots=True, eq=False)
class _Line:
    """What waits for one agent."""

    agent: AgentRecord
    letters: deque[_Letter] = field(default_factory=deque)
    ids: set[UUID] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """The first letter may be another one, or the agent may be elsewhere."""
    tasks: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """By conversation: what the agent calls the task."""
    work: asyncio.Task[None] | None = None
    trouble: str = ""


class HttpDelivery:
    """`ports.delivery.Delivery`. Use it with `async with`: leaving drops what was not taken."""

    def __init__(self, guard: OutboundAddresses, key: Key, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls` says which certificates are trusted; None takes the system's."""
        self._guard = guard
        self._key = key
        self._tls = tls
        self._receipts: Receipts | None = None
        self._lines: dict[tuple[str, str], _Line] = {}
        self._group = asyncio.TaskGroup()

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
        await self._group.__aexit__(None, None, None)

    # -- Delivery ------------------------------------------------------------------------------------------

    def deliver(self, agent: AgentRecord, message: BaseMessage) -> None:
        line = self._lines.setdefault((agent.tenant, agent.id), _Line(agent))
        if line.agent.endpoint != agent.endpoint:
            line.changed.set()
        line.agent = agent
        if message.id in line.ids:
            return
        if len(line.letters) >= MOST:
            why = Unavailable("too much waits for this agent", remedy="look why it takes nothing")
            asyncio.get_running_loop().call_soon(
                lambda: self._told.refused(agent, message, why, certain=True)
            )
            return
        line.ids.add(message.id)
        line.letters.append(_Letter(message))
        if len(line.letters) == 1:
            line.changed.set()
        if line.work is None:
            line.work = self._group.create_task(self._work(line))

    def drop(self, agent: AgentRecord, conversation: str) -> None:
        line = self._lines.get((agent.tenant, agent.id))
        if line is None:
            return
        kept = [each for each in line.letters if each.message.correlation.conversation_id != conversation]
        if len(kept) < len(line.letters):
            line.letters = deque(kept)
            line.ids = {each.message.id for each in kept}
            line.changed.set()

    def forget(self, agent: AgentRecord) -> None:
        line = self._lines.pop((agent.tenant, agent.id), None)
        if line is not None and line.work is not None:
            line.work.cancel()

    # -- inside --------------------------------------------------------------------------------------------

    @property
    def _told(self) -> Receipts:
        assert self._receipts is not None
        return self._receipts

    async def _work(self, line: _Line) -> None:
        """Post what waits, and keep the connection a little longer."""
        try:
            while line.letters:
                endpoint = line.agent.endpoint.rstrip("/")
                async with _Postbox(endpoint, self._guard, await self._trust(endpoint)) as postbox:
                    while line.agent.endpoint.rstrip("/") == endpoint and await self._more(line):
                        await self._deliver(line, line.letters[0], postbox)
        finally:
            line.work = None

    async def _more(self, line: _Line) -> bool:
        """Whether a letter waits, or one comes soon."""
        if not line.letters:
            line.changed.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await line.changed.wait()
            except TimeoutError:
                return False
        return bool(line.letters)

    async def _deliver(self, line: _Line, letter: _Letter, postbox: _Postbox) -> None:
        """Try one letter once."""
        line.changed.clear()
        before = letter.tries
        try:
            status, body = await self._post(line, letter, postbox)
        except Unavailable as error:
            await self._later(line, letter, error.message, postbox)
        except CPAError as error:
            self._trouble(line, error.message)
            if self._done(line, letter):
                self._told.refused(line.agent, letter.message, error, certain=not before)
        else:
            if 200 <= status < 300:
                self._taken(line, letter, body)
            elif status in _AGAIN or status >= 500:
                await self._later(line, letter, f"it answers {status}", postbox)
            else:
                await self._refused(line, letter, status, body, postbox, certain=not before)

    async def _post(self, line: _Line, letter: _Letter, postbox: _Postbox) -> tuple[int, Any]:
        agent = line.agent

        def leaves() -> None:
            letter.tries += 1
            self._told.left(agent, letter.message)

        headers = {"X-CPA-Key": self._key(agent.tenant, agent.id), "Content-Type": "application/json"}
        return await postbox.send("POST", "/tasks", headers, letter.message.to_json(), leaves)

    def _taken(self, line: _Line, letter: _Letter, body: Any) -> None:
        self._trouble(line, "")
        if not self._done(line, letter):
            return
        if isinstance(body, Mapping) and isinstance(task := body.get("task_id"), str) and len(task) <= 200:
            line.tasks[letter.message.correlation.conversation_id] = task
            if len(line.tasks) > _TASKS:
                line.tasks.popitem(last=False)
        self._told.taken(line.agent, letter.message)

    async def _refused(
        self, line: _Line, letter: _Letter, status: int, body: Any, postbox: _Postbox, *, certain: bool
    ) -> None:
        self._trouble(line, "")
        message = letter.message
        task = line.tasks.get(message.correlation.conversation_id)
        if message.type == "cancel" and task is not None and status in _WITHOUT_CANCEL:
            headers = {"X-CPA-Key": self._key(line.agent.tenant, line.agent.id)}
            path = f"/tasks/{quote(task, safe='')}"
            try:
                status, body = await postbox.send("DELETE", path, headers, b"", lambda: None)
            except CPAError as error:
                await self._later(line, letter, error.message, postbox)
                return
            if 200 <= status < 300:
                self._taken(line, letter, None)
                return
        if self._done(line, letter):
            why = CPAError.of_problem(status, body) if status >= 400 else _redirected(status)
            self._told.refused(line.agent, message, why, certain=certain)

    async def _later(self, line: _Line, letter: _Letter, trouble: str, postbox: _Postbox) -> None:
        self._trouble(line, trouble)
        postbox.misses += 1
        longest = min(FIRST_PAUSE * 2 ** min(postbox.misses - 1, 10), LONGEST_PAUSE)
        # Spread, so that many messages to many agents do not come back at once.
        pause = longest * (0.75 + 0.5 * fraction(str(letter.message.id), postbox.misses))
        try:
            async with asyncio.timeout(pause):
                await line.changed.wait()
        except TimeoutError:
            return

    def _done(self, line: _Line, letter: _Letter) -> bool:
        """The letter waits no longer; False when it was dropped meanwhile."""
        if not line.letters or line.letters[0] is not letter:
            return False
        line.letters.popleft()
        line.ids.discard(letter.message.id)
        return True

    def _trouble(self, line: _Line, trouble: str) -> None:
        if trouble != line.trouble:
            line.trouble = trouble
            self._told.troubled(line.agent, trouble)
            if trouble:
                log.warning("agent_not_reached", agent=line.agent.address, trouble=trouble)

    async def _trust(self, endpoint: str) -> ssl.SSLContext | None:
        if self._tls is None and endpoint.startswith("https"):
            self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        return self._tls


class _Postbox:
    """Connections to the addresses of one endpoint that were judged, and to no others."""

    def __init__(self, endpoint: str, guard: OutboundAddresses, tls: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self.misses = 0
        """Tries in vain since the last answer."""
        self._guard = guard
        self._target: tuple[float, Target] | None = None
        self._client = httpx2.AsyncClient(
            # Without a context there is no TLS: the endpoint of a postbox never changes.
            verify=tls if tls is not None else False,
            limits=httpx2.Limits(keepalive_expiry=IDLE),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER, connect=CONNECT),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes, leaves: Callable[[], None]
    ) -> tuple[int, Any]:
        """Status and body of the answer; a body that is no small JSON counts as none. `leaves` is called before the
        first byte leaves. Raises `Unavailable` where another try may help, other `CPAError`s where none does."""
        target = await self._resolve()
        for address in target.addresses:
            try:
                request = self._pinned(method, path, headers, content, target, address, leaves)
                async with asyncio.timeout(CONNECT + ANSWER):
                    response = await self._client.send(request, stream=True)
                    try:
                        body = await _small(response)
                    finally:
                        await response.aclose()
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if address != target.addresses[-1]:
                    continue
                self._target = None
                raise _unreachable(target, error) from error
            except (httpx2.HTTPError, TimeoutError) as error:
                self._target = None
                raise _unreachable(target, error) from error
            except Exception as error:
                # Whatever an agent's end makes a library fall over must not end the scheduler: a socket that is
                # gone before it was looked at is an AttributeError on some loops.
                log.warning("posting_broke", endpoint=self._endpoint, error=repr(error))
                self._target = None
                raise _unreachable(target, error) from error
            if response.status_code < 500:
                self.misses = 0
            return response.status_code, body
        raise AssertionError("a target has an address")

    async def _resolve(self) -> Target:
        now = asyncio.get_running_loop().time()
        if self._target is not None and now < self._target[0]:
            return self._target[1]
        target = await self._guard.resolve(self._endpoint)
        self._target = (now + RESOLVED, target)
        return target

    def _pinned(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes,
        target: Target,
        address: str,
        leaves: Callable[[], None],
    ) -> httpx2.Request:
        async def trace(event: str, _: Mapping[str, Any]) -> None:
            if event.endswith(".send_request_headers.started"):
                leaves()

        extensions: dict[str, Any] = {"trace": trace}
        if (name := target.server_name(address)) is not None:
            extensions["sni_hostname"] = name
        return self._client.build_request(
            method,
            httpx2.URL(self._endpoint + path).copy_with(host=address, port=target.port),
            headers={
                "User-Agent": f"cpa/{cpa.__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Host": target.authority,
                **headers,
            },
            content=content,
            extensions=extensions,
        )


async def _small(response: httpx2.Response) -> Any:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _unreachable(target: Target, error: Exception) -> Unavailable:
    where = f"{target.host}:{target.port}"
    slow = isinstance(error, (httpx2.ReadTimeout, TimeoutError))
    said = "it does not answer in time" if slow else (str(error) or type(error).__name__)
    return Unavailable(f"{where} cannot be reached: {said}", remedy="it is tried again")


def _redirected(status: int) -> Forbidden:
    return Forbidden(
        f"the endpoint answers {status} and would have us go elsewhere",
        field="endpoint",
        remedy="register the address at which the agent itself listens",
    )
