"""Beats and leases, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tests.orchestrator.fleet import TENANT, remote

from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.presence import Presence
from cpa.ports.agents import AgentStatus, Beat, Named, Readiness
from cpa.ports.transport import Attempt
from cpa.testing.virtual import VirtualClock, VirtualLoop

BEAT = 5.0
LEASE = 15.0


class World:
    """Agents in virtual time; what is lost is written down with the moment."""

    def __init__(self, *agents: Agent) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.clock = VirtualClock(self.loop)
        self.registry = AgentRegistry()
        self.presence = Presence(self.registry, self.clock, BEAT)
        self.presence.settled = True
        self.lost: list[tuple[str, float, str]] = []
        self.ended: list[int] = []
        """How many attempts the agent had when it ended, for each that was lost."""
        self.presence.connect(self._lost)
        self.agents = agents or (remote(online=False),)
        for agent in self.agents:
            self.registry.register(agent)

    def _lost(self, attempts: Sequence[Attempt], reason: str, ended: bool) -> None:
        for attempt in attempts:
            self.lost.append((attempt.job, round(self.loop.time(), 3), reason))
            self.ended.append(len(attempts) if ended else 0)

    def begin(self, job: str, agent: Agent | None = None) -> Attempt:
        attempt = Attempt(TENANT, job, 0, 1)
        self.presence.begin(agent or self.agents[0], attempt, "schritt")
        return attempt

    def beat(self, *jobs: str, agent: Agent | None = None, **more: Any) -> tuple[Named, ...]:
        running = tuple(Named(job, "schritt", 1) for job in jobs)
        return self.presence.beat(agent or self.agents[0], Beat(running=running, **more))


def virtually(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in virtual time."""

    async def whole() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def run(story: Callable[[World], Awaitable[None]], *agents: Agent) -> World:
    """Run a story with the loop that notices beside it."""
    seen: list[World] = []

    async def whole() -> None:
        world = World(*agents)
        seen.append(world)
        watching = asyncio.create_task(world.presence.run())
        await story(world)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    virtually(whole)
    return seen[0]


def test_a_lease_that_nobody_renews_runs_out_on_time() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        await asyncio.sleep(1)
        world.begin("j2")
        await asyncio.sleep(100)

    world = run(story)
    assert [(job, when) for job, when, _ in world.lost] == [("j1", LEASE), ("j2", LEASE + 1)]


def test_who_has_an_attempt_is_silent_of_it_until_a_beat_or_a_message_names_it() -> None:
    async def story(world: World) -> None:
        named, told = world.begin("j1"), world.begin("j2")
        assert not world.presence.silent(named), "it is on its way"
        world.presence.taken(named)
        world.presence.taken(told)
        assert world.presence.silent(named)
        world.presence.renew(told)
        assert not world.presence.silent(told)
        world.beat("j1", "j2")
        assert not world.presence.silent(named)
        world.presence.end(named)
        assert not world.presence.silent(named)

    run(story)


def test_an_agent_that_was_restarted_has_ended_with_all_it_had() -> None:
    async def story(world: World) -> None:
        for job in ("j1", "j2", "j3"):
            world.begin(job)
        world.presence.lose(world.agents[0], "its agent was restarted", ended=True)

    assert run(story).ended == [3, 3, 3]


@pytest.mark.parametrize("apart", [0.0, 4.9])
@pytest.mark.parametrize("others", [True, False])
def test_an_agent_that_falls_silent_has_ended_if_others_are_heard(others: bool, apart: float) -> None:
    """Else it is the network that is away, whenever each of them was heard last."""

    async def story(world: World) -> None:
        silent, other = world.agents
        world.begin("j1", silent)
        world.begin("j2", silent)
        world.beat("j1", "j2", agent=silent)
        await asyncio.sleep(apart)
        world.beat(agent=other)
        for _ in range(10 if others else 0):
            await asyncio.sleep(BEAT)
            world.beat(agent=other)
        await asyncio.sleep(100)

    world = run(story, remote("stumm", online=False), remote("da", online=False))
    assert [when for _, when, _ in world.lost] == [LEASE, LEASE]
    assert world.ended == ([2, 2] if others else [0, 0])


@pytest.mark.parametrize(("later", "ended"), [(0.000_1, [3, 3, 3]), (4.9, [3, 3, 3]), (5.0, [0, 0, 1])])
def test_who_said_something_since_the_last_beat_falls_silent_with_all_it_had(
    later: float, ended: list[int]
) -> None:
    """Unless the next beat was due before: then it was alive when that was missed."""

    async def story(world: World) -> None:
        silent, other = world.agents
        attempts = [world.begin(job, silent) for job in ("j1", "j2", "j3")]
        world.beat("j1", "j2", "j3", agent=silent)
        world.beat(agent=other)
        await asyncio.sleep(later)
        world.presence.renew(attempts[2])
        for _ in range(10):
            await asyncio.sleep(BEAT)
            world.beat(agent=other)

    world = run(story, remote("stumm", online=False), remote("da", online=False))
    assert world.ended == ended


def test_a_lone_agent_that_falls_silent_may_be_behind_a_network_that_is_away() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        world.beat("j1")
        await asyncio.sleep(100)

    assert run(story).ended == [0]


def test_what_a_living_agent_names_no_more_tells_nothing_of_its_end() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        world.beat("j1")
        world.beat()
        world.begin("j2")
        world.presence.lose(world.agents[0], "its agent is in quarantine")

    assert run(story).ended == [0, 0]


def test_a_beat_renews_what_it_names_for_ever() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        for _ in range(1000):
            await asyncio.sleep(BEAT)
            assert world.beat("j1") == ()

    assert run(story).lost == []


def test_an_attempt_that_is_named_no_more_is_lost_at_once() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        world.begin("j2")
        await asyncio.sleep(BEAT)
        world.beat("j1", "j2")
        await asyncio.sleep(BEAT)
        world.beat("j2")

    world = run(story)
    assert [(job, when) for job, when, _ in world.lost] == [("j1", 2 * BEAT)]


def test_a_beat_that_crossed_the_request_loses_nothing() -> None:
    async def story(world: World) -> None:
        attempt = world.begin("j1")
        world.presence.taken(attempt)
        world.beat()
        await asyncio.sleep(BEAT)
        world.beat("j1")
        await asyncio.sleep(BEAT)
        world.beat("j1")

    assert run(story).lost == []


def test_what_was_taken_and_is_not_named_by_two_beats_is_lost() -> None:
    async def story(world: World) -> None:
        attempt = world.begin("j1")
        world.presence.taken(attempt)
        await asyncio.sleep(1)
        world.beat()
        await asyncio.sleep(BEAT)
        world.beat()

    world = run(story)
    assert [(job, when) for job, when, _ in world.lost] == [("j1", BEAT + 1)]


def test_what_is_still_on_its_way_is_not_missed_by_beats_but_by_its_lease() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        for _ in range(10):
            await asyncio.sleep(BEAT - 0.1)
            world.beat()

    world = run(story)
    assert [(job, when) for job, when, _ in world.lost] == [("j1", LEASE)]


def test_progress_renews_the_attempt_and_is_a_sign_of_life() -> None:
    async def story(world: World) -> None:
        attempt = world.begin("j1")
        world.begin("j2")
        for _ in range(10):
            await asyncio.sleep(BEAT)
            world.presence.renew(attempt)
        assert world.agents[0].online

    world = run(story)
    assert [(job, when) for job, when, _ in world.lost] == [("j2", LEASE)]


def test_an_attempt_that_is_over_is_not_lost() -> None:
    async def story(world: World) -> None:
        attempt = world.begin("j1")
        world.presence.end(attempt)
        world.presence.end(attempt)
        world.presence.renew(attempt)
        world.presence.taken(attempt)
        await asyncio.sleep(100)

    assert run(story).lost == []


def test_three_missed_beats_make_an_agent_offline_and_lose_all_it_had() -> None:
    async def story(world: World) -> None:
        agent = world.agents[0]
        world.begin("j1")
        await asyncio.sleep(2)
        world.beat("j1")
        assert agent.online
        await asyncio.sleep(10)
        world.begin("j2")
        assert world.presence.last(agent) == 10
        await asyncio.sleep(4.9)
        assert agent.online
        await asyncio.sleep(0.2)
        assert not agent.online
        assert world.presence.last(agent) == pytest.approx(15.1)

    world = run(story)
    assert {(job, when) for job, when, _ in world.lost} == {("j1", 2 + LEASE), ("j2", 2 + LEASE)}


def test_an_agent_that_comes_back_is_online_with_its_first_beat_and_watched_again() -> None:
    async def story(world: World) -> None:
        agent = world.agents[0]
        for _ in range(3):
            world.beat()
            assert agent.online
            await asyncio.sleep(LEASE - 0.1)
            assert agent.online
            await asyncio.sleep(0.2)
            assert not agent.online
        assert len(world.presence._line) <= 1

    run(story)


def test_what_is_not_the_agent_s_any_more_is_to_be_stopped() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        assert world.beat("j1", "j2") == (Named("j2", "schritt", 1),)
        world.begin("j3", world.agents[1])
        assert world.beat("j1", "j3") == (Named("j3", "schritt", 1),)
        older = Beat(running=(Named("j1", "schritt", 1), Named("j1", "schritt", 0)))
        assert world.presence.beat(world.agents[0], older) == (Named("j1", "schritt", 0),)

    run(story, remote(), remote("zwei"))


def test_until_all_attempts_are_known_again_nobody_is_told_to_stop() -> None:
    async def story(world: World) -> None:
        world.presence.settled = False
        assert world.beat("j1") == ()
        world.begin("j1")
        world.presence.settled = True
        assert world.beat("j1", "j2") == (Named("j2", "schritt", 1),)

    assert run(story).lost == []


def test_an_agent_that_says_goodbye_gets_nothing_new_and_ends_what_it_has() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        for _ in range(10):
            await asyncio.sleep(BEAT)
            world.beat("j1", status=AgentStatus.OFFLINE)
            assert world.agents[0].status is AgentStatus.OFFLINE
        world.presence.renew(Attempt(TENANT, "j1", 0, 1))
        assert not world.agents[0].online

    assert run(story).lost == []


def test_leaving_loses_everything_at_once() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        world.begin("j2")
        await asyncio.sleep(1)
        world.presence.forget(world.agents[0], "unregistered")
        assert world.presence.running(world.agents[0]) == ()
        await asyncio.sleep(100)

    assert run(story).lost == [("j1", 1, "unregistered"), ("j2", 1, "unregistered")]


def test_an_agent_has_room_for_what_it_says() -> None:
    async def story(world: World) -> None:
        agent = world.agents[0]
        for running, more, room in (
            ((), {}, 4),
            (("j1",), {"free": 1}, 2),
            (("j1",), {"free": 9}, 4),
            (("j1",), {"free": -3}, 1),
            (("j1",), {"status": AgentStatus.BUSY}, 1),
            ((), {"status": AgentStatus.BUSY, "free": 4}, 0),
            ((), {}, 4),
        ):
            world.beat(*running, **more)
            assert agent.slots == room, (running, more)

    run(story, remote(slots=4))


def test_a_change_is_told_and_more_of_the_same_is_not() -> None:
    async def story(world: World) -> None:
        changes = 0

        def changed() -> None:
            nonlocal changes
            changes += 1

        world.registry.changed = changed  # type: ignore[method-assign]
        for _ in range(5):
            world.beat()
        assert changes == 1
        world.beat(readiness=Readiness(session_locked=True))
        world.beat(readiness=Readiness(session_locked=True))
        assert changes == 2
        world.beat(readiness=Readiness(session_locked=True), status=AgentStatus.BUSY)
        assert changes == 3
        await asyncio.sleep(100)
        assert changes == 4

    run(story)


def test_when_the_scheduler_stood_still_agents_are_heard_before_anything_runs_out() -> None:
    async def story(world: World) -> None:
        world.begin("j1")
        world.begin("j2")
        world.beat("j1", "j2")
        await asyncio.sleep(1)
        world.loop.stand_still(60)
        await asyncio.sleep(0)
        await asyncio.sleep(2)
        world.beat("j1")

    world = run(story)
    assert [job for job, _, _ in world.lost] == ["j2"]


@pytest.mark.parametrize("many", [1, 10])
@pytest.mark.parametrize("seconds", [4.9, 9.9, 10.1, 11, 12.5, 14, 14.9, 15.1, 40])
def test_who_beats_in_time_loses_nothing_however_long_the_scheduler_stands_still(
    seconds: float, many: int
) -> None:
    lost: list[object] = []
    for seed in range(20):
        chance = random.Random(seed)
        start = 60 + chance.uniform(0, 20)
        agents = [remote(f"a{number}", online=False) for number in range(many)]

        async def story(world: World, start: float = start, chance: random.Random = chance) -> None:
            async def live_on(job: str, agent: Agent) -> None:
                await asyncio.sleep(chance.uniform(0, BEAT))
                world.begin(job, agent)
                due = world.loop.time()
                while True:
                    if world.loop.time() > due:  # It lay in the socket: it is read some turns after waking.
                        for _ in range(5):
                            await asyncio.sleep(0)
                    world.beat(job, agent=agent)
                    while due <= world.loop.time():
                        due += BEAT
                    await asyncio.sleep(due - world.loop.time())

            tasks = [
                asyncio.create_task(live_on(f"j{number}", agent)) for number, agent in enumerate(world.agents)
            ]
            await asyncio.sleep(start)
            world.loop.stand_still(seconds)
            await asyncio.sleep(60)
            for task in tasks:
                task.cancel()

        lost += run(story, *agents).lost
    assert lost == []


def test_what_runs_is_told_with_the_time_it_has() -> None:
    async def story(world: World) -> None:
        attempt = world.begin("j1")
        await asyncio.sleep(4)
        assert world.presence.running(world.agents[0]) == ((attempt, Named("j1", "schritt", 1), 11.0),)
        world.begin("j1")
        assert world.presence.running(world.agents[0])[0][2] == 11.0
        assert world.presence.last(world.agents[0]) is None

    run(story)


def test_when_an_agent_was_last_heard_of_is_known_until_it_is_forgotten() -> None:
    async def story(world: World) -> None:
        agent = world.agents[0]
        world.beat()
        await asyncio.sleep(3)
        world.presence.leave(agent, "its channel closed")
        await asyncio.sleep(100)
        assert world.presence.last(agent) == 103
        world.beat()
        assert world.presence.last(agent) == 0
        world.presence.forget(agent, "it was revoked")
        assert world.presence.last(agent) is None

    run(story)
