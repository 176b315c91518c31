"""kill -9 at drawn moments while jobs run, life after life on one folder, until every job has ended.

Four kinds of death, drawn from one seed:

    starting    before the server is ready: in the middle of opening the store, or of recovery
    recovering  in the first moments after it is ready, when lost attempts are being sorted out
    working     somewhere in the next seconds
    mailing     by the mail server, between its 250 to a message and the scheduler's next commit

Where the jobs run on a Temporal server, that is killed as well, in the middle of some lives, and started again.

The web service's pace is tied to the number of kills, so that work lasts as long as the storm does, on any machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e.kill.client import Client
from tests.e2e.kill.ledger import Count, Ledger
from tests.e2e.kill.orders import Wish
from tests.e2e.kill.victim import Victim
from tests.e2e.kill.world import World
from tests.servers.ports import wait_until
from tests.servers.temporal import TemporalServer

KINDS = {"starting": 2, "recovering": 2, "working": 10, "mailing": 2}
"""Kind of death to its weight."""
LONGEST_END = 240.0
"""Seconds after the last kill within which all jobs must end."""
LONGEST_LULL = 2.0
"""Seconds a drawn kill waits for something to be under way: short jobs leave moments in which nothing is."""
OUTAGES = 0.5
"""Share of the working lives in which a Temporal server dies too."""


@dataclass(frozen=True)
class Death:
    """One kill, and what the store held just after it."""

    kind: str
    seconds: float
    """After the start (starting) or after it was ready."""
    count: Count
    in_gap: tuple[str, ...] = ()
    """Message-IDs the mail server took of which the store does not know yet."""

    @property
    def hit(self) -> bool:
        """Whether something was under way."""
        return self.count.under_way > 0


@dataclass
class Report:
    """What happened, for people and for assertions."""

    seed: int
    wishes: list[Wish]
    deaths: list[Death] = field(default_factory=list)
    outages: int = 0
    """Kills of the Temporal server."""
    starts: list[float] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    """Submissions that had to be sent again."""
    explained: int = 0
    """How often an open job was asked why it is open."""
    broken: list[str] = field(default_factory=list)
    end: Count = field(default_factory=Count)
    seconds: float = 0.0
    exit_code: int = -1
    relatives: dict[int, str] = field(default_factory=dict)
    """Processes of dead lives that are still there at the end."""

    def lines(self) -> list[str]:
        kinds = {kind: sum(death.kind == kind for death in self.deaths) for kind in KINDS}
        hit = sum(death.hit for death in self.deaths)
        gap = sum(bool(death.in_gap) for death in self.deaths)
        starts = sorted(self.starts)
        return [
            f"seed {self.seed}, {self.seconds:.0f} s, {len(self.wishes)} jobs, {self.end.ended} ended",
            f"{len(self.deaths)} kills {kinds}; {hit} with work under way, {gap} between 250 and commit",
            *([f"{self.outages} kills of the Temporal server"] if self.outages else []),
            f"{self.end.lost} leases lost, {self.end.verified} verifications, "
            f"{self.end.happened} lost mails found delivered, {self.repeated} submissions repeated",
            f"start to ready: p50 {quantile(starts, 0.5):.2f} s, p99 {quantile(starts, 0.99):.2f} s "
            f"({len(starts)} starts)",
        ]


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


class Storm:
    """`run` gives the report; the world and the store are left for whoever checks them."""

    def __init__(
        self,
        victim: Victim,
        world: World,
        wishes: list[Wish],
        *,
        seed: int,
        kills: int,
        room: int,
        server: TemporalServer | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """`room`: most jobs that are open at the same time. `server`: of the victim's engine, killed as well."""
        self.victim, self.world = victim, world
        self.ledger = Ledger(victim.data / "cpa.db")
        self._kills, self._room, self._server = kills, room, server
        self._say = say
        self._draw = random.Random(seed)
        self.report = Report(seed, wishes)
        self._orders = sum(len(wish.orders) for wish in wishes)

    def run(self) -> Report:
        begun = time.monotonic()
        report = self.report
        away = self._server is not None
        client = Client(self.victim, report.wishes, report.seed, room=self._room, away=away)
        with client:
            if away:
                self._settle()
            while (number := len(report.deaths) + report.outages) < self._kills:
                self._pace(number)
                death = self._live()
                report.deaths.append(death)
                client.ended = death.count.ended
                if len(report.deaths) % 10 == 0:
                    self._say(f"  {number + 1} kills: {death.count}")
            self.world.spare()
            self.world.pace(self._orders)
            self.victim.start()
            self.victim.wait_ready()
            self._await_end(client)
            self._repeat(client)
        report.acknowledged, report.repeated = client.acknowledged, client.repeated
        report.broken, report.explained = client.broken, client.explained
        report.starts = self.victim.starts
        report.exit_code = self.victim.stop()
        report.end = self.ledger.count()
        report.relatives = self.victim.relatives()
        report.seconds = time.monotonic() - begun
        return report

    # -- inside ----------------------------------------------------------------------------------------------

    def _pace(self, number: int) -> None:
        """As many orders in all as have their turn by this kill; the last ones come after the last kill."""
        self.world.pace(round(self._orders * (number + 1) / (self._kills + 2)))

    def _settle(self) -> None:
        """A first life in peace, until a job has ended. A Temporal server that dies while it makes a version known
        that it never saw goes on with that a minute later, and hands out no work until then: most of a storm."""
        self._pace(0)
        self.victim.start()
        self.victim.wait_ready()
        wait_until(lambda: self.ledger.count().ended > 0, "a job ends", seconds=LONGEST_END)
        self.victim.kill()

    def _live(self) -> Death:
        """One life and its end."""
        kind = self._draw.choices(list(KINDS), list(KINDS.values()))[0]
        known = self.world.accepted()
        self.victim.start()
        if kind == "starting":
            seconds = self._draw.uniform(0.05, 0.9) * self.victim.usual
            self.victim.wait_dead(seconds)
            self.victim.kill()
        else:
            self.victim.wait_ready()
            kind, seconds = self._die(kind)
        took = set(self.world.accepted()) - set(known)
        return Death(kind, seconds, self.ledger.count(), tuple(sorted(took - self._recorded())))

    def _die(self, kind: str) -> tuple[str, float]:
        begun = time.monotonic()
        if kind == "mailing":
            self.world.kill_after_mail(self.victim.pid)
            dead = self.victim.wait_dead(6.0)
            self.world.spare()
            if dead:
                return kind, time.monotonic() - begun
            kind = "working"
        else:
            if kind == "working" and self._server is not None and self._draw.random() < OUTAGES:
                self._outage(self._server)
            wait = self._draw.uniform(0.0, 0.2) if kind == "recovering" else self._draw.uniform(0.2, 3.0)
            if self.victim.wait_dead(wait * self.victim.slowness):
                raise AssertionError(f"the server ended of itself:\n{self.victim.log.read_text()[-6000:]}")
            self._await_work()
        self.victim.kill()
        return kind, time.monotonic() - begun

    def _await_work(self) -> None:
        deadline = time.monotonic() + LONGEST_LULL
        while not self.ledger.under_way() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _outage(self, server: TemporalServer) -> None:
        time.sleep(self._draw.uniform(0.0, 0.5))
        server.kill()
        self.report.outages += 1
        time.sleep(self._draw.uniform(0.0, 0.5))
        server.start()

    def _recorded(self) -> set[str]:
        """Message-IDs of which the store knows that they were sent."""
        return self.ledger.sent()

    def _await_end(self, client: Client) -> None:
        deadline = time.monotonic() + LONGEST_END
        wanted = len(self.report.wishes)
        while time.monotonic() < deadline:
            count = self.ledger.count()
            client.ended = count.ended
            if len(client.acknowledged) == wanted and count.ended >= wanted:
                return
            if self.victim.wait_dead(0.25):
                raise AssertionError(f"the server ended of itself:\n{self.victim.log.read_text()[-6000:]}")
        self._say(f"  not all ended: {self.ledger.count()}, {len(client.acknowledged)} acknowledged")
        self._tell_open(client)

    def _tell_open(self, client: Client) -> None:
        """What the server says of the jobs that have not ended."""
        with client.open() as api:
            for job in client.acknowledged.values():
                if api.get(f"/jobs/{job}").json()["status"] in ("pending", "running"):
                    self._say(f"  {job} is open: {api.get(f'/jobs/{job}/explain').json()}")

    def _repeat(self, client: Client) -> None:
        """Every request once more: it must be the same job."""
        with client.open() as api:
            for wish in self.report.wishes:
                first = client.acknowledged.get(wish.name)
                again = client.submit(api, wish)
                if first != again:
                    client.broken.append(f"{wish.name} was job {first}, then job {again}")
