"""One run: a scheduler that dies and is started again, agents, people, a network, and what goes wrong with them.

For some minutes faults strike; then everything is well, and within a time every job must have come to its end.
Everything happens on one virtual loop: equal scenarios take the same course, event by event.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from structlog.testing import capture_logs

from cpa.core.commands import CancelAttempt, Command, RequestTask
from cpa.core.events import Event, LeaseLost, TaskVerified
from cpa.core.job import JobStatus
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import CPAError, Unavailable
from cpa.ports.agents import AgentState, Named
from cpa.ports.executor import ActionRequest
from cpa.ports.steps import JobRows, StepStore
from cpa.ports.transport import Attempt
from cpa.repository.agents import MemoryAgentStore
from cpa.repository.database import Database
from cpa.repository.steps import SqlSteps
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.simulation.agents import TENANT, Process
from cpa.testing.simulation.circuits import Circuits
from cpa.testing.simulation.claims import KEPT, check_absence, check_kept
from cpa.testing.simulation.effects import Effects
from cpa.testing.simulation.ending import (
    check_books,
    check_end,
    check_leases,
    check_lost,
    check_room,
    check_timers,
)
from cpa.testing.simulation.journal import Journal, Record
from cpa.testing.simulation.network import SCHEDULER, Network
from cpa.testing.simulation.oracles import Oracles
from cpa.testing.simulation.people import Answers, Client
from cpa.testing.simulation.scenario import Scenario
from cpa.testing.simulation.scheduler import Crash, Life
from cpa.testing.simulation.troubles import Troubles
from cpa.testing.virtual import VirtualClock, VirtualLoop

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

HEALED = 1_800.0
"""Virtual seconds within which everything has ended once nothing goes wrong any more, where the clock was not set
back: an agent may put off its task by a quarter of an hour, a clock by twenty minutes more."""
_ALL_ALONG = frozenset(("builtin", "deadlines", "slow_agents", "slow_disk", "slow_network"))
"""Faults that exist, or not; all others strike."""
_DEFECTS = (
    *("job_set_aside", "commit_refused", "executor_defect", "store_unreadable"),
    *("unexpected_error", "posting_broke"),
)
"""Words of the log that must not be there."""
_KEPT = 20_000
"""Lines of the trace that are kept."""


class World:
    """Build it on the loop it lives on; `live` once."""

    def __init__(self, scenario: Scenario, folder: Path | None, logs: list[MutableMapping[str, Any]]) -> None:
        """`logs` is what the programs write into their log."""
        self.scenario = scenario
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop)
        self.seen: Counter[str] = Counter()
        """How often each fault struck."""
        self.seen.update(scenario.faults & _ALL_ALONG)
        self.faulty = True
        self.crash_chance = scenario.stream("crashes")
        self.agent_chance = scenario.stream("agents")
        self.people_chance = scenario.stream("people")
        self.forging = scenario.stream("forging")
        self._bytes = scenario.stream("bytes")
        self.keep = self.crash_chance.choice((1, 5_000))
        self.max_running = self.crash_chance.choice((1, 3, 1_000))
        self.network = Network(scenario, self.seen)
        self.journal = Journal()
        self.oracles = Oracles(clock="clock" not in scenario.faults)
        self.circuits = Circuits()
        self.journal.on_step = self._step
        self.journal.on_commit = lambda: check_room(self)
        self._opened: dict[tuple[str, str], float] = {}
        self.effects = Effects()
        self.agent_store = MemoryAgentStore()
        self.sent: dict[Attempt, float] = {}
        """When each attempt was first handed out."""
        self.lies: set[UUID] = set()
        """Messages that are not true."""
        self.believed: set[tuple[str, str]] = set()
        """(job, task) of which the scheduler had to believe a liar."""
        self.vital: dict[tuple[str, str, int], float] = {}
        """By (job, task, epoch): when the scheduler last got a sign of life of the attempt."""
        self.beats: dict[tuple[str, str, int], float] = {}
        """As `vital`, of beats alone."""
        self.heard: dict[str, float] = {}
        """By agent: when it was last heard, of whatever."""
        self.looks: set[tuple[str, str, int, str]] = set()
        """(job, task, epoch, agent): who was asked to look for which effect."""
        self.closed: dict[Named, float] = {}
        """When an attempt was answered, cancelled or given up last, durably."""
        self.last_beats: dict[str, tuple[Life, str, frozenset[Named]]] = {}
        """By agent: the life that took its last beat, the process it was of, and what it named."""
        self.barred: dict[str, tuple[float, AgentState]] = {}
        """By agent: since when it is drained, in quarantine, or out."""
        self.named: dict[str, frozenset[tuple[str, str, int]]] = {}
        """What the last beat of each agent that came through named."""
        self.lines: deque[tuple[float, tuple[object, ...]]] = deque(maxlen=_KEPT)
        self.events = 0
        """Lines of the trace there were."""
        self.violation: Violation | None = None
        self._over = asyncio.Event()
        self._folder, self._logs = folder, logs
        self._databases: list[tuple[Database, SqlSteps]] = []
        self._numbers: Counter[str] = Counter()
        slots = [self.agent_chance.choice((1, 2, 4)) for _ in range(scenario.agents)]
        self.processes = [Process(self, f"a{place}", each) for place, each in enumerate(slots)]
        self.agents = {process.address: process for process in self.processes}
        self.life: Life | None = None
        self.lives = 0
        self.clients = [Client(self, number) for number in range(scenario.jobs)]
        self._troubles = Troubles(self)

    # -- the course ----------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Raises `Violation` for the first promise that was not kept."""
        works: list[asyncio.Task[None]] = []
        unforeseen: list[Exception] = []
        self.loop.set_exception_handler(self._unhandled)
        try:
            async with asyncio.TaskGroup() as group:
                scheduler = group.create_task(self._scheduler())
                answers = Answers(self)
                works += [group.create_task(process.run()) for process in self.processes]
                works += [group.create_task(client.run()) for client in self.clients]
                works += [group.create_task(work) for work in self._troubles.works()]
                works += [group.create_task(answers.run()), group.create_task(self._watch())]
                await self._until(lambda: False, self.scenario.minutes * 60)
                self.faulty = False
                self._troubles.heal()
                await self._until(self._settled, HEALED + self._troubles.set_back)
                await self._until(lambda: False, 40.0)
                check_end(self)
                for work in works:
                    work.cancel()
                scheduler.cancel()
        except* Violation as group_of_them:
            self.violated(_first(group_of_them))
        except* Exception as group_of_all:  # noqa: BLE001 - told
            unforeseen.append(_first(group_of_all))
        finally:
            for database, steps in self._databases:
                steps.close()
                database.close()
        for error in unforeseen:
            self._defect(error)
        if self.violation is not None:
            raise self.violation

    async def _scheduler(self) -> None:
        """Life after life, until cancelled."""
        while True:
            self.lives += 1
            self.life = Life(self)
            self.trace("start", self.lives)
            # In a task of its own: what cancels the one must not reach the other.
            running = asyncio.create_task(self.life.run(), context=self.network.context(SCHEDULER))
            try:
                await asyncio.wait([running])
            finally:
                running.cancel()
            error = None if running.cancelled() else running.exception()
            if error is not None:
                raise error
            self.trace("end", self.lives)
            await asyncio.sleep(self.crash_chance.choice((0.1, 2, 20)) if self.faulty else 0.1)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Until it is done, a promise is broken, or so much time is over."""
        end = self.loop.time() + seconds
        while self.loop.time() < end and not done():
            try:
                async with asyncio.timeout(min(1.0, end - self.loop.time())):
                    await self._over.wait()
            except TimeoutError:
                continue
            assert self.violation is not None
            raise self.violation

    async def _watch(self) -> None:
        """Leases and slots, every second."""
        while True:
            await asyncio.sleep(1)
            check_leases(self)
            check_timers(self)
            check_books(self)
            self._sound()

    def _settled(self) -> bool:
        jobs, wanted = self.journal.jobs.values(), len(self.clients) + self.oracles.asked
        waits = self.oracles.still or len(jobs) < wanted or any(not client.job for client in self.clients)
        return not waits and all(record.head.status.ended for record in jobs)

    # -- what parts of the world ask for -------------------------------------------------------------------

    def strikes(self, fault: str, chance: random.Random, share: float = 1.0) -> bool:
        """Whether this fault exists here and strikes now."""
        if self.faulty and fault in self.scenario.faults and chance.random() < self.scenario.strength * share:
            self.seen[fault] += 1
            return True
        return False

    def trace(self, *what: object) -> None:
        self.events += 1
        self.lines.append((self.loop.time(), what))

    def violated(self, violation: Violation) -> None:
        """The run is over; the first violation counts."""
        if self.violation is None:
            self.violation = violation
            self.trace("VIOLATION", violation)
            self._over.set()

    def _defect(self, error: BaseException) -> None:
        """Something raised what nobody expects."""
        told = "".join(traceback.format_exception(error)).strip()
        self.violated(Violation("defect", f"{error!r}\n{told}"))

    def _sound(self) -> None:
        """Nothing failed unforeseen, not even where the scheduler goes on all the same."""
        for line in self._logs:
            error = line.get("exc_info")
            # What a killed process still says of its own end is nobody's.
            if line["event"] in _DEFECTS and not isinstance(error, Crash):
                self._defect(error if isinstance(error, Exception) else RuntimeError(str(line)))
        self._logs.clear()

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(error, Crash):  # nobody is left to take what a killed process raised while it ended
            self._defect(error)

    async def inside(self, work: Callable[[Life], Awaitable[T]]) -> T:
        """Have something done by the scheduler, from beside it; `Unavailable` when it is not there, or ends."""
        life = self.life
        if life is None or not life.up:
            raise Unavailable("the scheduler is down", remedy="ask again")
        done: asyncio.Future[T] = self.loop.create_future()

        async def serve() -> None:
            try:
                result = await work(life)
            except CPAError as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        life.start(serve())
        try:
            async with asyncio.timeout(10):
                return await done
        except TimeoutError:
            raise Unavailable("no answer came in time", remedy="ask again") from None

    async def ask(self, agent: str, work: Callable[[Life], Awaitable[T]]) -> T:
        """As `inside`, over the network."""

        def there() -> Awaitable[T] | None:
            life = self.life
            return work(life) if life is not None and life.up else None

        def start(serving: Any) -> None:
            if self.life is None or not self.life.up:
                serving.close()
            else:
                self.life.start(serving)

        return await self.network.call(agent, SCHEDULER, there, start)

    def affect(self, request: ActionRequest, agent: str) -> None:
        """An agent does it now."""
        self.trace("effect", request.effect.value, request.job, request.task, request.epoch, agent)
        if agent in self.agents:
            self.agents[agent].restraint.acts(request)
        try:
            self.effects.add(request, agent)
        except Violation as violation:
            self.violated(violation)

    def succeeded(self, request: ActionRequest, agent: str) -> None:
        """An agent is about to say so."""
        index = self.journal.jobs[TENANT, request.job].index(request.task)
        self.claimed(request.job, index, request.epoch, agent)
        if agent not in self.agents:
            self.loop.call_later(KEPT, check_kept, self, self.life, request)

    def claimed(self, job: str, task: int, epoch: int, agent: str) -> None:
        """The agent's word that this attempt succeeded, true or not: it counts if that agent holds the attempt."""
        self.oracles.said.setdefault((job, task, epoch), set()).add(agent)

    def spoken(self, agent: Process, message: BaseMessage) -> None:
        """An agent says something for the first time."""
        self.trace("says", agent.name, message.type, message.correlation.job_id, message.correlation.task_id)

    def _step(self, before: dict[str, tuple[Command, int]], record: Record, rows: JobRows) -> None:
        """One job's part of a commit."""
        for event, _ in rows.events:
            if not {"disk", "slow_disk"} & self.scenario.faults:
                self.circuits.event(self.life, self.loop.time(), record.head.id, event)
            self.trace("stored", record.head.id, type(event).__name__, *_told(event))
            if isinstance(event, LeaseLost):
                check_lost(self, record, event)
            elif isinstance(event, TaskVerified) and event.verdict == "absent":
                self.effects.denied.add((record.head.id, record.spec.tasks[event.task].id, event.epoch))
                if self.oracles.clock:
                    check_absence(record, event)
        for key in before.keys() - record.outbox.keys():
            if isinstance(command := before[key][0], RequestTask | CancelAttempt):
                named = Named(record.head.id, record.spec.tasks[command.task].id, command.epoch)
                self.closed[named] = self.loop.time()
        for key in record.outbox.keys() - before.keys():
            self._opened[record.head.id, key] = self.loop.time()
        self.oracles.step(before, record, rows)

    def requested(self, job: str, command: Command) -> float:
        """When this command became durable."""
        return self._opened[job, command.key]

    @property
    def sql(self) -> SqlSteps | None:
        return self._databases[-1][1] if self._databases else None

    def status(self, job: str) -> JobStatus | None:
        record = self.journal.jobs.get((TENANT, job))
        return None if record is None else record.head.status

    def random_bytes(self, size: int) -> bytes:
        return self._bytes.randbytes(size)

    def new_message_id(self) -> UUID:
        return UUID(int=self.forging.getrandbits(128), version=4)

    def new_job_id(self) -> str:
        self._numbers["job"] += 1
        return f"job-{self._numbers['job']:03}"

    def new_agent_id(self) -> str:
        self._numbers["agent"] += 1
        return f"ag_{self._numbers['agent']}"

    def open_store(self) -> StepStore:
        """What a new life of the scheduler reads and writes."""
        if self._folder is None:
            return self.journal
        for database, steps in self._databases:
            steps.close()
            database.close()
        database = Database.open(self._folder / "cpa.db")
        steps = SqlSteps(database)
        self._databases = [(database, steps)]
        return steps


def run(scenario: Scenario) -> World:
    """Live through one scenario; the world tells what happened. Its `violation` is None when all promises held."""
    holder: list[World] = []

    async def whole(folder: Path | None) -> None:
        world = World(scenario, folder, logs)
        holder.append(world)
        try:
            await world.live()
        except Violation:
            return

    chance = scenario.stream("disk")
    slow = "slow_disk" in scenario.faults

    def latency() -> float:
        if not slow or (holder and not holder[0].faulty):
            return 0.0
        return chance.random() * (0.5 if chance.random() < 0.9 else 5.0) * scenario.strength

    with (
        capture_logs() as logs,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=lambda: VirtualLoop(latency)) as runner,
    ):
        runner.run(whole(Path(folder) if scenario.sql else None))
    return holder[0]


def _told(event: Event) -> tuple[object, ...]:
    """What tells one event from another, for the trace."""
    names = ("task", "epoch", "agent", "reason", "failure", "verdict", "key", "yes")
    return tuple(getattr(event, name) for name in names if getattr(event, name, "") not in ("", None))


def _first(group: BaseExceptionGroup[E]) -> E:
    error: E | BaseExceptionGroup[E] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
