"""The one place where a job changes: `decide(job, event) -> Decision(changes, commands)`.

Pure: no clock, no chance, no I/O; the same job and event give the same decision on every machine, in every
process, in replay. It never raises for an event that comes late, twice or from a stale attempt: such an event
changes nothing and the decision says why.

Who settles what happened to an attempt:

    succeeded, effect verifiable   -> looked for first: "the agent says done" is not enough, however late or often;
                                      found or not, it is not done again: what was not found is done, unproved
    succeeded, otherwise           -> done
    technical                      -> tried again after a backoff, while the retry policy has attempts left
    environment, lease lost        -> tried again without burning an attempt, bounded by `environment_wait`
    lease lost, its agent ended    -> the same, and bounded by the retry policy's `max_losses` in a row: so many
                                      agents that had nothing else, or more that had; an attempt whose agent says
                                      how it failed, or of which a person says that it did nothing, begins it anew
    business, policy               -> failed
    unknown outcome, timed out     -> idempotent: as technical; verifiable: looked for; unsafe: a person is asked
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cpa.core import events, people, reopening
from cpa.core.approval import proposable
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import AskPerson, CancelAttempt, RequestTask, StartTimer, VerifyTask
from cpa.core.events import Event
from cpa.core.job import ENDED, Decision, JobState, JobStatus, TaskError, TaskRun, TaskStatus
from cpa.core.retry import (
    BLAME,
    LOST_LEASE,
    MOST_LOOKS,
    backoff,
    blamed,
    environment_wait,
    look_wait,
    loss_wait,
)
from cpa.core.step import Step
from cpa.core.transitions import ACCEPTS


def decide(job: JobState, event: Event) -> Decision:
    """What follows from this event. `job` is not touched; apply the decision with `JobState.apply`.

    A decision without changes carries the reason: `ended`, `no_such_task`, `stale_epoch`, `duplicate`,
    `not_expected`, `not_open`, `not_pending`, `not_ended`, `not_failed`, `retries_used_up`, `discarded`, `exists`;
    those of answers are `other_action`, `not_approver`, `own_request`, and of reopening `said_twice`, `still_done`,
    `approval_needed`, `nobody_left`.
    """
    if job.head.status in ENDED and type(event) not in _AFTER_THE_END:
        return Decision(reason="ended")
    return _HANDLERS[type(event)](job, event)


# -- the job -------------------------------------------------------------------------------------------------


def _job_submitted(job: JobState, event: events.JobSubmitted) -> Decision:
    if job.head.number:
        return Decision(reason="exists")
    step = Step(job, event)
    step.submit()
    if event.due:
        step.issue(StartTimer(key="deadline", after=max(event.due - event.time, 1)))
    if event.start:
        step.start()
    return step.decide(created=event.time, due=event.due, priority=event.priority, logic=event.logic)


def _job_started(job: JobState, event: events.JobStarted) -> Decision:
    if job.head.status is not JobStatus.PENDING:
        return Decision(reason="not_pending")
    step = Step(job, event)
    step.start()
    return step.decide()


def _cancel_requested(job: JobState, event: events.CancelRequested) -> Decision:
    if job.head.ending is JobStatus.CANCELLED:
        return Decision(reason="duplicate")
    step = Step(job, event)
    step.stop(JobStatus.CANCELLED, "cancel", event.reason, cancel=True)
    return step.decide()


def _job_reopened(job: JobState, event: events.JobReopened) -> Decision:
    head = job.head
    if head.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        return Decision(reason="not_ended")
    if not event.dead_letter and (head.discarded or head.run >= job.spec.max_retries):
        return Decision(reason="discarded" if head.discarded else "retries_used_up")
    reason = reopening.refusal(job, event)
    if reason:
        return Decision(reason=reason)
    step = Step(job, event)
    step.reopen(reopening.next_run(job, event))
    return step.decide(run=head.run + 1, discarded=False)


def _job_discarded(job: JobState, event: events.JobDiscarded) -> Decision:
    if job.head.status is not JobStatus.FAILED or job.head.discarded:
        return Decision(reason="duplicate" if job.head.discarded else "not_failed")
    return Step(job, event).decide(discarded=True)


# -- an attempt ----------------------------------------------------------------------------------------------


def _refusal(job: JobState, event: Any) -> str:
    """Why an event about an attempt does not count; empty when it does."""
    if not 0 <= event.task < len(job.spec.tasks):
        return "no_such_task"
    run = job.task(event.task)
    if event.epoch < run.epoch:
        return "stale_epoch"
    if event.epoch > run.epoch or run.line:
        return "not_expected"
    if run.status not in ACCEPTS[type(event)]:
        return "duplicate" if run.status in (TaskStatus.DONE, TaskStatus.FAILED) else "not_expected"
    return ""


def _agent_chosen(job: JobState, event: events.AgentChosen) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    if run.digest and run.digest != step.digest(run):
        people.ask_first(step, run)
    else:
        step.assign(run, event.agent)
    return step.decide()


def _dispatch_deferred(job: JobState, event: events.DispatchDeferred) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    step.hold(run, event.reason, max(event.after, 1))
    return step.decide()


def _task_started(job: JobState, event: events.TaskStarted) -> Decision:
    step = Step(job, event)
    step.begin(step.task(event.task))
    return step.decide()


def _task_refused(job: JobState, event: events.TaskRefused) -> Decision:
    error = TaskError(FailureClass.ENVIRONMENT, "refused", event.reason)
    step = Step(job, event)
    _settle(step, step.task(event.task), error)
    return step.decide()


def _task_succeeded(job: JobState, event: events.TaskSucceeded) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    if step.spec(event.task).effect is not EffectClass.VERIFIABLE:
        step.succeed(run, event.result)
    elif run.status is not TaskStatus.IN_DOUBT:
        step.look(step.doubt(run, "proving", result=event.result, error=None))
    elif run.reason == "proving":
        return Decision(reason="duplicate")
    elif run.reason == "doubt":
        step.succeed(run, event.result, "unproved")
    else:
        step.claim(run, event.result)
    return step.decide()


def _task_failed(job: JobState, event: events.TaskFailed) -> Decision:
    error = TaskError(event.failure, event.code, event.message, event.remedy)
    step = Step(job, event)
    run = step.task(event.task)
    # That its outcome is unknown may also be the word of an agent that was started again.
    if run.blame and event.failure is not FailureClass.UNKNOWN_OUTCOME:
        run = replace(run, blame=0)  # its agent lives
    _settle(step, run, error, event.retry_after)
    return step.decide()


def _lease_lost(job: JobState, event: events.LeaseLost) -> Decision:
    error = TaskError(FailureClass.UNKNOWN_OUTCOME, "lease_lost", event.reason)
    step = Step(job, event)
    run = step.task(event.task)
    if event.among > 0 and job.head.logic > 2:
        run = replace(run, blame=blamed(run.blame, event.among))
    _settle(step, run, error, lost=True)
    return step.decide()


def _task_proposed(job: JobState, event: events.TaskProposed) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    error = TaskError(FailureClass.ENVIRONMENT, "proposed", event.reason)
    wait = event.run_at - event.time
    waited = run.waited + wait
    if step.ending is not None:
        step.fail(run, error)
    elif event.arguments is not None and proposable(step.arguments(run), event.arguments):
        people.propose(step, run, event.arguments, error)
    elif event.arguments is None and wait > 0 and waited <= job.spec.environment_wait:
        step.hold(run, "proposal_time", wait, error=error, waited=waited)
    else:
        _again(step, run, error)
    return step.decide()


def _settle(step: Step, run: TaskRun, error: TaskError, asked: int = 0, *, lost: bool = False) -> None:
    """An attempt ended without success: what follows by the class of failure and of effect."""
    failure, effect = error.failure, step.spec(run.index).effect
    if failure is FailureClass.UNKNOWN_OUTCOME and effect is EffectClass.VERIFIABLE:
        step.look(step.doubt(run, "unknown_outcome", error=error))
    elif failure is FailureClass.UNKNOWN_OUTCOME and effect is EffectClass.UNSAFE:
        step.ask(step.doubt(run, "unknown_outcome", error=error), "doubt")
    elif failure in (FailureClass.BUSINESS, FailureClass.POLICY):
        step.fail(run, error)
    else:
        _again(step, run, error, asked, lost=lost)


def _again(step: Step, run: TaskRun, error: TaskError, asked: int = 0, *, lost: bool = False) -> None:
    """The effect did not happen, or may happen twice: try again while that is allowed."""
    spec = step.spec(run.index)
    if step.ending is not None:
        step.fail(run, error)
    elif lost and run.blame >= BLAME * spec.retry.max_losses:
        step.fail(run, _agents_lost(error))
    elif lost or error.failure is FailureClass.ENVIRONMENT:
        if lost:
            wait, charged = loss_wait(run.blame, step.job.head.id, run.index, run.epoch), LOST_LEASE
            if step.job.head.logic > 2:
                run = replace(run, lost=run.lost + LOST_LEASE)
        else:
            wait = charged = environment_wait(run.waited - run.lost, asked)
        waited = run.waited + charged
        if waited > step.job.spec.environment_wait:
            step.fail(run, error)
        else:
            reason = "lease_lost" if lost else "environment"
            step.hold(run, reason, wait, error=error, waited=waited)
    elif run.attempts + 1 < spec.retry.max_attempts:
        attempts = run.attempts + 1
        wait = backoff(spec.retry, attempts, asked, step.job.head.id, run.index)
        step.hold(run, "retry", wait, error=error, attempts=attempts)
    else:
        step.fail(replace(run, attempts=run.attempts + 1), error)


def _agents_lost(last: TaskError) -> TaskError:
    """It is given up, for one agent after the other ended over it."""
    return TaskError(
        FailureClass.TECHNICAL,
        "agents_lost",
        f"one agent after the other ended or fell silent while it did this, the last one so: {last.message}",
        "Look at what the task was given (a file, a page) and mend it, then `cpa retry`. If such ends are to be "
        "expected, raise `max_losses` in its `retry`.",
    )


# -- proof, people, time -------------------------------------------------------------------------------------


def _task_verified(job: JobState, event: events.TaskVerified) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    if f"verify:{run.index}:{run.epoch}" not in job.open:
        return Decision(reason="not_open")
    _weigh(step, run, event.verdict, event.result, event.look_again)
    return step.decide()


def _weigh(step: Step, run: TaskRun, verdict: str, result: dict[str, Any] | None, look_again: int) -> None:
    step.close(f"verify:{run.index}:{run.epoch}")
    claimed = run.reason == "proving"
    if verdict == "happened":
        step.succeed(run, run.result if claimed else result, "proved")
    elif verdict == "absent" and claimed and step.job.head.logic > 1:
        step.succeed(run, run.result, "unproved")
    elif verdict == "absent":
        absent = TaskError(
            FailureClass.TECHNICAL, "effect_absent", "looked for the effect and did not find it"
        )
        error = run.error or absent
        _again(step, replace(run, result=None), error, lost=error.code == "lease_lost")
    elif look_again > 0 and run.verified + 1 < MOST_LOOKS:
        step.look_later(run, look_wait(run.verified, look_again))
    elif claimed:
        step.succeed(run, run.result, "unproved")
    else:
        step.ask(run, "doubt")


def _question_answered(job: JobState, event: events.QuestionAnswered) -> Decision:
    step = Step(job, event)
    run = step.task(event.task)
    command = job.open.get(f"ask:{run.index}:{run.epoch}")
    if not isinstance(command, AskPerson):
        return Decision(reason="not_open")
    reason = people.refusal(job, command, event)
    if reason:
        return Decision(reason=reason)
    if not event.yes:
        _no(step, run, command, event.by)
    elif command.question == "input":
        step.close(command.key)
        step.succeed(run, event.answer or {}, "answered")
    elif command.question == "doubt":
        step.succeed(run, None, "confirmed")
    else:
        people.agree(step, run, command, event.by)
    return step.decide()


def _no(step: Step, run: TaskRun, command: AskPerson, by: str) -> None:
    """A person said no; with `by` empty, not enough people said yes in time."""
    step.close(command.key)
    said = f"{by} said no" if by else "not enough people said yes in time"
    if command.question == "doubt":
        error = TaskError(FailureClass.TECHNICAL, "effect_absent", f"{by} says it did not happen")
        _again(step, replace(run, blame=0), error)  # who looked says to go on
    elif command.question == "proposal":
        error = TaskError(FailureClass.ENVIRONMENT, "proposed", f"{said} to what the agent proposed")
        _again(step, replace(run, proposed=None), error)
    elif command.question == "input":
        code, said = ("declined", f"{by} will not say") if by else ("unanswered", "nobody answered in time")
        step.fail(run, TaskError(FailureClass.BUSINESS, code, said))
    else:
        code = "approval_denied" if by else "approval_expired"
        step.fail(run, TaskError(FailureClass.POLICY, code, said))


def _timer_fired(job: JobState, event: events.TimerFired) -> Decision:
    command = job.open.get(event.key)
    if command is None or not command.after:
        return Decision(reason="not_open")
    step = Step(job, event)
    if isinstance(command, StartTimer) and command.task < 0:
        step.close(command.key)
        step.stop(JobStatus.FAILED, command.key, f"the job's {command.key} has passed", cancel=True)
    elif isinstance(command, StartTimer):
        step.close(command.key)
        run = step.task(command.task)
        if run.status is TaskStatus.HELD:
            step.wake(run)
        else:
            step.look(run)
    elif isinstance(command, AskPerson):
        _no(step, step.task(command.task), command, "")
    elif isinstance(command, VerifyTask):
        _weigh(step, step.task(command.task), "unknown", None, 1)
    else:
        assert isinstance(command, RequestTask | CancelAttempt)
        error = TaskError(FailureClass.UNKNOWN_OUTCOME, "timeout", "no answer in time")
        _settle(step, step.task(command.task), error)
    return step.decide()


_JOB_HANDLERS: dict[type[Event], Callable[[JobState, Any], Decision]] = {
    events.JobSubmitted: _job_submitted,
    events.JobStarted: _job_started,
    events.CancelRequested: _cancel_requested,
    events.JobReopened: _job_reopened,
    events.JobDiscarded: _job_discarded,
    events.TimerFired: _timer_fired,
}
_ATTEMPT_HANDLERS: dict[type[Event], Callable[[JobState, Any], Decision]] = {
    events.AgentChosen: _agent_chosen,
    events.DispatchDeferred: _dispatch_deferred,
    events.TaskStarted: _task_started,
    events.TaskRefused: _task_refused,
    events.TaskSucceeded: _task_succeeded,
    events.TaskFailed: _task_failed,
    events.LeaseLost: _lease_lost,
    events.TaskVerified: _task_verified,
    events.QuestionAnswered: _question_answered,
    events.TaskProposed: _task_proposed,
}
_AFTER_THE_END = (events.JobReopened, events.JobDiscarded)


def _of_attempt(job: JobState, event: Any) -> Decision:
    reason = _refusal(job, event)
    return Decision(reason=reason) if reason else _ATTEMPT_HANDLERS[type(event)](job, event)


_HANDLERS = _JOB_HANDLERS | dict.fromkeys(_ATTEMPT_HANDLERS, _of_attempt)
