"""Whom the scheduler blames for an agent's end: held against what the agent had, and what is stored of that.

An agent's end loses all that it had, at once. To blame are those that reached the agent and whose tasks lost one
before, or all that reached it where none did, each for its share; nobody is for anything but an end. Those who are
suspected stay apart: at no agent do several of them have more than half the blame for one end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cpa.core.commands import CancelAttempt, RequestTask
from cpa.core.events import Event, LeaseLost
from cpa.core.retry import BLAME
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.presence import Lost, Presence
from cpa.ports.agents import Beat, Named
from cpa.ports.transport import Attempt
from cpa.testing.schedules.knowledge import Violation

if TYPE_CHECKING:
    from cpa.testing.simulation.world import World

Report = Callable[[str, str, Event], None]
_ALONE = "its agent did not name"
_SILENT = "its agent was not heard"


@dataclass(eq=False)
class _Held:
    """An attempt with its agent."""

    agent: str
    until: float
    """When its lease ends."""
    known: bool = False
    """The agent has it, by its own word or by that of who delivered it."""


class Roll(Presence):
    """The presence of one life, that keeps a list of its own."""

    def __init__(self, world: World, agents: AgentRegistry) -> None:
        super().__init__(agents, world.clock)
        self._world = world
        self._has: dict[Attempt, _Held] = {}
        self._alone: dict[str, list[float]] = defaultdict(list)
        """By agent: when the leases ended that were lost without the others."""
        self._over: dict[Attempt, _Held] = {}
        """What has ended since something was reported last."""
        self._told: dict[Attempt, LeaseLost] = {}

    def begin(self, agent: Agent, attempt: Attempt, task: str) -> None:
        self._has.setdefault(attempt, _Held(agent.address, self._world.loop.time() + self.lease))
        super().begin(agent, attempt, task)

    def taken(self, attempt: Attempt) -> None:
        if attempt in self._has:
            self._has[attempt].known = True
        super().taken(attempt)

    def renew(self, attempt: Attempt) -> None:
        self._renewed(attempt)
        super().renew(attempt)

    def beat(self, agent: Agent, beat: Beat) -> tuple[Named, ...]:
        for attempt, named, _ in self.running(agent):
            if named in beat.running:
                self._renewed(attempt)
        return super().beat(agent, beat)

    def _renewed(self, attempt: Attempt) -> None:
        if attempt in self._has:
            held = self._has[attempt]
            held.until, held.known = self._world.loop.time() + self.lease, True

    def end(self, attempt: Attempt) -> None:
        super().end(attempt)
        if attempt in self._has:
            self._over[attempt] = self._has.pop(attempt)

    def connect(self, lost: Lost) -> None:
        super().connect(partial(self._lose, lost))

    def watched(self, report: Report) -> Report:
        def told(tenant: str, job: str, event: Event) -> None:
            if isinstance(event, LeaseLost):
                self._told[Attempt(tenant, job, event.task, event.epoch)] = event
            report(tenant, job, event)

        return told

    def _lose(self, lost: Lost, attempts: Sequence[Attempt], reason: str, ended: bool) -> None:
        held = [self._over[attempt] for attempt in attempts]
        self._over, self._told = {}, {}
        lost(attempts, reason, ended)
        (agent,) = {each.agent for each in held}
        silent = reason.startswith(_SILENT)
        if self._world.loop.time() < self._world.oracles.excused and reason.endswith(f"for {self.lease:g} s"):
            self._broken(f"{agent} is not waited for after everything stood still: {reason}")
        if ended or silent:
            self._check_all(agent, silent)
        elif reason.startswith(_ALONE):
            self._alone[agent] += [each.until for each in held if each.known]
        self._check_shares(ended)

    def _check_all(self, agent: str, silent: bool) -> None:
        """All that it had is lost with it; nothing was just before."""
        kept = [attempt for attempt, held in self._has.items() if held.agent == agent]
        if kept:
            self._broken(f"{agent} has ended, and has {kept[0]} still")
        now = self._world.loop.time()
        for until in self._alone.pop(agent, ()):
            if silent and now < until + self.interval:
                self._broken(f"{agent} fell silent, and lost something {now - until:.1f} s before the rest")

    def _check_shares(self, ended: bool) -> None:
        suspects = {attempt for attempt in self._told if _blame(self._world, attempt)} or set(self._told)
        for attempt, event in self._told.items():
            share = len(suspects) if ended and attempt in suspects else 0
            if event.among != share:
                self._broken(f"{event} of {attempt.job}: it is among {share}")

    def _broken(self, told: str) -> None:
        self._world.violated(Violation("blame", told))


def check_apart(world: World) -> None:
    """Several suspects at one agent are little suspected, by what is stored. Raises `Violation`."""
    suspected: dict[str, list[int]] = defaultdict(list)
    for record in world.journal.jobs.values():
        for command, _ in record.outbox.values():
            if isinstance(command, RequestTask | CancelAttempt) and command.agent in world.agents:
                blame = record.runs[command.task].blame
                suspected[command.agent] += [blame] if blame else []
    for agent, blames in suspected.items():
        if len(blames) > 1 and sum(blames) > BLAME / 2:
            raise Violation("blame", f"{agent} has several suspects: {blames} of {BLAME}")


def _blame(world: World, attempt: Attempt) -> int:
    return world.journal.jobs[attempt.tenant, attempt.job].runs[attempt.task].blame
