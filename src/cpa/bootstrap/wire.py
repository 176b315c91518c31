"""The orchestrator and its ways to agents: those of this process, and those outside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.bids import Bids
from cpa.orchestrator.log import MessageLog
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.orchestrator.presence import Presence
from cpa.orchestrator.requests import Requests
from cpa.ports.clock import Clock
from cpa.ports.delivery import Delivery
from cpa.repository.database import Database
from cpa.repository.messages import SqlMessageRepository
from cpa.security.addresses import AddressGuard
from cpa.security.auth import Hasher
from cpa.security.credentials import callback_key
from cpa.transport.channel import ChannelDelivery
from cpa.transport.either import EitherDelivery
from cpa.transport.http import HttpDelivery
from cpa.transport.inprocess import Hands, InProcessTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What the engine and the doors need of it."""

    agents: AgentRegistry
    orchestrator: Orchestrator
    journal: MessageLog
    requests: Requests
    bids: Bids
    delivery: Delivery
    channels: ChannelDelivery


@asynccontextmanager
async def open_wire(
    database: Database,
    hands: Mapping[str, Hands],
    clock: Clock,
    guard: AddressGuard,
    hasher: Hasher,
    *,
    heartbeat: float,
) -> AsyncIterator[Wire]:
    """`hands`: the parts of this process that do tasks, by address. `heartbeat`: seconds between beats."""
    agents = AgentRegistry()
    presence = Presence(agents, clock, heartbeat)
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(MessageLog(SqlMessageRepository(database)))
        posted = HttpDelivery(guard, lambda tenant, agent: callback_key(hasher, tenant, agent))
        await stack.enter_async_context(posted)
        channels = ChannelDelivery()
        delivery = EitherDelivery(posted, channels)
        requests = Requests(agents, presence, delivery, journal, clock)
        posted.connect(requests)
        channels.connect(requests, requests.standing)
        orchestrator = Orchestrator(agents, InProcessTransport(hands, requests), clock, presence)
        requests.connect(orchestrator.handle_agent_response, orchestrator.refused)
        orchestrator.assignments.unsent = requests.unsent
        bids = orchestrator.bids = Bids(agents, orchestrator.assignments, requests.discover, clock)
        yield Wire(
            agents=agents,
            orchestrator=orchestrator,
            journal=journal,
            requests=requests,
            bids=bids,
            delivery=delivery,
            channels=channels,
        )
