"""When somebody who fails is left alone, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.orchestrator import breakers
from cpa.orchestrator.breakers import FIRST, LONGEST, STALE, THRESHOLD, Breakers, family_of, target_of

AGENT = ("acme", "agent://web/eins")
OTHER = ("acme", "agent://web/zwei")


class World:
    """Breakers on a hand-turned clock; every attempt is one of `http.request` unless said otherwise."""

    def __init__(self) -> None:
        self.now = 100.0
        self.breakers = Breakers(lambda: self.now)

    def way(
        self, agent: tuple[str, str] | None, url: str, action: str, tenant: str
    ) -> tuple[tuple[str, str] | None, str, str, dict[str, Any]]:
        return agent, tenant, action, {"url": url} if url else {}

    def fail(
        self,
        times: int = 1,
        *,
        agent: tuple[str, str] | None = AGENT,
        url: str = "",
        action: str = "x.a.b",
        tenant: str = "acme",
    ) -> None:
        for _ in range(times):
            self.breakers.failed(*self.way(agent, url, action, tenant))

    def succeed(
        self,
        *,
        agent: tuple[str, str] | None = AGENT,
        url: str = "",
        action: str = "x.a.b",
        tenant: str = "acme",
    ) -> None:
        self.breakers.succeeded(*self.way(agent, url, action, tenant))

    def barred(
        self,
        *,
        agent: tuple[str, str] | None = AGENT,
        url: str = "",
        action: str = "x.a.b",
        tenant: str = "acme",
    ) -> bool:
        return self.breakers.bars(*self.way(agent, url, action, tenant))

    def enter(
        self,
        *,
        agent: tuple[str, str] | None = AGENT,
        url: str = "",
        action: str = "x.a.b",
        tenant: str = "acme",
    ) -> None:
        self.breakers.entered(*self.way(agent, url, action, tenant))


def test_failures_in_a_row_open_it_for_that_agent_and_family_alone() -> None:
    world = World()
    world.fail(THRESHOLD - 1)
    assert not world.barred()

    world.fail()
    assert world.barred()
    assert world.barred(action="x.a.other")
    assert not world.barred(action="x.b.c")
    assert not world.barred(agent=OTHER)


def test_a_success_in_between_begins_the_count_anew_and_leaves_nothing_behind() -> None:
    world = World()
    world.fail(THRESHOLD - 1)
    world.succeed()
    assert not world.breakers.circuits
    world.fail(THRESHOLD - 1)
    assert not world.barred()


def test_failures_long_ago_are_not_in_a_row_with_new_ones() -> None:
    world = World()
    world.fail(THRESHOLD - 1)
    world.now += STALE + 1
    world.fail(THRESHOLD - 1)
    assert not world.barred()


def test_one_that_failed_once_is_not_kept_for_ever() -> None:
    world = World()
    world.fail(url="https://a.example/")
    world.fail(THRESHOLD, agent=OTHER)
    world.now += STALE + 1
    assert not world.barred(action="x.b.c")
    assert [*world.breakers.circuits] == [("agent", *OTHER, "x.a")], (
        "it is half open, until something succeeds"
    )
    world.fail(agent=OTHER)
    assert world.barred(agent=OTHER)


def test_there_are_only_so_many_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers, "_MOST", 2)
    world = World()
    for host in ("a", "b", "c"):
        world.fail(agent=None, url=f"https://{host}.example/")
    assert [*world.breakers.circuits] == [("target", "acme", f"{host}.example") for host in ("b", "c")]


def test_after_the_pause_one_attempt_is_let_through_at_a_time() -> None:
    world = World()
    world.fail(THRESHOLD)
    world.now += FIRST
    assert not world.barred()

    world.enter()
    assert world.barred()
    world.now += FIRST
    assert not world.barred()


def test_a_probe_that_succeeds_closes_it() -> None:
    world = World()
    world.fail(THRESHOLD)
    world.now += FIRST
    world.enter()
    world.succeed()
    assert not world.barred()


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    world = World()
    world.fail(THRESHOLD)
    pauses = []
    for _ in range(5):
        began = world.now
        while world.barred():
            world.now += 0.5
        pauses.append(world.now - began)
        world.enter()
        world.fail()
    assert pauses == [FIRST, 2 * FIRST, 4 * FIRST, LONGEST, LONGEST]


def test_what_was_under_way_when_it_opened_does_not_make_the_pause_longer() -> None:
    world = World()
    world.fail(THRESHOLD)
    world.now += FIRST / 2
    world.fail(50)
    world.now += FIRST / 2
    assert not world.barred()


def test_a_broken_target_bars_itself_and_no_sound_agent() -> None:
    world = World()
    world.fail(THRESHOLD, url="https://kaputt.example/a", action="http.request")
    assert world.barred(url="https://kaputt.example/b", action="http.request")
    assert world.barred(url="https://kaputt.example/b", action="web.goto", agent=OTHER)
    assert not world.barred(url="https://heil.example/", action="http.request")
    assert not world.barred(url="https://kaputt.example/b", action="http.request", tenant="globex")


def test_an_agent_that_fails_everywhere_is_barred_everywhere() -> None:
    world = World()
    for number in range(THRESHOLD):
        world.fail(url=f"https://host{number}.example/", action="http.request")
    assert world.barred(url="https://heil.example/", action="http.request")
    assert not world.barred(url="https://heil.example/", action="http.request", agent=OTHER)


def test_the_part_of_this_process_is_barred_by_broken_targets_alone() -> None:
    world = World()
    for number in range(3 * THRESHOLD):
        world.fail(agent=None, url=f"https://host{number % 2}.example/", action="http.request")
        world.fail(agent=None, action="web.click")
    assert world.barred(agent=None, url="https://host0.example/", action="http.request")
    assert not world.barred(agent=None, url="https://host0.example/", action="http.request", tenant="globex")
    assert not world.barred(agent=None, url="https://heil.example/", action="http.request")
    assert not world.barred(agent=None, action="web.click")


def test_a_new_process_begins_without_a_past() -> None:
    world = World()
    world.fail(THRESHOLD)
    world.fail(THRESHOLD, agent=OTHER)
    world.breakers.forget(AGENT)
    assert not world.barred()
    assert world.barred(agent=OTHER)


def test_people_see_the_state() -> None:
    world = World()
    assert world.breakers.of(AGENT) == {}
    world.fail()
    assert world.breakers.of(AGENT) == {"x.a": {"state": "closed", "failures": 1, "retry_in": 0.0}}
    world.fail(THRESHOLD)
    world.now += 0.5
    assert world.breakers.of(AGENT)["x.a"] == {"state": "open", "failures": THRESHOLD + 1, "retry_in": 1.5}
    world.now += FIRST
    assert world.breakers.of(AGENT)["x.a"]["state"] == "half_open"
    assert world.breakers.of(OTHER) == {}


@pytest.mark.parametrize(
    ("action", "arguments", "target"),
    [
        ("http.request", {"url": "https://Anna:x@Host.Example:8443/a?b"}, "host.example:8443"),
        ("web.goto", {"url": "http://host.example"}, "host.example"),
        ("web.goto", {"url": "{{ tasks.a.result.url }}"}, ""),
        ("web.goto", {"url": 7}, ""),
        ("web.goto", {"url": "http://[kaputt"}, ""),
        ("web.click", {"selector": "#a"}, ""),
        ("mail.send", {"to": "a@b.example"}, "mail:default"),
        ("mail.send", {"account": "büro"}, "mail:büro"),
        ("mail.send", {"account": "{{ tasks.a.result.account }}"}, ""),
    ],
)
def test_a_target_is_told_where_the_arguments_tell_it(
    action: str, arguments: dict[str, Any], target: str
) -> None:
    assert target_of(action, arguments) == target


def test_a_family_is_all_but_the_last_word() -> None:
    assert family_of("web.click") == "web"
    assert family_of("x.calculator.add") == "x.calculator"
