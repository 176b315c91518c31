"""The line of tasks that wait for an agent: first come, first served, within each kind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cpa.orchestrator.agent import Agent, Applicant
from cpa.orchestrator.readiness import BUSY

Called = tuple[Applicant, Agent | str]
"""Somebody from the line with who takes it, or with why nobody can."""


class Kind(NamedTuple):
    """Applicants that only differ in their turn: where the first must wait, all must."""

    tenant: str
    action: str
    capability: str
    home: str
    """Address of the agent that has their job's session; empty for none."""
    told: str
    blame: int
    """Suspects wait for other places than all others."""
    shuns: str = ""
    """Address of an agent that they only go to when there is no other."""


class Lines:
    """Waiting tasks by kind. Kinds take turns: whichever got something goes behind the others."""

    def __init__(self) -> None:
        self._lines: dict[Kind, deque[Applicant]] = {}
        self._parked: set[tuple[str, str]] = set()
        """Jobs of which something was told why it waits, and waits on."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def add(self, applicant: Applicant, home: str, shuns: str = "") -> None:
        """Stand at the end of its kind; `home` is the address of the agent that has its job's session."""
        wanted = (applicant.tenant, applicant.action, applicant.capability)
        kind = Kind(*wanted, home, applicant.told, applicant.blame, shuns)
        self._lines.setdefault(kind, deque()).append(applicant)
        if applicant.told:
            self._parked.add((applicant.tenant, applicant.job))

    def serve(
        self, choose: Callable[[Applicant], Agent | str], agent: Agent | None = None
    ) -> Sequence[Called]:
        """Call whom `choose` has something for: of all kinds, or of those for which this agent could be the one."""
        called: list[Called] = []
        served: set[Kind] = set()
        # Serving one kind can open another: that of a job which just found its home.
        while waiting := [kind for kind in self._lines if kind not in served]:
            for kind in waiting:
                served.add(kind)
                if agent is None or (kind.action in agent.actions and kind.home in ("", agent.address)):
                    self._serve(kind, choose, called)
                if agent is not None and agent.busy >= agent.slots:
                    return called
        return called

    def bring_home(self, tenant: str, job: str, family: str, home: str) -> None:
        """This job has a session now: others of it need not stand behind those who have none yet."""
        for kind, line in list(self._lines.items()):
            if kind.home == home or kind.tenant != tenant or not kind.action.startswith(family):
                continue
            mine = [applicant for applicant in line if applicant.job == job]
            if mine:
                self._lines[kind] = deque(applicant for applicant in line if applicant.job != job)
                self._lines.setdefault(kind._replace(home=home), deque()).extend(mine)

    def leave(self, tenant: str, job: str) -> None:
        """Nothing of this job waits for an agent any more: where none comes, its place would be kept for ever."""
        if (tenant, job) not in self._parked:
            return
        self._parked.discard((tenant, job))
        for kind, line in list(self._lines.items()):
            if kind.told and kind.tenant == tenant:
                self._lines[kind] = deque(applicant for applicant in line if applicant.job != job)
                if not self._lines[kind]:
                    del self._lines[kind]

    def _serve(self, kind: Kind, choose: Callable[[Applicant], Agent | str], called: list[Called]) -> None:
        before = len(called)
        while self._lines[kind]:
            applicant = self._lines[kind].popleft()
            found = choose(applicant)
            if found in (BUSY, kind.told):
                self._lines[kind].appendleft(applicant)
                break
            called.append((applicant, found))
        if not self._lines[kind]:
            del self._lines[kind]
        elif len(called) > before:
            self._lines[kind] = self._lines.pop(kind)
