"""The only wiring: settings become adapters, adapters an engine. Everything opened here is closed in reverse."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cpa.agents.runtime import AgentRuntime
from cpa.engines.local.engine import LocalEngine
from cpa.executors.flow import FlowExecutor
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.transport import Answer, Attempt
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from cpa.settings import Settings
from cpa.transport.inprocess import InProcessTransport


class SystemClock:
    """`ports.clock.Clock` of this machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


def job_id() -> str:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then chance; ids made later sort later."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (7 << 76)
    value = (value & ~(0x3 << 62)) | (2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """What runs: the engine and what stands around it."""

    settings: Settings
    engine: LocalEngine
    database: Database
    executors: ExecutorRegistry
    agents: AgentRegistry


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Scheduler]:
    """The whole scheduler but its doors; ready on entry, everything durable and closed on exit."""
    database = Database.open(settings.database_url or settings.data / "cpa.db")
    try:
        steps = SqlSteps(database)
        executors = ExecutorRegistry([FlowExecutor()])
        agents = AgentRegistry()
        address = f"agent://builtin/{secrets.token_hex(4)}"
        hands: dict[str, AgentRuntime] = {}
        clock = SystemClock()
        orchestrator = Orchestrator(agents, InProcessTransport(hands), clock)

        def reply(attempt: Attempt, answer: Answer) -> None:
            orchestrator.handle_agent_response(attempt, answer)

        async with AgentRuntime(executors, reply) as runtime:
            hands[address] = runtime
            agents.register(Agent(address, frozenset(executors.actions)))
            async with LocalEngine(
                steps, orchestrator, clock, job_id, max_running=settings.max_running
            ) as engine:
                yield Scheduler(settings, engine, database, executors, agents)
        steps.close()
    finally:
        database.close()
