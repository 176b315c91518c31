"""The line of an agent that listens: what it has to say is posted to the scheduler.

What lasts is posted again until the scheduler took it, the words of one conversation in their order, those of
different ones side by side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from cpa.agents.client import TIMEOUT, SchedulerClient, longer
from cpa.agents.line import heed
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, Unauthorized
from cpa.ports.agents import Beat

log = structlog.get_logger(__name__)

AT_ONCE: Final = 16
"""Messages on their way at the same time."""
_VOLATILE: Final = 4
"""Words of one conversation that wait; more of those that do not last are not said."""


class Posting:
    """One agent's words, posted. Use it with `async with`: leaving drops what was not taken."""

    def __init__(
        self,
        client: SchedulerClient,
        agent: str,
        acknowledged: Callable[[str, str, Mapping[str, Any] | None], None],
        *,
        patience: float = TIMEOUT,
        doubted: Callable[[], None] = lambda: None,
    ) -> None:
        """`agent` is its id; `patience`: seconds within which a beat is answered, else it counts as lost. `doubted`
        is called when its key is not accepted: whether it is still known, the next beat tells."""
        self._client = client
        self._agent = agent
        self._acknowledged = acknowledged
        self.patience = patience
        self._doubted = doubted
        self._waiting: dict[str, deque[tuple[BaseMessage, bool]]] = {}
        """By conversation; the first of each is on its way."""
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[asyncio.Task[None], None] = {}
        """In the order in which they began."""
        self._group = asyncio.TaskGroup()
        self._left = False

    async def __aenter__(self) -> Posting:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._left = True
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        """See `line.Line`. After leaving nothing is said: what lasts the next process hands in."""
        if self._left:
            return
        conversation = message.correlation.conversation_id
        line = self._waiting.get(conversation)
        if line is None:
            self._waiting[conversation] = deque([(message, lasting)])
            task = self._group.create_task(self._post(conversation))
            self._tasks[task] = None
            task.add_done_callback(lambda task: self._tasks.pop(task, None))
        elif (lasting or len(line) < _VOLATILE) and all(message.id != known.id for known, _ in line):
            line.append((message, lasting))

    async def beat(self, beat: Beat) -> Mapping[str, Any]:
        """Send a beat; its answer."""
        return await self._client.beat(self._agent, beat, patience=self.patience)

    async def _post(self, conversation: str) -> None:
        line = self._waiting[conversation]
        while line:
            message, lasting = line[0]
            await self._deliver(message, lasting)
            line.popleft()
        del self._waiting[conversation]

    async def _deliver(self, message: BaseMessage, lasting: bool) -> None:
        pause = 0.0
        while True:
            try:
                async with self._room:
                    told = await self._client.hand_in(message)
            except CPAError as error:
                passing = error.retryable or isinstance(error, Unauthorized)
                if isinstance(error, Unauthorized):
                    self._doubted()
                if passing and lasting:
                    log.info("message_waits", type=message.type, error=str(error))
                    pause = longer(pause)
                    await asyncio.sleep(pause)
                    continue
                self._acknowledged(str(message.id), "", error.problem())
            else:
                heed(message, told)
                self._acknowledged(str(message.id), str(told.get("effect", "")), None)
            return
