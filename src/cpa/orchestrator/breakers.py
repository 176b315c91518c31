"""Circuit breakers: who failed again and again is left alone for a while, then tried with one attempt.

    closed  -- `THRESHOLD` technical or unknown failures in a row -->  open, for a pause
    open    -- the pause is over: one attempt is let through per pause (half open) -->
               it succeeds: closed; it fails: open again, for twice as long, up to `LONGEST`

There is one circuit per agent outside this process and family of actions, and one per tenant and target where the
target can be told (the host of a URL, a mail account). A broken target must not close a sound agent: failures one
after the other at the same target count once against the agent. The part of this process has no circuit of its own:
nobody else could take its place, and all tenants share it.

In memory, made by failures and forgotten with the next success, or `STALE` after the last failure of one that is
closed: where all is well nothing is kept and nothing is asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

THRESHOLD = 5
FIRST = 2.0
"""Seconds of the first pause."""
LONGEST = 10.0
STALE = 60.0
"""Seconds after which failures do not count as "in a row" any more."""
_MOST = 10_000

Key = tuple[str, ...]
Way = tuple[str, str]
"""An agent outside this process: its tenant and its address."""


def family_of(action: str) -> str:
    """`web` for `web.click`, `x.calculator` for `x.calculator.add`."""
    return action.rpartition(".")[0]


def target_of(action: str, arguments: Mapping[str, Any]) -> str:
    """What an attempt touches, as far as its literal arguments tell: a host, or a mail account; else empty."""
    if action.startswith("mail."):
        account = arguments.get("account", "default")
        return f"mail:{account}" if isinstance(account, str) and "{{" not in account else ""
    url = arguments.get("url")
    if not isinstance(url, str) or "{{" in url:
        return ""
    try:
        return (urlsplit(url).netloc.rpartition("@")[2]).lower()
    except ValueError:
        return ""


@dataclass(slots=True)
class Circuit:
    """One that has failed."""

    failures: int = 0
    last: float = 0.0
    """When it failed last."""
    target: str = ""
    """Where it failed last."""
    until: float = 0.0
    """When the next attempt is let through; 0 while it is closed."""
    pause: float = FIRST


class Breakers:
    """Facts come from answers (`succeeded`, `failed`); `bars` says whether an attempt is let through."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds."""
        self._now = now
        self.circuits: OrderedDict[Key, Circuit] = OrderedDict()
        """Only those that failed; empty where all is well."""
        self._looked = 0.0
        """When the stale ones were dropped last."""

    def bars(self, agent: Way | None, tenant: str, action: str, arguments: Mapping[str, Any]) -> bool:
        """Whether one of the circuits on this way is open now."""
        if not self.circuits:
            return False
        now = self._now()
        if now - self._looked > STALE:
            self._drop_stale(now)
        found = (self.circuits.get(key) for key in _keys(agent, tenant, action, arguments))
        return any(circuit is not None and circuit.until > now for circuit in found)

    def entered(self, agent: Way | None, tenant: str, action: str, arguments: Mapping[str, Any]) -> None:
        """An attempt goes this way: where a circuit was half open, it is the only one for now."""
        if not self.circuits:
            return
        now = self._now()
        for key in _keys(agent, tenant, action, arguments):
            circuit = self.circuits.get(key)
            if circuit is not None and circuit.until:
                circuit.until = now + circuit.pause

    def succeeded(self, agent: Way | None, tenant: str, action: str, arguments: Mapping[str, Any]) -> None:
        if self.circuits:
            for key in _keys(agent, tenant, action, arguments):
                self.circuits.pop(key, None)

    def failed(self, agent: Way | None, tenant: str, action: str, arguments: Mapping[str, Any]) -> None:
        now, target = self._now(), target_of(action, arguments)
        for key in _keys(agent, tenant, action, arguments):
            circuit = self.circuits.setdefault(key, Circuit())
            if now - circuit.last > STALE and not circuit.until:
                circuit.failures, circuit.target = 0, ""
            if not circuit.failures or key[0] == "target" or not target or target != circuit.target:
                circuit.failures += 1
            opened = circuit.until > 0
            if opened and now - circuit.last >= circuit.pause:
                circuit.pause = min(circuit.pause * 2, LONGEST)
                circuit.until = now + circuit.pause
            elif not opened and circuit.failures >= THRESHOLD:
                circuit.until = now + circuit.pause
            circuit.last, circuit.target = now, target
        while len(self.circuits) > _MOST:
            self.circuits.popitem(last=False)

    def forget(self, agent: Way) -> None:
        """The agent is another one now (a new process) or gone."""
        for key in [key for key in self.circuits if key[:3] == ("agent", *agent)]:
            del self.circuits[key]

    def of(self, agent: Way) -> dict[str, dict[str, Any]]:
        """By family of actions: what is known of an agent that failed, for people."""
        now = self._now()
        return {
            key[3]: {
                "state": _state(circuit, now),
                "failures": circuit.failures,
                "retry_in": round(max(circuit.until - now, 0.0), 3),
            }
            for key, circuit in self.circuits.items()
            if key[:3] == ("agent", *agent)
        }

    def _drop_stale(self, now: float) -> None:
        """Their failures do not count any more, and no success comes for a target that nobody goes to again."""
        self._looked = now
        for key in [key for key, each in self.circuits.items() if not each.until and now - each.last > STALE]:
            del self.circuits[key]


def _state(circuit: Circuit, now: float) -> str:
    if not circuit.until:
        return "closed"
    return "open" if circuit.until > now else "half_open"


def _keys(agent: Way | None, tenant: str, action: str, arguments: Mapping[str, Any]) -> tuple[Key, ...]:
    way: tuple[Key, ...] = () if agent is None else (("agent", *agent, family_of(action)),)
    target = target_of(action, arguments)
    return (*way, ("target", tenant, target)) if target else way
