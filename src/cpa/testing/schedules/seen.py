"""What really happened over many schedules, so that a green run cannot be an empty one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from cpa.core import commands, events
from cpa.core.job import JobStatus, TaskStatus
from cpa.core.transitions import JOB_MOVES, TASK_MOVES
from cpa.testing.schedules.schedule import FAULTS

REASONS: Final = frozenset(
    (
        "ended",
        "no_such_task",
        "stale_epoch",
        "duplicate",
        "not_expected",
        "not_open",
        "not_pending",
        "not_ended",
        "not_failed",
        "discarded",
        "other_action",
        "not_approver",
        "own_request",
        "said_twice",
        "still_done",
        "approval_needed",
        "nobody_left",
        "retries_used_up",
        "exists",
    )
)
"""Why an event may not count."""
EVENTS: Final = frozenset(
    kind.__name__ for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__
)
COMMANDS: Final = frozenset(
    kind.__name__ for kind in commands.Command.__subclasses__() if kind.__module__ == commands.__name__
)
QUESTIONS: Final = frozenset(("approval", "proposal", "input", "doubt"))


@dataclass
class Seen:
    """Counts."""

    events: Counter[str] = field(default_factory=Counter)
    """That counted, by kind."""
    commands: Counter[str] = field(default_factory=Counter)
    job_moves: Counter[tuple[JobStatus, JobStatus]] = field(default_factory=Counter)
    task_moves: Counter[tuple[TaskStatus, TaskStatus]] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(event about an attempt, status of its task), whether it counted or not."""
    job_pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ends: Counter[JobStatus] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """That struck."""
    checks: Counter[str] = field(default_factory=Counter)
    """`allowed`: attempts that went out after people had said yes to the exact action; `replayed`, `explained`."""

    @property
    def told(self) -> int:
        """Events that counted."""
        return self.events.total()

    def marks(self) -> Counter[str]:
        """What must not be missing, by name: of `MARKS`."""
        found: Counter[str] = Counter(self.faults)
        found.update({f"event {name}": count for name, count in self.events.items()})
        found.update({f"command {name}": count for name, count in self.commands.items()})
        found.update({f"question {name}": count for name, count in self.questions.items()})
        found.update({f"reason {name}": count for name, count in self.reasons.items()})
        found.update({f"job {one} to {other}": count for (one, other), count in self.job_moves.items()})
        found.update({f"task {one} to {other}": count for (one, other), count in self.task_moves.items()})
        return found


MARKS: Final = frozenset(
    (
        *FAULTS,
        *(f"event {name}" for name in EVENTS),
        *(f"command {name}" for name in COMMANDS),
        *(f"question {name}" for name in QUESTIONS),
        *(f"reason {name}" for name in REASONS),
        *(f"job {one} to {other}" for one, others in JOB_MOVES.items() for other in others),
        *(f"task {one} to {other}" for one, others in TASK_MOVES.items() for other in others),
    )
)
"""What must have happened in many schedules."""
