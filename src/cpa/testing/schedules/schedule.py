"""What a seed is: a plan, the faults that exist, and how often they strike.

Which faults exist is drawn per seed (a swarm): a world in which everything happens at once hides what only happens
when little else does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Final

from cpa.core.classes import EffectClass
from cpa.core.job import JobSpec, RetryPolicy, TaskSpec
from cpa.core.people import ASK

FAULTS: Final[dict[str, str]] = {
    "technical": "attempts fail and may be tried again",
    "environment": "attempts find their place not ready",
    "business": "attempts get a no",
    "policy": "attempts are forbidden",
    "unknown_outcome": "attempts end without knowing whether the effect happened",
    "refuses": "agents refuse what they are asked for",
    "proposes": "agents would do it otherwise, or later",
    "deferred": "no agent can take a task",
    "lease": "leases are lost",
    "loss": "answers never arrive: their time runs out",
    "late": "answers arrive after others, or after the end",
    "repeats": "what was said is said again",
    "noise": "events of every kind nobody waits for: of other epochs, of tasks that are not there",
    "absent": "looks find nothing",
    "unseen": "looks cannot tell yet",
    "silent": "people do not answer in time",
    "no": "people say no",
    "impostor": "those answer who must not, about what was not asked",
    "cancel": "people cancel",
    "deadline": "jobs and runs have no time left",
    "slow_timers": "timers fire late",
    "inbox": "people fix, skip, do by hand or restart tasks of a run that failed",
    "discards": "people give a failed job up",
    "crashes": "the process ends; the job goes on as its rows say",
}
"""Every fault there is, in words."""

PEOPLE: Final = ("Jörg", "Anna", "Uwe", "İnci", "Ida")
"""Who answers questions; the first is who asked for the job, where that is known."""

MOST_TASKS: Final = 12
QUIET: Final = 400
"""Turns after which no more faults come, so that every world ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One job's course, completely. Equal schedules take the same course."""

    seed: int
    faults: frozenset[str] | None = None
    """Those that exist; None is what the seed draws."""
    tasks: int = MOST_TASKS
    """Most tasks of the job."""
    quiet: int = QUIET

    def drawn(self) -> Schedule:
        """The same one with its faults by name."""
        return self if self.faults is not None else replace(self, faults=drawn_faults(self.seed))

    def without(self, fault: str) -> Schedule:
        return replace(self, faults=(self.drawn().faults or frozenset()) - {fault})


def drawn_faults(seed: int) -> frozenset[str]:
    """Those that exist in the world of a seed."""
    chance = random.Random(seed)  # noqa: S311
    share = chance.choice((0.2, 0.5, 0.5))
    return frozenset(fault for fault in FAULTS if chance.random() < share)


def plan(chance: random.Random, most: int) -> JobSpec:
    """A graph of up to `most` tasks with everything a task can have."""
    choice = chance.choice
    return JobSpec(
        tuple(_task(chance, index) for index in range(chance.randint(1, most))),
        max_parallel=chance.randint(1, 4),
        timeout=choice((0, 0, 60_000)),
        max_retries=chance.randint(0, 3),
        environment_wait=choice((0, 5_000, 400_000, 3_600_000)),
        requester=choice(("", PEOPLE[0])),
    )


def _task(chance: random.Random, index: int) -> TaskSpec:
    choice, draw = chance.choice, chance.random
    needs = tuple(sorted(chance.sample(range(index), min(index, choice((0, 1, 1, 2, 3))))))
    references = tuple(need for need in needs if draw() < 0.2)
    asks = draw() < 0.1
    approval = not asks and draw() < 0.25
    number = choice((0, 1, 1, 2, 3)) if approval else 0
    arguments: dict[str, Any] = {"v": choice((1, "ä", {"secret": "s"}))}
    if references:
        arguments["x"] = f"{{{{ tasks.t{references[0]}.result.x }}}}"
    if asks:
        arguments = {"question": "Wie viel?", "for": choice(("", "Anna"))}
    return TaskSpec(
        id=f"t{index}",
        action=ASK if asks else "flow.noop",
        arguments=arguments,
        needs=needs,
        references=references,
        when=_condition(chance, needs),
        effect=choice(_EFFECTS),
        approval=approval,
        approvals=number,
        approvers=choice(((), PEOPLE[1:], PEOPLE[1 : number + 1])) if number else (),
        approval_expires=choice((0, 0, 60_000)) if number else 0,
        retry=choice(_RETRIES),
    )


def _condition(chance: random.Random, needs: tuple[int, ...]) -> str:
    draw = chance.random()
    if draw < 0.75:
        return ""
    return f"tasks.t{needs[0]}.result.x == 1" if needs and draw < 0.87 else "false"


_EFFECTS: Final = tuple(EffectClass)
_RETRIES: Final = tuple(
    RetryPolicy(max_attempts=most, first_delay=delay, max_losses=most)
    for most in (1, 2, 3, 4)
    for delay in (0, 1, 500, 2_000)
)
