"""What this process sees of an agent, and of a task that asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cpa.core.assignment import forgiven, weighed
from cpa.core.job import Snapshot, TaskRun
from cpa.core.retry import BLAME
from cpa.orchestrator.readiness import facts
from cpa.ports.agents import AgentRecord, AgentState, AgentStatus, Beat
from cpa.ports.transport import Attempt

SESSIONS = ("web.", "desktop.")
"""Families of actions whose steps share something (a browser context, a screen): those of one job stay together."""
BUILTIN = "BUILTIN"
UNREAD = "what is stored of it cannot be read: remove it, then it can register anew"
_SILENT = Beat()


@dataclass(slots=True, eq=False)
class Agent:
    """A process (or a part of this one) that does actions, as this process sees it."""

    address: str
    """`agent://<kind>/<name>`"""
    actions: frozenset[str]
    capabilities: frozenset[str] = frozenset()
    """Free tags besides the actions."""
    slots: int = 10_000
    """Attempts at the same time, as far as it has room for them now."""
    busy: int = 0
    sessions: int = 0
    """Most jobs that may hold a session at the same time; 0 is no limit."""
    holders: dict[tuple[str, str], Attempt] = field(default_factory=dict)
    """Jobs (tenant, id) that hold a session, and the attempt for which each got it."""
    suspects: dict[Attempt, int] = field(default_factory=dict)
    """Its attempts at tasks that lost an agent before, with their blame (as `core.retry.BLAME`)."""
    tenant: str = ""
    """Whose tasks it takes; empty is everybody's."""
    record: AgentRecord | None = None
    """What is durable of an agent outside this process."""
    online: bool = True
    beat: Beat = _SILENT
    """What it said last."""
    noted: Beat = _SILENT
    """The last of what it said that is durable."""
    trouble: str = ""
    """Why it cannot be reached just now, for people; empty when it can, as far as is known."""
    mute: bool = False
    """It was asked to look for an effect, did not answer in time, and has not answered another look since."""
    weights: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By action: its weight and when that was, in milliseconds. Only for what ever failed."""

    @classmethod
    def of(cls, record: AgentRecord, beat: Beat) -> Agent:
        """One that nobody has heard of yet in this process."""
        return cls(
            record.address,
            frozenset(record.actions),
            frozenset(record.tags),
            record.slots,
            tenant=record.tenant,
            record=record,
            online=False,
            beat=beat,
            noted=beat,
            trouble=UNREAD if record.unread else "",
        )

    @property
    def key(self) -> tuple[str, str]:
        """(tenant, address): two tenants may call their agents alike."""
        return self.tenant, self.address

    @property
    def name(self) -> str:
        """What it is called in its tenant."""
        return self.address.rpartition("/")[2] if self.record is None else self.record.name

    @property
    def way(self) -> tuple[str, str] | None:
        """Its key where it can fail alone; None for the part of this process."""
        return self.key if self.remote else None

    @property
    def type(self) -> str:
        """What it registered as; `BUILTIN` for a part of this process."""
        return BUILTIN if self.record is None else self.record.type

    @property
    def remote(self) -> bool:
        return self.record is not None

    @property
    def load(self) -> float:
        return self.beat.load

    @property
    def state(self) -> AgentState:
        return AgentState.ACTIVE if self.record is None else self.record.state

    @property
    def status(self) -> AgentStatus:
        """Offline when it is, else what it said last."""
        return self.beat.status if self.online else AgentStatus.OFFLINE

    def fits(self, type: str = "", capability: str = "", status: str = "") -> bool:
        """Whether it is what somebody looks for; empty words are not asked for. `capability` is an action or a tag,
        `status` what it says of itself or what was decided about it."""
        return (
            type in ("", self.type)
            and (not capability or capability in self.actions or self.offers(capability))
            and status in ("", self.status, self.state)
        )

    @property
    def tags(self) -> frozenset[str]:
        """What tasks may ask for besides actions: its free tags, and what its last beat said."""
        return self.capabilities | facts(self.beat.readiness)

    def offers(self, capability: str) -> bool:
        return capability in self.capabilities or capability in facts(self.beat.readiness)

    def admits(self, blame: int) -> bool:
        """Whether a task with so much blame may join those it has. Suspects are kept apart, so that it shows who it
        is: together they have at most half the blame for one end, unless one of them is alone."""
        return not (blame and self.suspects) or 2 * (sum(self.suspects.values()) + blame) <= BLAME

    def weight(self, action: str, now: int) -> float:
        """What it counts for at this action when one is chosen: 1 in full, less after failures."""
        known = self.weights.get(action)
        return 1.0 if known is None else forgiven(known[0], now - known[1])

    def ended(self, action: str, now: int, *, well: bool) -> None:
        """One more outcome of this action."""
        weight, at = self.weights.get(action, (1.0, now))
        if not well or action in self.weights:
            self.weights[action] = (weighed(weight, now - at, well=well), now)


class Applicant(msgspec.Struct, frozen=True, gc=False):
    """A task that asks for an agent."""

    tenant: str
    job: str
    task: int
    epoch: int
    action: str
    capability: str = ""
    arguments: Mapping[str, Any] = {}
    retry: bool = False
    """Whether it was tried before, and failed."""
    told: str = ""
    """Why nobody could take it, as it was told already: it waits in line until that changes."""
    blame: int = 0
    """For the ends of agents that had its task, as `TaskRun.blame`."""
    last: bool = False
    """Once more an agent that has nothing else to blame ends over it, and it is given up."""

    @classmethod
    def of(cls, job: Snapshot, run: TaskRun) -> Applicant:
        """The task as it asks now, for whoever only wants to know."""
        head, spec = job.head, job.spec.tasks[run.index]
        asks = (head.tenant, head.id, run.index, run.epoch, spec.action, spec.capability, spec.arguments)
        return cls(*asks, blame=run.blame)

    @property
    def attempt(self) -> Attempt:
        """Which try of which task it asks for."""
        return Attempt(self.tenant, self.job, self.task, self.epoch)


def session_of(action: str) -> str:
    """The family whose steps share a session, or empty."""
    return next((family for family in SESSIONS if action.startswith(family)), "")
