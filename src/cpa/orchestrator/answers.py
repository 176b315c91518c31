"""What an agent says about an attempt, as an event, and whether it may say it.

agree             the attempt runs                       TaskStarted
refuse            nothing was begun, another may try     TaskRefused
not_understood    the same, if it was said to a request  TaskRefused
propose           rather so                              TaskProposed
done              it succeeded                           TaskSucceeded
failure           by its class                           TaskFailed
confirm           what a look for the effect found       TaskVerified
inform            progress; no event
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from cpa.core.events import (
    Event,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    TaskVerified,
)
from cpa.core.job import Snapshot, TaskStatus
from cpa.core.lam_payloads import (
    AgreePayload,
    ConfirmPayload,
    DonePayload,
    FailurePayload,
    InformPayload,
    NotUnderstoodPayload,
    OfferPayload,
    Payload,
    ProposePayload,
    RefusePayload,
)
from cpa.core.lam_protocol import BaseMessage
from cpa.core.results import MAX_FILES, files, mistake
from cpa.core.storing import instead, milliseconds, pause, storable
from cpa.errors import Forbidden, InvalidDocument, NotFound
from cpa.orchestrator.wording import message_id
from cpa.ports.engine import Place
from cpa.ports.executor import Verdict
from cpa.ports.transport import Attempt

ABOUT_ATTEMPTS = (
    AgreePayload,
    ConfirmPayload,
    DonePayload,
    FailurePayload,
    InformPayload,
    NotUnderstoodPayload,
    OfferPayload,
    ProposePayload,
    RefusePayload,
)
_VERDICTS = tuple(verdict.value for verdict in Verdict)
There = Callable[[str], Awaitable[bool]]
"""Whether there is a file of this digest."""
_HELD_BY_AGENT = (TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.IN_DOUBT)


def no_such_task(snapshot: Snapshot, task: str) -> NotFound:
    """The job has no task of this id; it names some it has."""
    return NotFound(
        f"the job has no task {task!r}",
        field="correlation.taskId",
        value=task,
        remedy=f"its tasks are {', '.join(spec.id for spec in snapshot.spec.tasks[:20])}",
    )


def check_holder(place: Place, attempt: Attempt, sender: str) -> None:
    """Only who holds an attempt may answer it. Who held an older one is not known any more: the core says so."""
    run = place.run
    held = run.status in _HELD_BY_AGENT and attempt.epoch >= run.epoch
    if held and run.agent != sender:
        raise Forbidden(
            "another agent holds this task",
            field="sender",
            value=sender,
            remedy="answer only what was requested from you",
        )


def unborn(place: Place, attempt: Attempt) -> bool:
    """Whether no agent has been chosen for this attempt. Who answers it all the same guesses its number, and must
    not be heard: by the time the word counts, somebody else may have it."""
    run = place.run
    return attempt.epoch > run.epoch or (attempt.epoch == run.epoch and run.status is TaskStatus.READY)


def late(place: Place, attempt: Attempt, under_way: Sequence[TaskStatus] = _HELD_BY_AGENT) -> str:
    """Why progress of the attempt is of no interest, in the core's words; empty when it is under way."""
    run = place.run
    if place.ended:
        return "ended"
    if attempt.epoch < run.epoch:
        return "stale_epoch"
    return "" if attempt.epoch == run.epoch and run.status in under_way else "not_expected"


def declines(message: BaseMessage, attempt: Attempt) -> bool:
    """Whether a `not_understood` was said to what began the attempt, and not to a later word about it."""
    asked = message.correlation.in_reply_to
    return asked is None or asked in (message_id(attempt, "request"), message_id(attempt, "assign"))


def for_bids(message: BaseMessage, attempt: Attempt) -> bool:
    """Whether it answers a call for bids for this attempt."""
    return message.correlation.in_reply_to == message_id(attempt, "discover", message.sender)


def event_of(payload: Payload, attempt: Attempt) -> Event:
    """The event that follows. Raises `InvalidDocument` for a verdict nobody knows."""
    task, epoch = attempt.task, attempt.epoch
    match payload:
        case AgreePayload():
            return TaskStarted(time=0, task=task, epoch=epoch)
        case RefusePayload():
            return TaskRefused(time=0, task=task, epoch=epoch, reason=payload.reason)
        case NotUnderstoodPayload():
            reason = f"not understood: {payload.what} {payload.why}".strip()
            return TaskRefused(time=0, task=task, epoch=epoch, reason=reason)
        case ProposePayload():
            return _proposed(payload, task, epoch)
        case DonePayload():
            return TaskSucceeded(
                time=0,
                task=task,
                epoch=epoch,
                result=payload.result,
                artifacts=tuple(each.artifact for each in payload.artifacts),
                duration=milliseconds(payload.execution_time),
            )
        case FailurePayload():
            return _failed(payload, task, epoch)
        case ConfirmPayload():
            return _verified(payload, task, epoch)
        case _:
            raise TypeError(f"{type(payload).__name__} is no event of an attempt")


async def in_order(event: Event, action: str, there: There) -> Event:
    """The event, once what it says can become a fact: with texts that can be stored, a result of the action's form,
    and files that are stored. Else what takes its place: a success fails, a found effect stands without its result;
    what is named beside the result, as pictures are, is left out where nobody has it: what was done was done."""
    event = storable(event)
    if isinstance(event, TaskSucceeded | TaskVerified) and event.result:
        wrong = mistake(action, event.result)
        missing = "" if wrong else await _first_missing(files(event.result), there)
        if missing:
            wrong = f"there is no file {missing}"
        if wrong:
            event = instead(event, wrong)
    if isinstance(event, TaskSucceeded | TaskFailed) and event.artifacts:
        kept = tuple([each for each in dict.fromkeys(event.artifacts[:MAX_FILES]) if await there(each)])
        event = replace(event, artifacts=kept)
    return event


def left_out(said: Event, taken: Event) -> tuple[str, ...]:
    """The files named beside the result that are not kept with what `in_order` made of it; of many the first."""
    if not isinstance(said, TaskSucceeded | TaskFailed) or not isinstance(taken, TaskSucceeded | TaskFailed):
        return ()
    kept = frozenset(taken.artifacts)
    return tuple(each for each in dict.fromkeys(said.artifacts) if each not in kept)[:MAX_FILES]


async def _first_missing(digests: tuple[str, ...], there: There) -> str:
    for digest in digests:
        if not await there(digest):
            return digest
    return ""


def _proposed(payload: ProposePayload, task: int, epoch: int) -> Event:
    run_at = 0 if payload.run_at is None else int(payload.run_at.timestamp() * 1000)
    return TaskProposed(
        time=0, task=task, epoch=epoch, arguments=payload.arguments, run_at=run_at, reason=payload.reason
    )


def _failed(payload: FailurePayload, task: int, epoch: int) -> Event:
    return TaskFailed(
        time=0,
        task=task,
        epoch=epoch,
        failure=payload.failure_class,
        code=payload.error,
        message=payload.message,
        remedy=payload.remedy,
        artifacts=tuple(each.artifact for each in payload.artifacts),
        retry_after=pause(payload.retry_after),
        duration=milliseconds(payload.execution_time),
    )


def _verified(payload: ConfirmPayload, task: int, epoch: int) -> Event:
    again = (payload.model_extra or {}).get("look_again") or 0
    good = isinstance(again, int | float) and not isinstance(again, bool) and again >= 0
    if payload.verdict not in _VERDICTS or not good:
        raise InvalidDocument(
            "a look for an effect ends with a verdict",
            field="payload.verdict" if good else "payload.look_again",
            value=payload.verdict if good else again,
            remedy=f"say {', '.join(_VERDICTS)}; look_again is a number of seconds",
        )
    return TaskVerified(
        time=0,
        task=task,
        epoch=epoch,
        verdict=payload.verdict,
        evidence=payload.evidence,
        result=payload.result,
        look_again=pause(again),
    )
