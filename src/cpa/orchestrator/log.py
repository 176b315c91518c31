"""The log of LAM messages: what is handed in at the same time shares a transaction.

What came in is acknowledged once it is logged; what goes out is logged beside its way, in order, and nobody waits
for it. A store that does not write delays the log and loses nothing of it until there is too much. What no store
takes is left out, and the others are logged. Of a long message that changed nothing the envelope is kept.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec
import structlog

from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, InternalError
from cpa.ports.repository import MessageRepository, StoredMessage

log = structlog.get_logger(__name__)

MOST: Final = 10_000
"""Messages that may wait for a store that does not write."""
PAUSE: Final = 1.0
"""Seconds between two tries while it does not."""
SHORT: Final = 2048
"""Bytes up to which a message is logged whole whatever it did; its line takes about as much anyway."""
_ENVELOPE: Final = ("id", "ts", "type", "sender", "correlation")


class _Line(NamedTuple):
    tenant: str
    message: StoredMessage
    told: asyncio.Future[None] | None


class MessageLog:
    """Use it with `async with`: leaving writes what waits."""

    def __init__(self, repository: MessageRepository) -> None:
        self._repository = repository
        self._waiting: list[_Line] = []
        self._writing: asyncio.Task[None] | None = None
        self._closing = False
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        await self._group.__aexit__(None, None, None)

    async def add(self, tenant: str, message: StoredMessage) -> None:
        """Durable on return. Raises what the store raises."""
        told = asyncio.get_running_loop().create_future()
        self._take(_Line(tenant, message, told))
        await told

    def note(self, tenant: str, message: StoredMessage) -> None:
        """Written soon, after what came before."""
        if len(self._waiting) < MOST:
            self._take(_Line(tenant, message, None))
        else:
            log.error("message_not_logged", message=message.id, type=message.type)

    def _take(self, line: _Line) -> None:
        self._waiting.append(line)
        if self._writing is None:
            self._writing = self._group.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                by_tenant: dict[str, list[_Line]] = {}
                for line in batch:
                    by_tenant.setdefault(line.tenant, []).append(line)
                for tenant, lines in by_tenant.items():
                    await self._append(tenant, lines)
        finally:
            self._writing = None

    async def _append(self, tenant: str, lines: list[_Line]) -> None:
        error = await self._tried(tenant, lines)
        if error is not None and not error.retryable and len(lines) > 1:
            # One of them cannot be stored: the others can.
            for line in lines:
                await self._append(tenant, [line])
            return
        for line in lines:
            if line.told is not None and not line.told.done():
                if error is None:
                    line.told.set_result(None)
                else:
                    line.told.set_exception(error)
        left = [line for line in lines if line.told is None]
        if error is None or not left:
            return
        if self._closing or not error.retryable:
            log.error("messages_not_logged", messages=len(left), error=str(error))
        else:
            self._waiting = left + self._waiting
            await asyncio.sleep(PAUSE)

    async def _tried(self, tenant: str, lines: list[_Line]) -> CPAError | None:
        try:
            await self._repository.append(tenant, *(line.message for line in lines))
        except CPAError as error:
            return error
        except Exception as error:  # noqa: BLE001 - told to who waits, and logged
            return InternalError(f"the store refused the message: {error!r}")
        return None


def stored(
    message: BaseMessage, direction: str, moment: int, *, job: str = "", effect: str = "", idle: bool = False
) -> StoredMessage:
    """The message as it is logged; `moment` is when it came or went, in milliseconds. `idle`: it changed nothing;
    of a long one then only its envelope is kept, so that nobody fills the store with what does not count."""
    about, body = message.correlation, message.written()
    if idle and len(body) > SHORT:
        body = _envelope(message, len(body))
    return StoredMessage(
        id=str(message.id),
        sender=message.sender,
        direction=direction,
        type=message.type,
        received=moment,
        body=body,
        conversation=about.conversation_id,
        job=job or about.job_id,
        task=about.task_id,
        effect=effect,
    )


def _envelope(message: BaseMessage, size: int) -> bytes:
    """Who said what kind of thing about what; in place of the payload the bytes that the whole message had."""
    whole = message.to_dict()
    kept = {name: whole[name] for name in _ENVELOPE if name in whole}
    return msgspec.json.encode(kept | {"payload": {"not_kept": size}})
