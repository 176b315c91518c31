"""Who takes a task, who waits for whom, and why nobody can."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from tests.orchestrator.fleet import DRAINING, QUARANTINED, TENANT, applicant, builtin, record, remote

from cpa.core.retry import BLAME
from cpa.core.staffing import Member, Staff
from cpa.orchestrator.agent_registry import Agent, AgentRegistry, Applicant, Called
from cpa.orchestrator.breakers import FIRST, THRESHOLD, Breakers
from cpa.ports.agents import AgentState, AgentStatus, Beat, Readiness


class World:
    """A registry whose calls are written down."""

    def __init__(self, *agents: Agent) -> None:
        self.now = 1_000.0
        self.breakers = Breakers(lambda: self.now)
        self.agents = AgentRegistry()
        self.called: list[tuple[str, str]] = []
        self.agents.connect(lambda: int(self.now * 1000), self.breakers, self._take)
        for agent in agents:
            self.agents.register(agent)

    def _take(self, called: Sequence[Called]) -> None:
        for asked, found in called:
            self.called.append((asked.job, found.address if isinstance(found, Agent) else found))

    def choose(self, asked: Applicant | None = None) -> str:
        found = self.agents.choose(asked or applicant())
        return found.address if isinstance(found, Agent) else found

    def wait(self, *asked: Applicant) -> None:
        for each in asked:
            assert self.choose(each) == "agent_busy"
            self.agents.wait(each)


def states(agent: Agent, state: AgentState) -> None:
    assert agent.record is not None
    agent.record = msgspec.structs.replace(agent.record, state=state)


# -- who there is --------------------------------------------------------------------------------------------


def test_agents_of_all_tenants_are_counted_by_what_was_decided_and_what_they_say() -> None:
    world = World(
        builtin(),
        remote("a"),
        remote("a", tenant="größe", beat=Beat(status=AgentStatus.BUSY)),
        remote("b", beat=Beat(status=AgentStatus.BUSY), online=False),
        remote("c", state=AgentState.REVOKED, online=False),
        remote("d", state=DRAINING),
        remote("e", state=DRAINING),
    )

    assert world.agents.census() == {
        (AgentState.ACTIVE, AgentStatus.ONLINE): 1,
        (AgentState.ACTIVE, AgentStatus.BUSY): 1,
        (AgentState.ACTIVE, AgentStatus.OFFLINE): 1,
        (AgentState.REVOKED, AgentStatus.OFFLINE): 1,
        (AgentState.DRAINING, AgentStatus.ONLINE): 2,
    }


# -- why nobody can ------------------------------------------------------------------------------------------


def test_nobody_does_it() -> None:
    assert World().choose() == "no_agent"
    assert World(remote("eins", "mail.send")).choose() == "no_agent"


def test_an_agent_of_another_tenant_is_nobody() -> None:
    world = World(remote(tenant="globex"))
    assert world.choose() == "no_agent"
    assert not world.agents.offers("x.a.b", tenant=TENANT)
    assert world.choose(applicant(tenant="globex")) == "agent://web/eins"


def test_two_tenants_may_call_their_agents_alike() -> None:
    mine, theirs = remote(), remote(tenant="globex")
    world = World(mine, theirs)
    assert world.agents.get("agent://web/eins", TENANT) is mine
    assert world.agents.get("agent://web/eins", "globex") is theirs
    assert world.agents.choose(applicant(tenant="globex")) is theirs
    assert (mine.busy, theirs.busy) == (0, 1)


def test_a_tag_must_be_offered_too() -> None:
    world = World(remote("eins"), remote("zwei", tags=("outlook",)))
    assert world.choose(applicant(capability="outlook")) == "agent://web/zwei"
    assert world.choose(applicant(capability="sap")) == "no_agent"


def test_what_a_beat_says_can_be_asked_for() -> None:
    agent = remote()
    world = World(agent)
    assert world.choose(applicant(capability="user:jörg")) == "no_agent"
    agent.beat = Beat(readiness=Readiness(user="jörg", dpi=96, applications={"outlook": "16"}))
    world.agents.changed()
    for capability in ("user:jörg", "dpi:96", "outlook", "outlook:16"):
        assert world.choose(applicant(capability=capability)) == "agent://web/eins"
        world.agents.release(agent)
    assert world.choose(applicant(capability="outlook:15")) == "no_agent"


@pytest.mark.parametrize("state", [DRAINING, QUARANTINED])
def test_one_that_drains_is_offered_nothing_new(state: AgentState) -> None:
    assert World(remote(state=state)).choose() == "agents_draining"


def test_one_that_is_silent_is_offered_nothing() -> None:
    assert World(remote(online=False)).choose() == "agents_offline"


@pytest.mark.parametrize("fact", ["session_locked", "remote_session_closed"])
def test_one_without_a_screen_is_offered_nothing_that_needs_one(fact: str) -> None:
    world = World(remote(beat=Beat(readiness=Readiness(**{fact: True}))))
    assert world.choose(applicant(action="desktop.click")) == "agents_not_ready"
    assert world.choose(applicant(action="x.a.b")) == "agent://web/eins"

    ready = World(remote(beat=Beat(readiness=Readiness(**{fact: False}))))
    assert ready.choose(applicant(action="desktop.click")) == "agent://web/eins"


def test_the_reason_told_is_the_one_that_is_nearest_to_being_mended() -> None:
    locked = Beat(readiness=Readiness(session_locked=True))
    draining, silent = remote("a", state=DRAINING), remote("b", online=False)
    not_ready, busy = remote("c", beat=locked), remote("d", slots=1, busy=1)
    asked = applicant(action="desktop.click")
    assert World(draining).choose(asked) == "agents_draining"
    assert World(silent, draining).choose(asked) == "agents_offline"
    assert World(not_ready, silent, draining).choose(asked) == "agents_not_ready"
    assert World(not_ready, busy, silent).choose(asked) == "agent_busy"


def test_who_cannot_take_a_task_is_told_each_with_the_reason() -> None:
    silent, busy = remote("zwei", online=False), remote("drei", slots=1)
    drained = remote("eins")
    states(drained, DRAINING)
    world = World(drained, silent, busy, remote("fremd", "web.click"))
    asked = applicant()
    assert world.agents.staff(asked) == Staff(), "one is free"

    world.choose()

    assert world.agents.staff(asked).members == (
        Member("eins", "draining"),
        Member("zwei", "agents_offline", online=False),
        Member("drei", "agent_busy"),
    )


@pytest.mark.parametrize(
    ("action", "capability", "near"),
    [
        ("x.rechner.ad", "", [("x.rechner.add", "eins")]),
        ("x.taschenrechner.add", "egal", [("x.rechner.add", "eins")]),
        ("x.mond.phase", "", []),
        ("web.klick", "", []),
        ("x.rechner.add", "outlok", [("outlook", "eins")]),
        ("x.rechner.add", "rot", []),
        ("x.rechner.add", "user:ana", [("user:anna", "eins")]),
    ],
)
def test_what_nobody_offers_may_have_been_meant_otherwise(
    action: str, capability: str, near: list[tuple[str, str]]
) -> None:
    able = remote("eins", "x.rechner.add", "web.click", tags=("outlook",))
    able.beat = Beat(readiness=Readiness(user="anna"))
    world = World(able, remote("zwei", "x.zeitung.holen", tags=("rote",)), remote(tenant="fremd"))

    found = world.agents.staff(applicant(action=action, capability=capability)).near

    assert [(each.name, each.agent) for each in found] == near


def test_after_failures_in_a_row_nobody_is_offered_it_for_a_while() -> None:
    agent = remote()
    world = World(agent)
    for _ in range(THRESHOLD):
        world.breakers.failed(agent.key, TENANT, "x.a.b", {})
    assert world.choose() == "breaker_open"
    world.now += FIRST
    assert world.choose() == "agent://web/eins"
    assert world.choose() == "breaker_open"


def test_a_broken_target_bars_only_tasks_that_go_there() -> None:
    world = World(remote("eins", "http.request", slots=9))
    for number in range(THRESHOLD):
        world.breakers.failed(
            (TENANT, f"a{number}"), TENANT, "http.request", {"url": "http://kaputt.example"}
        )
    there = applicant(action="http.request", arguments={"url": "http://kaputt.example/x"})
    elsewhere = applicant(action="http.request", arguments={"url": "http://heil.example"})
    assert world.choose(there) == "breaker_open"
    assert world.choose(elsewhere) == "agent://web/eins"


# -- who -----------------------------------------------------------------------------------------------------


def test_slots_are_taken_and_given_back() -> None:
    agent = remote(slots=2)
    world = World(agent)
    assert [world.choose() for _ in range(3)] == ["agent://web/eins"] * 2 + ["agent_busy"]
    world.agents.release(agent)
    assert world.choose() == "agent://web/eins"


def test_until_it_is_known_what_they_have_agents_outside_get_nothing_new() -> None:
    agent = remote()
    world = World(agent)
    world.agents.hold()
    world.wait(applicant("j1"))
    assert world.agents.candidates(applicant("j2")) == [agent], "they may bid"
    assert not world.agents.take(agent, applicant("j2"))
    world.agents.let_go()
    assert world.called == [("j1", "agent://web/eins")]
    assert agent.busy == 1


def test_the_part_of_this_process_is_free_meanwhile() -> None:
    world = World(remote(), builtin())
    world.agents.hold()
    assert world.choose() == builtin().address


def test_the_part_of_this_process_takes_what_others_have_no_room_for() -> None:
    world = World(builtin(), remote(slots=1))
    assert [world.choose() for _ in range(3)] == [
        "agent://web/eins",
        "agent://builtin/1",
        "agent://builtin/1",
    ]


def test_alone_the_part_of_this_process_takes_as_much_as_it_has_slots() -> None:
    agent = builtin(slots=2)
    world = World(agent)
    assert [world.choose() for _ in range(3)] == ["agent://builtin/1"] * 2 + ["agent_busy"]
    assert agent.busy == 2


def test_suspects_go_where_there_is_none_yet() -> None:
    first, second = remote("a", slots=4), remote("b", slots=4, busy=3)
    world = World(first, second)
    few = BLAME // 10
    chosen = [world.choose(applicant(f"j{number}", blame=few)) for number in range(3)]
    assert chosen == [first.address, second.address, first.address]


@pytest.mark.parametrize(
    ("blames", "taken"), [((BLAME // 4,) * 3, 2), ((BLAME // 6,) * 4, 3), ((BLAME, 1), 1)]
)
def test_suspects_together_have_at_most_half_the_blame(blames: tuple[int, ...], taken: int) -> None:
    world = World(remote(slots=9))
    asked = [applicant(f"j{number}", blame=blame) for number, blame in enumerate(blames)]
    assert [world.choose(each) for each in asked].index("agent_busy") == taken
    assert world.choose() == "agent://web/eins", "all others go on"


def test_suspects_in_line_hold_up_nobody_and_come_one_after_the_other() -> None:
    agent = remote(slots=2)
    world = World(agent)
    first = applicant("j1", blame=BLAME)
    assert world.choose(first) == agent.address
    world.wait(applicant("j2", blame=BLAME), applicant("j3", blame=BLAME))
    assert world.choose(applicant("j4")) == agent.address
    world.wait(applicant("j5"))
    world.agents.release(agent)
    assert world.called == [("j5", agent.address)]
    agent.suspects.clear()
    world.agents.release(agent)
    assert world.called[1:] == [("j2", agent.address)]


def test_one_that_would_be_given_up_goes_to_another_agent_if_there_is_one() -> None:
    """Else an agent that ends over whatever it gets is asked again and again, because it is always free."""
    bad, good = remote("a", slots=1), remote("b", slots=1, busy=1)
    world = World(bad, good)
    asked = applicant("j1", blame=2 * BLAME, last=True)
    world.agents.tried(TENANT, "j1", 0, "web.click", bad, gone=True)
    world.agents.tried(TENANT, "j2", 0, "web.click", good, gone=True)
    world.wait(asked)
    assert world.choose(msgspec.structs.replace(asked, job="j2")) == bad.address, "it stands behind nobody"
    bad.suspects.clear()
    world.agents.release(bad)
    assert world.called == []
    world.agents.release(good)
    assert world.called == [("j1", good.address)]


@pytest.mark.parametrize("trouble", ["offline", "no room", "last but one", "home"])
def test_where_there_is_no_other_agent_it_goes_back(trouble: str) -> None:
    bad, good = remote("a", slots=1), remote("b", slots=1, busy=1, online=trouble != "offline")
    if trouble == "no room":
        good.slots = good.busy = 0
    world = World(bad, good)
    asked = applicant("j1", blame=BLAME, last=trouble != "last but one", action="web.click")
    world.agents.tried(TENANT, "j1", 0, "web.click", bad, gone=True)
    if trouble == "home":
        world.agents.settle(TENANT, "j1", "web.click", bad.address)
    assert world.choose(asked) == bad.address


def test_parts_of_this_process_take_suspects_as_they_come() -> None:
    world = World(builtin(slots=3))
    assert [world.choose(applicant(f"j{number}", blame=BLAME)) for number in range(3)] == [
        "agent://builtin/1"
    ] * 3


def test_one_that_failed_is_asked_less_and_forgiven_later() -> None:
    bad, good = remote("a", slots=4), remote("b", slots=4)
    world = World(bad, good)
    for _ in range(3):
        bad.ended("x.a.b", int(world.now * 1000), well=False)
    assert world.choose() == "agent://web/b"
    assert world.choose(applicant(action="web.click")) == "agent://web/a"
    world.agents.release(bad)
    world.agents.release(good)
    world.now += 24 * 3600
    assert world.choose() == "agent://web/a"


def test_a_task_that_failed_goes_to_another_agent() -> None:
    first, second = remote("a"), remote("b", busy=1)
    world = World(first, second)
    world.agents.tried(TENANT, "j1", 0, "web.click", first, gone=False)
    assert world.choose() == "agent://web/b"
    assert world.choose(applicant("j1", 1)) == "agent://web/a"
    world.agents.release_session(TENANT, "j1", ended=True)
    world.agents.release(first)
    assert world.choose() == "agent://web/a"


# -- sessions ------------------------------------------------------------------------------------------------


def step(job: str = "j1", task: int = 0, action: str = "web.click") -> Applicant:
    return applicant(job, task, action=action)


def test_the_steps_of_one_job_in_a_browser_stay_with_one_agent() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    assert world.choose(step()) == "agent://web/a"
    assert world.choose(step("j2")) == "agent://web/b"
    world.agents.release(first)
    first.busy = 1
    assert world.choose(step(task=1)) == "agent://web/a"
    assert world.choose(step(task=2)) == "agent_busy"


def test_a_session_counts_per_family() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    assert world.choose(step()) == "agent://web/a"
    assert world.choose(step(action="desktop.click")) == "agent://web/b"


def test_a_session_is_given_up_when_its_agent_is_gone() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    assert world.choose(step()) == "agent://web/a"
    first.online = False
    assert world.choose(step(task=1)) == "agent://web/b"
    first.online = True
    second.busy = 0
    assert world.choose(step(task=2)) == "agent://web/b"


def test_who_refuses_to_begin_a_session_has_none_and_keeps_those_of_other_families() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    world.agents.settle(TENANT, "j1", "desktop.click", first.address)
    assert world.choose(step()) == "agent://web/a"
    world.agents.tried(TENANT, "j1", 0, "web.click", first, gone=False)
    assert world.choose(step()) == "agent://web/a"
    world.agents.tried(TENANT, "j1", 0, "web.click", first, gone=True)
    assert world.choose(step()) == "agent://web/b"
    assert world.agents.has_home(TENANT, "j1", "desktop.fill")


def test_one_that_drains_ends_the_sessions_it_has() -> None:
    first, second = remote("a"), remote("b")
    world = World(first, second)
    assert world.choose(step()) == "agent://web/a"
    states(first, DRAINING)
    assert world.choose(step(task=1)) == "agent://web/a"
    assert world.choose(step("j2")) == "agent://web/b"
    states(first, QUARANTINED)
    assert world.choose(step(task=2)) == "agent://web/b"


def test_only_so_many_jobs_hold_a_session_and_those_who_hold_one_go_on() -> None:
    agent = builtin(sessions=2)
    world = World(agent)
    assert [world.choose(step(job)) for job in ("j1", "j2", "j3")] == ["agent://builtin/1"] * 2 + [
        "agent_busy"
    ]
    assert world.choose(step("j1", 1)) == "agent://builtin/1"
    assert world.choose(applicant("j3")) == "agent://builtin/1"


def test_a_job_that_rests_gives_its_session_to_the_next() -> None:
    agent = builtin(sessions=1)
    world = World(agent)
    world.choose(step("j1"))
    world.wait(step("j2"), step("j3"))
    world.agents.release(agent)
    assert world.called == []
    world.agents.release_session(TENANT, "j1")
    assert world.called == [("j2", "agent://builtin/1")]
    world.agents.release_session(TENANT, "j2", ended=True)
    assert world.called == [("j2", "agent://builtin/1"), ("j3", "agent://builtin/1")]


def test_who_gets_a_session_need_not_wait_for_it_again_behind_others() -> None:
    """Else the job would wait for itself: its session ends only when nothing of it waits any more."""
    agent = builtin(sessions=1)
    world = World(agent)
    world.choose(step("j1"))
    world.wait(step("j2"), step("j3"), step("j2", 1))
    world.agents.release_session(TENANT, "j1")
    assert world.called == [("j2", "agent://builtin/1"), ("j2", "agent://builtin/1")]
    assert world.agents.waiting == 1


def test_after_a_restart_a_session_is_where_the_job_says() -> None:
    world = World(remote("a"), remote("b"))
    world.agents.settle(TENANT, "j1", "web.click", "agent://web/b")
    world.agents.settle(TENANT, "j2", "web.click", "agent://web/weg")
    world.agents.settle(TENANT, "j3", "x.a.b", "agent://web/b")
    assert world.agents.has_home(TENANT, "j1", "web.click")
    assert world.choose(step("j1")) == "agent://web/b"
    assert world.choose(step("j2")) == "agent://web/a"
    assert not world.agents.has_home(TENANT, "j3", "x.a.b")


# -- the line ------------------------------------------------------------------------------------------------


def test_a_slot_that_comes_free_goes_to_the_first_in_line() -> None:
    agent = remote(slots=1)
    world = World(agent)
    world.choose()
    world.wait(applicant("j2"), applicant("j3"))
    world.agents.release(agent)
    assert world.called == [("j2", "agent://web/eins")]
    world.agents.release(agent)
    assert world.called == [("j2", "agent://web/eins"), ("j3", "agent://web/eins")]
    assert (world.agents.waiting, agent.busy) == (0, 1)


def test_kinds_of_tasks_take_turns() -> None:
    agent = remote("eins", "x.a.b", "x.a.c", slots=1)
    world = World(agent)
    world.choose()
    world.wait(
        *(applicant(f"b{n}") for n in range(3)), *(applicant(f"c{n}", action="x.a.c") for n in range(3))
    )
    for _ in range(6):
        world.agents.release(agent)
    assert [job for job, _ in world.called] == ["b0", "c0", "b1", "c1", "b2", "c2"]


def test_a_new_agent_gets_what_waits_at_once() -> None:
    world = World(remote(slots=1))
    world.choose()
    world.wait(applicant("j2"), applicant("j3"), applicant("j4"))
    world.agents.register(remote("zwei", slots=2))
    assert world.called == [("j2", "agent://web/zwei"), ("j3", "agent://web/zwei")]


def test_a_returning_agent_gets_what_waits_at_once() -> None:
    away = remote("zwei", slots=2, online=False)
    world = World(remote(slots=1), away)
    world.choose()
    world.wait(applicant("j2"))
    away.online = True
    world.agents.changed()
    assert world.called == [("j2", "agent://web/zwei")]


def test_those_in_line_learn_when_there_is_nobody_left_to_wait_for() -> None:
    agent = remote(slots=1)
    world = World(agent)
    world.choose()
    world.wait(applicant("j2"), applicant("j3"))
    agent.online = False
    world.agents.changed()
    assert world.called == [("j2", "agents_offline"), ("j3", "agents_offline")]
    world.agents.unregister(agent.address, TENANT)
    assert world.choose() == "no_agent"


def test_who_was_told_why_is_told_again_only_when_the_reason_is_another() -> None:
    agent = remote(online=False)
    world = World(agent)
    asked = [applicant(f"j{n}", action="desktop.click", told="agents_offline") for n in range(3)]
    for each in asked:
        world.agents.wait(each)
    world.agents.register(remote("zwei", online=False))
    world.agents.changed()
    assert world.called == []

    agent.online, agent.beat = True, Beat(readiness=Readiness(session_locked=True))
    world.agents.changed()
    assert world.called == [(f"j{n}", "agents_not_ready") for n in range(3)]


def test_who_was_told_why_takes_turns_with_who_was_not() -> None:
    agent = remote(slots=1, online=False)
    world = World(agent)
    for number in range(2):
        world.agents.wait(applicant(f"told{number}", told="agents_offline"))
    agent.online = True
    world.agents.changed()
    world.wait(applicant("new0"), applicant("new1"))
    for _ in range(3):
        world.agents.release(agent)
    assert [job for job, _ in world.called] == ["told0", "told1", "new0", "new1"]


def test_why_nobody_can_is_asked_without_taking_anything() -> None:
    agent = remote(slots=1)
    world = World(agent)
    assert world.agents.why(applicant()) == ""
    assert agent.busy == 0
    world.choose()
    assert world.agents.why(applicant()) == "agent_busy"
    assert world.agents.why(applicant(action="mail.send")) == "no_agent"


def test_a_job_whose_session_is_at_a_busy_agent_is_not_told_that_all_are_busy() -> None:
    world = World(remote("a", slots=1), remote("b"))
    world.choose(step())
    assert world.choose(step(task=1)) == "agent_busy"
    assert world.agents.why(step(task=1)) == "session_busy"
    assert world.agents.why(step("j2")) == ""


def test_those_in_line_for_a_broken_target_do_not_hold_up_the_others() -> None:
    agent = remote("eins", "http.request", slots=1)
    world = World(agent)
    broken = {"url": "http://kaputt.example"}
    world.choose(applicant(action="http.request"))
    world.wait(
        applicant("j2", action="http.request", arguments=broken), applicant("j3", action="http.request")
    )
    for number in range(THRESHOLD):
        world.breakers.failed((TENANT, f"a{number}"), TENANT, "http.request", broken)
    world.agents.release(agent)
    assert world.called == [("j2", "breaker_open"), ("j3", "agent://web/eins")]


# -- for others ----------------------------------------------------------------------------------------------


def test_candidates_are_all_who_could_and_taking_one_may_come_too_late() -> None:
    first, second, full = remote("a"), remote("b"), remote("c", slots=1, busy=1)
    world = World(first, second, full, remote("d", online=False))
    assert world.agents.candidates(applicant()) == [first, second]
    assert world.agents.take(second, applicant())
    assert second.busy == 1
    second.online = False
    assert not world.agents.take(second, applicant())
    assert second.busy == 1


def test_who_looks_for_an_effect_must_be_there() -> None:
    away, there = remote("a", online=False), remote("b")
    world = World(away, there)
    assert world.agents.verifier(TENANT, "x.a.b", "") is there
    assert world.agents.verifier(TENANT, "x.b.c", "") is None
    assert there.busy == 0


def test_lists_can_be_narrowed() -> None:
    first = remote("a", tags=("outlook",), beat=Beat(status=AgentStatus.BUSY))
    second = remote("b", "mail.send", type="EMAIL", online=False)
    world = World(builtin(), first, second, remote("c", tenant="globex"))
    listed = world.agents.list
    assert [agent.address for agent in listed(TENANT)] == [
        "agent://builtin/1",
        "agent://web/a",
        "agent://web/b",
    ]
    assert listed(TENANT, type="EMAIL") == [second]
    assert listed(TENANT, capability="mail.send") == [second]
    assert listed(TENANT, capability="outlook") == [first]
    assert listed(TENANT, status="offline") == [second]
    assert listed(TENANT, status="busy") == [first]
    assert listed(TENANT, type="BUILTIN") == [world.agents.get("agent://builtin/1")]


def test_the_seed_s_name_finds_an_agent_or_nobody() -> None:
    agent = remote(slots=1)
    world = World(agent)
    assert world.agents.find_agent_for_task(applicant()) is agent
    assert world.agents.find_agent_for_task(applicant()) is None


def test_an_agent_that_comes_back_keeps_what_it_has() -> None:
    agent = remote()
    world = World(agent)
    world.choose()
    agent.record = record(slots=1)
    agent.slots = 1
    world.agents.changed()
    assert world.choose() == "agent_busy"


def test_a_job_that_was_told_why_it_waits_is_forgotten_at_its_end() -> None:
    agent = remote(slots=1, online=False)
    world = World(agent)
    world.agents.wait(applicant(told="agents_offline"))
    agent.online = True
    world.agents.changed()
    assert world.called == [("j1", agent.address)]
    assert world.agents.waiting == 0
    world.agents.release_session(TENANT, "j1", ended=True)
    assert world.agents._lines._parked == set()
