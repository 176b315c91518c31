"""The log of messages: one that no store takes costs nobody else theirs."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from cpa.errors import InternalError, Unavailable
from cpa.orchestrator import log as logs
from cpa.orchestrator.log import MessageLog
from cpa.ports.repository import StoredMessage


class Pages:
    """A message repository in memory that takes no message called `odd`."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.full = False

    async def append(self, tenant: str, *messages: StoredMessage) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise Unavailable("the disk is full", remedy="free some space")
        for message in messages:
            message.id.encode()
        self.kept += [message.id for message in messages]

    async def list(
        self, tenant: str, *, conversation: str = "", job: str = "", after: int = 0, limit: int = 1000
    ) -> tuple[StoredMessage, ...]:
        raise NotImplementedError  # The log only appends: whoever reads through it has lost the way.


def line(id: str) -> StoredMessage:
    return StoredMessage(
        id=id, sender="agent://web/eins", direction="in", type="done", received=1, body=b"{}"
    )


async def test_one_that_cannot_be_stored_is_told_to_its_sender_alone() -> None:
    pages = Pages()
    async with MessageLog(pages) as log:
        for id in ("out-1", "\ud800", "out-2"):
            log.note("acme", line(id))
        told = await asyncio.gather(
            *(log.add("acme", line(id)) for id in ("in-1", "\udfff", "in-2")), return_exceptions=True
        )
        assert [type(each) for each in told] == [type(None), InternalError, type(None)]
        await log.add("acme", line("later"))
    assert pages.kept == ["out-1", "out-2", "in-1", "in-2", "later"]


async def test_only_so_much_waits_for_a_store_that_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST", 2)
    pages = Pages()
    with capture_logs() as told:
        async with MessageLog(pages) as log:
            pages.full = True
            for id in ("one", "two", "three"):
                log.note("acme", line(id))
            pages.full = False
    assert pages.kept == ["one", "two"]
    assert [(each["event"], each["message"]) for each in told] == [("message_not_logged", "three")]


async def test_a_store_that_does_not_write_is_told_to_who_waits_and_nothing_is_left_out() -> None:
    pages = Pages()
    async with MessageLog(pages) as log:
        pages.full = True
        log.note("acme", line("out"))
        with pytest.raises(Unavailable):
            await log.add("acme", line("in"))
        pages.full = False
        await log.add("acme", line("again"))
        async with asyncio.timeout(20):
            while "out" not in pages.kept:
                await asyncio.sleep(0.01)
    assert sorted(pages.kept) == ["again", "out"]
