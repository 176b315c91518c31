"""How long an attempt stays with an agent that is slow, silent or dead: real processes, measured in seconds."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agents.client import Client
from tests.e2e.agents.poison import Supervisor, supervised
from tests.e2e.agents.raw import raw_agent
from tests.e2e.kill.ledger import Ledger
from tests.e2e.test_agents import BEAT, scheduling
from tests.servers.scheduler import Scheduler

from cpa.core.events import AgentChosen, LeaseLost, TaskVerified
from cpa.orchestrator.presence import BEATS

LEASE = BEATS * BEAT
"""Seconds."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def slow(**more: Any) -> dict[str, Any]:
    return {"id": "t", "action": "x.raw.do", "effect": "idempotent", "timeout": 120} | more


def test_a_slow_agent_that_beats_keeps_its_task_for_as_long_as_it_takes(tmp_path: Path) -> None:
    with (
        scheduling(tmp_path, CPA_HEARTBEAT_SECONDS="0.5") as (scheduler, client),
        raw_agent(scheduler, "langsam", "x.raw.do") as agent,
    ):
        job = client.submit(slow())
        request = agent.take("request")
        agent.say("agree", request, {})
        for _ in range(10 * BEATS):  # ten leases
            agent.beat(request)
            time.sleep(0.5)
        assert agent.say("done", request, {"result": {"text": "Grüße"}}) == "task_succeeded"
        assert client.end(job)["status"] == "done"
        assert client.events(job, "lease_lost") == []


def test_a_silent_agent_loses_its_task_within_a_lease_and_a_second(tmp_path: Path) -> None:
    with (
        scheduling(tmp_path) as (scheduler, client),
        raw_agent(scheduler, "stumm", "x.raw.do") as agent,
    ):
        job = client.submit(slow())
        request = agent.take("request")
        agent.say("agree", request, {})
        agent.beat(request)
        silent = time.monotonic()
        client.wait_event(job, "lease_lost")
        assert LEASE - 0.1 <= time.monotonic() - silent <= LEASE + 1
        assert agent.say("done", request, {"result": {"text": "zu spät"}}) == "stale_epoch"


# -- kill -9, again and again, and all at once -------------------------------------------------------------------

AGENTS, SLOTS, ROUNDS, AT_ONCE = 8, 4, 12, 6
WORKER = """
import asyncio
import sys
from pathlib import Path

from cpa.agents import Agent
from cpa.ports.executor import ActionRequest, Verdict, Verification

name = sys.argv[1]
log = Path("../effects.txt")
agent = Agent(name, type="DATA", slots=4, grace=1.0)


def note(number):
    with log.open("a") as file:
        file.write(f"{number}\\n")


async def there(request: ActionRequest) -> Verification:
    seen = log.exists() and str(request.arguments["number"]) in log.read_text().splitlines()
    return Verification(verdict=Verdict.HAPPENED if seen else Verdict.ABSENT, evidence="the log tells")


@agent.action("x.work.count", effect="idempotent")
async def count(number: int):
    await asyncio.sleep(1.0)
    return {"number": number}


@agent.action("x.work.send", effect="verifiable", verify=there)
async def send(number: int):
    await asyncio.sleep(0.5)
    note(number)
    await asyncio.sleep(0.5)
    return {"number": number}


agent.run()
"""


@dataclass(frozen=True)
class Losses:
    """What a storm over agents left behind."""

    scheduler: Scheduler
    client: Client
    ledger: Ledger
    effects: Path
    jobs: list[str] = field(default_factory=list)
    killed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By name: when, in seconds of the wall clock."""

    @property
    def all_killed(self) -> float:
        """When all were killed at once, at the end."""
        return min(each[-1] for each in self.killed.values())

    def submit(self, number: int) -> None:
        # The storm is a thousand times what machines do: no task is to blame for three ends in a row here.
        kind = "send" if number % 2 else "count"
        task = {"id": "t", "action": f"x.work.{kind}", "arguments": {"number": number}, "timeout": 60}
        effect = "verifiable" if number % 2 else "idempotent"
        self.jobs.append(self.client.submit(task | {"effect": effect, "retry": {"max_losses": 20}}))

    def kill(self, *agents: Supervisor) -> None:
        for agent in agents:
            self.killed[agent.name].append(time.time())
            agent.kill()


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Losses]:
    folder, draw = tmp_path_factory.mktemp("losses"), random.Random(4)
    with scheduling(folder) as (scheduler, client), ExitStack() as stack:
        agents = [
            stack.enter_context(supervised(scheduler, folder, f"agent{number}", WORKER))
            for number in range(AGENTS)
        ]
        found = Losses(scheduler, client, Ledger(scheduler.data / "cpa.db"), folder / "effects.txt")
        found.submit(0)
        client.end(found.jobs[0])
        numbers = iter(range(1, 10_000))
        for _ in range(ROUNDS):
            for _ in range(AT_ONCE):
                found.submit(next(numbers))
            time.sleep(draw.uniform(0.3, 1.0))
            found.kill(*draw.sample(agents, AGENTS // 4))
            time.sleep(1.0)
        for _ in range(AT_ONCE):
            found.submit(next(numbers))
        time.sleep(0.7)
        found.kill(*agents)
        for job in found.jobs:
            client.end(job, seconds=120)
        yield found


def test_no_task_of_killed_agents_is_lost(losses: Losses) -> None:
    unfinished = {
        job: head for job in losses.jobs if (head := losses.client.get(f"/jobs/{job}"))["status"] != "done"
    }
    assert unfinished == {}
    assert len(losses.jobs) == 1 + AT_ONCE * (ROUNDS + 1)


def test_none_of_their_effects_is_missing_or_doubled(losses: Losses) -> None:
    done = Counter(losses.effects.read_text().split())
    assert done == {str(number): 1 for number in range(1, len(losses.jobs), 2)}


def test_no_answer_to_an_older_attempt_counted(losses: Losses) -> None:
    assert losses.ledger.faults() == []


def test_what_a_killed_agent_had_is_with_another_within_a_lease_and_two_seconds(losses: Losses) -> None:
    """Or has been looked for; where all were killed nobody was there, and it is lost in time."""
    lost, reassigned = [], []
    for job in losses.jobs:
        agent, kill = "", 0.0
        for event in losses.ledger.events(job):
            at = event.time / 1000
            if isinstance(event, AgentChosen | TaskVerified) and kill:
                reassigned.append(at - kill)
                kill = 0.0
            if isinstance(event, AgentChosen):
                agent = event.agent.rpartition("/")[2]
            elif isinstance(event, LeaseLost):
                kill = max(kill for kill in losses.killed[agent] if kill <= at)
                lost.append(at - kill)
                if kill >= losses.all_killed:
                    kill = 0.0
    assert len(lost) > len(reassigned) >= ROUNDS, "the storm hit work"
    assert max(lost) <= LEASE + 2
    assert max(reassigned) <= LEASE + 2
