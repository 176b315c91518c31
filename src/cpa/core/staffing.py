"""Which agents there are for a task that none of them takes now, and what helps, in the language of the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

_NAMED: Final = 5
"""Agents that are named; the others are counted."""

_KEPT_OUT: Final = ("draining", "quarantined")
"""States from which a person lets an agent work again."""
_STATES: Final[dict[str, tuple[str, str]]] = {
    "draining": ("is draining", "läuft aus"),
    "quarantined": ("is in quarantine", "ist in Quarantäne"),
    "agents_not_ready": (
        "is not ready (a session is locked or closed)",
        "ist nicht bereit (eine Sitzung ist gesperrt oder geschlossen)",
    ),
    "agents_offline": ("is offline", "ist offline"),
    "breaker_open": ("rests for some seconds after failures", "ruht nach Fehlern einige Sekunden"),
    "agent_busy": ("is busy", "ist beschäftigt"),
}
"""By what keeps an agent from the task, what is said of it in English and German."""
_CURES: Final[tuple[tuple[tuple[str, ...], bool | None, str, str], ...]] = (
    (("agent_busy", "breaker_open"), None, "wait", "abwarten"),
    (
        _KEPT_OUT,
        True,
        "let {name} work again with `cpa agents activate {name}`",
        "{name} mit `cpa agents activate {name}` wieder arbeiten lassen",
    ),
    (
        ("agents_not_ready",),
        None,
        "unlock or open the session of {name}",
        "die Sitzung von {name} entsperren oder öffnen",
    ),
    (("agents_offline",), None, "start {name}", "{name} starten"),
    (
        _KEPT_OUT,
        False,
        "start {name} and let it work again with `cpa agents activate {name}`",
        "{name} starten und mit `cpa agents activate {name}` wieder arbeiten lassen",
    ),
)
"""States, whether the agent is online (None: either way), and what helps in English and German; what is done most
quickly comes first."""


class Member(msgspec.Struct, frozen=True):
    """An agent that does what the task wants, and cannot have it now."""

    name: str
    state: str
    """What keeps it: `draining`, `quarantined`, or another reason of `core.explain`."""
    online: bool = True


class Near(msgspec.Struct, frozen=True):
    """What may have been meant by a name that nobody offers."""

    name: str
    agent: str
    """The name of one that offers it."""


class Staff(msgspec.Struct, frozen=True):
    """What there is of agents for one task."""

    members: tuple[Member, ...] = ()
    """Those that do it; empty when one of them could have it now."""
    withheld: tuple[str, ...] = ()
    """Where nobody does it: the names of those that offer it and were not enrolled for it."""
    near: tuple[Near, ...] = ()
    """Where nobody does it: what may have been meant."""

    @property
    def mixed(self) -> bool:
        """Whether no one word holds for all of them."""
        kinds = {(each.state, each.online) for each in self.members}
        return len(kinds) > 1 or any(each.state in _KEPT_OUT and not each.online for each in self.members)

    @property
    def passes(self) -> bool:
        """Whether it is enough to wait."""
        return any(each.state in _CURES[0][0] for each in self.members)


def each_told(action: str, members: Sequence[Member], locale: str) -> tuple[str, str]:
    """How each agent stands, and what helps, the quickest first."""
    german = locale == "de"
    told = [f"{each.name} {_STATES[each.state][german]}{_away(each, german)}" for each in members[:_NAMED]]
    if len(members) > _NAMED:
        told.append(f"{len(members) - _NAMED} {'weitere' if german else 'more'}")
    cures = []
    for states, online, *words in _CURES:
        for each in members:
            if each.state in states and online in (None, each.online):
                cures.append(words[german].format(name=each.name))
                break
    if german:
        evidence = f"Von den Agenten für {action} nimmt es gerade keiner: {', '.join(told)}."
        return evidence, f"Bitte {', oder '.join(cures)}; die Aufgabe geht von selbst weiter."
    first, *others = cures
    evidence = f"Of the agents that do {action} none takes it now: {', '.join(told)}."
    cure = ", or ".join((first[0].upper() + first[1:], *others))
    return evidence, f"{cure}; the task goes on by itself."


def meant(near: Sequence[Near], locale: str = "") -> str:
    """The question whether one of these was meant."""
    if locale == "de":
        return f"War {' oder '.join(f'{each.name} (von {each.agent})' for each in near)} gemeint?"
    return f"Did you mean {' or '.join(f'{each.name} (of {each.agent})' for each in near)}?"


def misspelt(near: Sequence[Near], locale: str) -> str:
    """What helps where one of these may have been meant."""
    if locale == "de":
        return (
            f"{meant(near, locale)} Dann bitte den Auftrag mit `cpa cancel` beenden und damit neu einreichen, "
            "denn er behält seinen Plan; sonst einen Agenten starten, der es anbietet."
        )
    return (
        f"{meant(near)} Then end the job with `cpa cancel` and hand it in anew with that, for a job keeps its "
        "plan; else start an agent that offers it."
    )


def not_enrolled(action: str, name: str, locale: str) -> tuple[str, str]:
    """That this agent would do it, and what lets it."""
    token = f"`cpa agents token --name {name}`"
    if locale == "de":
        return (
            f"Kein Agent darf {action}: {name} bietet es an und ist dafür nicht zugelassen.",
            f"Bitte mit {token} ein Token ausstellen und {name} einmal damit starten (`--token`); die Aufgabe geht "
            "von selbst weiter.",
        )
    return (
        f"No agent may do {action}: {name} offers it and was not enrolled for it.",
        f"Make a token with {token} and start {name} once with it (`--token`); the task goes on by itself.",
    )


def _away(member: Member, german: bool) -> str:
    if member.state not in _KEPT_OUT or member.online:
        return ""
    return " und ist offline" if german else " and offline"
