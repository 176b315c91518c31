"""Contract nets: for a task that asks for bids, the agents that could take it are asked, and the best bid wins.

    discover → offer (or refuse) of each, until the time is up or all have answered → the best one is chosen

Nothing of this is durable, and nothing needs to be: the task's dispatch is open meanwhile, and after a restart the
same agents are asked again by the same ids. Whoever won has its slot taken only then; when it has none any more the
next one gets the task, and without a bid the choice is made as for any other task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from cpa.core.bidding import Bid, ranked
from cpa.core.commands import DispatchTask
from cpa.core.events import Event
from cpa.core.job import JobState
from cpa.core.lam_payloads import OfferPayload
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant
from cpa.orchestrator.assignments import Assignments
from cpa.ports.clock import Clock
from cpa.ports.transport import Attempt

Discover = Callable[[Agent, Attempt, str, Applicant, float], bool]
"""(agent, attempt, what its job calls the task, what it asks for, seconds): ask for a bid. False when that fits
into no message."""


@dataclass(slots=True, eq=False)
class _Net:
    """Bids for one task."""

    applicant: Applicant
    asked: dict[str, Agent]
    """Who has not answered yet, by address."""
    timer: asyncio.TimerHandle
    bids: dict[str, Bid] = field(default_factory=dict)
    bidders: dict[str, Agent] = field(default_factory=dict)


class Bids:
    """Open contract nets."""

    def __init__(
        self, agents: AgentRegistry, assignments: Assignments, discover: Discover, clock: Clock
    ) -> None:
        self._agents = agents
        self._assignments = assignments
        self._discover = discover
        self._clock = clock
        self._nets: dict[Attempt, _Net] = {}

    def choose(self, job: JobState, command: DispatchTask) -> Event | None:
        """As `Assignments.choose`, by bids where agents outside this process can be asked for some."""
        spec = job.spec.tasks[command.task]
        applicant = self._assignments.applicant(job, command)
        attempt = applicant.attempt
        if attempt in self._nets:
            return None
        if not applicant.retry and not self._assignments.has(attempt):
            seconds = spec.bids / 1000
            asked = {
                agent.address: agent
                for agent in self._agents.candidates(applicant)
                if agent.remote and self._discover(agent, attempt, spec.id, applicant, seconds)
            }
            if asked:
                timer = asyncio.get_running_loop().call_later(seconds, self._close, attempt)
                self._nets[attempt] = _Net(applicant, asked, timer)
                return None
        return self._assignments.choose(job, command)

    def bid(self, attempt: Attempt, address: str, offer: OfferPayload) -> bool:
        """An agent's offer; False when nobody waits for it any more."""
        net = self._nets.get(attempt)
        agent = None if net is None else net.asked.pop(address, None)
        if net is None or agent is None:
            return False
        confidence = 1.0 if offer.confidence is None else offer.confidence
        net.bids[address] = Bid(
            agent=address,
            cost=offer.cost or 0.0,
            eta=inf if offer.eta is None else offer.eta,
            load=offer.load or 0.0,
            confidence=confidence,
            weight=agent.weight(net.applicant.action, self._clock.now_ms()),
        )
        net.bidders[address] = agent
        self._perhaps(attempt, net)
        return True

    def declined(self, attempt: Attempt, address: str) -> bool:
        """The agent does not bid; False when nobody waits for it."""
        net = self._nets.get(attempt)
        if net is None or net.asked.pop(address, None) is None:
            return False
        self._perhaps(attempt, net)
        return True

    def job_ended(self, tenant: str, job: str) -> None:
        """Nothing of the job needs an agent any more."""
        for attempt in [each for each in self._nets if (each.tenant, each.job) == (tenant, job)]:
            self._nets.pop(attempt).timer.cancel()

    def _perhaps(self, attempt: Attempt, net: _Net) -> None:
        if not net.asked:
            net.timer.cancel()
            self._close(attempt)

    def _close(self, attempt: Attempt) -> None:
        net = self._nets.pop(attempt)
        winners = [net.bidders[bid.agent] for bid in ranked(tuple(net.bids.values()))]
        self._assignments.award(net.applicant, winners)
