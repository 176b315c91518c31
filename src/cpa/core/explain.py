"""Why is it not running? Every task that has not ended gets a typed reason, the evidence, a remedy, and who can
act. Pure: reads a snapshot, looks at no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from cpa.core.classes import FailureClass
from cpa.core.commands import AskPerson, Command, StartTimer
from cpa.core.display import brief
from cpa.core.failures import translated
from cpa.core.job import SATISFIED, TERMINAL, JobStatus, Snapshot, TaskRun, TaskStatus
from cpa.core.people import needed, said_yes
from cpa.core.retry import LOST_LEASE
from cpa.core.staffing import Staff, each_told, misspelt, not_enrolled
from cpa.core.views import action_arguments, is_unproved, remedy_of_failed, rfc3339


class Reason(StrEnum):
    """Why a task is where it is."""

    JOB_PENDING = "job_pending"
    DEPENDENCY = "dependency"
    SLOT = "slot"
    AGENT = "agent"
    NO_AGENT = "no_agent"
    AGENTS_DRAINING = "agents_draining"
    AGENTS_OFFLINE = "agents_offline"
    AGENTS_NOT_READY = "agents_not_ready"
    BREAKER_OPEN = "breaker_open"
    RETRY_BUDGET = "retry_budget"
    BIDS_OPEN = "bids_open"
    SESSION_BUSY = "session_busy"
    AT_WORK = "at_work"
    AGENT_NOT_REACHED = "agent_not_reached"
    AGENT_SILENT = "agent_silent"
    RETRY = "retry"
    ENVIRONMENT = "environment"
    APPROVAL = "approval"
    INPUT = "input"
    PROPOSAL = "proposal"
    PROPOSAL_TIME = "proposal_time"
    PROVING = "proving"
    UNKNOWN_OUTCOME = "unknown_outcome"
    QUESTION = "question"
    STOPPING = "stopping"
    FAILED = "failed"
    UNPROVED = "unproved"


class Actor(StrEnum):
    """Who can move it."""

    NOBODY = "nobody"
    """It moves by itself."""
    REQUESTER = "requester"
    OPERATOR = "operator"
    APPROVER = "approver"
    PERSON = "person"
    """The one who is asked, or whoever may answer questions."""


class Explanation(msgspec.Struct, frozen=True):
    task: str
    status: TaskStatus
    reason: Reason
    evidence: str
    remedy: str
    actor: Actor
    starts: int = 0
    """When it will probably go on by itself, in milliseconds since 1970 UTC; 0 is unknown."""


class _Scene(msgspec.Struct, frozen=True):
    """A snapshot, and what is looked up in it again and again."""

    snapshot: Snapshot
    waits: Mapping[int, str]
    troubles: Mapping[int, str]
    staff: Mapping[int, Staff]
    open: dict[str, Command]
    start: int

    def opened(self, kind: str, run: TaskRun) -> Command | None:
        return self.open.get(f"{kind}:{run.index}:{run.epoch}")


_OF_THE_PLACE = frozenset({FailureClass.TECHNICAL, FailureClass.ENVIRONMENT})
_OF_THE_ACCOUNTS = frozenset({"login_refused", "smtp_auth_failed", "imap_auth_failed", "secret_missing"})
"""Codes of business failures over an account or a password of the installation."""

_LOOK = "Look at the agent: `cpa agents show {}`. What may be done twice goes to another one by itself."
_WITHOUT_A_WORD = frozenset({"lease_lost", "refused"})
"""Codes of an attempt before, after which there is another."""

_NOBODY: Mapping[int, str] = MappingProxyType({})
_UNKNOWN: Mapping[int, Staff] = MappingProxyType({})
_AGENTS: Mapping[str, tuple[str, str, Actor]] = MappingProxyType(
    {
        Reason.NO_AGENT: (
            "No agent does {action}.",
            "Start an agent that offers it; the task goes to it by itself.",
            Actor.OPERATOR,
        ),
        Reason.AGENTS_DRAINING: (
            "The agents that do {action} take nothing new: they drain or are in quarantine.",
            "Let one work again with `cpa agents activate`, or start another; the task goes to it by itself.",
            Actor.OPERATOR,
        ),
        Reason.AGENTS_OFFLINE: (
            "The agents that do {action} have not been heard of for three beats.",
            "Start one of them, or another; the task goes to it by itself.",
            Actor.OPERATOR,
        ),
        Reason.AGENTS_NOT_READY: (
            "The agents that do {action} are there, and not ready: a session is locked or closed.",
            "Unlock or open a session, as `cpa agents show` names them; the task goes on by itself.",
            Actor.OPERATOR,
        ),
        Reason.BREAKER_OPEN: (
            "{action} failed again and again at its target or its agents; it is left alone for some seconds.",
            "Look after the target; it is tried with one attempt at a time, and goes on by itself.",
            Actor.OPERATOR,
        ),
        Reason.RETRY_BUDGET: (
            "Too many attempts at {action} are second ones; this one waits until fewer are.",
            "Wait; or look at why {action} fails so often.",
            Actor.NOBODY,
        ),
        Reason.BIDS_OPEN: (
            "Agents that do {action} are asked for bids; the best one gets it.",
            "Wait until their time is up.",
            Actor.NOBODY,
        ),
        Reason.SESSION_BUSY: (
            "{action} goes on where this job is already: its session is at an agent that is busy.",
            "Wait; it goes on by itself, and no other agent could do it.",
            Actor.NOBODY,
        ),
    }
)
"""Why no agent takes a task now: text, remedy, who can act."""
_BY_AGENT = frozenset(
    {
        Reason.AGENT,
        Reason.AGENTS_DRAINING,
        Reason.AGENTS_OFFLINE,
        Reason.AGENTS_NOT_READY,
        Reason.BREAKER_OPEN,
    }
)
"""Reasons that hold for the agent that comes furthest, and perhaps not for the others."""


def explain(
    snapshot: Snapshot,
    waits: Mapping[int, str] = _NOBODY,
    start: int = 0,
    troubles: Mapping[int, str] = _NOBODY,
    staff: Mapping[int, Staff] = _UNKNOWN,
) -> tuple[Explanation, ...]:
    """One explanation for every task that has not ended, for the one that made the run fail, and for those whose
    effect nothing shows.

    `waits` holds, by index, why a task that asks for an agent has none just now, where the caller knows, and
    `agent_silent` for one whose agent has it and gave no word of it; `start` is
    when a postponed job is to start, in milliseconds, 0 where there is no such time or nobody knows; `troubles`, by
    index, why the agent that a task went to cannot be reached; `staff`, by index, which agents there are for it.
    """
    unproved = tuple(_unproved(snapshot, run) for run in snapshot.tasks if is_unproved(run))
    if snapshot.head.status.ended:
        failed = (_failed(snapshot, run) for run in snapshot.tasks if run.status is TaskStatus.FAILED)
        return (*failed, *unproved)
    scene = _Scene(snapshot, waits, troubles, staff, {each.key: each for each in snapshot.commands}, start)
    return (*(_task(scene, run) for run in snapshot.tasks if run.status not in TERMINAL), *unproved)


def _task(scene: _Scene, run: TaskRun) -> Explanation:
    snapshot = scene.snapshot
    if snapshot.head.status is JobStatus.PENDING:
        return _pending(scene, run)
    match run.status:
        case TaskStatus.WAITING:
            return _waiting(snapshot, run)
        case TaskStatus.READY:
            return _ready(scene, run, scene.waits.get(run.index, ""))
        case TaskStatus.HELD:
            asked = scene.opened("ask", run)
            return _asked(snapshot, run, asked) if isinstance(asked, AskPerson) else _held(scene, run)
        case TaskStatus.IN_DOUBT:
            return _in_doubt(snapshot, run)
        case TaskStatus.ASSIGNED if (
            scene.waits.get(run.index) == Reason.AGENT_SILENT and not snapshot.head.ending
        ):
            return _silent(snapshot, run)
        case _:
            return _at_work(snapshot, run, scene.troubles.get(run.index, ""))


def _pending(scene: _Scene, run: TaskRun) -> Explanation:
    if scene.start:
        text, remedy = f"The job is to start at {rfc3339(scene.start)}.", "Wait; it starts by itself."
    else:
        text = "The job has not started: it stands in line, or its time has not come."
        remedy = "Wait; or look at what runs before it."
    found = _say(scene.snapshot, run, Reason.JOB_PENDING, text, remedy)
    return msgspec.structs.replace(found, starts=scene.start)


def _waiting(snapshot: Snapshot, run: TaskRun) -> Explanation:
    if snapshot.head.ending is not None:
        text = f"The run is ending ({snapshot.head.cause}); nothing new starts."
        return _say(snapshot, run, Reason.STOPPING, text, "Nothing to do: the run ends by itself.")
    needs = snapshot.spec.tasks[run.index].needs
    missing = [need for need in needs if snapshot.tasks[need].status not in SATISFIED]
    names = [f"{snapshot.spec.tasks[need].id} ({snapshot.tasks[need].status.value})" for need in missing[:5]]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    text = f"It waits for {', '.join(names)}{more}."
    return _say(snapshot, run, Reason.DEPENDENCY, text, "Look at the tasks it waits for.")


def _ready(scene: _Scene, run: TaskRun, wait: str) -> Explanation:
    snapshot = scene.snapshot
    action = snapshot.spec.tasks[run.index].action
    if run.line:
        most = snapshot.spec.max_parallel
        text = f"{snapshot.head.busy} of at most {most} tasks of this job run at the same time."
        return _say(snapshot, run, Reason.SLOT, text, "Wait; or allow more tasks at the same time.")
    staff = scene.staff.get(run.index)
    if wait in _AGENTS or (staff is not None and staff.mixed):
        return _without_agent(scene, run, Reason(wait) if wait in _AGENTS else Reason.AGENT)
    text = f"All agents that do {action} are busy."
    if run.blame:
        # Such tasks are kept apart, whatever slots are free.
        text = f"All agents that do {action} are busy, or have another task over which an agent ended."
    return _say(snapshot, run, Reason.AGENT, text, "Wait; or start another agent.")


def _asked(snapshot: Snapshot, run: TaskRun, asked: AskPerson) -> Explanation:
    """It waits for people, without a slot."""
    spec = snapshot.spec.tasks[run.index]
    said, most = said_yes(run), needed(spec)
    until = f" The question expires at {rfc3339(run.since + asked.after)}." if asked.after else ""
    may = f" It is for {', '.join(asked.people)}." if asked.people else ""
    if asked.question == "input":
        question = brief(str(action_arguments(snapshot, run.index).get("question", "")))
        text = f"A person is asked: {question}{may}{until}"
        return _say(snapshot, run, Reason.INPUT, text, "Answer it: `cpa questions`.", Actor.PERSON)
    so_far = f" {len(said)} of {most} said yes so far" if said or most > 1 else ""
    so_far += f" ({', '.join(said)})." if said else "." if so_far else ""
    if asked.question == "proposal":
        reason, text = (
            Reason.PROPOSAL,
            f"The agent would do it otherwise{_last_error(snapshot, run)}; people must agree.",
        )
    else:
        reason, text = Reason.APPROVAL, "A person must allow this task before it is done."
    text += so_far + may + until
    return _say(snapshot, run, reason, text, "Answer it: `cpa questions`.", Actor.APPROVER)


def _held(scene: _Scene, run: TaskRun) -> Explanation:
    snapshot, last = scene.snapshot, _last_error(scene.snapshot, run)
    timer = scene.opened("retry", run)
    starts = run.since + timer.after if isinstance(timer, StartTimer) else 0
    if run.reason == "retry":
        text = f"Attempt {_number(snapshot, run) - 1} failed{last}; the next one is at {rfc3339(starts)}."
        found = _say(snapshot, run, Reason.RETRY, text, _remedy(run, "Wait for the next attempt."))
    elif run.reason == "proposal_time":
        text = f"The agent will do it at {rfc3339(starts)}{last}."
        found = _say(snapshot, run, Reason.PROPOSAL_TIME, text, "Wait until then.")
    elif run.reason == "lease_lost":
        text = f"The agent that had it was lost{last}; it is done again at {rfc3339(starts)}."
        found = _say(snapshot, run, Reason.RETRY, text, _remedy(run, "Wait; it is done again by itself."))
    elif run.error is not None and run.error.code == "refused" and run.error.message.startswith("agent://"):
        # Not the agent's own word, but the scheduler's about it.
        told = brief(translated(run.error.message, snapshot.spec.locale)).rstrip(".")
        text = f"Agent {told}; it is tried again at {rfc3339(starts)}."
        remedy = _LOOK.format(told.split()[0])
        found = _say(snapshot, run, Reason.AGENT_NOT_REACHED, text, remedy, Actor.OPERATOR)
    elif run.reason in _AGENTS:
        found = _without_agent(scene, run, Reason(run.reason))
    else:
        text, remedy = (
            f"The place where it is done is not ready{last}; it is tried again at {rfc3339(starts)}.",
            _remedy(run, "Wait; it is tried again."),
        )
        found = _say(snapshot, run, Reason.ENVIRONMENT, text, remedy, Actor.OPERATOR)
    return msgspec.structs.replace(found, starts=starts)


def _without_agent(scene: _Scene, run: TaskRun, reason: Reason) -> Explanation:
    snapshot, staff = scene.snapshot, scene.staff.get(run.index)
    spec = snapshot.spec.tasks[run.index]
    # One that asks for a tag as well is not done by who does the action alone.
    action = f"{spec.action} with the capability '{spec.capability}'" if spec.capability else spec.action
    if staff is not None and staff.mixed and reason in _BY_AGENT:
        text, remedy = each_told(
            translated(action, snapshot.spec.locale), staff.members, snapshot.spec.locale
        )
        return _say(snapshot, run, reason, text, remedy, Actor.NOBODY if staff.passes else Actor.OPERATOR)
    if staff is not None and staff.withheld and reason is Reason.NO_AGENT:
        locale = snapshot.spec.locale
        text, remedy = not_enrolled(translated(action, locale), staff.withheld[0], locale)
        return _say(snapshot, run, reason, text, remedy, Actor.OPERATOR)
    text, remedy, actor = _AGENTS[reason]
    remedy = remedy.format(action=action)
    if staff is not None and staff.near and reason is Reason.NO_AGENT:
        remedy = misspelt(staff.near, snapshot.spec.locale)
    return _say(snapshot, run, reason, text.format(action=action), remedy, actor)


def _in_doubt(snapshot: Snapshot, run: TaskRun) -> Explanation:
    if run.reason == "doubt":
        text = (
            f"It may or may not have happened{_last_error(snapshot, run)}, and nobody but a person can tell."
        )
        if snapshot.head.ending is not None:
            text += f" The run is ending ({snapshot.head.cause}): a no does not have it done again."
        remedy = "Look at the target, then answer: `cpa questions`."
        return _say(snapshot, run, Reason.QUESTION, text, remedy, Actor.REQUESTER)
    looks = f"looks in vain so far: {run.verified}" if run.verified else "the first look is under way"
    if run.reason == "proving":
        text = f"The agent says it is done; the effect is being proved ({looks})."
        return _say(snapshot, run, Reason.PROVING, text, "Wait for the proof.")
    last = _last_error(snapshot, run)
    text = f"The attempt ended without an answer{last}; its effect is being looked for ({looks})."
    return _say(snapshot, run, Reason.UNKNOWN_OUTCOME, text, "Wait for the outcome.")


def _silent(snapshot: Snapshot, run: TaskRun) -> Explanation:
    """An agent that takes one attempt after the other and never says that it does it would look busy."""
    lost = run.lost // LOST_LEASE
    number = f"{_number(snapshot, run)}; lost before it: {lost}" if lost else f"{_number(snapshot, run)}"
    text = f"Agent {run.agent} has it (attempt {number}) and has not said yet that it does it."
    if run.error is None or run.error.code not in _WITHOUT_A_WORD:
        return _say(snapshot, run, Reason.AGENT_SILENT, text, "Wait for its answer.")
    remedy = (
        f"Look at the agent, its log and `cpa agents show {run.agent}`: "
        "it answers with `agree`, or names it in its beats."
    )
    return _say(snapshot, run, Reason.AGENT_SILENT, text, remedy, Actor.OPERATOR)


def _at_work(snapshot: Snapshot, run: TaskRun, trouble: str) -> Explanation:
    ending = snapshot.head.ending is not None
    if trouble and run.status is TaskStatus.ASSIGNED:
        way = f"It is on its way to agent {run.agent} (attempt {_number(snapshot, run)})"
        text = f"{way}, which cannot be reached: {brief(trouble)}."
        return _say(snapshot, run, Reason.AGENT_NOT_REACHED, text, _LOOK.format(run.agent), Actor.OPERATOR)
    text = f"Agent {run.agent} works on it (attempt {_number(snapshot, run)})."
    reason = Reason.STOPPING if ending else Reason.AT_WORK
    return _say(
        snapshot, run, reason, text, "Wait for its answer." if not ending else "The run ends after it."
    )


def _failed(snapshot: Snapshot, run: TaskRun) -> Explanation:
    # Where its place was not ready to the end, nothing was attempted.
    attempted = run.agent and not (run.error and run.error.failure is FailureClass.ENVIRONMENT)
    if snapshot.spec.locale == "de":
        who = f"Versuch {_number(snapshot, run)}" if attempted else "Die Aufgabe"
        text = f"{who} ist gescheitert{_last_error(snapshot, run)}."
    else:
        who = f"Attempt {_number(snapshot, run)}" if attempted else "It"
        text = f"{who} failed{_last_error(snapshot, run)}."
    return _say(snapshot, run, Reason.FAILED, text, remedy_of_failed(snapshot, run), _mender(run))


def _number(snapshot: Snapshot, run: TaskRun) -> int:
    """Which of the attempts that agents were given in this run is under way, or was the last. Where none took it,
    one refused, or its place was not ready, there was none; the epoch counts that too."""
    failed = min(run.attempts + 1, snapshot.spec.tasks[run.index].retry.max_attempts)
    return failed + run.lost // LOST_LEASE


def _mender(run: TaskRun) -> Actor:
    """Who can put right what failed: the installation is the operator's, the request the requester's."""
    error = run.error
    if error is not None and (error.failure in _OF_THE_PLACE or error.code in _OF_THE_ACCOUNTS):
        return Actor.OPERATOR
    return Actor.REQUESTER


def _unproved(snapshot: Snapshot, run: TaskRun) -> Explanation:
    text = (
        f"Agent {run.agent} says it is done; the effect was not found, or there is no place to look for it."
    )
    remedy = (
        "Look at the target; a mail is proved where mail.imap_url in cpa.yaml names the sender's mailbox."
    )
    return _say(snapshot, run, Reason.UNPROVED, text, remedy, Actor.REQUESTER)


def _last_error(snapshot: Snapshot, run: TaskRun) -> str:
    error, locale = run.error, snapshot.spec.locale
    if error is None:
        return ""
    message = f" ({brief(translated(error.message, locale)).rstrip('.')})" if error.message else ""
    if error.code == "lease_lost" and message:
        return message  # Class and code say no more.
    return f" {'mit' if locale == 'de' else 'with'} {error.failure.value} {brief(error.code)}{message}"


def _remedy(run: TaskRun, otherwise: str) -> str:
    return run.error.remedy if run.error is not None and run.error.remedy else otherwise


def _say(
    snapshot: Snapshot, run: TaskRun, reason: Reason, evidence: str, remedy: str, actor: Actor = Actor.NOBODY
) -> Explanation:
    locale = snapshot.spec.locale
    evidence, remedy = translated(evidence, locale), brief(translated(remedy, locale))
    return Explanation(snapshot.spec.tasks[run.index].id, run.status, reason, evidence, remedy, actor)
