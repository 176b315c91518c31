"""Agents that stand differently are told one by one, and what helps most quickly comes first."""

from __future__ import annotations

import pytest

from cpa.core.staffing import _STATES, Member, Staff, each_told

DRAINING, OFFLINE = Member("büro-1", "draining"), Member("büro-2", "agents_offline", online=False)


@pytest.mark.parametrize(
    ("locale", "evidence", "remedy"),
    [
        (
            "en",
            "Of the agents that do x.a.b none takes it now: büro-2 is offline, büro-1 is draining.",
            "Let büro-1 work again with `cpa agents activate büro-1`, or start büro-2; the task goes on by itself.",
        ),
        (
            "de",
            "Von den Agenten für x.a.b nimmt es gerade keiner: büro-2 ist offline, büro-1 läuft aus.",
            "Bitte büro-1 mit `cpa agents activate büro-1` wieder arbeiten lassen, oder büro-2 starten; die "
            "Aufgabe geht von selbst weiter.",
        ),
    ],
)
def test_one_that_drains_works_again_sooner_than_one_that_is_to_be_started(
    locale: str, evidence: str, remedy: str
) -> None:
    assert each_told("x.a.b", (OFFLINE, DRAINING), locale) == (evidence, remedy)


def test_one_that_is_kept_out_and_gone_is_to_be_started_as_well() -> None:
    gone = Staff((Member("büro-1", "quarantined", online=False),))

    assert gone.mixed
    evidence, remedy = each_told("x.a.b", gone.members, "")
    assert evidence.endswith("büro-1 is in quarantine and offline.")
    assert remedy.startswith("Start büro-1 and let it work again with `cpa agents activate büro-1`;")


def test_where_one_is_only_busy_it_is_enough_to_wait() -> None:
    staff = Staff((DRAINING, Member("büro-3", "agent_busy")))

    assert staff.mixed
    assert staff.passes
    assert each_told("x.a.b", staff.members, "")[1].startswith("Wait, or let büro-1 work again")
    assert not Staff((DRAINING, OFFLINE)).passes


@pytest.mark.parametrize(
    "members", [(), (DRAINING,), (OFFLINE, Member("büro-3", "agents_offline", online=False))]
)
def test_of_agents_that_stand_alike_one_sentence_holds(members: tuple[Member, ...]) -> None:
    assert not Staff(members).mixed


@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("state", _STATES)
def test_every_state_has_its_words_and_its_cure(state: str, locale: str) -> None:
    evidence, remedy = each_told("x.a.b", [Member("eins", state)], locale)

    assert f"eins {_STATES[state][locale == 'de']}" in evidence
    assert remedy[0].isupper()
    assert "{" not in evidence + remedy


def test_of_many_agents_five_are_named() -> None:
    members = [Member(f"büro-{number}", "agents_offline", online=False) for number in range(8)]

    assert each_told("x.a.b", members, "")[0].endswith("büro-4 is offline, 3 more.")
