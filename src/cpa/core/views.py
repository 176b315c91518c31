"""What the world sees of a job: the public `Job`, its tasks, its events and its open questions.

Made from the core's own values, never stored. Times are RFC 3339 in UTC with milliseconds, durations are
seconds. Results are shown as they are; secrets in arguments are references and stay references, and what may be a
credential in clear is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from cpa.core.answers import told
from cpa.core.approval import shown
from cpa.core.audit import Stored, entry
from cpa.core.classes import FailureClass
from cpa.core.commands import AskPerson
from cpa.core.display import displayed
from cpa.core.events import TaskFailed
from cpa.core.failures import remedy_for_good, translated
from cpa.core.job import JobHead, JobSpec, JobStatus, Snapshot, TaskRun, TaskStatus
from cpa.core.people import ASK, asked, authors, needed, said_yes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999
"""Of the years 1 to 9999, in milliseconds."""


def moment(milliseconds: int) -> datetime:
    """Milliseconds since 1970 UTC as an aware datetime; what is out of its range as the nearest one."""
    return _EPOCH + timedelta(milliseconds=min(max(milliseconds, _FIRST), _LAST))


def rfc3339(milliseconds: int) -> str:
    """As text, always with milliseconds and `Z`."""
    return moment(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(
        lambda value: value.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        return_type=str,
        when_used="json",
    ),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T08:30:00.000Z"]}),
]


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Failure(View):
    """Why a task failed or is held."""

    failure: str = Field(description="technical, environment, business, policy or unknown_outcome")
    code: str = Field(description="Stable, machine-readable.", examples=["login_refused"])
    message: str
    remedy: str = ""


class Progress(View):
    """What a running attempt said last of how far it is; shown, not stored."""

    share: float = Field(description="0 to 1.")
    message: str


Heard = Mapping[str, tuple[int, Progress]]
"""By task: the attempt (its epoch) that said something of its progress, and what."""
_NOTHING: Heard = MappingProxyType({})


class Task(View):
    """One task in the current run."""

    id: str
    index: int
    action: str = Field(examples=["web.click"])
    status: TaskStatus
    depends_on: list[str]
    arguments: dict[str, Any]
    timeout: float = Field(description="Seconds for one attempt.")
    effect: str = Field(description="What a second try may do: idempotent, verifiable or unsafe.")
    attempts: int = Field(description="Attempts of this run that count against the retry policy.")
    epoch: int = Field(
        description="Number of the newest attempt, over all runs; one that no agent took, or that was refused, "
        "has a number too."
    )
    agent: str | None = None
    since: Timestamp | None = Field(default=None, description="When this status was reached.")
    reason: str | None = Field(default=None, description="Why it is held, in doubt, skipped or unproved.")
    result: dict[str, Any] | None = None
    error: Failure | None = None
    progress: Progress | None = Field(default=None, description="How far a running attempt says it is.")


class Job(View):
    """One request and where it stands."""

    id: str
    status: JobStatus
    intent: str
    description: str = Field(
        description="The request in the person's words; of a plan without any, its first actions."
    )
    context: dict[str, str] = Field(default_factory=dict)
    priority: int = Field(default=0, description="Higher goes first.")
    created_at: Timestamp
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    deadline: Timestamp | None = None
    retry_count: int = Field(default=0, description="Runs after the first.")
    max_retries: int | None = None
    last_seq: int = Field(default=0, description="Number of its last event: where a live stream resumes.")
    open_tasks: int = Field(default=0, description="Tasks of this run that have not ended.")
    dead_letter: bool = Field(default=False, description="Failed, and its retries are used up.")
    discarded: bool = Field(default=False, description="Failed, and nobody will take it up again.")
    ending: str | None = Field(
        default=None,
        description="What ends the run: `cancel`, `timeout`, `deadline`, `task:<id>`. Nothing new starts.",
    )
    reason: str | None = Field(default=None, description="Why the run ended as it did.")
    error: Failure | None = Field(default=None, description="Of the first task that failed for good.")


class Question(View):
    """Something only a person can decide; the task waits for it."""

    id: str = Field(description="To answer under `/questions/{id}`.")
    job: str
    description: str = Field(default="", description="What the job is for: the request, or that of its plan.")
    task: str
    kind: str = Field(
        description="`approval`: may it be done? `proposal`: may it be done as the agent proposes? "
        "`input`: what is asked for? `doubt`: did it happen?"
    )
    action: str
    arguments: dict[str, Any] = Field(description="What it would be done with, secrets by name.")
    instead_of: dict[str, Any] | None = Field(
        default=None, description="The arguments that a proposal would replace."
    )
    digest: str = Field(
        default="",
        description="SHA-256 of the exact action; an answer names it and counts for no other.",
    )
    form: dict[str, Any] | None = Field(default=None, description="What `answer` must hold, field by field.")
    text: str = Field(description="The question, in words.")
    since: Timestamp | None = None
    expires: Timestamp | None = Field(default=None, description="When it is too late; null: never.")
    needed: int = Field(default=1, description="How many people must say yes.")
    given: list[str] = Field(default_factory=list, description="Who said yes already.")
    approvers: list[str] = Field(default_factory=list, description="Who may answer; empty: anybody who may.")
    requester: str | None = Field(default=None, description="Who asked for the job, and so may not allow it.")
    authors: list[str] = Field(
        default_factory=list,
        description="Who may not allow it: whoever asked for the job, corrected what is done, or settled a task "
        "whose result it uses.",
    )
    yours: bool | None = Field(
        default=None,
        description="Whether the holder of the key may answer it and has not yet; null where it is not looked at.",
    )


class JobDetail(View):
    """A job with its tasks."""

    job: Job
    status: JobStatus
    tasks: list[Task]
    answer: str | None = Field(
        default=None, description="What was asked for, in words, once the run is done."
    )
    unproved: list[str] = Field(
        default_factory=list,
        description="Tasks that are done by word of their agent; nothing shows the effect.",
    )
    questions: list[Question] = Field(default_factory=list, description="What in it waits for a person.")


class EventView(View):
    """One thing that happened, numbered without gaps within its job."""

    seq: int
    type: str = Field(examples=["task_succeeded"])
    time: Timestamp
    task: str | None = None
    agent: str | None = None
    epoch: int | None = None
    summary: str = Field(description="One readable line.")
    leaf: str = Field(description="SHA-256 of the stored bytes: the entry's place in the audit trail.")
    artifacts: list[str] = Field(default_factory=list, description="Files and pictures kept of it.")


def job_view(head: JobHead, intent: str, description: str) -> Job:
    """A job as it appears in a list: without what only its spec knows."""
    return Job(**_head(head), intent=intent, description=description)


def job_detail(snapshot: Snapshot, heard: Heard = _NOTHING) -> JobDetail:
    """A job whole. `heard` is what was last said of its progress."""
    head, spec = snapshot.head, snapshot.spec
    job = Job(
        **_head(head),
        intent=spec.intent,
        description=spec.description,
        context=spec.context,
        max_retries=spec.max_retries,
        dead_letter=snapshot.dead,
        error=_first_error(snapshot),
    )
    return JobDetail(
        job=job,
        status=head.status,
        tasks=task_views(snapshot, heard),
        answer=_answer(snapshot),
        unproved=[spec.tasks[run.index].id for run in snapshot.tasks if is_unproved(run)],
        questions=questions(snapshot),
    )


def is_unproved(run: TaskRun) -> bool:
    """Whether a task counts as done though its effect could not be shown."""
    return run.status is TaskStatus.DONE and run.reason == "unproved"


def _answer(snapshot: Snapshot) -> str | None:
    if snapshot.head.status is not JobStatus.DONE or not snapshot.spec.answer:
        return None
    tasks = zip(snapshot.spec.tasks, snapshot.tasks, strict=True)
    results = {spec.id: run.result or {} for spec, run in tasks if run.status is TaskStatus.DONE}
    return told(snapshot.spec.answer, results)


def task_views(
    snapshot: Snapshot, heard: Heard = _NOTHING, *, offset: int = 0, limit: int | None = None
) -> list[Task]:
    """The tasks in the order of the plan."""
    end = None if limit is None else offset + limit
    return [_task(snapshot, run, heard) for run in snapshot.tasks[offset:end]]


def event_view(stored: Stored, tasks: Sequence[str], locale: str = "") -> EventView:
    """One event, told in a line. `tasks` are the ids of the plan's tasks, by index; why one failed is told in the
    language of the request, `locale`."""
    told, summary = entry(stored, tasks), None
    if isinstance(stored.event, TaskFailed):
        message = stored.event.message
        summary = f"{told.text.removesuffix(message)}{translated(message, locale)}"
    return EventView(
        seq=told.number,
        type=told.type,
        time=moment(told.time),
        task=told.task or None,
        agent=told.agent or None,
        epoch=told.epoch or None,
        summary=told.text if summary is None else summary,
        leaf=told.leaf,
        artifacts=list(told.artifacts),
    )


def task_ids(spec: JobSpec) -> tuple[str, ...]:
    """The ids of the plan's tasks, by index."""
    return tuple(task.id for task in spec.tasks)


def question_id(job: str, task: int, epoch: int) -> str:
    """How an open question is named to the outside: the job, the task's index, the attempt."""
    return f"{job}.{task}.{epoch}"


def action_arguments(snapshot: Snapshot, index: int) -> dict[str, Any]:
    """What a task goes out with, or would: its references filled as far as their results are there."""
    spec, tasks = snapshot.spec.tasks[index], snapshot.tasks
    done = {snapshot.spec.tasks[need].id: tasks[need].result or {} for need in spec.references}
    return dict(shown(spec, tasks[index], done))


def question_view(snapshot: Snapshot, command: AskPerson) -> Question:
    """An open question with what must be known to answer it."""
    task = snapshot.spec.tasks[command.task]
    run = snapshot.tasks[command.task]
    plain = action_arguments(snapshot, command.task)
    proposed = run.proposed.arguments if run.proposed is not None else None
    return Question(
        id=question_id(snapshot.head.id, command.task, command.epoch),
        job=snapshot.head.id,
        description=snapshot.spec.description or snapshot.spec.intent,
        task=task.id,
        kind=command.question,
        action=task.action,
        arguments=displayed(task.action, plain if proposed is None else proposed),
        instead_of=None if proposed is None else displayed(task.action, plain),
        digest=command.digest,
        form=command.form or None,
        text=asked(snapshot, command, plain),
        since=moment(run.since) if run.since else None,
        expires=moment(run.since + command.after) if command.after else None,
        needed=needed(task),
        given=list(said_yes(run)),
        approvers=list(command.people),
        requester=snapshot.spec.requester or None,
        authors=sorted(authors(snapshot.spec, command.task, lambda index: snapshot.tasks[index].hands))
        if task.approval
        else [],
    )


def questions(snapshot: Snapshot) -> list[Question]:
    """All open questions of a job."""
    return [question_view(snapshot, open) for open in snapshot.commands if isinstance(open, AskPerson)]


def _head(head: JobHead) -> dict[str, Any]:
    return {
        "id": head.id,
        "status": head.status,
        "priority": head.priority,
        "created_at": moment(head.created),
        "started_at": moment(head.started) if head.started else None,
        "ended_at": moment(head.ended) if head.ended else None,
        "updated_at": moment(head.time or head.created),
        "deadline": moment(head.due) if head.due else None,
        "retry_count": head.run,
        "last_seq": head.number,
        "open_tasks": head.open,
        "discarded": head.discarded,
        "ending": head.cause if head.ending is not None and not head.status.ended else None,
        "reason": head.reason or head.cause or None,
    }


def _task(snapshot: Snapshot, run: TaskRun, heard: Heard) -> Task:
    spec = snapshot.spec
    task = spec.tasks[run.index]
    return Task(
        id=task.id,
        index=run.index,
        action=task.action,
        status=run.status,
        depends_on=[spec.tasks[need].id for need in task.needs],
        arguments=displayed(task.action, task.arguments if run.arguments is None else run.arguments),
        timeout=task.timeout / 1000,
        effect=task.effect.value,
        attempts=run.attempts,
        epoch=run.epoch,
        agent=run.agent or None,
        since=moment(run.since) if run.since else None,
        reason=run.reason or None,
        result=run.result,
        error=_failure(snapshot, run),
        progress=_progress(run, *heard.get(task.id, (0, None))),
    )


def _progress(run: TaskRun, epoch: int, said: Progress | None) -> Progress | None:
    """None for what was said of an attempt that is over."""
    under_way = run.status in (TaskStatus.ASSIGNED, TaskStatus.RUNNING)
    return said if under_way and run.epoch == epoch else None


def _failure(snapshot: Snapshot, run: TaskRun) -> Failure | None:
    """What went wrong last; of a task that failed for good the remedy is a person's."""
    if run.error is None:
        return None
    error, locale = run.error, snapshot.spec.locale
    failed = run.status is TaskStatus.FAILED
    return Failure(
        failure=error.failure.value,
        code=error.code,
        message=translated(error.message, locale),
        remedy=remedy_of_failed(snapshot, run) if failed else translated(error.remedy, locale),
    )


def remedy_of_failed(snapshot: Snapshot, run: TaskRun) -> str:
    """What a person does about a task that failed for good, in the language of the request."""
    locale = snapshot.spec.locale
    if snapshot.head.discarded:
        remedy = "Nothing: the job was discarded. `cpa dead-letters retry` takes it up after all."
        return translated(remedy, locale)
    text = run.error.remedy if run.error is not None else ""
    return remedy_for_good(text, locale, dead=snapshot.dead, of_people=_of_people(snapshot, run))


def _of_people(snapshot: Snapshot, run: TaskRun) -> str:
    """The code of a failure over what people said, or did not; an agent may have codes of the same names."""
    error, asked = run.error, snapshot.spec.tasks[run.index].action == ASK
    known = error is not None and not error.remedy and (asked or error.failure is FailureClass.POLICY)
    return error.code if error is not None and known else ""


def _first_error(snapshot: Snapshot) -> Failure | None:
    if snapshot.head.status is not JobStatus.FAILED:
        return None
    failed = (run for run in snapshot.tasks if run.status is TaskStatus.FAILED and run.error is not None)
    first = min(failed, key=lambda run: (run.since, run.index), default=None)
    return None if first is None else _failure(snapshot, first)
