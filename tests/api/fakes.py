"""What the door needs besides an engine, in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from tests.api.fake_engine import FakeEngine

from cpa.core.audit import kind, seal
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import IntentDefinition
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Conflict, Forbidden
from cpa.orchestrator.planning import Planner
from cpa.ports.agents import Acknowledgement
from cpa.ports.enrolment import StoredToken
from cpa.ports.keys import Caller, StoredKey
from cpa.ports.repository import ActionLeaf, AuditFilter, AuditRow, AuditSlice, LeafRow


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing in the door sleeps on the clock")


class MemoryKeys:
    """`KeyStore`; counts look-ups."""

    def __init__(self) -> None:
        self.kept: list[StoredKey] = []
        self.asked = 0

    async def add(self, key: StoredKey) -> None:
        if any(key.hash == kept.hash or (key.tenant, key.id) == (kept.tenant, kept.id) for kept in self.kept):
            raise Conflict("this key exists")
        self.kept.append(key)

    async def find(self, digest: bytes) -> StoredKey | None:
        self.asked += 1
        return next((key for key in self.kept if key.hash == digest), None)

    async def get(self, tenant: str, id: str) -> StoredKey | None:
        return next((key for key in self.kept if (key.tenant, key.id) == (tenant, id)), None)

    async def list(self, tenant: str) -> tuple[StoredKey, ...]:
        return tuple(key for key in self.kept if key.tenant == tenant)

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        for place, key in enumerate(self.kept):
            if (key.tenant, key.id) == (tenant, id) and not key.revoked:
                self.kept[place] = replace(key, revoked=now)
                return True
        return False


class MemoryTokens:
    """`TokenStore`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredToken] = {}
        self.used: dict[tuple[str, str, bytes], str] = {}
        """The agent, by tenant, token and proof."""

    async def add(self, token: StoredToken) -> None:
        if any(token.hash == kept.hash or (token.tenant, token.id) == key for key, kept in self.kept.items()):
            raise Conflict("this token exists")
        self.kept[token.tenant, token.id] = token

    async def find(self, digest: bytes, name: str, now: int) -> StoredToken | None:
        for token in self.kept.values():
            if token.hash == digest and token.active(now) and token.name in ("", name):
                return token
        return None

    async def spend(
        self, digest: bytes, name: str, now: int, proof: bytes = b"", agent: str = ""
    ) -> StoredToken | None:
        token = await self.find(digest, name, now)
        if token is not None:
            self.kept[token.tenant, token.id] = replace(token, uses=token.uses - 1)
        if token is not None and proof:
            self.used[token.tenant, token.id, proof] = agent
        return token

    async def enrolled(self, digest: bytes, proof: bytes, now: int) -> tuple[str, str] | None:
        for token in self.kept.values():
            agent = self.used.get((token.tenant, token.id, proof))
            if token.hash == digest and token.lives(now) and agent is not None:
                return token.tenant, agent
        return None

    async def list(self, tenant: str) -> tuple[StoredToken, ...]:
        return tuple(token for token in self.kept.values() if token.tenant == tenant)

    async def revoke(self, tenant: str, id: str, now: int) -> bool:
        token = self.kept.get((tenant, id))
        if token is None or token.revoked:
            return False
        self.kept[tenant, id] = replace(token, revoked=now)
        return True


class FakeTrail:
    """`AuditRepository` over the fake engine's events."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.logged: list[tuple[str, str, str, str]] = []
        """(tenant, actor, action, subject) of what no job did."""

    def _rows(self, tenant: str) -> list[AuditRow]:
        return [
            AuditRow(
                event.job,
                event.number,
                kind(event.event),
                event.event,
                event.leaf,
                event.body,
                False,
                (event.event.time, 1, place),
            )
            for place, event in enumerate(self._engine.stored(tenant))
        ]

    def tell(self, leaf: ActionLeaf) -> None:
        self.logged.append((leaf.tenant, leaf.actor, leaf.action, leaf.subject))

    async def append(self, leaf: ActionLeaf) -> int:
        self.tell(leaf)
        return len(self.logged)

    async def slice(
        self, tenant: str, which: AuditFilter, *, limit: int = 50, below: tuple[int, int, int] | None = None
    ) -> AuditSlice:
        rows = [
            row
            for row in reversed(self._rows(tenant))
            if (below is None or row.place < below)
            and row.place[0] >= which.since
            and which.job in ("", row.job)
            and which.task in (-1, getattr(row.event, "task", -1))
            and which.actor in ("", getattr(row.event, "agent", ""), getattr(row.event, "by", ""))
        ]
        return AuditSlice(tuple(rows[:limit]), rows[limit - 1].place if len(rows) > limit else None)

    async def leaves(
        self, tenant: str, *, after: tuple[str, int] = ("", 0), limit: int = 1000
    ) -> tuple[LeafRow, ...]:
        rows = sorted(self._rows(tenant), key=lambda row: (row.job, row.number))
        return tuple(
            LeafRow(
                row.job,
                row.number,
                row.place[2],
                row.type,
                row.place[0],
                row.body,
                seal(row.event, b"salt of the fake engine").private,
                bytes.fromhex(row.leaf),
            )
            for row in rows
            if (row.job, row.number) > after
        )[:limit]

    async def other_leaves(self, tenant: str, *, after: int = 0, limit: int = 1000) -> tuple[LeafRow, ...]:
        return ()

    async def numbers(
        self, tenant: str, *, after: str = "", limit: int = 1000
    ) -> tuple[tuple[str, int], ...]:
        last: dict[str, int] = {}
        for row in self._rows(tenant):
            last[row.job] = row.number
        return tuple(sorted(item for item in last.items() if item[0] > after))[:limit]

    async def task_ids(self, tenant: str, jobs: Iterable[str]) -> dict[str, tuple[str, ...]]:
        known = {row.job for row in self._rows(tenant)}
        return {
            job: tuple(task.id for task in (await self._engine.query(tenant, job)).spec.tasks)
            for job in set(jobs) & known
        }


ECHO = IntentDefinition.model_validate(
    {
        "name": "echo",
        "description": "Says a customer's name.",
        "patterns": [{"regex": "schick mir die letzte Rechnung von (?P<customer>\\w+)"}],
        "examples": ["Schick mir die letzte Rechnung von ACME"],
        "arguments": {"customer": {"type": "text"}},
        "tasks": [{"id": "say", "action": "flow.noop", "arguments": {"value": "{{ arguments.customer }}"}}],
    }
)


def small_planner() -> Planner:
    """The real planner, with one intent."""
    return Planner(IntentRouter((ECHO,)))


class FakeMessages:
    """`MessageHandler` that keeps what came, once per sender and id."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], BaseMessage] = {}
        self.left_out: tuple[str, ...] = ()

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        if message.sender != caller.name:
            raise Forbidden("the sender is not the caller", field="sender", value=message.sender)
        key = (message.sender, str(message.id))
        new = key not in self.taken
        self.taken[key] = message
        return Acknowledgement(
            message_id=str(message.id),
            new=new,
            effect="progress" if new else "duplicate",
            left_out=self.left_out,
        )
