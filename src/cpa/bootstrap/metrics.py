"""What `/metrics` tells of the scheduler: what it has in memory, and a few counts of its store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from cpa.engines.local.engine import LocalEngine
from cpa.errors import CPAError
from cpa.ports.agents import AgentState, AgentStatus
from cpa.repository.figures import SqlFigures, StoredFigures
from cpa.telemetry.metrics import Figure

if TYPE_CHECKING:
    from cpa.bootstrap import Scheduler

log = structlog.stdlib.get_logger("cpa.bootstrap")
_PATIENCE: Final = 2.0
"""Seconds the store has to answer."""


def figures(scheduler: Scheduler) -> Callable[[], Awaitable[Sequence[Figure]]]:
    """Those of all tenants. What the store does not tell in time is left out; the log says so."""
    store, clock = SqlFigures(scheduler.database), scheduler.clock

    async def look() -> Sequence[Figure]:
        found = list(_present(scheduler))
        try:
            async with asyncio.timeout(_PATIENCE):
                found += _stored(await store.read(clock.now_ms()))
        except (CPAError, TimeoutError) as error:
            log.warning("figures_left_out", part="store", error=str(error) or f"none within {_PATIENCE:g} s")
        return found

    return look


def _stored(store: StoredFigures) -> Sequence[Figure]:
    one = Figure.one
    return (
        _by("cpa_jobs", "Jobs by status; those that are pending stand in line.", "status", store.jobs),
        one("cpa_dead_letters", "Failed jobs that only a person takes up again.", store.dead_letters),
        _by("cpa_questions_open", "Questions that wait for a person.", "kind", store.questions),
        _by(
            "cpa_commands_open",
            "Rows of the outbox: what is to be done or waited for.",
            "kind",
            store.commands,
        ),
        one("cpa_timers_overdue", "Timers whose time has come and that have not fired.", store.overdue),
        one("cpa_timers_late_seconds", "How late the first overdue timer is.", store.late),
    )


def _present(scheduler: Scheduler) -> Iterator[Figure]:
    """What is in memory."""
    one, engine = Figure.one, scheduler.engine
    yield one("cpa_jobs_aside", "Jobs set aside, which cannot be gone on with.", engine.aside)
    if isinstance(engine, LocalEngine):
        limit = scheduler.settings.max_running
        yield one("cpa_jobs_loaded", "Jobs in memory that have not ended.", engine.loaded)
        yield one("cpa_jobs_busy", "Jobs of which something runs.", engine.busy)
        yield one("cpa_jobs_busy_limit", "Most jobs of which something may run.", limit)
    census = scheduler.agents.census()
    agents: dict[tuple[str, ...], float] = {
        (state.value, status.value): census[state, status] for state in AgentState for status in AgentStatus
    }
    yield Figure("cpa_agents", "Registered agents, without the server itself.", agents, ("state", "status"))
    yield one(
        "cpa_tasks_waiting", "Tasks that stand in line for a slot of an agent.", scheduler.agents.waiting
    )
    assignments = scheduler.wire.orchestrator.assignments
    tally = assignments.tally
    yield one("cpa_attempts_running", "Attempts that agents have, or are about to get.", assignments.held)
    begun: dict[tuple[str, ...], float] = {("no",): tally.begun - tally.retries, ("yes",): tally.retries}
    yield Figure(
        "cpa_attempts_begun_total", "Attempts an agent was chosen for since the start.", begun, ("retry",)
    )
    ended = "Attempts that ended since the start, also of those begun before it."
    yield _by("cpa_attempts_ended_total", ended, "outcome", tally.ended)


def _by(name: str, help: str, label: str, counts: Mapping[str, int]) -> Figure:
    return Figure(name, help, {(word,): count for word, count in counts.items()}, (label,))
