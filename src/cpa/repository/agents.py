"""Registered agents and their last beats: in the store, and in memory for tests and simulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert

from cpa.core.audit import ILLEGIBLE
from cpa.ports.agents import AgentRecord, AgentState, Beat, check_legible, taken, unread
from cpa.ports.repository import ActionLeaf
from cpa.repository.audit import insertion
from cpa.repository.database import Database
from cpa.repository.tables import agents, as_bytes, told

_log = structlog.get_logger(__name__)
_record = msgspec.json.Decoder(AgentRecord).decode
_beat = msgspec.json.Decoder(Beat).decode
_encode = msgspec.json.Encoder().encode
_NAMED: Final = tuple(map(as_bytes, (agents.c.tenant, agents.c.id, agents.c.name, agents.c.state)))
_SELECT: Final = sa.select(agents.c.body, *_NAMED, sa.cast(agents.c.registered, sa.Integer))


class SqlAgentStore:
    """`ports.agents.AgentStore` on the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, agent: AgentRecord, leaf: ActionLeaf | None = None) -> None:
        check_legible(agent)
        row = {
            "tenant": agent.tenant,
            "id": agent.id,
            "name": agent.name,
            "state": agent.state.value,
            "registered": agent.registered,
            "body": _encode(agent),
        }
        same = (agents.c.tenant == agent.tenant, agents.c.name == agent.name, agents.c.id != agent.id)
        others = sa.select(sa.literal(1)).where(*same, agents.c.state != AgentState.REVOKED.value).limit(1)
        statement = insert(agents).values(row).on_conflict_do_update(["tenant", "id"], set_=row)

        def work(connection: sa.Connection) -> None:
            if agent.state is not AgentState.REVOKED and connection.execute(others).first() is not None:
                raise taken(agent.name)
            connection.execute(statement)
            _tell(connection, leaf)

        await self._database.write(work)

    async def get(self, tenant: str, id: str) -> AgentRecord | None:
        return await self._one(agents.c.tenant == tenant, agents.c.id == id)

    async def find(self, tenant: str, name: str) -> AgentRecord | None:
        known = agents.c.state != AgentState.REVOKED.value
        return await self._one(agents.c.tenant == tenant, agents.c.name == name, known)

    async def all(self) -> tuple[AgentRecord, ...]:
        query = _SELECT.where(agents.c.state != AgentState.REVOKED.value).order_by(
            agents.c.registered, agents.c.tenant, agents.c.id
        )
        return await self._database.read(lambda c: tuple(_of(*row) for row in c.execute(query)))

    async def revoked(self, tenant: str) -> tuple[AgentRecord, ...]:
        mine = (agents.c.tenant == tenant, agents.c.state == AgentState.REVOKED.value)
        query = _SELECT.where(*mine).order_by(agents.c.registered, agents.c.id)
        return await self._database.read(lambda c: tuple(_of(*row) for row in c.execute(query)))

    async def remove(self, tenant: str, id: str, leaf: ActionLeaf | None = None) -> bool:
        statement = sa.delete(agents).where(agents.c.tenant == tenant, agents.c.id == id)

        def work(connection: sa.Connection) -> bool:
            found = connection.execute(statement).rowcount > 0
            _tell(connection, leaf if found else None)
            return found

        return await self._database.write(work)

    async def beat(self, tenant: str, id: str, beat: Beat) -> None:
        where = (agents.c.tenant == tenant, agents.c.id == id, agents.c.beat_at <= beat.at)
        statement = sa.update(agents).where(*where).values(beat=_encode(beat), beat_at=beat.at)
        await self._database.write(lambda c: c.execute(statement) and None)

    async def last_beat(self, tenant: str, id: str) -> Beat | None:
        query = sa.select(agents.c.beat).where(agents.c.tenant == tenant, agents.c.id == id)
        body = await self._database.read(lambda c: c.execute(query).scalar())
        try:
            return None if body is None else _beat(body)
        except ILLEGIBLE as error:
            _log.warning("beat_unreadable", tenant=tenant, agent=id, error=str(error))
            return None

    async def _one(self, *where: sa.ColumnElement[bool]) -> AgentRecord | None:
        query = _SELECT.where(*where)
        row = await self._database.read(lambda c: c.execute(query).first())
        return None if row is None else _of(*row)


def _tell(connection: sa.Connection, leaf: ActionLeaf | None) -> None:
    if leaf is not None:
        connection.execute(insertion(leaf))


def _of(body: bytes, *names: Any) -> AgentRecord:
    """The agent of a row."""
    tenant, id, name, state = map(told, names[:4])
    try:
        record = _record(body)
        if (record.tenant, record.id) == (tenant, id):
            return record
        error = f"it is that of {record.id}"
    except ILLEGIBLE as illegible:
        error = str(illegible)
    _log.error("agent_unreadable", tenant=tenant, agent=id, name=name, error=error)
    return unread(tenant, id, name, names[4] or 0, revoked=state == AgentState.REVOKED)


class MemoryAgentStore:
    """`ports.agents.AgentStore` in memory: for tests, simulations, and programs that keep nothing."""

    def __init__(self, tell: Callable[[ActionLeaf], None] = lambda _: None) -> None:
        """`tell` takes what is for the trail."""
        self._tell = tell
        self._agents: dict[tuple[str, str], AgentRecord] = {}
        self._beats: dict[tuple[str, str], Beat] = {}

    async def put(self, agent: AgentRecord, leaf: ActionLeaf | None = None) -> None:
        check_legible(agent)
        namesake = await self.find(agent.tenant, agent.name)
        if agent.state is not AgentState.REVOKED and namesake is not None and namesake.id != agent.id:
            raise taken(agent.name)
        self._agents[agent.tenant, agent.id] = agent
        if leaf is not None:
            self._tell(leaf)

    async def get(self, tenant: str, id: str) -> AgentRecord | None:
        return self._agents.get((tenant, id))

    async def find(self, tenant: str, name: str) -> AgentRecord | None:
        wanted = (tenant, name)
        living = (agent for agent in self._agents.values() if agent.state is not AgentState.REVOKED)
        return next((agent for agent in living if (agent.tenant, agent.name) == wanted), None)

    async def all(self) -> tuple[AgentRecord, ...]:
        living = [agent for agent in self._agents.values() if agent.state is not AgentState.REVOKED]
        return tuple(sorted(living, key=lambda agent: (agent.registered, agent.tenant, agent.id)))

    async def revoked(self, tenant: str) -> tuple[AgentRecord, ...]:
        mine = [agent for agent in self._agents.values() if agent.tenant == tenant]
        found = [agent for agent in mine if agent.state is AgentState.REVOKED]
        return tuple(sorted(found, key=lambda agent: (agent.registered, agent.id)))

    async def remove(self, tenant: str, id: str, leaf: ActionLeaf | None = None) -> bool:
        self._beats.pop((tenant, id), None)
        found = self._agents.pop((tenant, id), None) is not None
        if found and leaf is not None:
            self._tell(leaf)
        return found

    async def beat(self, tenant: str, id: str, beat: Beat) -> None:
        last = self._beats.get((tenant, id))
        if (tenant, id) in self._agents and (last is None or last.at <= beat.at):
            self._beats[tenant, id] = beat

    async def last_beat(self, tenant: str, id: str) -> Beat | None:
        return self._beats.get((tenant, id))
