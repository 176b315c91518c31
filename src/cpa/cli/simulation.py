"""`cpa simulate`: what many simulated lives of the scheduler showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cpa.cli.upkeep import Finding
from cpa.errors import BadInput
from cpa.testing.simulation.campaign import Failure, Report, campaign
from cpa.testing.simulation.scenario import FAULTS, Scenario, draw

NONE = "none"
"""Given as the only fault: a run in which nothing goes wrong."""


def simulate(
    *,
    seed: int,
    runs: int,
    workers: int,
    jobs: int,
    agents: int,
    tasks: int,
    minutes: float,
    sql: bool,
    without: Sequence[str],
    only: Sequence[str],
) -> Finding:
    """Live through seeds `seed` to `seed + runs - 1`; what is 0 is drawn. Raises `BadInput` for a fault that does
    not exist."""
    left_out, alone = _known(without), _known(only) if only else None
    drawn = (
        draw(seed + number, jobs=jobs, agents=agents, minutes=minutes, sql=sql) for number in range(runs)
    )
    scenarios = [_narrowed(scenario, left_out, alone, tasks) for scenario in drawn]
    report = campaign(scenarios, workers=workers)
    well = not report.failures and not report.empty
    return Finding(well, _text(report), _facts(report))


def command_for(scenario: Scenario) -> str:
    """What to type to see this run again."""
    parts = [f"cpa simulate --seed {scenario.seed} --jobs {scenario.jobs} --agents {scenario.agents}"]
    parts += [f"--tasks {scenario.tasks} --minutes {scenario.minutes:g}"]
    parts += [f"--only {','.join(sorted(scenario.faults)) or NONE}"]
    return " ".join(parts + ["--sql"] * scenario.sql)


def _narrowed(
    scenario: Scenario, without: frozenset[str], only: frozenset[str] | None, tasks: int
) -> Scenario:
    faults = scenario.faults if only is None else only
    return replace(scenario, faults=faults - without, tasks=tasks or scenario.tasks)


def _known(names: Sequence[str]) -> frozenset[str]:
    """Faults as typed, separated by commas."""
    found = frozenset(name.strip() for part in names for name in part.split(",") if name.strip()) - {NONE}
    strange = sorted(found - set(FAULTS))
    if strange:
        known = ", ".join(FAULTS)
        raise BadInput("there is no such fault", field="fault", value=strange[0], remedy=f"there are {known}")
    return found


def _text(report: Report) -> str:
    lines = [line for failure in report.failures for line in _failed(failure)]
    hours, seconds = report.virtual / 3600, max(report.elapsed, 0.001)
    lines += [
        f"{report.runs} runs, {hours:.1f} virtual hours in {seconds:.1f} s: "
        f"{report.runs / seconds:.1f} runs/s, {hours / seconds:.2f} virtual hours/s",
        f"jobs    {_counts(report.jobs)} of {report.wanted}",
        f"did     {_counts(report.did)}",
        f"faults  {_counts(report.seen)}",
    ]
    if report.empty:
        lines.append(f"this proves nothing: {report.empty}")
    lines.append(f"{len(report.failures)} broken promises")
    return "\n".join(lines)


def _failed(failure: Failure) -> list[str]:
    scenario = failure.scenario
    return [
        f"seed {scenario.seed} breaks a promise: {failure.oracle}",
        *(f"  {line}" for line in failure.trace),
        f"  {failure.what}",
        f"again: {command_for(scenario)}",
        "",
    ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items())) or "none"


def _facts(report: Report) -> dict[str, Any]:
    return {
        "runs": report.runs,
        "virtual_hours": round(report.virtual / 3600, 3),
        "seconds": round(report.elapsed, 3),
        "jobs": dict(report.jobs),
        "did": dict(report.did),
        "faults": dict(report.seen),
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
