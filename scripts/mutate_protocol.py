"""Seed bugs into the protocol, one at a time, and see whether the simulator notices.

    python scripts/mutate_protocol.py [--workers 2] [--only NAME] [--runs 1500] [--schedules 20000] [--json]

The bugs stand in `scripts/protocol_mutants.toml`: each is a piece of a module's text that is there exactly once,
what stands there instead, and the promise that this breaks. They are mistakes a person could make in leases and
epochs, inbox and outbox, recovery, the agents' side, approvals, timers: nothing that a type checker or a first run
would show.

No test is run, only the simulator: whole-shell runs from seed 0 on (with a real SQLite store where the bug is in
the store), and for the core its own schedules besides, in growing portions, until a promise is seen broken or the
limit is reached. Each bug lives in a process of its own, forked from one that has loaded none of the project. A
run that does not come to its end counts as seen. Output, one line each, then the sum:

    killed    a-lost-lease-is-a-refusal          effects after 3 runs (seed 2)
    survived  ...
    argued    ...                                (why nobody could see it)
    score 100.0 % of 75 mutants (75 killed, 0 survived, 2 more argued for) in 240 s

Only what can be seen counts: a mutant with a reason why it cannot (`equivalent`) is run too, and is an error when
it is killed after all. The exit code is 1 when one survived, 2 when the catalogue is wrong.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import FrameType, ModuleType

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "scripts" / "protocol_mutants.toml"
LONGEST = 60
"""Seconds of processor time after which one run counts as one that does not end."""
FIRST = 10
"""Whole-shell runs of the first portion; each portion goes three times as far as the one before."""
OFTEN = 0.4
"""How often faults strike where some are asked for."""
PER_RUN = 20
"""Schedules of the core that are lived through beside one whole-shell run."""


class Wrong(Exception):
    """The catalogue does not fit the source any more."""


@dataclass(frozen=True)
class Mutant:
    """One seeded bug."""

    name: str
    module: str
    """Without `cpa.`, dotted."""
    find: str
    put: str
    breaks: str
    """Which promise."""
    sql: bool = False
    """Only runs on a real SQLite store can show it."""
    faults: tuple[str, ...] = ()
    """Faults that exist in each run besides those that are drawn, and strike often: without them it would take
    long to see it."""
    crowd: bool = False
    """Much work for one agent, in each run."""
    wire: str = "direct"
    """How agents and scheduler are joined."""
    equivalent: str = ""
    """Why nobody could see it; empty for all that count."""

    @property
    def path(self) -> Path:
        return ROOT / "src" / "cpa" / f"{self.module.replace('.', '/')}.py"

    def source(self) -> str:
        """The module's text with the bug in it. Raises `Wrong` unless the place is there exactly once."""
        text = self.path.read_text("utf-8")
        if (found := text.count(self.find)) != 1:
            raise Wrong(f"{self.name}: its text is in {self.module} {found} times, not once")
        return text.replace(self.find, self.put)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    oracle: str = ""
    """Which promise was seen broken; empty when none was."""
    seed: int = 0
    runs: int = 0
    """How many there were, of the kind that showed it, or of whole-shell runs."""
    tier: str = "runs"
    what: str = ""


def catalogue(path: Path = CATALOGUE) -> list[Mutant]:
    """All mutants; each fits its module. Raises `Wrong`."""
    entries = tomllib.loads(path.read_text("utf-8"))["mutant"]
    found = [Mutant(**entry | {"faults": tuple(entry.get("faults", ()))}) for entry in entries]
    if len({mutant.name for mutant in found}) < len(found):
        raise Wrong("two mutants have the same name")
    for mutant in found:
        if mutant.source() == mutant.path.read_text("utf-8"):
            raise Wrong(f"{mutant.name}: it changes nothing")
    return found


# -- in the child --------------------------------------------------------------------------------------------


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant for its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.mutant = f"cpa.{mutant.module}", mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.source(), str(self.mutant.path), "exec"), module.__dict__)


def outcome(mutant: Mutant | None, runs: int, schedules: int, pipe: int) -> Outcome:
    """Live through seeds until a promise is broken. `pipe` is told when a run does not end."""
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant))
    core = mutant is None or mutant.module.startswith("core.")
    limits = [0, FIRST]
    while limits[-1] < runs:
        limits.append(min(limits[-1] * 3, runs))
    for done, limit in pairwise(limits):
        if core:
            for seed in range(min(done * PER_RUN, schedules), min(limit * PER_RUN, schedules)):
                _watch(seed, "schedules", pipe)
                if found := _schedule(seed):
                    return Outcome(found[0], seed, seed + 1, "schedules", found[1])
        for seed in range(done, limit):
            _watch(seed, "runs", pipe)
            if found := _run(seed, mutant):
                return Outcome(found[0], seed, seed + 1, "runs", found[1])
    return Outcome(runs=runs)


def _run(seed: int, mutant: Mutant | None) -> tuple[str, str] | None:
    """The broken promise of a whole-shell run, and what was seen."""
    from cpa.testing.simulation.scenario import draw
    from cpa.testing.simulation.world import run

    crowd = mutant is not None and mutant.crowd
    wire = "direct" if mutant is None else mutant.wire
    scenario = replace(draw(seed, jobs=6, agents=1, wire=wire), tasks=6) if crowd else draw(seed, wire=wire)
    if mutant is not None:
        faults = scenario.faults.union(mutant.faults)
        strength = OFTEN if mutant.faults else scenario.strength
        scenario = replace(scenario, faults=faults, strength=strength, sql=mutant.sql)
    violation = run(scenario).violation
    return None if violation is None else (violation.oracle, violation.what)


def _schedule(seed: int) -> tuple[str, str] | None:
    """As `_run`, of the core alone."""
    from cpa.testing.schedules.schedule import Schedule
    from cpa.testing.schedules.tier import run

    violation = run(Schedule(seed=seed)).violation
    return None if violation is None else (violation.oracle, violation.what)


def _watch(seed: int, tier: str, pipe: int) -> None:
    """Give up on a run that does not end."""

    def give_up(_: int, __: FrameType | None) -> None:
        _tell(pipe, Outcome("liveness", seed, seed + 1, tier, f"a run did not end in {LONGEST} s"))
        os._exit(0)

    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)


def _tell(pipe: int, found: Outcome) -> None:
    os.write(pipe, json.dumps(asdict(found) | {"what": found.what[-2_000:]}).encode())


# -- in the parent -------------------------------------------------------------------------------------------


def begin(mutant: Mutant | None, runs: int, schedules: int) -> tuple[int, int]:
    """Try it in a child of its own: its number, and where it tells what it saw."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            try:
                found = outcome(mutant, runs, schedules, writing)
            except BaseException as error:  # noqa: BLE001 - told
                found = Outcome("escaped", what=repr(error))
            _tell(writing, found)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def outcomes(
    chosen: Sequence[Mutant | None], workers: int, runs: int, schedules: int
) -> Iterator[tuple[Mutant | None, Outcome]]:
    """Each mutant with what became of it, as they come; at most `workers` at the same time."""
    running: dict[int, tuple[Mutant | None, int]] = {}
    waiting = list(reversed(chosen))
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            child, reading = begin(mutant, runs, schedules)
            running[child] = (mutant, reading)
        child, _ = os.wait()
        mutant, reading = running.pop(child)
        with os.fdopen(reading) as told:
            said = told.read()
        yield mutant, Outcome(**json.loads(said)) if said else Outcome("escaped", what="the process died")


def line(mutant: Mutant, found: Outcome, *, long: bool = False) -> str:
    """What is printed of a mutant."""
    if found.oracle:
        seen = f"{found.oracle} after {found.runs} {found.tier} (seed {found.seed})"
        return f"killed    {mutant.name:44} {seen}{f': {found.what}' if long else ''}"
    if mutant.equivalent:
        return f"argued    {mutant.name:44} ({mutant.equivalent})"
    return f"survived  {mutant.name:44} {found.runs} runs: {mutant.breaks}"


def prepare() -> None:
    """Load what every child needs, and nothing of the project."""
    for name in (
        "msgspec",
        "pydantic",
        "sqlalchemy",
        "structlog",
        "uuid",
        "random",
        "asyncio",
        "httpx2",
        "fastapi",
        "websockets",
    ):
        importlib.import_module(name)
    for folder in (ROOT / "src", ROOT):
        sys.path.insert(0, str(folder))
    os.chdir(ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(description="whether the simulator notices bugs of the protocol")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", help="mutants whose name or module has this in it")
    parser.add_argument("--runs", type=int, default=1_500, help="whole-shell runs a mutant may live through")
    parser.add_argument("--schedules", type=int, default=20_000, help="the same of the core's schedules")
    parser.add_argument("--verbose", action="store_true", help="also what was seen")
    parser.add_argument("--json", action="store_true", help="only the sum, as JSON")
    options = parser.parse_args()
    try:
        chosen = [
            mutant
            for mutant in catalogue()
            if not options.only or any(word in f"{mutant.module} {mutant.name}" for word in options.only)
        ]
    except Wrong as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    prepare()
    [(_, sound)] = outcomes([None], 1, 30, 300)
    if sound.oracle:
        raise SystemExit(f"the simulator complains without any mutant ({sound.what}): mend that first")
    began, counts, wrong = time.monotonic(), {"killed": 0, "survived": 0, "argued": 0}, False
    for mutant, found in outcomes(chosen, options.workers, options.runs, options.schedules):
        assert mutant is not None
        kind = "killed" if found.oracle else "argued" if mutant.equivalent else "survived"
        wrong |= bool(mutant.equivalent and found.oracle)
        counts[kind] += 1
        if not options.json:
            print(line(mutant, found, long=options.verbose), flush=True)
    count, took = counts["killed"] + counts["survived"], time.monotonic() - began
    score = 100 * counts["killed"] / count if count else 100.0
    if options.json:
        print(json.dumps(counts | {"mutants": count, "score": round(score, 1), "seconds": round(took)}))
    else:
        killed, survived, argued = counts.values()
        print(
            f"score {score:.1f} % of {count} mutants ({killed} killed, {survived} survived, "
            f"{argued} more argued for) in {took:.0f} s"
        )
    return 2 if wrong else 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
