"""kill -9 of `cpa serve`, again and again, while 200 jobs run: nothing acknowledged is lost, nothing happens twice.

The world (mail servers, a web service, a portal) is made of processes that outlive the kills and count. With
CPA_TEST_ENGINE=temporal the Temporal server is killed too. CPA_STORM_SEED draws another storm, CPA_CHAOS_KILLS asks
for more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.kill.client import Client
from tests.e2e.kill.ledger import Ledger
from tests.e2e.kill.life import Fork
from tests.e2e.kill.orders import BOXES, light, recipient, short, wishes
from tests.e2e.kill.storm import Report, Storm
from tests.e2e.kill.victim import Victim
from tests.e2e.kill.world import SENDER, World, open_world
from tests.servers.scheduler import TEMPORAL, clean_environment, engine, on_temporal
from tests.servers.temporal import TemporalServer

from cpa.core.events import LeaseLost, TaskSucceeded, TaskVerified

pytestmark = [pytest.mark.chaos, pytest.mark.browser, pytest.mark.mailserver, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CPA_STORM_SEED", "20261124"))
JOBS = 200
KILLS = 32 if TEMPORAL else 52
SEEDS = [SEED + storm for storm in range(max(1, int(os.environ.get("CPA_CHAOS_KILLS", "0")) // KILLS))]
"""One storm; `make chaos` asks for so many kills, and gets as many storms as that takes."""


@contextmanager
def fresh_world() -> Iterator[World]:
    # Not below pytest's folder: it is closed to others, and Dovecot's mail processes are others.
    with tempfile.TemporaryDirectory(prefix="cpa-test-kill-") as folder:
        Path(folder).chmod(0o755)
        with open_world(Path(folder)) as running:
            yield running


@pytest.fixture(scope="module", params=SEEDS)
def storm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    folder = tmp_path_factory.mktemp("storm")
    kind = on_temporal_server if TEMPORAL else on_the_store
    with fresh_world() as world, kind(folder, world, request.param) as storm:
        world.write_workspace(folder)
        try:
            storm.run()
            print("\n" + "\n".join(storm.report.lines()))
            yield storm
        finally:
            storm.victim.close()


@contextmanager
def on_the_store(folder: Path, world: World, seed: int) -> Iterator[Storm]:
    """Most jobs stand in the durable line; browsers are among them."""
    victim = Victim(folder, world.environment | {"CPA_MAX_RUNNING": "36"})
    yield Storm(victim, world, wishes(180, 20, world.orders_url), seed=seed, kills=KILLS, room=JOBS)


@contextmanager
def on_temporal_server(folder: Path, world: World, seed: int) -> Iterator[Storm]:
    """There is no line: who submits waits. Shorter jobs and quicker starts, for the time tests may take."""
    server = TemporalServer(folder)
    assert server.lasting, (
        "this server forgets everything at its end: build the command line, see CONTRIBUTING"
    )
    server.start()
    try:
        victim = Victim(folder, world.environment | on_temporal(server.address, folder), kind=Fork)
        asked = [short(number, world.orders_url) for number in range(JOBS)]
        yield Storm(victim, world, asked, seed=seed, kills=KILLS, room=20, server=server)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def report(storm: Storm) -> Report:
    return storm.report


def test_the_storm_hit_jobs_at_work_and_they_went_on_between_the_kills(report: Report) -> None:
    deaths = report.deaths
    assert len(deaths) + report.outages >= KILLS
    assert report.outages >= (4 if TEMPORAL else 0)
    alive = [death for death in deaths if death.kind != "starting"]
    assert sum(death.hit for death in alive) >= 0.9 * len(alive)
    assert {death.kind for death in deaths} == {"starting", "recovering", "working", "mailing"}
    ended = [death.count.ended for death in deaths]
    assert ended[-1] > ended[len(ended) // 2] > ended[len(ended) // 4]
    assert report.end.lost >= len(deaths)
    assert report.end.verified > report.end.lost // 10


def test_every_acknowledged_job_is_done(storm: Storm, report: Report) -> None:
    heads = storm.ledger.heads()
    assert len(report.acknowledged) == JOBS
    assert set(heads) == set(report.acknowledged.values()), "a request repeated after a kill made two jobs"
    unfinished = {job: (head.status.value, head.cause, head.reason) for job, head in heads.items()}
    assert {job: how for job, how in unfinished.items() if how[0] != "done"} == {}


def test_what_the_server_told_stays_true_after_every_kill_and_what_is_open_says_why(report: Report) -> None:
    assert report.broken == []
    assert report.explained > 0


def test_no_mail_arrived_twice_and_none_is_missing(storm: Storm, report: Report) -> None:
    expected: dict[str, Counter[str]] = {recipient(number): Counter() for number in range(BOXES)}
    for wish in report.wishes:
        expected[wish.recipient].update(wish.message_ids(report.acknowledged[wish.name]).values())
    every = sum(expected.values(), Counter[str]())
    assert set(every.values()) == {1}
    assert storm.world.accepted() == every
    assert {box: storm.world.delivered(box) for box in expected} == expected
    assert storm.world.delivered(SENDER) == every, "the copies that prove the sending"


def test_a_kill_between_the_250_and_the_commit_cost_no_mail_and_doubled_none(
    storm: Storm, report: Report
) -> None:
    in_gap = {message for death in report.deaths for message in death.in_gap}
    assert any(death.in_gap for death in report.deaths if death.kind == "mailing")
    assert report.end.happened > 0
    accepted = storm.world.accepted()
    assert {message: accepted[message] for message in in_gap} == dict.fromkeys(in_gap, 1)


def test_every_order_was_taken_once(storm: Storm, report: Report) -> None:
    serials = Counter(serial for serial, _ in storm.world.orders().elements())
    assert serials == Counter(serial for wish in report.wishes for serial in wish.orders)


def test_no_run_has_two_ends_and_no_event_is_missing(storm: Storm) -> None:
    assert storm.ledger.faults() == []


def test_nothing_is_left_to_do(storm: Storm, report: Report) -> None:
    assert storm.ledger.left() == {"outbox": 0, "queue": 0}
    assert report.exit_code == 0
    assert report.relatives == {}, "processes of dead lives"


def test_the_audit_trail_proves_itself(storm: Storm) -> None:
    command = [sys.executable, "-m", "cpa", "audit", "--verify", "--data", str(storm.victim.data)]
    proof = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert proof.returncode == 0, proof.stdout + proof.stderr
    assert proof.stdout.startswith("sound: ")


def test_a_mail_taken_just_before_the_kill_is_found_and_not_sent_again(tmp_path: Path) -> None:
    """The one moment at which only looking can help: the server has said 250, nobody has written it down."""
    with fresh_world() as world:
        _kill_after_250(world, tmp_path)


def _kill_after_250(world: World, tmp_path: Path) -> None:
    victim = Victim(tmp_path, world.environment | engine(tmp_path))
    world.write_workspace(tmp_path)
    wish = light(9000, world.orders_url)
    ledger = Ledger(victim.data / "cpa.db")
    try:
        victim.start()
        victim.wait_ready()
        world.pace(10_000)
        world.kill_after_mail(victim.pid)
        client = Client(victim, [], 0, room=1)
        with client.open() as api:
            job = client.submit(api, wish)
        assert victim.wait_dead(30)
        world.spare()
        first = wish.message_ids(job)["confirm"]
        assert world.accepted()[first] == 1
        before = ledger.events(job)
        assert not any(isinstance(event, TaskSucceeded) and event.task == 1 for event in before)

        victim.start()
        victim.wait_ready()
        with client.open() as api:
            end = api.get(f"/jobs/{job}", params={"wait": 60}).json()
        assert end["status"] == "done"
        after = [event for event in ledger.events(job)[len(before) :] if getattr(event, "task", -1) == 1]
        assert isinstance(after[0], LeaseLost)
        verdicts = [event.verdict for event in after if isinstance(event, TaskVerified)]
        assert verdicts[-1] == "happened"
        assert not any(isinstance(event, TaskSucceeded) for event in after), "it was sent again"
        assert [world.accepted()[message] for message in wish.message_ids(job).values()] == [1, 1]
        assert world.delivered(wish.recipient)[first] == 1
        assert ledger.faults() == []
    finally:
        victim.close()
