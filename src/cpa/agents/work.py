"""What an agent is at: its requests by id, by attempt, and how far each has come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec
import structlog

from cpa.core.classes import FailureClass
from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Conflict
from cpa.ports.agents import Named
from cpa.ports.executor import ActionRequest, ExecutionResult

log = structlog.stdlib.get_logger(__name__)

NEVER_BEGAN: Final = ExecutionResult.failed(
    FailureClass.ENVIRONMENT, "cancelled", "it was stopped before it began"
)
DIED: Final = ExecutionResult.failed(
    FailureClass.UNKNOWN_OUTCOME, "agent_restarted", "the agent died while it was at it"
)
_REMEMBERED: Final = 10_000


class Refused(Conflict):
    """The agent will not have the task; nothing was begun."""

    code: ClassVar[str] = "refused"
    failure = FailureClass.ENVIRONMENT
    reason = ""
    """One word: `busy`, `draining`, `not_ready`, `stale`, `unknown_action`."""

    @classmethod
    def because(
        cls, reason: str, message: str, *, failure: FailureClass = FailureClass.ENVIRONMENT
    ) -> Refused:
        refused = cls(message, value=reason, remedy="give it to another agent, or later")
        refused.failure, refused.reason = failure, reason
        return refused


class Taken(msgspec.Struct, frozen=True):
    """What whoever hands over a task is told."""

    id: str
    """By which it can be stopped: the id of the request."""
    estimate: float | None = None
    """Seconds it will probably take."""


@dataclass(slots=True, eq=False)
class Work:
    """One request this process knows of and that is not settled."""

    message: BaseMessage
    named: Named
    request: ActionRequest
    looking: bool = False
    begun: bool = False
    waits: bool = False
    """It begins once the scheduler has heard that it was agreed to."""
    stopped: bool = False
    lost: bool = False
    """Not ours any more: it is not named in beats."""
    answer: BaseMessage | None = None
    told: float = float("-inf")
    """When progress was told last."""

    @property
    def id(self) -> str:
        """Of the request."""
        return str(self.message.id)

    @property
    def told_as(self) -> dict[str, str | int]:
        """What a log line says of it."""
        named = self.named
        return {"action": self.request.action, "job": named.job, "task": named.task, "epoch": named.epoch}


def tell_end(work: Work, result: ExecutionResult) -> None:
    """One line in the log."""
    seconds, error = round(result.duration, 3), result.error
    if error is None:
        log.info("task_done", seconds=seconds, **work.told_as)
        return
    told = {"failure": error.failure.value, "code": error.code, "error": error.message}
    log.warning("task_failed", seconds=seconds, **told, **work.told_as)


class Works:
    """The work of one process of an agent."""

    def __init__(self) -> None:
        self._by_id: dict[str, Work] = {}
        self._by_name: dict[Named, Work] = {}
        """Without those that only look for an effect."""
        self._latest: OrderedDict[tuple[str, str], int] = OrderedDict()
        """By job and task: the newest epoch heard of."""

    def __iter__(self) -> Iterator[Work]:
        return iter(list(self._by_id.values()))

    def __bool__(self) -> bool:
        return bool(self._by_id)

    def get(self, id: str) -> Work | None:
        """By the request's id."""
        return self._by_id.get(id)

    def named(self, named: Named) -> Work | None:
        return self._by_name.get(named)

    def looks(self, named: Named) -> list[Work]:
        """Those that look for the effect of this attempt."""
        return [work for work in self if work.looking and work.named == named]

    def add(self, work: Work) -> None:
        self._by_id[work.id] = work
        if not work.looking:
            self._by_name[work.named] = work
            self.hear_of(work.named.job, work.named.task, work.named.epoch)

    def remove(self, work: Work) -> None:
        self._by_id.pop(work.id, None)
        if self._by_name.get(work.named) is work:
            del self._by_name[work.named]

    @property
    def ours(self) -> tuple[Named, ...]:
        """The attempts that were not taken away and not settled."""
        return tuple(named for named, work in self._by_name.items() if not work.lost)

    @property
    def busy(self) -> int:
        """How many attempts occupy a slot."""
        return sum(work.answer is None for work in self._by_name.values())

    def hear_of(self, job: str, task: str, epoch: int) -> None:
        """From now on older attempts of this task are stale: one that comes late does not begin."""
        self._latest[job, task] = max(epoch, self._latest.pop((job, task), 0))
        if len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)

    @contextmanager
    def refused(self, named: Named) -> Iterator[None]:
        """Refused inside, the attempt does not begin any more: a copy of the request may come when another agent
        has the task."""
        try:
            yield
        except Refused:
            self.hear_of(named.job, named.task, named.epoch + 1)
            raise

    def stale(self, named: Named) -> bool:
        return self._latest.get((named.job, named.task), 0) > named.epoch
