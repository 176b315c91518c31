"""`cpa simulate`: what many simulated lives of the scheduler, or of its core alone, showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from cpa.cli.call import Finding
from cpa.errors import BadInput
from cpa.testing.campaign import Failure, Report, campaign
from cpa.testing.schedules import schedule
from cpa.testing.schedules.schedule import MOST_TASKS, Schedule, drawn_faults
from cpa.testing.schedules.tier import CORE
from cpa.testing.simulation.scenario import FAULTS, HAPPENS, WIRES, Scenario, draw
from cpa.testing.simulation.tier import SHELL

NONE = "none"
"""Given as the only fault: a run in which nothing goes wrong."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for; what is 0 is drawn, `seconds` are unlimited then."""

    seed: int = 0
    runs: int = 100
    workers: int = 1
    seconds: float = 0.0
    tasks: int = 0
    without: Sequence[str] = ()
    only: Sequence[str] = ()
    jobs: int = 0
    agents: int = 0
    minutes: float = 0.0
    sql: bool = False
    wire: str = ""


def simulate(wanted: Wanted) -> Finding:
    """Live through seeds `seed` to `seed + runs - 1` of the whole scheduler. Raises `BadInput` for a fault or wire
    that does not exist."""
    if wanted.wire not in ("", *WIRES):
        remedy = f"there are {', '.join(WIRES)}"
        message = f"there is no wire {wanted.wire!r}"
        raise BadInput(message, field="--wire", value=wanted.wire, remedy=remedy)
    left_out = _known("--without", wanted.without, FAULTS)
    alone = _known("--only", wanted.only, FAULTS) if wanted.only else None

    def drawn(seed: int) -> Scenario:
        given: dict[str, Any] = {"jobs": wanted.jobs, "agents": wanted.agents, "minutes": wanted.minutes}
        scenario = draw(seed, **given, sql=wanted.sql, wire=wanted.wire)
        faults = scenario.faults if alone is None else alone
        return replace(scenario, faults=faults - left_out, tasks=wanted.tasks or scenario.tasks)

    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    report = campaign(map(drawn, seeds), SHELL, workers=wanted.workers, seconds=wanted.seconds)
    return _finding(report, "runs", FAULTS | HAPPENS)


def simulate_core(wanted: Wanted) -> Finding:
    """As `simulate`, of the core alone. Raises `BadInput` for what only the whole scheduler has."""
    for name in ("jobs", "agents", "minutes", "sql", "wire"):
        if given := getattr(wanted, name):
            said = f"--{name}" if given is True else f"--{name} {given}"
            message = f"the core alone has one job and nothing around it, so {said!r} says nothing"
            remedy = f"leave --{name} out, or leave --core out"
            raise BadInput(message, field=f"--{name}", value=given, remedy=remedy)
    left_out = _known("--without", wanted.without, schedule.FAULTS)
    alone = _known("--only", wanted.only, schedule.FAULTS) if wanted.only else None

    def drawn(seed: int) -> Schedule:
        faults = alone
        if left_out:
            faults = (drawn_faults(seed) if alone is None else alone) - left_out
        return Schedule(seed=seed, faults=faults, tasks=wanted.tasks or MOST_TASKS)

    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    report = campaign(map(drawn, seeds), CORE, workers=wanted.workers, seconds=wanted.seconds)
    return _finding(report, "schedules", schedule.FAULTS)


def command_for(scenario: Scenario | Schedule) -> str:
    """What to type to see this run again."""
    if isinstance(scenario, Schedule):
        parts = [f"cpa simulate --core --seed {scenario.seed} --runs 1 --tasks {scenario.tasks}"]
    else:
        parts = [
            f"cpa simulate --seed {scenario.seed} --runs 1 --jobs {scenario.jobs} --agents {scenario.agents}"
        ]
        parts += [f"--tasks {scenario.tasks} --minutes {scenario.minutes:g} --wire {scenario.wire}"]
    parts += [f"--only {','.join(sorted(scenario.faults or ())) or NONE}"]
    return " ".join(parts + ["--sql"] * (isinstance(scenario, Scenario) and scenario.sql))


def _known(flag: str, names: Sequence[str], faults: Collection[str]) -> frozenset[str]:
    """Faults as typed after this flag, separated by commas."""
    found = frozenset(name.strip() for part in names for name in part.split(",") if name.strip()) - {NONE}
    strange = sorted(found - set(faults))
    if strange:
        close = get_close_matches(strange[0], faults, n=1)
        known = f"there are {', '.join(faults)}; {NONE} alone: nothing goes wrong"
        remedy = f"did you mean {close[0]}? {known}" if close else known
        raise BadInput(f"there is no fault {strange[0]!r}", field=flag, value=strange[0], remedy=remedy)
    return found


def _finding(report: Report, unit: str, faults: Collection[str]) -> Finding:
    struck = Counter({name: count for name, count in report.seen.items() if name in faults})
    well = not report.failures and not report.empty
    return Finding(well, _text(report, unit, struck), _facts(report, struck))


def _text(report: Report, unit: str, faults: Counter[str]) -> str:
    lines = [line for failure in report.failures for line in _failed(failure)]
    hours, seconds = report.virtual / 3600, max(report.elapsed, 0.001)
    lines.append(f"{report.runs:,} {unit} in {seconds:.1f} s: {report.runs / seconds:,.1f} {unit}/s")
    if hours:
        lines[-1] += f"; {hours:.1f} virtual hours, {hours / seconds:.2f} of them a second"
    lines += [
        f"jobs    {_counts(report.jobs)} of {report.wanted:,}",
        f"did     {_counts(report.did)}",
        f"faults  {_counts(faults)}",
    ]
    if report.empty:
        lines.append(f"this proves nothing: {report.empty}")
    lines.append(f"{len(report.failures)} broken promises")
    return "\n".join(lines)


def _failed(failure: Failure) -> list[str]:
    return [
        f"seed {failure.scenario.seed} breaks a promise: {failure.oracle}",
        *(f"  {line}" for line in failure.trace),
        f"  {failure.what}",
        f"again: {command_for(failure.scenario)}",
        "",
    ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items())) or "none"


def _facts(report: Report, faults: Counter[str]) -> dict[str, Any]:
    return {
        "runs": report.runs,
        "virtual_hours": round(report.virtual / 3600, 3),
        "seconds": round(report.elapsed, 3),
        "jobs": dict(report.jobs),
        "did": dict(report.did),
        "faults": dict(faults),
        "empty": report.empty,
        "failures": [
            {
                "seed": failure.scenario.seed,
                "oracle": failure.oracle,
                "what": failure.what,
                "again": command_for(failure.scenario),
                "trace": list(failure.trace),
            }
            for failure in report.failures
        ],
    }
