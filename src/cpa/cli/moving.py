"""`cpa migrate engine`: what moved, what stays and why, in words and for programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from cpa.cli.call import Finding
from cpa.cli.terminal import flat
from cpa.core.ids import shown
from cpa.errors import NotFound
from cpa.settings import Settings

if TYPE_CHECKING:
    from cpa.engines.moving import Problem, Report

PAUSE = 2.0
"""Seconds between two lines that tell how far it is."""
LISTED = 20
"""Jobs that are named with what keeps them."""


def move(settings: Settings, target: str, *, rehearsal: bool) -> Finding:
    """Move all open jobs to this engine, or say what would move."""
    from cpa.bootstrap.moving import move as move_now
    from cpa.telemetry.logs import configure

    configure("WARNING")  # To standard error: the answer may be for a program.
    store = settings.data / "cpa.db"
    if not settings.database_url and not store.exists():
        raise NotFound(
            f"there is no store at {store}",
            field="data",
            value=str(store),
            remedy="name its folder with --data",
        )
    report = asyncio.run(move_now(settings, target, rehearsal=rehearsal, told=_Told()))
    return Finding(not report.problems, _words(report, target, rehearsal), _facts(report, target, rehearsal))


class _Told:
    """Says now and then how far it is, to a person who waits."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, all_: int) -> None:
        now = time.monotonic()
        if now - self._last >= PAUSE and done < all_:
            self._last = now
            typer.echo(f"{done:,} of {all_:,} jobs", err=True)


def _words(report: Report, target: str, rehearsal: bool) -> str:
    lines = [_sum(report, target, rehearsal)]
    if report.resumed:
        jobs = _jobs(report.resumed)
        lines.append(f"an earlier move had begun with {jobs}, and was interrupted")
    if report.ended:
        lines.append(f"{_jobs(report.ended)} ended on the way, with the last of what was known")
    lines += _listed("would not move: " if rehearsal else "not moved: ", report.problems)
    lines += _listed("moved, but ", report.undated)
    if rehearsal:
        lines.append("a dry run: nothing was changed")
    elif report.moved and not report.problems:
        lines.append(f"next: CPA_ENGINE={target} cpa serve")
    return "\n".join(lines)


def _sum(report: Report, target: str, rehearsal: bool) -> str:
    if not (report.moved or report.ended or report.problems):
        return f"nothing to move: no open job is with another engine than {target}"
    stay = f"; {_jobs(len(report.problems))} cannot move" if report.problems else ""
    return f"{'would move' if rehearsal else 'moved'} {_jobs(report.moved)} to engine {target}{stay}"


def _listed(what: str, problems: Sequence[Problem]) -> Iterator[str]:
    """Each job with what is wrong; of many the first ones, and how many there are."""
    for problem in problems[:LISTED]:
        said, job = flat(str(problem.error)), shown(problem.key[1])
        yield what + (said if job in said else f"{job}: {said}")
    if (more := len(problems) - LISTED) > 0:
        yield f"{what}{_jobs(more)} more; --json names all"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def _facts(report: Report, target: str, rehearsal: bool) -> dict[str, Any]:
    return {
        "to": target,
        "dry_run": rehearsal,
        "moved": report.moved,
        "ended": report.ended,
        "resumed": report.resumed,
        "problems": list(map(_problem, report.problems)),
        "undated": list(map(_problem, report.undated)),
    }


def _problem(problem: Problem) -> dict[str, str]:
    error, (tenant, job) = problem.error, map(shown, problem.key)
    said = {"code": error.code, "message": error.message, "remedy": error.remedy or ""}
    return {"tenant": tenant, "job": job} | said
