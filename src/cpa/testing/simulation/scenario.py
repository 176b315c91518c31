"""What a run is like: how much work there is, and which faults exist, all drawn from its seed.

Only some faults exist in each run (a swarm): where everything goes wrong at once, nobody sees what goes wrong when
little else does. Every part of the world draws from a stream of its own, so that taking one fault away leaves the
others nearly as they were; that is what shrinking lives on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

FAULTS: Final[dict[str, str]] = {
    "loss": "messages vanish",
    "duplicates": "messages arrive up to five times",
    "reordering": "some messages arrive minutes late",
    "slow_network": "every message takes up to two seconds",
    "partitions": "agents are cut off, in one direction or both",
    "crashes": "the scheduler ends between two instructions, or around a commit",
    "restarts": "the scheduler is stopped in order and started again",
    "disk": "commits are refused for a while",
    "slow_disk": "a commit takes up to half a second, and now and then five",
    "clock": "the scheduler's wall clock jumps, forward and back",
    "deaths": "agents die and come back as new processes",
    "lost_agents": "an agent dies and never comes back",
    "pauses": "agents stand still for longer than a lease, then go on",
    "slow_agents": "some agents take up to thirty times as long",
    "stuck_agents": "some attempts never end by themselves",
    "forgetful": "agents forget an attempt without a word",
    "mute": "agents work without beating for a while",
    "technical": "attempts fail and may be tried again",
    "environment": "attempts find their place not ready",
    "business": "attempts get a no",
    "unknown": "attempts end without knowing whether the effect happened",
    "refusals": "agents refuse what they are asked for",
    "liars": "agents claim what others have, and repeat under new names what they said long ago",
    "cancels": "people cancel jobs",
    "no": "people say no",
    "retries": "people take up jobs that failed",
    "deadlines": "jobs and runs have little time",
    "proposals": "agents would rather do it otherwise, or later",
    "operators": "agents are drained or put in quarantine, and taken back",
    "removals": "agents are revoked or unregistered, and come back as new ones, with new keys",
    "standstills": "everything stands still for some seconds, and goes on late",
    "stoppages": "the scheduler alone stands still for some seconds, and agents and network go on",
    "echoes": "requests and cancels come again when what they were about has gone on",
    "builtin": "the scheduler's own part does tasks too",
}
"""Every fault there is, in words."""
WIRES: Final = ("direct", "channel", "http", "signed-channel", "signed-http")
"""How agents and scheduler are joined: by values handed over, or by the real channel or HTTP on both sides."""
HAPPENS: Final[dict[str, str]] = {
    "broken_channels": "a channel breaks before or after a frame",
    "half_open_channels": "one end of a channel does not learn that it broke",
    "resumed_channels": "an agent comes back with a stream that is known",
    "new_streams": "an agent comes back with a stream that nobody knows",
    "http_502_before": "somebody in between answers instead, and the request never came through",
    "http_502_after": "the same, and it came through",
    "http_reset_before": "a connection is reset, and the request never came through",
    "http_reset_after": "the same, and it came through",
    "replays": "a copy of a signed request is refused",
    "late_requests": "an agent is asked again for an attempt when it has a later one of the same task",
    "late_cancels": "an agent is told again to stop an attempt when it has a later one of the same task",
    "requests_of_ended_jobs": "a person's request comes again when its job has ended",
    "cancels_of_runs_before": "a person's cancel comes again when the job's next run is under way",
}
"""What happens because of the faults, most of it on real wires alone, in words."""
LATER: Final = ("operators", "proposals", "removals", "standstills", "stoppages", "echoes")
"""Those that came when seeds had been kept already: drawn apart, each after those before it, so that all others
stay what they were."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run, completely. Equal scenarios take the same course."""

    seed: int
    jobs: int
    agents: int
    tasks: int
    """Most tasks of one job."""
    minutes: float
    """Virtual minutes during which things go wrong."""
    faults: frozenset[str]
    strength: float
    """How often they strike, between 0 and 1."""
    sql: bool = False
    """Keep the jobs in a real SQLite store instead of in memory."""
    wire: str = "direct"
    """One of `WIRES`."""

    @property
    def signed(self) -> bool:
        """Whether agents sign what they say."""
        return self.wire.startswith("signed")

    @property
    def way(self) -> str:
        """`direct`, `channel` or `http`."""
        return self.wire.rpartition("-")[2]

    def stream(self, name: str) -> random.Random:
        """The chance of one part of the world."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311

    def without(self, fault: str) -> Scenario:
        return replace(self, faults=self.faults - {fault})


def draw(
    seed: int, *, jobs: int = 0, agents: int = 0, minutes: float = 0.0, sql: bool = False, wire: str = ""
) -> Scenario:
    """The scenario of a seed; what is given is not drawn."""
    chance = random.Random(f"{seed}:scenario")  # noqa: S311
    share = chance.choice((0.15, 0.3, 0.5))
    faults = {fault for fault in FAULTS if fault not in LATER and chance.random() < share}
    apart = random.Random(f"{seed}:later")  # noqa: S311
    faults |= {fault for fault in LATER if apart.random() < share}
    drawn_jobs, drawn_agents = chance.choice((1, 2, 3, 5)), chance.choice((1, 2, 3, 4))
    tasks = chance.choice((1, 2, 4, 6))
    drawn_minutes = chance.choice((1.0, 2.0, 4.0))
    return Scenario(
        seed=seed,
        jobs=jobs or drawn_jobs,
        agents=agents or drawn_agents,
        tasks=tasks,
        minutes=minutes or drawn_minutes,
        faults=frozenset(faults),
        strength=chance.choice((0.05, 0.15, 0.4)),
        sql=sql,
        wire=wire or _wire(seed),
    )


def _wire(seed: int) -> str:
    """Drawn apart, as what came later is; every other run goes without a wire, which is faster."""
    chance = random.Random(f"{seed}:wire")  # noqa: S311
    return chance.choice(WIRES[1:]) if chance.random() < 0.5 else WIRES[0]
