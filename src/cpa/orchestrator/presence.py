"""Who is there, and which attempts still live: beats, leases, and the one loop that notices what ran out.

An attempt with an agent outside this process has a lease of three beats. A beat renews exactly the attempts it
names, a message about an attempt renews that one. It is lost

    - when its lease runs out, and the agent is not about to be offline: then it is lost with all else that has;
    - when a beat no longer names it: at once if an earlier one did, else with the second beat after the agent took
      it, because one beat may have crossed the request on its way;
    - when its agent is offline (three beats missed), was restarted, or is not to be heard any more.

An agent that was restarted has ended with what it had. One that fell silent has too, as far as anybody can know, if
others were heard at the same time; else it is the network that is away, or we are, and nobody is to blame.

Nothing here is durable, and nothing here keeps an effect from happening twice: that is what epochs are for. A lease
only decides when to stop waiting. After a restart of the scheduler every attempt gets one fresh lease, and until
all are known again nobody is told to stop what is not known. If the scheduler itself stood still, no lease runs out
before agents had the time to be heard.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.ports.agents import AgentState, AgentStatus, Beat, Named
from cpa.ports.clock import Clock
from cpa.ports.transport import Attempt

BEATS = 3
"""How many missed beats make an agent offline, and how many a lease lasts."""


@dataclass(slots=True, eq=False)
class Lease:
    """What keeps an attempt with its agent."""

    attempt: Attempt
    agent: Agent
    named: Named
    """How beats call it."""
    until: float
    """On the monotonic clock, seconds."""
    taken: bool = False
    """The agent has it: it was handed over, or answered."""
    seen: bool = False
    """A beat named it."""
    crossed: bool = False
    """One beat after it was taken did not name it."""
    heard: bool = False
    """The agent said something about it."""
    over: bool = False


Key = tuple[str, str]
"""An agent: its tenant and its address."""
Lost = Callable[[Sequence[Attempt], str, bool], None]
"""Takes attempts of one agent that have lost their leases, why, and whether it was by the end of the agent: then
these are all that it had. Must not block."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a beat is answered with."""

    lost: tuple[Named, ...]
    """Attempts it named that are not its own any more: to be stopped."""
    state: AgentState
    interval: float
    """Seconds until the next beat is expected."""
    lease: float
    """Seconds after a beat in which what it named is its own."""


class Presence:
    """Beats and leases of the agents of one registry; `run` is the loop."""

    def __init__(self, agents: AgentRegistry, clock: Clock, interval: float = 5.0) -> None:
        """`interval`: seconds between an agent's beats."""
        self.interval = interval
        self.lease = BEATS * interval
        self.settled = False
        """Every attempt of an earlier life of this process is known again."""
        self._agents = agents
        self._clock = clock
        self._leases: dict[Attempt, Lease] = {}
        self._by_agent: dict[Key, dict[Named, Lease]] = {}
        self._seen: dict[Key, float] = {}
        """When agents that are online gave their last sign of life."""
        self._gone: dict[Key, float] = {}
        """When those that are offline did, since this process began."""
        self._line: list[tuple[float, bool, int, Lease | Key]] = []
        """What to look at when, agents before leases: what a silent agent had must not be given to it again. The
        time is a lower bound. Each lease and each agent is in it at most once."""
        self._watching: set[Key] = set()
        """Agents in that line."""
        self._number = 0
        self._awake_by = math.inf
        """When the loop is to look at the clock next."""
        self._deaf = 0.0
        """Until then nothing runs out."""
        self._sooner = asyncio.Event()
        self._lost: Lost = _nobody

    def connect(self, lost: Lost) -> None:
        self._lost = lost

    # -- attempts ------------------------------------------------------------------------------------------

    def begin(self, agent: Agent, attempt: Attempt, task: str) -> None:
        """The attempt goes to this agent, where beats name its task so; a lease it has stays as it is."""
        if attempt in self._leases:
            return
        named = Named(attempt.job, task, attempt.epoch)
        lease = Lease(attempt, agent, named, self._clock.monotonic() + self.lease)
        self._leases[attempt] = lease
        self._by_agent.setdefault(agent.key, {})[named] = lease
        self._watch(lease.until, lease)

    def taken(self, attempt: Attempt) -> None:
        """The agent has the request: from now on its beats should name it."""
        lease = self._leases.get(attempt)
        if lease is not None:
            lease.taken = True

    def has(self, attempt: Attempt) -> bool:
        return attempt in self._leases

    def named(self, attempt: Attempt) -> bool:
        """Whether a beat of the agent named the attempt: then it has it, whatever else it says."""
        lease = self._leases.get(attempt)
        return lease is not None and lease.seen

    def silent(self, attempt: Attempt) -> bool:
        """Whether the agent has the attempt and gave no word of it, neither a message nor in a beat."""
        lease = self._leases.get(attempt)
        return lease is not None and lease.taken and not (lease.heard or lease.seen)

    def renew(self, attempt: Attempt) -> None:
        """The agent said something about the attempt."""
        lease = self._leases.get(attempt)
        if lease is not None:
            lease.taken = lease.heard = True
            lease.until = self._clock.monotonic() + self.lease
            self.sign(lease.agent)

    def end(self, attempt: Attempt) -> None:
        """The attempt is over."""
        lease = self._leases.pop(attempt, None)
        if lease is not None:
            lease.over = True
            self._by_agent[lease.agent.key].pop(lease.named, None)

    def running(self, agent: Agent) -> tuple[tuple[Attempt, Named, float], ...]:
        """The agent's attempts, how beats name them, and how many seconds each lease still has."""
        now = self._clock.monotonic()
        leases = self._by_agent.get(agent.key, {}).values()
        return tuple((lease.attempt, lease.named, max(lease.until - now, 0.0)) for lease in leases)

    # -- agents --------------------------------------------------------------------------------------------

    def sign(self, agent: Agent) -> None:
        """A sign of life."""
        now = self._clock.monotonic()
        self._seen[agent.key] = now
        if agent.key not in self._watching:
            self._watching.add(agent.key)
            self._watch(now + self.lease, agent.key)
        if not agent.online and agent.beat.status is not AgentStatus.OFFLINE:
            agent.online = True
            self._agents.changed()

    def last(self, agent: Agent) -> float | None:
        """How many seconds ago the agent gave its last sign of life; None when there was none in this life of the
        scheduler."""
        seen = self._seen.get(agent.key, self._gone.get(agent.key))
        return None if seen is None else max(self._clock.monotonic() - seen, 0.0)

    def beat(self, agent: Agent, beat: Beat) -> tuple[Named, ...]:
        """Take a beat; returns what the agent is to stop, because it is not its own any more."""
        before = (agent.online, agent.slots, agent.beat.status, agent.beat.readiness)
        agent.beat = beat
        agent.slots = _room(agent, beat)
        agent.online = beat.status is not AgentStatus.OFFLINE
        lost = self._compare(agent, beat.running)
        self.sign(agent)
        if before != (agent.online, agent.slots, beat.status, beat.readiness):
            self._agents.changed()
        return lost

    def leave(self, agent: Agent, reason: str, *, ended: bool = False) -> None:
        """Nothing more is expected of the agent for now: its attempts are lost."""
        if (seen := self._seen.pop(agent.key, None)) is not None:
            self._gone[agent.key] = seen
        agent.online = False
        self._agents.changed()
        self.lose(agent, reason, ended=ended)

    def lose(self, agent: Agent, reason: str, *, ended: bool = False) -> None:
        """The agent stays, and its attempts are lost; with `ended` it has lost them by ending."""
        self._give_up(list(self._by_agent.get(agent.key, {}).values()), reason, ended=ended)

    def forget(self, agent: Agent, reason: str) -> None:
        """The agent is no more."""
        self.leave(agent, reason)
        self._by_agent.pop(agent.key, None)
        self._gone.pop(agent.key, None)

    # -- the loop ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Notice what runs out, until cancelled."""
        while True:
            self._sooner.clear()
            now = self._clock.monotonic()
            if not self.deaf():
                self._expire(now)
            self._awake_by, wait = math.inf, None
            if self._line:
                # A lease is two beats longer than the silence of who beats in time. So that no more than that is
                # missed, a standstill of one beat must show, whenever the next lease ends.
                self._awake_by = min(max(self._line[0][0], self._deaf), now + self.interval / 2)
                wait = max(self._awake_by - now, 0.0)
            try:
                async with asyncio.timeout(wait):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    def deaf(self) -> bool:
        """Whether this process stood still until a moment ago: what agents said meanwhile may lie unread, and
        nobody's silence tells anything."""
        now = self._clock.monotonic()
        if now - self._awake_by > self.interval / 2:
            self._awake_by, self._deaf = math.inf, now + self.lease
        return now < self._deaf

    def _expire(self, now: float) -> None:
        while self._line and self._line[0][0] <= now:
            when, _, _, watched = heapq.heappop(self._line)
            if isinstance(watched, tuple):
                self._look_after(watched, now)
            elif watched.over:
                continue
            elif watched.until > now:
                self._watch(watched.until, watched)
            elif (offline := self._offline(watched)) > when:
                self._watch(offline, watched)
            else:
                self._give_up([watched], f"its agent did not name it for {self.lease:g} s")

    def _offline(self, lease: Lease) -> float:
        """When the agent will be offline, if its last word came after the attempt was renewed and before the next
        beat was due: then it falls silent as a whole, and loses all it has at once. 0 otherwise."""
        seen = self._seen.get(lease.agent.key)
        due = 0.0 if seen is None else seen + self.lease
        return due if lease.taken and due < lease.until + self.interval else 0.0

    def _look_after(self, key: Key, now: float) -> None:
        self._watching.discard(key)
        seen, agent = self._seen.get(key), self._agents.get(key[1], key[0])
        if seen is None or agent is None:
            return
        if seen + self.lease > now:
            self._watching.add(key)
            self._watch(seen + self.lease, key)
        else:
            reason = f"its agent was not heard of for {self.lease:g} s"
            self.leave(agent, reason, ended=self._others(key, now))

    def _others(self, silent: Key, now: float) -> bool:
        """Whether others were heard since this one fell silent: each beats once in an interval, and its last beat
        was a lease ago."""
        since = now - (BEATS - 1) * self.interval
        return any(seen > since for key, seen in self._seen.items() if key != silent)

    # -- inside --------------------------------------------------------------------------------------------

    def _watch(self, when: float, watched: Lease | Key) -> None:
        self._number += 1
        if not self._line or when < self._line[0][0]:
            self._sooner.set()
        heapq.heappush(self._line, (when, isinstance(watched, Lease), self._number, watched))

    def _compare(self, agent: Agent, running: tuple[Named, ...]) -> tuple[Named, ...]:
        """What the agent names against what it has."""
        now = self._clock.monotonic()
        mine = self._by_agent.get(agent.key, {})
        strange = []
        for named in running:
            lease = mine.get(named)
            if lease is not None:
                lease.until, lease.taken, lease.seen, lease.crossed = now + self.lease, True, True, False
            elif self.settled:
                strange.append(named)
        missing = set(mine).difference(running) if mine else ()
        for lease in [lease for named, lease in mine.items() if named in missing]:
            if lease.seen or lease.crossed:
                self._give_up([lease], "its agent does not name it any more")
            elif lease.taken:
                lease.crossed = True
        return tuple(strange)

    def _give_up(self, leases: Sequence[Lease], reason: str, *, ended: bool = False) -> None:
        attempts = [lease.attempt for lease in leases if not lease.over]
        for attempt in attempts:
            self.end(attempt)
        if attempts:
            self._lost(attempts, reason, ended)


def _room(agent: Agent, beat: Beat) -> int:
    """How many attempts the agent can have, by its registration and by what it says."""
    most = agent.slots if agent.record is None else agent.record.slots
    if beat.status is AgentStatus.BUSY:
        return min(most, len(beat.running))
    return most if beat.free is None else min(most, len(beat.running) + max(beat.free, 0))


def _nobody(_attempts: Sequence[Attempt], _reason: str, _ended: bool) -> None: ...
