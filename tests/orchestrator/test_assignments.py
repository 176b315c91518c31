"""Slots are taken with the choice and given back once; what ends an attempt says something about its agent."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.orchestrator.fleet import TENANT, applicant, builtin, remote
from tests.repository.shell import SteppedClock

from cpa.core.classes import FailureClass
from cpa.core.commands import DispatchTask, RequestTask
from cpa.core.events import (
    AgentChosen,
    CancelRequested,
    DispatchDeferred,
    Event,
    LeaseLost,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskSucceeded,
    TimerFired,
)
from cpa.core.job import Graph, JobHead, JobSpec, JobState, TaskRun, TaskSpec, TaskStatus
from cpa.core.retry import BLAME
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.assignments import Assignments
from cpa.orchestrator.breakers import THRESHOLD
from cpa.orchestrator.budget import FLOOR
from cpa.orchestrator.presence import Presence
from cpa.ports.agents import AgentState
from cpa.ports.transport import Attempt


class World:
    """Assignments whose reports and cancels are written down."""

    def __init__(self, *agents: Agent) -> None:
        self.clock = SteppedClock()
        self.registry = AgentRegistry()
        self.presence = Presence(self.registry, self.clock)
        self.reported: list[tuple[str, Event]] = []
        self.cancelled: list[tuple[str, Attempt]] = []
        self.assignments = Assignments(
            self.registry,
            self.presence,
            self.clock,
            lambda tenant, job, event: self.reported.append((job, event)),
            self.over,
        )
        for agent in agents:
            self.registry.register(agent)

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None:
        if not answered:
            self.cancelled.append((agent, attempt))

    def ask(self, job: JobState, epoch: int = 1) -> Event | None:
        return self.assignments.choose(job, DispatchTask(key=f"dispatch:0:{epoch}", task=0, epoch=epoch))

    def ended(self, event: Event, job: str = "j1", epoch: int = 1) -> None:
        """It ended so, durably."""
        self.assignments.ended(Attempt(TENANT, job, 0, epoch), event)
        self.stored(event, job, epoch)

    def stored(self, event: Event, job: str = "j1", epoch: int = 1) -> None:
        self.assignments.closed(state(job), event, [f"request:0:{epoch}"])


def state(name: str = "j1", run: TaskRun | None = None, **more: object) -> JobState:
    task = TaskSpec(id="a", **{"action": "x.a.b"} | more)  # type: ignore[arg-type]
    return JobState(JobHead(TENANT, name, 1), Graph(JobSpec((task,))), [run] if run else [])


def failed(failure: FailureClass, code: str = "kaputt") -> TaskFailed:
    return TaskFailed(time=0, task=0, epoch=1, failure=failure, code=code)


DONE = TaskSucceeded(time=0, task=0, epoch=1)
LOST = LeaseLost(time=0, task=0, epoch=1)
REFUSED = TaskRefused(time=0, task=0, epoch=1)


def test_an_answer_gives_the_slot_to_the_next_in_line() -> None:
    agent = remote(slots=1)
    world = World(agent)
    assert isinstance(world.ask(state()), AgentChosen)
    assert world.ask(state("j2")) is None
    world.ended(DONE)
    assert [(job, type(event)) for job, event in world.reported] == [
        ("j1", TaskSucceeded),
        ("j2", AgentChosen),
    ]
    assert agent.busy == 1


def test_who_stands_in_line_twice_gets_one_slot() -> None:
    agent = remote(slots=1)
    world = World(agent)
    world.ask(state())
    world.ask(state("j2"))
    world.ask(state("j2"))
    agent.slots = 3
    world.registry.changed()
    assert [type(event) for job, event in world.reported] == [AgentChosen]
    assert agent.busy == 2
    world.ended(DONE, "j2")
    world.ended(DONE)
    assert agent.busy == 0


def test_a_choice_that_came_too_late_gives_its_slot_back_once() -> None:
    agent = remote()
    world = World(agent)
    choice = world.ask(state())
    assert isinstance(choice, AgentChosen)
    world.assignments.withdrawn(TENANT, "j1", choice)
    world.assignments.withdrawn(TENANT, "j1", choice)
    assert agent.busy == 0


def browsing(name: str, tasks: int = 1) -> JobState:
    plan = tuple(TaskSpec(id=f"t{number}", action="web.click") for number in range(tasks))
    return JobState(JobHead(TENANT, name, 1), Graph(JobSpec(plan)), [])


def test_a_choice_that_came_too_late_gives_its_browser_back_too() -> None:
    agent = builtin(sessions=1)
    world = World(agent)
    choice = world.ask(browsing("j1"))
    assert isinstance(choice, AgentChosen)
    world.assignments.withdrawn(TENANT, "j1", choice)
    assert isinstance(world.ask(browsing("j2")), AgentChosen)
    assert list(agent.holders) == [(TENANT, "j2")]


def test_a_job_keeps_the_browser_it_had_before_a_choice_that_came_too_late() -> None:
    agent = builtin(sessions=1)
    world = World(agent)
    job = browsing("j1", 2)
    assert isinstance(world.ask(job), AgentChosen)
    second = world.assignments.choose(job, DispatchTask(key="dispatch:1:1", task=1, epoch=1))
    assert isinstance(second, AgentChosen)
    world.assignments.withdrawn(TENANT, "j1", second)
    assert list(agent.holders) == [(TENANT, "j1")]
    world.ended(DONE)
    third = world.assignments.choose(job, DispatchTask(key="dispatch:1:2", task=1, epoch=2))
    assert isinstance(third, AgentChosen)
    world.assignments.withdrawn(TENANT, "j1", third)
    assert list(agent.holders) == [(TENANT, "j1")]
    assert world.ask(browsing("j2")) is None


def test_retries_beyond_the_budget_wait() -> None:
    agent = remote(slots=1_000)
    world = World(agent)
    again = TaskRun(0, status=TaskStatus.READY, epoch=2, attempts=1)
    for number in range(FLOOR):
        assert isinstance(world.ask(state(f"j{number}", again), 2), AgentChosen)
    refused = world.ask(state("j99", again), 2)
    assert isinstance(refused, DispatchDeferred)
    assert (refused.reason, refused.after <= 5_000) == ("retry_budget", True)
    assert isinstance(world.ask(state("first")), AgentChosen)
    waited = TaskRun(0, status=TaskStatus.READY, epoch=2, waited=60_000)
    assert isinstance(world.ask(state("moved", waited), 2), AgentChosen), "a lost lease is no retry"


def test_deferrals_are_spread_and_short() -> None:
    world = World()
    waits = [world.ask(state(f"j{number}")) for number in range(50)]
    times = {wait.after for wait in waits if isinstance(wait, DispatchDeferred) and wait.reason == "no_agent"}
    assert len(times) > 40
    assert all(0 < time <= 5_000 for time in times)


@pytest.mark.parametrize(
    ("event", "weight", "opens"),
    [
        (DONE, 1.0, False),
        (failed(FailureClass.BUSINESS), 1.0, False),
        (failed(FailureClass.POLICY), 1.0, False),
        (failed(FailureClass.UNKNOWN_OUTCOME, "cancelled"), 1.0, False),
        (failed(FailureClass.TECHNICAL, "selector_not_found"), 1.0, False),
        (failed(FailureClass.TECHNICAL, "not_actionable"), 1.0, False),
        (failed(FailureClass.TECHNICAL), 0.8, True),
        (failed(FailureClass.UNKNOWN_OUTCOME), 0.8, True),
        (failed(FailureClass.ENVIRONMENT), 0.8, False),
        (REFUSED, 0.8, False),
        (LOST, 0.8, False),
    ],
)
def test_what_an_end_says_about_the_agent(event: Event, weight: float, opens: bool) -> None:
    agent = remote(slots=100)
    world = World(agent)
    world.ask(state())
    world.ended(event)
    assert agent.weight("x.a.b", world.clock.now_ms()) == pytest.approx(weight)

    for number in range(THRESHOLD):
        world.ask(state(f"k{number}"))
        world.ended(event, f"k{number}")
    assert (world.registry.why(applicant()) == "breaker_open") is opens


def _gone(agent: Agent) -> None:
    agent.online = False


def _in_quarantine(agent: Agent) -> None:
    assert agent.record is not None
    agent.record = msgspec.structs.replace(agent.record, state=AgentState.QUARANTINED)


@pytest.mark.parametrize("happens", [_gone, _in_quarantine])
def test_an_agent_that_was_out_before_it_was_asked_has_refused(happens: Callable[[Agent], None]) -> None:
    """Its task was given to it, and the commit was not through."""
    agent = remote()
    world = World(agent)
    world.ask(state())
    happens(agent)
    assert not world.assignments.begin(Attempt(TENANT, "j1", 0, 1), agent.address, "a")
    assert [type(event) for _, event in world.reported] == [TaskRefused]
    world.stored(REFUSED)
    assert agent.busy == 0
    assert world.presence.running(agent) == ()


def test_a_lost_lease_is_told_and_the_agent_is_told_to_stop() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    world.ask(state())
    attempt = Attempt(TENANT, "j1", 0, 1)
    assert world.assignments.begin(attempt, first.address, "a")
    world.presence.leave(first, "weg", ended=True)
    assert world.reported == [("j1", LeaseLost(time=0, task=0, epoch=1, reason="weg", among=1))]
    assert world.cancelled == [(first.address, attempt)]
    world.stored(LOST)
    assert (first.busy, first.online) == (0, False)
    first.online = True
    chosen = world.ask(state(run=TaskRun(0, status=TaskStatus.READY, epoch=2, waited=1)), 2)
    assert isinstance(chosen, AgentChosen)
    assert chosen.agent == second.address, "another one goes first"


def suspect(blame: int = BLAME // 4) -> TaskRun:
    """A task that lost its agent."""
    return TaskRun(0, status=TaskStatus.READY, epoch=2, waited=1, blame=blame)


def shared(world: World, agent: Agent) -> dict[str, int]:
    """Among how many each is that lost its agent now."""
    world.reported.clear()
    world.presence.lose(agent, "weg", ended=True)
    return {job: event.among for job, event in world.reported if isinstance(event, LeaseLost)}


def test_the_end_of_an_agent_is_the_doing_of_one_that_lost_an_agent_before_if_there_is_one() -> None:
    agent = remote(slots=4)
    world = World(agent)
    for job, run in {"j1": None, "j2": suspect(), "j3": None, "j4": suspect()}.items():
        epoch = 2 if run else 1
        assert isinstance(world.ask(state(job, run), epoch), AgentChosen)
        world.assignments.begin(Attempt(TENANT, job, 0, epoch), agent.address, "a")
    assert shared(world, agent) == {"j1": 0, "j2": 2, "j3": 0, "j4": 2}
    world.assignments.closed(state("j2", suspect()), LOST, ["request:0:2"])
    assert agent.suspects == {Attempt(TENANT, "j4", 0, 2): BLAME // 4}


@pytest.mark.parametrize("unsent", ["j1", "j2"])
def test_what_never_reached_an_agent_has_no_share_in_its_end(unsent: str) -> None:
    agent = remote(slots=3)
    world = World(agent)
    for job, run in {"j1": None, "j2": suspect(), "j3": None}.items():
        epoch = 2 if run else 1
        world.ask(state(job, run), epoch)
        world.assignments.begin(Attempt(TENANT, job, 0, epoch), agent.address, "a")
    world.assignments.unsent = lambda attempt: attempt.job == unsent
    assert shared(world, agent) == {"j1": {"j2": 1, "j3": 0}, "j2": {"j1": 2, "j3": 2}}[unsent]
    refused = [job for job, event in world.reported if isinstance(event, TaskRefused)]
    assert refused == [unsent]


def test_who_is_suspected_is_known_again_after_a_restart() -> None:
    agent = remote(slots=2)
    world = World(agent)
    for job, run in {"j1": TaskRun(0, epoch=2), "j2": suspect()}.items():
        resumed = RequestTask(key="request:0:2", task=0, epoch=2, agent=agent.address)
        assert world.assignments.resume(state(job, run), resumed)
    assert shared(world, agent) == {"j1": 0, "j2": 1}


def test_a_suspect_that_stands_in_line_twice_leaves_one_trace() -> None:
    first, second = remote("a", slots=1), remote("b", slots=1, online=False)
    world = World(first, second)
    world.ask(state())
    world.ask(state("j2", suspect()), 2)
    world.ask(state("j2", suspect()), 2)
    second.online, first.slots = True, 2
    world.registry.changed()
    assert (first.suspects | second.suspects) == {Attempt(TENANT, "j2", 0, 2): BLAME // 4}
    assert len(first.suspects) + len(second.suspects) == 1
    world.assignments.closed(state("j2", suspect()), LOST, ["request:0:2"])
    assert not first.suspects
    assert not second.suspects


def test_a_slot_is_free_once_the_end_of_its_attempt_is_durable() -> None:
    agent = remote(slots=1)
    world = World(agent)
    world.ask(state())
    attempt = Attempt(TENANT, "j1", 0, 1)
    world.assignments.begin(attempt, agent.address, "a")
    world.ask(state("j2"))
    world.presence.lose(agent, "weg")
    world.assignments.ended(attempt, LOST)
    assert (agent.busy, len(world.presence.running(agent))) == (1, 0)
    assert [job for job, _ in world.reported] == ["j1", "j1"]

    resumed = RequestTask(key="request:0:1", task=0, epoch=1, agent=agent.address)
    assert world.assignments.resume(state(), resumed), "its end was not stored"
    assert (agent.busy, len(world.presence.running(agent))) == (1, 1)
    assert agent.weight("x.a.b", world.clock.now_ms()) == pytest.approx(0.8), "it counts once"
    world.stored(LOST)
    world.stored(LOST)
    assert (agent.busy, world.presence.running(agent), world.assignments.ending) == (1, (), set())
    assert [job for job, _ in world.reported] == ["j1", "j1", "j2"]


@pytest.mark.parametrize(("event", "busy"), [(LOST, 0), (TimerFired(time=0, key="timeout:0:1"), 1)])
def test_an_end_that_is_never_stored_keeps_no_slot(event: Event, busy: int) -> None:
    agent = remote(slots=1)
    world = World(agent)
    world.ask(state())
    world.assignments.withdrawn(TENANT, "j1", LOST)
    assert agent.busy == 1, "it has not ended at all"
    world.assignments.ended(Attempt(TENANT, "j1", 0, 1), LOST)
    world.assignments.withdrawn(TENANT, "j1", event)
    assert agent.busy == busy


def test_a_step_goes_where_the_job_says_its_session_was() -> None:
    first, second = remote("a", busy=1), remote("b")
    world = World(first, second)
    tasks = tuple(TaskSpec(id=name, action="web.click") for name in "ab")
    done = TaskRun(0, status=TaskStatus.DONE, epoch=1, agent=first.address, since=5)
    job = JobState(JobHead(TENANT, "j1", 1), Graph(JobSpec(tasks)), [done])
    chosen = world.assignments.choose(job, DispatchTask(key="dispatch:1:1", task=1, epoch=1))
    assert isinstance(chosen, AgentChosen)
    assert chosen.agent == first.address


@pytest.mark.parametrize("event", [REFUSED, LOST])
def test_a_step_waits_for_the_agent_that_has_its_page_until_that_is_gone(event: Event) -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    tasks = tuple(
        TaskSpec(id=name, action="web.click", needs=needs) for name, needs in (("b", (1,)), ("a", ()))
    )
    done = TaskRun(1, status=TaskStatus.DONE, epoch=1, agent=first.address, since=5)
    job = JobState(JobHead(TENANT, "j1", 1), Graph(JobSpec(tasks)), [done])
    for epoch in range(1, 4):
        chosen = world.ask(job, epoch)
        assert isinstance(chosen, AgentChosen)
        assert chosen.agent == first.address
        world.ended(msgspec.structs.replace(event, epoch=epoch), epoch=epoch)
    first.online = False
    chosen = world.ask(job, 4)
    assert isinstance(chosen, AgentChosen)
    assert chosen.agent == second.address


def test_who_refuses_the_first_step_of_a_job_is_not_asked_again_before_another() -> None:
    world = World(remote("a"), remote("b"))
    for epoch, wanted in ((1, "agent://web/a"), (2, "agent://web/b")):
        chosen = world.ask(browsing("j1"), epoch)
        assert isinstance(chosen, AgentChosen)
        assert chosen.agent == wanted
        world.ended(msgspec.structs.replace(REFUSED, epoch=epoch), epoch=epoch)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (DONE, "succeeded"),
        (failed(FailureClass.BUSINESS), "failed"),
        (REFUSED, "refused"),
        (TaskProposed(time=0, task=0, epoch=1), "proposed"),
        (LOST, "lost"),
    ],
)
def test_an_attempt_counts_once_when_it_begins_and_once_by_how_it_ends(
    event: Event, outcome: str, far: bool
) -> None:
    """However often its end is told, and when it is durable too."""
    world = World(remote() if far else builtin())
    world.ask(state())
    world.ask(state())
    world.assignments.ended(Attempt(TENANT, "j1", 0, 1), event)
    world.ended(event)
    world.ended(event)
    tally = world.assignments.tally
    assert (tally.begun, tally.retries) == (1, 0)
    assert {word: count for word, count in tally.ended.items() if count} == {outcome: 1}
    assert world.assignments.held == 0


@pytest.mark.parametrize(
    ("event", "outcome"),
    [(TimerFired(time=0, key="request:0:1"), "timed_out"), (CancelRequested(time=0, by="anna"), "stopped")],
)
def test_an_attempt_that_ends_without_an_answer_counts_by_what_ended_it(event: Event, outcome: str) -> None:
    world = World(remote())
    world.ask(state())
    world.ask(state("j2", TaskRun(0, status=TaskStatus.READY, epoch=2, attempts=1)), 2)
    assert world.assignments.held == 2
    world.stored(event)
    world.stored(event)
    tally = world.assignments.tally
    assert (tally.begun, tally.retries) == (2, 1)
    assert {word: count for word, count in tally.ended.items() if count} == {outcome: 1}
    assert world.assignments.held == 1


@pytest.mark.parametrize("far", [False, True])
def test_a_choice_that_is_not_stored_counts_as_withdrawn(far: bool) -> None:
    world = World(remote() if far else builtin())
    choice = world.ask(state())
    assert isinstance(choice, AgentChosen)
    world.assignments.withdrawn(TENANT, "j1", choice)
    world.assignments.withdrawn(TENANT, "j1", choice)
    tally = world.assignments.tally
    assert (tally.begun, world.assignments.held) == (1, 0)
    assert {word: count for word, count in tally.ended.items() if count} == {"withdrawn": 1}
