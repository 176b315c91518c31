"""Questions to people: what is asked, who may answer, and what an answer is worth.

    approval   before a task is done: N people must say yes to the exact action, one no is enough
    proposal   the agent would do it otherwise: asked and counted like an approval, of the action it proposes
    input      the task is the question: what is answered is its result
    doubt      what nobody else can tell: did it happen?

No question holds a slot. A yes is bound to the digest of what was looked at (`core.approval`), nobody counts twice,
and nobody allows what is their own: the authors of a task are whoever asked for the job, and whoever fixed its
arguments or settled what they or its condition use when the job was taken up. Who answers a question of the plan is
no author. Plans stored before there were digests ask and answer without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cpa.core.commands import AskPerson
from cpa.core.events import QuestionAnswered
from cpa.core.failures import translated
from cpa.core.forms import PLAIN
from cpa.core.job import JobSpec, JobState, Proposal, Snapshot, TaskError, TaskRun, TaskSpec, TaskStatus
from cpa.core.references import literal

if TYPE_CHECKING:
    from cpa.core.step import Step

ASK = "person.ask"
"""The action that is a question: no agent does it."""


def needed(spec: TaskSpec) -> int:
    """How many people must say yes."""
    return max(spec.approvals, 1)


def said_yes(run: TaskRun) -> tuple[str, ...]:
    """Who did, to what is asked now."""
    return run.approvals if run.proposed is None else run.proposed.approvals


def asked(job: Snapshot, command: AskPerson, arguments: Mapping[str, Any]) -> str:
    """The question to a person, in words. `arguments` are those the task would go out with."""
    task, run, question = job.spec.tasks[command.task], job.tasks[command.task], command.question
    if question == "input":
        return str(arguments.get("question", ""))
    if question == "proposal":
        why = f" It says: {run.error.message}" if run.error is not None and run.error.message else ""
        return f"The agent would do {task.action} of task {task.id} otherwise. May it?{why}"
    if question == "approval":
        return f"May task {task.id} do {task.action}?"
    if job.head.ending is not None:
        said = (
            f"Did {task.action} of task {task.id} happen? Its outcome is unknown. "
            "The run is ending: it is not done again after a no."
        )
    else:
        said = (
            f"Did {task.action} of task {task.id} happen? Its outcome is unknown. "
            "After a no it is done again, as long as it has tries left; `cpa cancel` ends the job instead."
        )
    return translated(said, job.spec.locale)


def authors(spec: JobSpec, index: int, hands: Callable[[int], Iterable[str]]) -> set[str]:
    """Who may not allow this task; empty where the job's requester is not known or may allow it too. `hands` tells
    who fixed or settled a task (`TaskRun.hands`)."""
    if not spec.requester:
        return set()
    found, left, seen = {spec.requester}, [index], set[int]()
    while left:
        place = left.pop()
        if place not in seen:
            seen.add(place)
            found.update(hands(place))
            task = spec.tasks[place]
            # A condition reads nothing but results of tasks that are needed.
            left.extend(task.needs if task.when else task.references)
    return found


def refusal(job: JobState, command: AskPerson, event: QuestionAnswered) -> str:
    """Why this answer does not count; empty when it does."""
    spec = job.spec.tasks[command.task]
    if event.digest != command.digest:
        return "other_action"
    if command.people and event.by not in command.people:
        return "not_approver"
    if command.question == "doubt":
        return ""
    if spec.approval and event.by in authors(job.spec, command.task, lambda index: job.task(index).hands):
        return "own_request"
    # Who said yes may still say no: one no is enough, whoever says it.
    return "duplicate" if event.yes and event.by in said_yes(job.task(command.task)) else ""


def form_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a question."""
    form = arguments.get("form")
    return dict(form) if isinstance(form, Mapping) and form else PLAIN


def asked_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Whom it is for; empty for anybody."""
    who = arguments.get("for")
    return (who,) if isinstance(who, str) and who else ()


# -- asking --------------------------------------------------------------------------------------------------


def ask_first(step: Step, run: TaskRun) -> None:
    """Hold a task for the question that comes before it, or that it is."""
    spec = step.spec(run.index)
    step.leave(run)
    run = replace(run, status=TaskStatus.HELD, since=step.time, approved=False, approvals=())
    if spec.action == ASK:
        arguments = step.arguments(run)
        step.ask(run, "input", after=spec.timeout, form=form_of(arguments), people=asked_of(arguments))
    else:
        digest = step.digest(run) if spec.approvals or run.digest else ""
        _ask(step, replace(run, digest=digest), "approval", digest)


def propose(step: Step, run: TaskRun, arguments: dict[str, Any], error: TaskError) -> None:
    """Hold a task until people have said what they think of the agent's other arguments."""
    step.leave(run)
    digest = step.digest(replace(run, arguments=literal(arguments)))
    proposal = Proposal(arguments)
    held = replace(run, status=TaskStatus.HELD, since=step.time, agent="", error=error, proposed=proposal)
    _ask(step, held, "proposal", digest)


def _ask(step: Step, run: TaskRun, question: str, digest: str) -> None:
    spec = step.spec(run.index)
    step.ask(run, question, digest=digest, after=spec.approval_expires, people=spec.approvers)


def agree(step: Step, run: TaskRun, command: AskPerson, by: str) -> None:
    """One more person said yes; with enough of them the task goes on."""
    said, proposed = (*said_yes(run), by), run.proposed
    enough = len(said) >= needed(step.spec(run.index))
    if enough:
        step.close(command.key)
    if not command.digest:
        step.wake(run, approved=True)
    elif proposed is None:
        changed = replace(run, approvals=said)
        step.wake(changed, approved=True) if enough else step.move(changed)
    elif enough:
        changed = replace(run, approvals=said, digest=command.digest, proposed=None)
        step.wake(changed, approved=True, arguments=literal(proposed.arguments))
    else:
        step.move(replace(run, proposed=replace(proposed, approvals=said)))
