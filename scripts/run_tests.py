"""Run the tests in groups, each with its time, and prove that every test ran.

A green run must mean that all tests ran: the script fails when a test was skipped, when a group has none, or
when the groups together ran another number of tests than pytest collects. Groups that run tests again, on another
engine, do not count there. Reports lie in `.cache/junit/`.

    python scripts/run_tests.py                 all groups
    python scripts/run_tests.py unit contracts  some of them
    python scripts/run_tests.py --list          what belongs where
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
JUNIT = ROOT / ".cache" / "junit"
DOORS = ("tests/api", "tests/cli", "tests/docs")
BACKENDS = ("tests/artifacts", "tests/queue")
"""Where the suites of `tests/contracts` are applied."""
SIMULATION = "tests/simulation"
TEMPORAL = "tests/engines/temporal"
SHORT = "not soak"
"""What takes minutes and shows more of the same is part of `make chaos` alone."""
NO_TESTS = 5
"""pytest's exit status when it collected nothing."""


@dataclass(frozen=True)
class Group:
    """Tests below `paths` without those below `without`, narrowed by markers."""

    name: str
    about: str
    markers: str
    paths: tuple[str, ...] = ("tests",)
    without: tuple[str, ...] = ()
    engine: str = ""
    """Tests of other groups, once more with all servers on this engine."""
    alone: bool = False
    """Whether nothing runs beside it, because it counts what the machine can do, or kills by the clock."""

    def arguments(self) -> list[str]:
        ignored = [f"--ignore={path}" for path in self.without]
        markers = f"({self.markers}) and {SHORT}" if self.markers else SHORT
        return [*self.paths, *ignored, "-m", markers]


BY_THE_CLOCK = ("tests/e2e/test_kill.py", "tests/e2e/test_leases.py", "tests/e2e/test_poison.py")
"""Tests that kill and go by how long things take."""
PLAIN = "not browser and not mailserver and not redmine and not chaos"
STORY, AGENTS, REMOTE = "tests/demo/test_story.py", "tests/e2e/test_agents.py", "tests/e2e/test_remote.py"
ON_TEMPORAL = (
    # The demo on the real browser and mail server, and a run that is taken up again.
    f"{STORY}::test_both_sentences_end_in_a_proved_mail_through_dovecot",
    f"{STORY}::test_a_retry_after_the_password_was_corrected_signs_in_again",
    # Approvals, questions and dead letters over kills; proposals.
    "tests/e2e/test_people.py",
    "tests/e2e/test_proposal.py",
    # Agents over the network: done, killed, late, bidding, cancelled; a scheduler that is killed meanwhile.
    f"{AGENTS}::test_a_job_is_done_by_an_agent_process[http]",
    f"{AGENTS}::test_what_a_killed_agent_had_is_done_by_another[channel]",
    f"{AGENTS}::test_what_a_killed_agent_did_perhaps_is_asked_about",
    f"{AGENTS}::test_a_stopped_agent_loses_its_lease_and_its_late_answer_is_fenced[channel]",
    f"{AGENTS}::test_a_scheduler_that_is_killed_and_comes_back_gets_the_answer[http]",
    f"{AGENTS}::test_agents_bid_for_a_task_that_asks_for_bids[channel]",
    f"{AGENTS}::test_a_cancelled_job_stops_its_agent[channel]",
    # A browser and a mail account elsewhere, and a browser that is killed.
    f"{REMOTE}::test_a_browser_and_a_mail_account_elsewhere_carry_out_a_sentence[channel]",
    f"{REMOTE}::test_a_browser_that_is_killed_in_the_middle_goes_on_where_it_was[channel]",
)
"""What `make e2e-temporal` runs whole costs too much time for every change: of each kind of thing one."""
GROUPS = (
    Group(
        "unit",
        "the core and every room by itself",
        PLAIN,
        without=("tests/e2e", SIMULATION, TEMPORAL, *BACKENDS, *DOORS),
    ),
    Group("temporal", "the engine on a Temporal server", PLAIN, (TEMPORAL,)),
    Group("doors", "API, CLI and the documents' examples", PLAIN, DOORS),
    Group(
        "browser",
        "a real Chromium",
        "browser and not redmine and not chaos",
        without=("tests/e2e",),
    ),
    Group("e2e", "the whole way, from a sentence to a mail", "not chaos", ("tests/e2e",)),
    Group("e2e-temporal", "the whole way on Temporal, of each kind one", "", ON_TEMPORAL, engine="temporal"),
    Group(
        "mail",
        "a real Dovecot",
        "mailserver and not browser and not redmine and not chaos",
        without=("tests/e2e",),
    ),
    Group("crash", "agents that are killed or stopped, one by one", "chaos", without=BY_THE_CLOCK),
    Group("contracts", "one suite per port, all its backends", PLAIN, BACKENDS),
    Group(
        "simulation",
        "the core, and all of the scheduler, in trouble drawn from seeds",
        PLAIN,
        (SIMULATION,),
        alone=True,
    ),
    Group("kill", "kill -9 under load", "chaos", BY_THE_CLOCK, alone=True),
    Group(
        "kill-temporal",
        "kill -9 of scheduler and Temporal server under load",
        "",
        ("tests/e2e/test_kill.py",),
        engine="temporal",
        alone=True,
    ),
)
LANES = 2
"""Groups at a time, of those that may run beside others: each of them also waits a good deal."""


@dataclass(frozen=True)
class Report:
    """What one group's junit file says."""

    tests: int
    skipped: tuple[str, ...]
    failed: int


def main(arguments: list[str]) -> int:
    if "--list" in arguments:
        for group in GROUPS:
            flag = f"CPA_TEST_ENGINE={group.engine} " if group.engine else ""
            print(f"{group.name:13} {group.about}: {flag}pytest {' '.join(map(repr, group.arguments()))}")
        return 0
    unknown = set(arguments) - {group.name for group in GROUPS}
    if unknown:
        print(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(g.name for g in GROUPS)}")
        return 2
    chosen = [group for group in GROUPS if not arguments or group.name in arguments]
    JUNIT.mkdir(parents=True, exist_ok=True)
    for old in JUNIT.glob("*.xml"):
        old.unlink()
    problems: list[str] = []
    counts = run_all(chosen, problems)
    ran = sum(counts.values())
    if not arguments:
        expected, once = collected(), sum(counts[group.name] for group in GROUPS if not group.engine)
        if once != expected:
            problems.append(f"{expected} tests exist, {once} ran: a test is in no group or in two")
    for problem in problems:
        print(f"FAILED  {problem}")
    print(f"{'not all well' if problems else 'all well'}: {ran} tests in {len(chosen)} groups")
    return 1 if problems else 0


def run_all(chosen: list[Group], problems: list[str]) -> dict[str, int]:
    """How many tests of each group ran. What groups print that run side by side comes whole, at their ends."""
    counts: dict[str, int] = {}
    shared = [group for group in chosen if not group.alone]
    if len(shared) > 1:
        print(
            f"\n== side by side, {LANES} at a time: {', '.join(group.name for group in shared)}", flush=True
        )
        with ThreadPoolExecutor(LANES) as pool:
            for done in as_completed([pool.submit(run_aside, group, problems) for group in shared]):
                name, counts[name], said = done.result()
                print(said, end="", flush=True)
    for group in chosen:
        if group.name not in counts:
            counts[group.name] = run(group, problems)
    return counts


def run_aside(group: Group, problems: list[str]) -> tuple[str, int, str]:
    """The group's name, how many tests ran, and what they printed."""
    print(f"   {group.name} begins", flush=True)
    with tempfile.TemporaryFile("w+") as kept:
        ran = run(group, problems, kept)
        kept.seek(0)
        return group.name, ran, kept.read()


def run(group: Group, problems: list[str], out: IO[str] = sys.stdout) -> int:
    """Run one group; the number of tests that ran. What is wrong is added to `problems`."""
    print(f"\n== {group.name}: {group.about}", file=out, flush=True)
    junit = JUNIT / f"{group.name}.xml"
    begun = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={junit}", *group.arguments()]
    more = {"CPA_TEST_ENGINE": group.engine} if group.engine else {}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | more, check=False, stdout=out, stderr=out)
    status = done.returncode
    print(f"== {group.name}: {time.monotonic() - begun:.1f} s", file=out, flush=True)
    if status == NO_TESTS or not junit.exists():
        problems.append(f"{group.name}: no test ran (pytest ended with {status})")
        return 0
    report = read(junit)
    if status:
        problems.append(f"{group.name}: pytest ended with {status}, {report.failed} failed")
    if not report.tests:
        problems.append(f"{group.name}: no test ran")
    problems += [f"{group.name}: skipped {name}" for name in report.skipped]
    return report.tests


def read(junit: Path) -> Report:
    cases = list(ET.parse(junit).getroot().iter("testcase"))
    skipped = tuple(f"{c.get('classname')}::{c.get('name')}" for c in cases if c.find("skipped") is not None)
    failed = sum(c.find("failure") is not None or c.find("error") is not None for c in cases)
    return Report(len(cases), skipped, failed)


def collected() -> int:
    """How many tests there are to run, whatever their group."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        SHORT,
        "-o",
        "addopts=--import-mode=importlib",
    ]
    lines = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.splitlines()
    return sum("::" in line for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
