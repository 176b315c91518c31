"""What a simulated agent remembers across its own death."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cpa.agents.outbox import Kept, Outbox
from cpa.ports.agents import Named


@dataclass(slots=True)
class Row:
    """An attempt it took."""

    life: str
    named: Named
    answer_id: str = ""
    answer: bytes | None = None
    delivered: bool = False

    @property
    def kept(self) -> Kept:
        return Kept(life=self.life, answer=self.answer)


class Memory(Outbox):
    """The outbox of one process; the rows, by request, outlive it."""

    def __init__(self, rows: dict[str, Row], life: str, *, slow: bool = False) -> None:
        """`slow`: what is taken is there a moment later."""
        self._rows, self.life, self._slow = rows, life, slow
        self.closed = False
        """The process is dead: nothing is written any more."""

    async def take(self, message: str, named: Named) -> Kept | None:
        known = self._rows.get(message)
        if known is not None:
            return known.kept
        if self._slow:
            await asyncio.sleep(0.01)
        if not self.closed:
            self._rows[message] = Row(self.life, named)
        return None

    async def find(self, named: Named) -> Kept | None:
        return next((row.kept for row in self._rows.values() if row.named == named), None)

    async def answer(self, message: str, answer_id: str, answer: bytes) -> None:
        row = self._rows[message]
        if row.answer is None and not self.closed:
            row.answer_id, row.answer = answer_id, answer

    async def delivered(self, answer_id: str) -> None:
        for row in self._rows.values():
            if row.answer_id == answer_id and not self.closed:
                row.delivered = True

    async def undelivered(self) -> list[bytes]:
        return [row.answer for row in self._rows.values() if row.answer is not None and not row.delivered]
