"""Many schedules at once, and one that failed made small, down to the events that matter."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from cpa.core.events import Event
from cpa.testing.campaign import Failure, Report, Tier
from cpa.testing.schedules.knowledge import Violation
from cpa.testing.schedules.schedule import Schedule
from cpa.testing.schedules.seen import MARKS, Seen
from cpa.testing.schedules.watch import Watch
from cpa.testing.schedules.world import World
from cpa.testing.shrinking import fewest, shrink

CRASH: Final = None
"""In a course: the process ended here."""
_OTHERS: Final = 400
"""Seeds among which a smaller job is looked for."""
Course = Sequence[Event | None]


def run(schedule: Schedule, seen: Seen | None = None) -> World:
    """Live through one schedule; the world's `violation` is None when all promises held."""
    world = World(schedule, Seen() if seen is None else seen)
    world.violation = _broken(world.live)
    return world


def live(schedules: list[Schedule]) -> Report:
    """All of them, up to the first that fails."""
    seen, report = Seen(), Report()
    for schedule in schedules:
        world = run(schedule, seen)
        report.runs += 1
        report.wanted += 1
        report.jobs[world.job.head.status.value] += world.job.head.status.ended
        if world.violation is not None:
            violation = world.violation
            report.failures = [Failure(world.schedule, violation.oracle, violation.what, told(world.course))]
            break
    report.seen = seen.marks()
    report.did.update(seen.checks)
    report.did["events"] = seen.told
    report.did["events that did not count"] = seen.reasons.total()
    report.did["runs that ended"] = seen.ends.total()
    return report


def small(failure: Failure) -> Failure:
    """Fewer faults and tasks first, then fewer events."""
    schedule: Schedule = shrink(
        failure.scenario, failure.oracle, lambda each: run(each).violation, _ways, tries=2_000
    )
    world = run(schedule)
    violation = world.violation
    if violation is None:
        return failure
    course = fewest(world.course, violation.oracle, partial(broken, world))
    found = broken(world, course) or violation
    return Failure(schedule, violation.oracle, found.what, told(course))


def broken(world: World, course: Course) -> Violation | None:
    """What these steps alone break, of the job of this world."""
    watch = Watch(world.name, world.spec, world.began, Seen())

    def live() -> None:
        for event in course:
            if event is CRASH:
                watch.crash()
            else:
                watch.tell(event)
        watch.check_rows()
        watch.check_replay()

    return _broken(live)


def _broken(live: Callable[[], None]) -> Violation | None:
    """What it breaks; whatever the core raises is a defect."""
    try:
        live()
    except Violation as violation:
        return violation
    except Exception as error:  # noqa: BLE001 - told
        return Violation("defect", "".join(traceback.format_exception(error)).strip())
    return None


def told(course: Course, most: int = 80) -> tuple[str, ...]:
    """The end of a course, one line each."""
    return tuple(
        "the process ends, and another goes on" if event is CRASH else str(event) for event in course[-most:]
    )


def _ways(schedule: Schedule) -> Iterator[Callable[[Schedule], Schedule]]:
    """Another job of few tasks among the first seeds; a smaller one of this seed; less that goes wrong."""
    for tasks in (1, 2):
        for seed in range(_OTHERS):
            yield partial(_other, seed=seed, tasks=tasks)
    yield lambda each: replace(each, tasks=max(each.tasks // 2, 1))
    yield lambda each: replace(each, tasks=max(each.tasks - 1, 1))
    yield lambda each: replace(each, quiet=each.quiet // 2)
    for fault in sorted(schedule.faults or ()):
        yield partial(Schedule.without, fault=fault)


def _other(schedule: Schedule, *, seed: int, tasks: int) -> Schedule:
    return replace(schedule, seed=seed, tasks=tasks) if tasks < schedule.tasks else schedule


CORE: Final = Tier(live, small, MARKS, enough=5_000, chunk=500)
